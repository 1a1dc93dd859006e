//! A lock that is held by a brig which waits for the caller: a hook that calls brig for its own container.

use std::os::fd::{AsFd, BorrowedFd};

/// The error that the caller's ancestor holds the lock of a container, and does not release it as long as it
/// waits for the caller.
#[derive(Debug)]
pub struct HeldByAncestor {
    pid: i32,
    path: String,
}

impl std::fmt::Display for HeldByAncestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HeldByAncestor { pid, path } = self;
        write!(
            f,
            "{path} is locked by the brig that runs this command as a hook (process {pid}): a hook cannot \
             change or delete its own container, but it can fail, or use `brig kill`"
        )
    }
}

impl std::error::Error for HeldByAncestor {}

/// Whether an ancestor of this process holds the flock on this directory. Pids are those of the mounted
/// /proc, because a createContainer hook is in the container's pid namespace.
pub(super) fn by_ancestor(
    directory: BorrowedFd<'_>,
    path: &std::path::Path,
) -> Option<HeldByAncestor> {
    let inode = nix::sys::stat::fstat(directory.as_fd()).ok()?.st_ino;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| holder(line, inode))?;
    let ancestors = std::iter::successors(parent("self"), |pid| parent(&pid.to_string()));
    ancestors
        .take_while(|ancestor| *ancestor > 0)
        .any(|ancestor| ancestor == pid)
        .then(|| HeldByAncestor { pid, path: path.display().to_string() })
}

/// The holder in a line of /proc/locks, e.g. `3: FLOCK  ADVISORY  WRITE 17412 00:1f:12345 0 EOF`, if it is an
/// exclusive flock on this inode.
fn holder(line: &str, inode: u64) -> Option<i32> {
    let mut fields = line.split_whitespace().skip(1);
    let kind = [fields.next()?, fields.next()?, fields.next()?];
    let (pid, file) = (fields.next()?.parse().ok()?, fields.next()?);
    let same = file.rsplit(':').next()?.parse() == Ok(inode);
    (kind == ["FLOCK", "ADVISORY", "WRITE"] && same).then_some(pid)
}

fn parent(process: &str) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_inode() {
        let line = "3: FLOCK  ADVISORY  WRITE 17412 00:1f:12345 0 EOF";
        assert_eq!(holder(line, 12345), Some(17412));
        assert_eq!(holder(line, 1234), None);
        assert_eq!(holder("3: -> FLOCK  ADVISORY  WRITE 17412 00:1f:12345 0 EOF", 12345), None);
        assert_eq!(holder("3: POSIX  ADVISORY  WRITE 17412 00:1f:12345 0 EOF", 12345), None);
        assert_eq!(holder("", 12345), None);
        assert!(parent("self").is_some_and(|pid| pid > 0));
    }
}
