//! Prevents the container from accessing brig's executable on the host (CVE-2019-5736).
//!
//! Until execve the container's process *is* brig: `/proc/PID/exe` refers to brig's executable. An image
//! whose program is `/proc/self/exe`, or a script with that as its interpreter, runs brig itself in the
//! container, and can write to that file as soon as no process executes it any more. Comparing the program
//! with brig's executable before execve would not help: it can be replaced in between, and the interpreter of
//! a script or program is only resolved by the kernel.
//!
//! So a brig that starts processes in a container must not run from the host's file: it mounts an overlay
//! without an upper on its own executable, attached nowhere, and continues from there with its code, data and
//! /proc/self/exe ([`sys::exe`]). Nothing can make such an overlay writable; a read-only bind mount could be
//! made writable. Its pages are those of the host's file: only those that brig has written to are copied. If
//! any of this is refused, brig executes itself again from a sealed copy in memory.
//!
//! The kernel waits for RCU when such an overlay is freed: under load for milliseconds. `make install-seal` has it
//! mounted once, on [`MOUNTED`], and brig uses that one as long as it shows the same file.

use crate::state::own_stat;
use anyhow::{Context, Result, bail, ensure};
use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use nix::fcntl::{AtFlags, FcntlArg, OFlag, SealFlag, fcntl, open, readlink};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;
use nix::unistd::{execveat, geteuid};
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use sys::exe::{Image, MemoryMap};
use sys::mount::Filesystem;
use sys::path::{Links, open_in};
use sys::{Errno, cred, process};

const EXE: &str = "/proc/self/exe";

/// Where `make install-seal` mounts brig's directory as an overlay without an upper.
const MOUNTED: &CStr = c"/run/brig-seal";

/// The commands that start processes in a container.
const VERBS: [&str; 3] = ["create", "run", "exec"];

/// The seals that make the file immutable.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Whether the arguments may be those of a command that needs [`ensure()`]. A false positive, e.g. an id of
/// such a name, costs half a millisecond.
pub fn may_be_needed<'a>(args: impl IntoIterator<Item = &'a OsString>) -> bool {
    args.into_iter().any(|arg| VERBS.iter().any(|verb| arg == verb))
}

/// Only returns successfully if the container cannot write to the file that brig is executed from.
///
/// # Errors
///
/// If brig can neither continue from an overlay nor execute a sealed copy.
pub fn ensure() -> Result<()> {
    let found = stat(EXE).context(EXE)?;
    if out_of_reach(&found)? {
        return Ok(());
    }
    let Err(refused) = in_place(&found) else { return Ok(()) };
    let host = File::open(EXE).context(EXE)?;
    if fcntl(&host, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & SEALS.bits() == SEALS.bits()) {
        return keep_name();
    }
    let sealed = copy(&host)
        .with_context(|| format!("neither an overlay ({refused:#}) nor a copy is possible"))?;
    execute(&sealed)
}

/// Containers of an unprivileged user have that user's ids and subordinate ids, never root's: they cannot
/// write to files that only root can.
fn out_of_reach(found: &FileStat) -> Result<bool> {
    let unprivileged = !geteuid().is_root() && !cred::is_privileged()?;
    Ok(unprivileged && found.st_uid == 0 && found.st_mode & 0o022 == 0)
}

/// Continues from an overlay, without execve.
fn in_place(found: &FileStat) -> Result<()> {
    ensure!(found.st_nlink > 0, "{EXE} has no file name");
    let image = Image::own()?;
    let map = memory_map()?;
    let path = readlink(EXE).context(EXE)?;
    let path = Path::new(&path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} has no directory", path.display());
    };
    let name = CString::new(name.as_bytes())?;
    let file = match mounted(&name, found) {
        Some(file) => file,
        None => overlay(parent, &name, found)?,
    };
    image.run_from(&file, map)
}

/// The addresses of brig's memory map, which the new one keeps.
fn memory_map() -> Result<MemoryMap> {
    let stat = own_stat(None)?;
    // Concurrent writes of another thread would be lost.
    ensure!(stat.num_threads == 1, "brig has {} threads", stat.num_threads);
    let known = |bound: Option<u64>| bound.context("/proc/self/stat is too short");
    Ok(MemoryMap {
        start_code: stat.startcode,
        end_code: stat.endcode,
        start_data: known(stat.start_data)?,
        end_data: known(stat.end_data)?,
        start_brk: known(stat.start_brk)?,
        start_stack: stat.startstack,
        arg_start: known(stat.arg_start)?,
        arg_end: known(stat.arg_end)?,
        env_start: known(stat.env_start)?,
        env_end: known(stat.env_end)?,
        ..MemoryMap::default()
    })
}

/// brig's executable in the overlay of `make install-seal`, if that is mounted and was made for this file.
fn mounted(name: &CStr, found: &FileStat) -> Option<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mount = open(MOUNTED, flags, Mode::empty()).ok()?;
    let kind = fstatfs(&mount).ok()?;
    // With an upper, a container could write to brig's copy there if it can reach the mount point.
    let sealed = kind.filesystem_type() == OVERLAYFS_SUPER_MAGIC
        && kind.flags().contains(FsFlags::ST_RDONLY);
    if !sealed {
        return None;
    }
    show(&mount, name, found).ok()
}

/// brig's executable in an overlay of its own. overlayfs requires two layers, neither inside the other: the
/// executable's directory, and one that exists on every host and does not change.
fn overlay(parent: &Path, name: &CStr, found: &FileStat) -> Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = open(parent, flags, Mode::empty()).context("open its directory")?;
    let filesystem = Filesystem::open(c"overlay")?;
    let layers = format!("/proc/self/fd/{}:/sys/class", parent.as_raw_fd());
    filesystem.set(c"lowerdir", Some(&CString::new(layers)?))?;
    // Keeps inode numbers unchanged, whatever the kernel's default (xino_auto) is.
    filesystem.set(c"xino", Some(c"off"))?;
    let mount = filesystem.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)?;
    show(&mount, name, found)
}

/// Opens brig's executable in an overlay. It may have been removed or replaced while it runs, or be hidden below
/// another mount.
fn show(mount: &OwnedFd, name: &CStr, found: &FileStat) -> Result<File> {
    // O_NONBLOCK: another file may have that name by now, e.g. a fifo.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let sealed = open_in(mount.as_fd(), name, flags, Links::Refuse)?;
    let shown = fstat(&sealed).context("fstat")?;
    let [shown, found] =
        [&shown, found].map(|stat| (stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec));
    ensure!(shown == found, "{} has been replaced", name.to_string_lossy());
    Ok(sealed.into())
}

/// An immutable copy in memory, which not even its owner can change.
fn copy(host: &File) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // If the sysctl vm.memfd_noexec is set, a memfd must be marked as executable. Linux before 6.3 does not
    // support the flag.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memory = match memfd_create(c"brig", flags | executable) {
        Err(Errno::EINVAL) => memfd_create(c"brig", flags),
        made => made,
    };
    let mut memory = File::from(memory.context("memfd_create")?);
    std::io::copy(&mut &*host, &mut memory).context("copy brig into memory")?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SEALS)).context("fcntl(F_ADD_SEALS)")?;
    Ok(memory.into())
}

/// Executes it with brig's own arguments, environment and descriptors.
fn execute(sealed: &OwnedFd) -> Result<()> {
    let args = process::args().into_iter().map(|arg| CString::new(arg.into_vec()));
    let args = args.collect::<Result<Vec<_>, _>>()?;
    let variables = std::env::vars_os()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let env = variables.collect::<Result<Vec<_>, _>>()?;
    let Err(errno) = execveat(sealed, c"", &args, &env, AtFlags::AT_EMPTY_PATH);
    Err(errno).context("execveat")
}

/// After execveat, the process's name is that of a descriptor.
fn keep_name() -> Result<()> {
    let called = process::args().into_iter().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    Ok(process::set_process_name(&CString::new(name.as_bytes())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_start_something_in_a_container_are_sealed() {
        let needed = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            may_be_needed(&words)
        };
        for line in ["brig create x", "brig --root /r exec x true", "brig --log l run -d x"] {
            assert!(needed(line), "{line}");
        }
        for line in ["brig state x", "brig kill x", "brig delete -f x", "brig list", "brig start x"]
        {
            assert!(!needed(line), "{line}");
        }
    }

    #[test]
    fn a_copy_can_be_changed_by_nobody() {
        use std::io::{Seek, Write};
        let host = File::open("/proc/self/cmdline").unwrap();
        let mut copied = File::from(copy(&host).unwrap());
        copied.rewind().unwrap();
        assert_eq!(copied.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(copied.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let more = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL);
        assert_eq!(fcntl(&copied, more), Err(Errno::EPERM));
    }
}
