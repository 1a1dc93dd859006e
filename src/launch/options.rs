//! What create and run are told on the command line.

use crate::plan::rootfs::RootOptions;
use crate::plan::{CgroupManager, PIDFD_RECEIVER};
use crate::process::socket::Socket;
use crate::spec::Place;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What create and run are told on the command line.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Where states are kept.
    pub root: PathBuf,
    /// Who makes its cgroup.
    pub cgroup_manager: CgroupManager,
    /// It may have to do without; unless said otherwise, an ordinary user's may.
    pub rootless: Option<bool>,
    /// The container's name.
    pub id: String,
    /// Directory with config.json and what it refers to.
    pub bundle: PathBuf,
    /// Another file than the bundle's config.json.
    pub config: Option<PathBuf>,
    /// Where to write init's pid.
    pub pid_file: Option<PathBuf>,
    /// Layers, upper, pivot.
    pub rootfs: RootOptions,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after stderr the process inherits.
    pub preserve_fds: u32,
    /// Who gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Who gets a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// brig does not stay for as long as the container runs.
    pub detach: bool,
    /// The bundle was made for this container, and goes with it.
    pub own_bundle: bool,
}

impl Options {
    /// Who is to get a pidfd of init: by runc's flag, by crun's annotation.
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
