//! The parts of the root filesystem that belong to the host: `root.path` can be `/`, by whatever name, and
//! its /dev the host's. Nothing is created, replaced or removed there, because that would change the host.

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, fstat, stat};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use sys::Errno;
use sys::path::{Links, open_in};

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Hosts {
    /// The root directory belongs to the host.
    root: bool,
    /// The host's /dev, which a root filesystem can contain as well.
    dev: Option<(u64, u64)>,
    /// New filesystems mounted in the container.
    new: BTreeSet<u64>,
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Hosts {
    /// Called while the host's root is still the root.
    pub fn of(root: BorrowedFd<'_>) -> Result<Hosts> {
        let host = stat("/").context("stat /")?;
        let root = identity(&fstat(root).context("fstat")?) == identity(&host);
        let dev = stat("/dev").ok().filter(|dev| identity(dev) != identity(&host));
        Ok(Hosts { root, dev: dev.as_ref().map(identity), new: BTreeSet::new() })
    }

    /// A filesystem that is the container's own.
    pub fn add_new(&mut self, mount: BorrowedFd<'_>) -> Result<()> {
        if self.root {
            self.new.insert(fstat(mount).context("fstat")?.st_dev);
        }
        Ok(())
    }

    /// Whether a directory belongs to the host.
    pub fn has(&self, directory: BorrowedFd<'_>) -> Result<bool> {
        let stat = fstat(directory).context("fstat")?;
        Ok(Some(identity(&stat)) == self.dev || self.root && !self.new.contains(&stat.st_dev))
    }

    /// An error if the path does not exist and would be created in a directory of the host.
    pub fn may_make(&self, root: BorrowedFd<'_>, path: &CStr) -> Result<()> {
        if !self.root {
            return Ok(());
        }
        let mut left = path.to_bytes();
        loop {
            let part = CString::new(if left.is_empty() { b"/" } else { left })?;
            match open_in(root, &part, OFlag::O_PATH, Links::Follow) {
                Ok(_) if left.len() == path.to_bytes().len() => return Ok(()),
                Ok(directory) if !self.has(directory.as_fd())? => return Ok(()),
                Ok(_) => bail!(
                    "does not exist, and nothing can be created in {}, which is a directory of the host (root.path)",
                    part.to_string_lossy()
                ),
                Err(error) if error.errno == Errno::ENOENT && !left.is_empty() => {
                    let slash = left.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    left = &left[..slash];
                }
                // Other errors are reported by the caller that needs it.
                Err(_) => return Ok(()),
            }
        }
    }
}
