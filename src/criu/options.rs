//! The options of checkpoint and restore.

use super::wire::Message;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Flags passed to CRIU: name, help, and the number of the request's field. Engines pass checkpoint's flags
/// to restore, so both accept all of them.
pub const SWITCHES: [(&str, &str, u32); 9] = [
    ("auto-dedup", "Free memory in the image that is replaced", 16),
    ("ext-unix-sk", "Allow external Unix socket connections", 4),
    ("file-locks", "Include file locks", 8),
    ("lazy-pages", "Load memory on demand, by a page server", 48),
    ("link-remap", "Allow open files that have been unlinked", 18),
    ("shell-job", "Allow an external terminal", 7),
    ("tcp-close", "Close established TCP connections", 52),
    ("tcp-established", "Include established TCP connections", 5),
    ("tcp-skip-in-flight", "Ignore unestablished TCP connections", 46),
];

/// Flags of [`SWITCHES`] that need a later CRIU than [`super::rpc::OLDEST`], and its version.
const LATER: [(&str, u32); 3] = [
    ("lsm-mount-context", 31_600),
    ("network-lock nftables", 31_600),
    ("network-lock skip", 31_900),
];

/// CRIU's modes of handling cgroups (`criu_cg_mode`).
pub const CGROUP_MODES: [&str; 4] = ["soft", "full", "strict", "ignore"];
const MODES: [i64; 4] = [3, 4, 5, 0];

/// CRIU's methods of locking the network (`criu_network_lock_method`).
pub const NETWORK_LOCKS: [&str; 3] = ["iptables", "nftables", "skip"];
const LOCKS: [i64; 3] = [1, 2, 3];

/// The common options.
#[derive(Debug, Default)]
pub struct Common {
    /// The CRIU program, if not `criu` in PATH.
    pub criu: Option<PathBuf>,
    /// The directory with the checkpoint.
    pub images: PathBuf,
    /// The directory for CRIU's logs; by default `images`.
    pub work: Option<PathBuf>,
    /// The preceding checkpoint, relative to `images`.
    pub parent: Option<PathBuf>,
    /// The given flags of [`SWITCHES`].
    pub switches: Vec<&'static str>,
    /// One of [`CGROUP_MODES`].
    pub manage_cgroups: Option<String>,
    /// One of [`NETWORK_LOCKS`].
    pub network_lock: Option<String>,
    /// Namespaces that are restored empty.
    pub empty_namespaces: Vec<String>,
}

/// The options of checkpoint.
#[derive(Debug, Default)]
pub struct CheckpointOptions {
    /// The state directory.
    pub root: PathBuf,
    /// The container's id.
    pub id: String,
    /// The common options.
    pub common: Common,
    /// Only dump memory; the container continues to run.
    pub pre_dump: bool,
    /// The container continues to run.
    pub leave_running: bool,
    /// A descriptor that receives a zero byte when the page server is ready.
    pub status_fd: Option<u32>,
    /// The address and port of a page server to send memory to.
    pub page_server: Option<String>,
}

/// The options of restore, in addition to those of create.
#[derive(Debug, Default)]
pub struct RestoreOptions {
    /// The common options.
    pub common: Common,
    /// Orphans of the container become children of brig.
    pub subreaper: bool,
    /// `TYPE:NAME`: a security module's label that replaces the checkpoint's.
    pub lsm_profile: Option<String>,
    /// An SELinux mount context that replaces the checkpoint's.
    pub lsm_mount_context: Option<String>,
    /// A host name that replaces the checkpoint's.
    pub hostname: Option<String>,
    /// Allow restored processes to have privileges beyond the config.
    pub trust_image: bool,
}

impl Common {
    /// The directory for CRIU's logs.
    pub(super) fn work(&self) -> &Path {
        self.work.as_deref().unwrap_or(&self.images)
    }

    /// The CRIU program.
    pub(super) fn program(&self) -> &Path {
        self.criu.as_deref().unwrap_or(Path::new("criu"))
    }

    /// Whether one of [`SWITCHES`] is given.
    pub(super) fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    /// Refuses values that no version of CRIU supports.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(name) = self.empty_namespaces.iter().find(|name| *name != "network") {
            bail!("--empty-ns {name}: only network can come back empty");
        }
        let absolute = self.parent.as_ref().filter(|parent| !parent.is_relative());
        if let Some(parent) = absolute {
            bail!("--parent-path {}: has to be relative to --image-path", parent.display());
        }
        Ok(())
    }

    /// Called when the image directory exists, because the path of the parent may lead through it.
    pub(super) fn check_parent(&self) -> Result<()> {
        if let Some(parent) = &self.parent {
            let what = || format!("--parent-path {}", parent.display());
            let there = self.images.join(parent);
            let found = there.metadata().with_context(what)?;
            ensure!(found.is_dir(), "{}: {} is not a directory", what(), there.display());
        }
        Ok(())
    }

    /// Adds the fields that have the same meaning for dump and restore.
    pub(super) fn add_to(&self, mut request: Message, version: u32) -> Result<Message> {
        for (name, _, field) in SWITCHES {
            request = request.flag(field, self.has(name));
        }
        if let Some(lock) = &self.network_lock {
            needs(version, &format!("network-lock {lock}"))?;
            let number = NETWORK_LOCKS.iter().position(|name| name == lock);
            request = request.number(64, number.map_or(1, |index| LOCKS[index]));
        }
        Ok(request)
    }

    /// The number of the cgroup mode, if given.
    pub(super) fn cgroup_mode(&self) -> Option<i64> {
        let asked = self.manage_cgroups.as_ref()?;
        CGROUP_MODES.iter().position(|name| name == asked).map(|index| MODES[index])
    }
}

/// Checks that this version of CRIU supports a flag.
pub(super) fn needs(version: u32, flag: &str) -> Result<()> {
    let Some((_, least)) = LATER.iter().find(|(name, _)| *name == flag) else { return Ok(()) };
    let shown = |version: u32| format!("{}.{}", version / 10_000, version / 100 % 100);
    ensure!(
        version >= *least,
        "--{flag} needs CRIU {}, and this is {}",
        shown(*least),
        shown(version)
    );
    Ok(())
}

/// Parses `ADDRESS:PORT` of `--page-server` into a message.
pub(super) fn page_server(text: &str) -> Result<Message> {
    let parse = || -> Option<Message> {
        let (address, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let message = Message::default().bytes(1, address.as_bytes()).number(2, port.into());
        (!address.is_empty()).then_some(message)
    };
    parse().with_context(|| format!("--page-server {text}: give ADDRESS:PORT"))
}
