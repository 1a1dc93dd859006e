//! What create and run are told on the command line.

use crate::image::container::FromImage;
use crate::plan::rootfs::RootOptions;
use std::path::PathBuf;

/// What create and run are told on the command line.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Where states are kept.
    pub root: PathBuf,
    /// Who makes its cgroup.
    pub driver: Driver,
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
    /// The bundle is one of the store, made of this image for this container.
    pub image: Option<FromImage>,
}

/// Who makes a container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// brig.
    #[default]
    Cgroupfs,
    /// systemd, as a scope.
    Systemd,
    /// Nobody: the container stays in brig's own.
    Disabled,
}
