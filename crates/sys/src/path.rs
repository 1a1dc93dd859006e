//! Resolves paths inside a directory without leaving it: with openat2(2), or step by step if that is not
//! supported or a file or directory is to be created.

use super::{Errno, SysError};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// To open a directory for reading and as the start of lookups; fails for a symbolic link.
pub const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// To open a directory only as the start of lookups.
pub const DIRECTORY_HANDLE: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// To open a directory, or a link to one, as the start of lookups.
const FOLLOWED: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// How to treat symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Follow them, with the directory as the root of absolute links and the limit of `..`.
    Follow,
    /// Fail with ELOOP.
    Refuse,
}

/// Opens `path` below `root`. Magic links (`/proc/PID/fd/N`) are never followed: they can lead anywhere.
///
/// # Errors
///
/// If it cannot be opened: with `Links::Refuse` ELOOP for a symbolic link in the path.
pub fn open_in(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    links: Links,
) -> Result<OwnedFd, SysError> {
    let resolve = match links {
        Links::Follow => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Links::Refuse => ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_IN_ROOT);
    loop {
        match openat2(root, path, how) {
            // A concurrent rename or mount on the host, while the kernel resolves "..".
            Err(Errno::EAGAIN) => {}
            // Before Linux 5.6, or hidden by a seccomp filter around brig.
            Err(Errno::ENOSYS | Errno::EPERM) => {
                return Walk::new(root, path, links).walk(&End::Open(flags));
            }
            opened => {
                let call = || format!("openat2({})", path.to_string_lossy());
                return opened.map_err(|errno| SysError::new(call(), errno));
            }
        }
    }
}

/// Opens `path` below `root`, the root of a mount, without crossing to another mount. Links of procfs that
/// stay below it, e.g. `thread-self`, are followed.
///
/// # Errors
///
/// If it cannot be opened, or is on another mount (EXDEV).
pub fn open_on_same_mount(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlag,
) -> Result<OwnedFd, SysError> {
    let resolve = ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_BENEATH;
    let flags = flags | OFlag::O_CLOEXEC;
    let opened = match openat2(root, path, OpenHow::new().flags(flags).resolve(resolve)) {
        // As in open_in: then a mount over it is detected if its filesystem is another one.
        Err(Errno::ENOSYS | Errno::EPERM) => openat(root, path, flags, Mode::empty()),
        opened => opened,
    };
    let same = |opened: OwnedFd| match (fstat(root)?.st_dev, fstat(&opened)?.st_dev) {
        (dev, its) if dev == its => Ok(opened),
        _ => Err(Errno::EXDEV),
    };
    let failed = |errno| SysError::new(format!("openat2({path})"), errno);
    opened.and_then(same).map_err(failed)
}

/// Opens the directory `path` below `root`, and creates missing parts with mode 0755. The target of a
/// dangling link is created.
///
/// # Errors
///
/// If a directory of the path cannot be created, or is not a directory.
pub fn make_dir_in(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, SysError> {
    match open_in(root, path, FOLLOWED, Links::Follow) {
        Err(error) if error.errno == Errno::ENOENT => {}
        opened => return opened,
    }
    Walk::new(root, path, Links::Follow).walk(&End::MakeDir)
}

/// Creates the file `path` below `root`, which must not exist, and its missing directories.
///
/// # Errors
///
/// If the file, or a directory of the path, cannot be created.
pub fn make_file_in(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, SysError> {
    Walk::new(root, path, Links::Follow).walk(&End::MakeFile)
}

/// What to do with the last component.
enum End {
    Open(OFlag),
    MakeDir,
    MakeFile,
}

/// A walk from directory to directory, each held open: `..` returns to the previous one, so concurrent
/// renames cannot lead out of the root.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    path: &'a CStr,
    links: Links,
    /// From below the root down to the current directory.
    dirs: Vec<OwnedFd>,
    /// Remaining components, the next one last.
    names: Vec<Vec<u8>>,
    /// Number of links followed so far.
    followed: usize,
}

/// The kernel's own limit.
const MAX_LINKS: usize = 40;

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &'a CStr, links: Links) -> Self {
        let mut walk = Walk { root, path, links, dirs: Vec::new(), names: Vec::new(), followed: 0 };
        walk.push(path.to_bytes());
        walk
    }

    fn push(&mut self, path: &[u8]) {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        self.names.extend(names.rev().map(<[u8]>::to_vec));
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.dirs.last().map_or(self.root, AsFd::as_fd)
    }

    fn failed(&self, call: &str, errno: Errno) -> SysError {
        SysError::new(format!("{call}({})", self.path.to_string_lossy()), errno)
    }

    fn walk(mut self, end: &End) -> Result<OwnedFd, SysError> {
        while let Some(name) = self.names.pop() {
            match name.as_slice() {
                b"." => {}
                b".." => drop(self.dirs.pop()),
                name => {
                    if self.follow(name)? {
                        continue;
                    }
                    if self.names.is_empty() {
                        return self.last(name, end);
                    }
                    let next = self.step(name, !matches!(end, End::Open(_)))?;
                    self.dirs.push(next);
                }
            }
        }
        // The path is the root, or ends in "..".
        self.open(b".", FOLLOWED)
    }

    /// Follows `name` if it is a link.
    fn follow(&mut self, name: &[u8]) -> Result<bool, SysError> {
        let link = match readlinkat(self.here(), name) {
            Ok(link) => link,
            // Not a link, or it does not exist.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(self.failed("readlink", errno)),
        };
        self.followed += 1;
        if self.links == Links::Refuse || self.followed > MAX_LINKS {
            return Err(self.failed("open", Errno::ELOOP));
        }
        if link.as_bytes().starts_with(b"/") {
            self.dirs.clear();
        }
        self.push(link.as_bytes());
        Ok(true)
    }

    fn last(&self, name: &[u8], end: &End) -> Result<OwnedFd, SysError> {
        match end {
            End::Open(flags) => self.open(name, *flags),
            End::MakeDir => self.step(name, true),
            // O_EXCL: a file created concurrently by another process must not be used.
            End::MakeFile => self.open(name, OFlag::O_CREAT | OFlag::O_EXCL),
        }
    }

    /// Opens the directory `name`, created if `make`.
    fn step(&self, name: &[u8], make: bool) -> Result<OwnedFd, SysError> {
        let opened = self.open(name, FOLLOWED);
        if !make || !opened.as_ref().is_err_and(|error| error.errno == Errno::ENOENT) {
            return opened;
        }
        match mkdirat(self.here(), name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => self.open(name, FOLLOWED),
            Err(errno) => Err(self.failed("mkdir", errno)),
        }
    }

    fn open(&self, name: &[u8], flags: OFlag) -> Result<OwnedFd, SysError> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.here(), name, flags, Mode::from_bits_truncate(0o644))
            .map_err(|errno| self.failed("open", errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// A directory in which the test creates everything.
    struct Scratch(std::path::PathBuf, OwnedFd);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("brig-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let fd = nix::fcntl::open(&path, FOLLOWED, Mode::empty()).unwrap();
            Scratch(path, fd)
        }

        fn link(&self, name: &str, to: &str) {
            std::os::unix::fs::symlink(to, self.0.join(name)).unwrap();
        }

        fn walk(&self, path: &CStr, links: Links) -> Result<OwnedFd, Errno> {
            let walk = Walk::new(self.1.as_fd(), path, links);
            walk.walk(&End::Open(OFlag::O_PATH)).map_err(|error| error.errno)
        }

        fn is(&self, fd: &OwnedFd, path: &str) -> bool {
            let found = nix::fcntl::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str());
            std::path::Path::new(&found.unwrap()) == self.0.join(path)
        }
    }

    #[test]
    fn links_and_dots_stay_inside_the_root() {
        let scratch = Scratch::new("inside");
        std::fs::create_dir_all(scratch.0.join("a/b")).unwrap();
        scratch.link("a/out", "../../../../../../a/b");
        scratch.link("abs", "/a");
        for path in [c"/a/out", c"abs/b", c"../../a/b", c"a/b/../../../a/b", c"abs/out/../b"] {
            let found = scratch.walk(path, Links::Follow).unwrap();
            assert!(scratch.is(&found, "a/b"), "{path:?}");
            let same = open_in(scratch.1.as_fd(), path, OFlag::O_PATH, Links::Follow).unwrap();
            assert!(scratch.is(&same, "a/b"), "{path:?} by openat2");
        }
        assert_eq!(scratch.walk(c"/abs/b", Links::Refuse).unwrap_err(), Errno::ELOOP);
        assert!(scratch.walk(c"/a/b", Links::Refuse).is_ok());
        assert_eq!(scratch.walk(c"/a/c/d", Links::Follow).unwrap_err(), Errno::ENOENT);
        scratch.link("loop", "loop");
        assert_eq!(scratch.walk(c"/loop", Links::Follow).unwrap_err(), Errno::ELOOP);
        for file in ["a/out", "abs", "loop"] {
            std::fs::remove_file(scratch.0.join(file)).unwrap();
        }
        for dir in ["a/b", "a", ""] {
            std::fs::remove_dir(scratch.0.join(dir)).unwrap();
        }
    }

    #[test]
    fn what_is_mounted_on_the_way_is_not_gone_through() {
        let open = |path: &std::path::Path, name: &str| {
            let root = nix::fcntl::open(path, FOLLOWED, Mode::empty()).unwrap();
            open_on_same_mount(root.as_fd(), name, OFlag::O_RDONLY).map_err(|error| error.errno)
        };
        let proc = std::path::Path::new("/proc");
        assert!(open(proc, "thread-self/attr/current").is_ok());
        assert_eq!(open(std::path::Path::new("/"), "proc/self/stat").unwrap_err(), Errno::EXDEV);
        // A magic link leads anywhere.
        assert_eq!(open(proc, "self/root/proc/self/stat").unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_made_to_lead_somewhere() {
        let scratch = Scratch::new("dangling");
        scratch.link("resolv.conf", "../run/resolve/stub.conf");
        scratch.link("lib", "/usr/lib");
        let file = make_file_in(scratch.1.as_fd(), c"/resolv.conf").unwrap();
        assert!(scratch.is(&file, "run/resolve/stub.conf"));
        let dir = make_dir_in(scratch.1.as_fd(), c"/lib/x").unwrap();
        assert!(scratch.is(&dir, "usr/lib/x"));
        let not_a_dir = make_dir_in(scratch.1.as_fd(), c"/resolv.conf").unwrap_err();
        assert_eq!(not_a_dir.errno, Errno::ENOTDIR);
        for file in ["run/resolve/stub.conf", "resolv.conf", "lib"] {
            std::fs::remove_file(scratch.0.join(file)).unwrap();
        }
        for dir in ["run/resolve", "run", "usr/lib/x", "usr/lib", "usr", ""] {
            std::fs::remove_dir(scratch.0.join(dir)).unwrap();
        }
    }
}
