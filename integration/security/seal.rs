//! What brig is executed from while it waits in a container, wherever its file is and whatever the kernel
//! refuses: never the host's file. `cve_binary` tests the attacks.

use super::cve_binary::{Kernel, command, copy, on};
use crate::rootless::{in_own_mounts, installed};
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use crate::tracer::{self, Strike, Whose};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPY: &str = "/memfd:brig (deleted)";

/// A mount that is unmounted when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(source: &Path, target: &Path, fstype: &str, flags: MsFlags, data: &str) -> Mounted {
        let data = Some(data).filter(|data| !data.is_empty());
        mount(Some(source), target, Some(fstype), flags, data).unwrap();
        Mounted(target.to_path_buf())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// `create` with this brig.
fn create(sandbox: &Sandbox, brig: &Path) -> Command {
    let bundle = sandbox.bundle();
    command(sandbox, brig, &["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id])
}

/// A brig that waits in a created container.
struct Waiting {
    exe: fs::Metadata,
    path: PathBuf,
    name: String,
    /// The mounts that contain its mapped files and exe.
    mounts: Vec<u64>,
    /// Address ranges below the heap, and their protection.
    rights: Vec<(u64, u64, String)>,
}

/// Creates the container, inspects the waiting brig, and deletes it.
#[track_caller]
fn waiting(sandbox: &Sandbox, command: Command) -> Waiting {
    sandbox.spawn(command).wait().ok();
    let found = inspect(sandbox.pid());
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    found
}

/// Checks that no mapped file is writable.
#[track_caller]
fn inspect(pid: i64) -> Waiting {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let exe = fs::metadata(proc.join("exe")).unwrap();
    let path = fs::read_link(proc.join("exe")).unwrap();
    let maps = fs::read_to_string(proc.join("maps")).unwrap();
    let mapped: Vec<_> = fs::read_dir(proc.join("map_files")).unwrap().flatten().collect();
    assert!(mapped.len() >= 2, "{mapped:?}");
    let mapped = mapped.iter().map(fs::DirEntry::path).chain([proc.join("exe")]);
    let mounts = mapped.map(|entry| {
        if path == Path::new(COPY) {
            let file = fs::metadata(&entry).unwrap();
            assert_eq!((file.dev(), file.ino()), (exe.dev(), exe.ino()), "{entry:?}\n{maps}");
        } else {
            let refused = File::options().write(true).open(&entry).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{entry:?}\n{maps}");
        }
        mount_of(&entry)
    });
    let mounts = mounts.collect();
    let name = fs::read_to_string(proc.join("comm")).unwrap().trim_end().to_string();
    Waiting { exe, path, name, mounts, rights: rights(&maps) }
}

/// The id of the mount that contains a file.
fn mount_of(file: &Path) -> u64 {
    let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: all zeros are a struct statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: path is a C string; the kernel writes one struct statx.
    let done = unsafe {
        libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_MNT_ID, &raw mut found)
    };
    assert_eq!(done, 0, "{file:?}");
    found.stx_mnt_id
}

/// The ranges of the program itself, which is linked to low addresses; a heap need not follow.
fn rights(maps: &str) -> Vec<(u64, u64, String)> {
    let mut rights: Vec<(u64, u64, String)> = Vec::new();
    let low = |line: &&str| line.find('-').is_some_and(|digits| digits <= 8);
    for line in maps.lines().take_while(low).take_while(|line| !line.ends_with("[heap]")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        match rights.last_mut() {
            Some(last) if last.1 == start && last.2 == words[1] => last.1 = end,
            _ => rights.push((start, end, words[1].to_string())),
        }
    }
    rights
}

/// Checks that brig continues from its own overlay on this file.
#[track_caller]
fn assert_in_place(what: &str, found: &Waiting, host: &Path) {
    let file = fs::metadata(host).unwrap();
    assert_ne!(found.path, Path::new(COPY), "{what}");
    // On another device, so it is not the file itself. The same inode number, so nothing was copied.
    assert_ne!(found.exe.dev(), file.dev(), "{what}");
    assert_eq!(found.exe.ino(), file.ino(), "{what}");
    // Not sufficient for mappings: the overlay of an overlay is shown as the inner one, on a mount that
    // belongs to the outer one.
    let mount = mount_of(host);
    assert!(!found.mounts.contains(&mount), "{what}: {mount} of {:?}", found.mounts);
}

#[test]
fn the_file_is_not_copied_unless_the_kernel_cannot_do_otherwise() {
    brig_only!();
    let sandbox = Sandbox::new();
    let brig = copy(&sandbox, "brig");
    let new = waiting(&sandbox, create(&sandbox, &brig));
    assert_in_place("new", &new, &brig);
    assert_eq!((new.path.as_path(), new.name.as_str()), (Path::new("/brig"), "brig"));
    let old = waiting(&sandbox, on(Kernel::Old, create(&sandbox, &brig)));
    assert_eq!((old.path.as_path(), old.name.as_str()), (Path::new(COPY), "brig"));
    // The same as set by the kernel and the C library, including read-only after relocation.
    assert_eq!(new.rights, old.rights);
}

#[test]
fn only_what_starts_processes_in_containers_is_sealed_and_nothing_executed_twice() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("sleep 60").bundle();
    let calls = |args: &[&str]| {
        let command = sandbox.command(&[args, &[&sandbox.id]].concat());
        tracer::run(&sandbox, command, Whose::Parent, usize::MAX, Strike::Parent).calls
    };
    let created = calls(&["create", "--bundle", bundle.to_str().unwrap()]);
    assert!(created.contains(&libc::SYS_fsopen), "{created:?}");
    assert!(!created.contains(&libc::SYS_execveat), "{created:?}");
    for args in [&["state"][..], &["start"], &["kill"], &["delete", "-f"]] {
        let done = calls(args);
        for call in [libc::SYS_execveat, libc::SYS_fsopen, libc::SYS_memfd_create] {
            assert!(done.len() > 5 && !done.contains(&call), "{args:?}: {done:?}");
        }
    }
}

#[test]
fn brig_is_sealed_wherever_it_lies_and_however_it_is_called() {
    brig_only!();
    let sandbox = Sandbox::new();
    for name in ["a:b,c\\d/brig", "with space/br,ig:lower=x", "deep/er/still/brig"] {
        let brig = copy(&sandbox, name);
        let found = waiting(&sandbox, create(&sandbox, &brig));
        assert_in_place(name, &found, &brig);
        assert_eq!(found.path.file_name(), brig.file_name());
        assert_eq!(Some(OsStr::new(&found.name)), brig.file_name());
    }
    let brig = copy(&sandbox, "removed");
    let file = File::open(&brig).unwrap();
    let by_fd = || {
        let mut by_fd =
            create(&sandbox, &PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
        let file = file.try_clone().unwrap();
        before_exec(&mut by_fd, move || {
            // Without close-on-exec, so that the path is valid.
            nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
            Ok(())
        });
        by_fd
    };
    assert_in_place("by descriptor", &waiting(&sandbox, by_fd()), &brig);
    fs::remove_file(&brig).unwrap();
    assert_eq!(waiting(&sandbox, by_fd()).path, Path::new(COPY), "removed");
    fs::write(&brig, "another file").unwrap();
    assert_eq!(waiting(&sandbox, by_fd()).path, Path::new(COPY), "replaced");
}

/// A filesystem that is read-only here can be writable elsewhere.
#[test]
fn brig_is_sealed_on_every_kind_of_file_system() {
    brig_only!();
    in_own_mounts(|| {
        let sandbox = Sandbox::new();
        let [memory, bound, over, above] = ["memory", "bound", "over", "above"].map(|name| {
            fs::create_dir(sandbox.dir.join(name)).unwrap();
            sandbox.dir.join(name)
        });
        let at = |what: &str, brig: &Path| {
            let found = waiting(&sandbox, create(&sandbox, brig));
            assert_in_place(what, &found, brig);
        };
        let (none, no_flags) = (Path::new("none"), MsFlags::empty());
        // In memory, because the sandbox may be on an overlay itself.
        let _memory = Mounted::new(none, &memory, "tmpfs", no_flags, "");
        at("tmpfs", &copy(&sandbox, "memory/low/brig"));
        copy(&sandbox, "bound/brig");
        let bind = MsFlags::MS_BIND;
        let read_only = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let _bound = Mounted::new(&bound, &bound, "", bind, "");
        mount(None::<&Path>, &bound, None::<&str>, read_only, None::<&str>).unwrap();
        at("a read-only bind mount", &bound.join("brig"));
        let overlay = |low: &Path, name: &str, target: &Path| {
            let [up, work] = ["up", "work"].map(|kind| memory.join(format!("{name}-{kind}")));
            [&up, &work].iter().for_each(|dir| fs::create_dir(dir).unwrap());
            let [low, up, work] = [low, &up, &work].map(Path::display);
            let layers = format!("lowerdir={low},upperdir={up},workdir={work}");
            Mounted::new(none, target, "overlay", no_flags, &layers)
        };
        // The kernel permits replacing an exe that is still mapped here: see docs/design.md.
        let _over = overlay(&memory.join("low"), "over", &over);
        at("a writable overlay, below", &over.join("brig"));
        at("a writable overlay, above", &copy(&sandbox, "over/new"));
        let _read_only = Mounted::new(&over, &over, "", bind, "");
        mount(None::<&Path>, &over, None::<&str>, read_only, None::<&str>).unwrap();
        at("a read-only mount of it", &over.join("brig"));
        // The kernel stacks at most two overlays.
        let _above = overlay(&over, "above", &above);
        let found = waiting(&sandbox, create(&sandbox, &above.join("brig")));
        assert_eq!(found.path, Path::new(COPY));
    });
}

/// `make install-seal` where there is no systemd, on a /run of this test's own.
fn install_seal(bin: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install-seal.sh");
    let done = Command::new(script).arg(bin).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn an_overlay_that_is_mounted_for_good_is_used_as_long_as_it_shows_the_same_file() {
    brig_only!();
    in_own_mounts(|| {
        let sandbox = Sandbox::minimal();
        let (none, no_flags) = (Path::new("none"), MsFlags::empty());
        let run = Path::new("/run");
        let seal = Path::new("/run/brig-seal");
        let brig = copy(&sandbox, "bin/brig");
        let bin = brig.parent().unwrap();
        let from_mount = |what: &str, expected: bool| {
            let found = waiting(&sandbox, create(&sandbox, &brig));
            assert_in_place(what, &found, &brig);
            let used = seal.exists() && found.mounts.contains(&mount_of(seal));
            assert_eq!(used, expected, "{what}: {:?}", found.mounts);
        };
        let _run = Mounted::new(none, run, "tmpfs", no_flags, "");
        from_mount("not installed", false);
        install_seal(bin);
        from_mount("installed", true);
        let command = create(&sandbox, &brig);
        let calls = tracer::run(&sandbox, command, Whose::Parent, usize::MAX, Strike::Parent).calls;
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        assert!(!calls.contains(&libc::SYS_fsopen), "{calls:?}");
        // As an upgrade does.
        let new = copy(&sandbox, "bin/new");
        fs::rename(new, &brig).unwrap();
        from_mount("replaced", false);
        install_seal(bin);
        from_mount("installed again", true);
        umount2(seal, MntFlags::MNT_DETACH).unwrap();
        {
            let layers = ["up", "work"].map(|name| run.join(name));
            layers.iter().for_each(|dir| fs::create_dir(dir).unwrap());
            let [low, up, work] = [bin, &layers[0], &layers[1]].map(Path::display);
            let layers = format!("lowerdir={low},upperdir={up},workdir={work},xino=off");
            let _writable = Mounted::new(none, seal, "overlay", no_flags, &layers);
            from_mount("a writable overlay", false);
        }
        let _bind = Mounted::new(bin, seal, "", MsFlags::MS_BIND, "");
        from_mount("no overlay", false);
    });
}

#[test]
fn brig_is_sealed_in_a_user_namespace() {
    brig_only!();
    if !installed("unshare") {
        return skip("no unshare");
    }
    let sandbox = Sandbox::minimal();
    let brig = copy(&sandbox, "brig");
    let create = create(&sandbox, &brig);
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--mount", "--"]);
    inside.arg(create.get_program()).args(create.get_args()).env_clear();
    inside.envs(create.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let found = waiting(&sandbox, inside);
    assert_in_place("a user namespace", &found, &brig);
}

/// A setting of the whole machine: overlays mounted meanwhile get other inode numbers.
#[test]
fn inode_numbers_are_those_of_the_file_with_xino_auto_too() {
    brig_only!();
    let parameter = Path::new("/sys/module/overlay/parameters/xino_auto");
    if std::env::var_os("BRIG_TEST_EXPENDABLE").is_none() {
        return skip("a parameter of the whole machine: make test-vm");
    }
    let Ok(before) = fs::read_to_string(parameter) else {
        return skip("no overlay module, or one without xino_auto");
    };
    fs::write(parameter, "Y").unwrap();
    let sandbox = Sandbox::new();
    let brig = copy(&sandbox, "brig");
    let running = sandbox.spawn(create(&sandbox, &brig)).wait();
    fs::write(parameter, before.trim()).unwrap();
    running.ok();
    assert_in_place("xino_auto", &inspect(sandbox.pid()), &brig);
}

/// The system calls of a command in which brig seals itself, without close, and their range.
#[cfg(target_arch = "x86_64")]
fn calls_of_the_seal(sandbox: &Sandbox, brig: &Path) -> (Vec<i64>, usize, usize) {
    let command = create(sandbox, brig);
    let traced = tracer::run(sandbox, command, Whose::Parent, usize::MAX, Strike::Parent);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    let tracer::Traced { calls, arguments, .. } = traced;
    let calls: Vec<_> =
        calls.into_iter().zip(arguments).filter(|(call, _)| *call != libc::SYS_close).collect();
    let set_mm = |option: i32| {
        let wanted = [libc::PR_SET_MM, option].map(|word| u64::try_from(word).unwrap());
        let at = calls.iter().position(|call| *call == (libc::SYS_prctl, wanted));
        at.unwrap_or_else(|| panic!("no prctl{wanted:?} in {calls:?}"))
    };
    let (first, last) = (set_mm(libc::PR_SET_MM_MAP_SIZE), set_mm(libc::PR_SET_MM_MAP));
    let calls = calls.into_iter().map(|(call, _)| call).collect();
    (calls, first, last)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn whatever_the_kernel_refuses_on_the_way_brig_is_sealed() {
    brig_only!();
    let sandbox = Sandbox::new();
    let brig = copy(&sandbox, "brig");
    let (calls, first, last) = calls_of_the_seal(&sandbox, &brig);
    let number = |call: i64| calls[first..=last].iter().filter(|done| **done == call).count();
    // First brig checks whether the kernel supports it. Then it copies two writable segments, and maps two
    // others.
    assert!(calls[..first].iter().all(|call| *call != libc::SYS_fsopen), "{calls:?}");
    assert!(number(libc::SYS_mmap) >= 3 && number(libc::SYS_mremap) >= 1, "{calls:?}");
    // What follows readlink is the look for an overlay that is mounted for good, which is not there.
    let next = |from: usize, wanted: &[i64]| {
        from + calls[from..].iter().position(|call| wanted.contains(call)).unwrap()
    };
    let link = next(first, &[libc::SYS_readlink, libc::SYS_readlinkat]);
    let look = next(link, &[libc::SYS_open, libc::SYS_openat]);
    for (at, call) in calls.iter().enumerate().take(last + 1).skip(first) {
        let errors: &[i32] = match *call {
            libc::SYS_prctl => &[libc::EINVAL, libc::EPERM, libc::EACCES, libc::EBUSY],
            _ => &[libc::ENOMEM],
        };
        for errno in errors {
            let fault = (Whose::Parent, at + 1);
            let command = create(&sandbox, &brig);
            let faulted =
                tracer::run_with_fault(&sandbox, command, fault, *errno, &[libc::SYS_close]);
            assert_eq!((faulted.code, faulted.call), (Some(0), Some(*call)), "{faulted:?}");
            let found = inspect(sandbox.pid());
            // std's check before it closes a descriptor changes nothing.
            let copied = found.path == Path::new(COPY);
            let optional = at == look || *call == libc::SYS_fcntl;
            assert!(copied || optional, "{at} {errno} {faulted:?}");
            assert_eq!(found.name, "brig", "{at} {errno} {faulted:?}");
            sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        }
    }
}
