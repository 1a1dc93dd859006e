//! The options of create and run.

use crate::plan::rootfs::RootOptions;
use crate::plan::{CgroupManager, PIDFD_RECEIVER};
use crate::process::socket::Socket;
use crate::spec::{self, Place};
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::{Errno, VerbatimError, errno_of};

/// The options of create and run.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// The state directory.
    pub root: PathBuf,
    /// The cgroup manager.
    pub cgroup_manager: CgroupManager,
    /// Whether it may run without a cgroup; by default, an unprivileged user's container may.
    pub rootless: Option<bool>,
    /// The container's id.
    pub id: String,
    /// The directory with config.json and the files it refers to.
    pub bundle: PathBuf,
    /// A file that replaces the bundle's config.json.
    pub config: Option<PathBuf>,
    /// The file for init's pid.
    pub pid_file: Option<PathBuf>,
    /// Layers, upper, pivot.
    pub rootfs: RootOptions,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// The number of additional descriptors after stderr to pass on.
    pub preserve_fds: u32,
    /// The socket for the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The socket for a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// brig exits and the container goes on running.
    pub detach: bool,
    /// The bundle was made for this container, and is deleted with it.
    pub own_bundle: bool,
    /// Also treat lint errors that create ignores as errors.
    pub strict: bool,
    /// The socket of `seccomp record`: the filter notifies it of every system call.
    pub record_calls: Option<PathBuf>,
}

impl Options {
    /// The bundle's path without symbolic links, as in runc, so that `state` and hooks always show the same
    /// path. If it does not exist, reading its config.json reports the error.
    pub fn real_bundle(&self) -> Result<PathBuf> {
        // One look-up; canonicalize(3) has one for each component.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let real = open(&self.bundle, flags, Mode::empty())
            .and_then(|fd| readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str()));
        let bundle = match real {
            // A deleted directory has no path, and somebody else could create that one.
            Ok(bundle) if !bundle.as_bytes().ends_with(b" (deleted)") => bundle.into(),
            _ => std::path::absolute(&self.bundle).context("the current directory")?,
        };
        // `state` and hooks show it as JSON.
        ensure!(bundle.to_str().is_some(), "bundle {bundle:?}: its path is not UTF-8");
        Ok(bundle)
    }

    /// Reads the config of a bundle, or the other file that was given.
    pub fn read_config(&self, bundle: &Path) -> Result<Vec<u8>> {
        let path = self.config.clone().unwrap_or_else(|| bundle.join("config.json"));
        let read = || spec::read(File::open(&path)?);
        read().map_err(|error: anyhow::Error| {
            let path = path.display();
            if self.config.is_some() || errno_of(&error) != Some(Errno::ENOENT) {
                return error.context(path.to_string());
            }
            let hint = "use --bundle DIR, or create one with `brig spec`";
            let text = format!("{path}: no such file or directory ({hint})");
            VerbatimError { text, errno: Errno::ENOENT }.into()
        })
    }

    /// The socket for a pidfd of init: from runc's flag or crun's annotation.
    pub fn pidfd_sockets(
        &self,
        annotations: &BTreeMap<String, String>,
        bundle: &Path,
    ) -> Result<Vec<Socket>> {
        let flag = Socket::of_flag("--pidfd-socket", self.pidfd_socket.as_deref())?;
        let path = annotations.get(PIDFD_RECEIVER).map(|path| bundle.join(path));
        let annotated = Socket::of_flag("socket", path.as_deref());
        let annotated = annotated.at(format_args!("annotations[{PIDFD_RECEIVER:?}]"))?;
        Ok(flag.into_iter().chain(annotated).collect())
    }
}
