//! Decides: turns the spec into validated, resolved, plain data. It may read the host but changes nothing.
//! Facts about the host come from a [`Host`], which queries the kernel once. If [`Plan::new`] succeeds the
//! config is valid on this host, and nothing after it reads the spec.

pub mod annotations;
pub mod bind;
pub mod cgroup;
pub mod delegate;
pub mod destination;
pub mod device_rules;
pub mod devices;
pub mod exec;
pub mod extra_mounts;
pub mod hooks;
pub mod host;
pub mod id_list;
pub mod idmap;
pub mod idmap_option;
pub mod landlock;
pub mod lsm;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod overlay;
pub mod process;
pub mod rdt;
pub mod readiness;
pub mod resources;
mod rights;
pub mod rootfs;
pub mod sched;
pub mod sysctl;
mod time;
pub mod update;

pub use cgroup::CgroupManager;
pub use host::Host;
pub use rights::Rights;

use crate::seccomp::Filter;
use crate::spec::{Place, Spec};
use anyhow::{Result, anyhow};
use hooks::Hooks;
use namespaces::Namespaces;
use process::{Activation, Process};
use rootfs::{RootOptions, Rootfs};
use std::path::Path;
use sys::idmap::IdMaps;

/// A socket that gets a pidfd of init.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// The parts of a create that are not in the config: from the command line, and from brig's environment.
#[derive(Debug)]
pub struct Request<'a> {
    /// The absolute directory that relative paths of the config start at.
    pub bundle: &'a Path,
    /// Layers, upper, pivot.
    pub rootfs: &'a RootOptions,
    /// The cgroup manager.
    pub cgroup_manager: CgroupManager,
    /// Whether the container may run without a cgroup; by default, an unprivileged user's may.
    pub rootless: Option<bool>,
    /// The state directory, if a service manager waits for the container's readiness.
    pub tells_readiness: Option<&'a Path>,
    /// Sockets passed by a service manager for the process.
    pub activation: Option<Activation>,
    /// The number of additional descriptors after those and stderr to pass on.
    pub preserve_fds: u32,
    /// brig forwards the data of the process's terminal, if it has one.
    pub carries_terminal: bool,
}

impl<'a> Request<'a> {
    /// The bundle and defaults.
    pub fn of_bundle(bundle: &'a Path) -> Request<'a> {
        const NO_OPTIONS: &RootOptions =
            &RootOptions { layers: Vec::new(), upper: None, no_pivot: false };
        Request {
            bundle,
            rootfs: NO_OPTIONS,
            cgroup_manager: CgroupManager::default(),
            rootless: None,
            tells_readiness: None,
            activation: None,
            preserve_fds: 0,
            carries_terminal: false,
        }
    }
}

/// Everything that create will do, as plain data.
#[derive(Debug)]
pub struct Plan {
    /// brig's privileges.
    pub rights: Rights,
    /// Root filesystem and mounts.
    pub rootfs: Rootfs,
    /// The container's init.
    pub process: Process,
    /// Whether it gets a socket to report its readiness to.
    pub tells_readiness: bool,
    /// Settings shared with processes of exec.
    pub execution: sched::Execution,
    /// New and joined namespaces.
    pub namespaces: Namespaces,
    /// Id maps of the user namespace.
    pub id_maps: IdMaps,
    /// Network devices of the host to move in.
    pub net_devices: Vec<netdev::NetDevice>,
    /// Offsets of a new time namespace: clock, seconds, nanoseconds.
    pub time_offsets: Vec<time::Offset>,
    /// Host name, in the container's UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name there.
    pub domainname: Option<String>,
    /// Hooks.
    pub hooks: Hooks,
    /// Cgroup limits.
    pub resources: resources::Resources,
    /// The cgroup manager.
    pub cgroup_manager: CgroupManager,
    /// Whether a container without limits runs without a cgroup if none can be created: by default that of an
    /// unprivileged user, who may be root in a user namespace around brig; `--rootless` overrides it.
    pub goes_without_cgroup: bool,
    /// The host's uid of the user who becomes the owner of the container's cgroup.
    pub cgroup_owner: Option<u32>,
    /// The cgroup below the container's that it is moved into, and its owner.
    pub delegated: Option<(String, Option<u32>)>,
    /// Caches and memory bandwidth.
    pub rdt: Option<rdt::Rdt>,
    /// Whether the config names the container's cgroup.
    pub names_cgroup: bool,
    /// Kernel parameters.
    pub sysctl: Vec<sysctl::Sysctl>,
    /// Parts of the config for which the specification demands a warning instead of an error.
    pub warnings: Vec<String>,
    /// Differences from the config that nobody can change: shown as debug messages.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether the parent opens the sources of mounts. In another user namespace the child has no access to
    /// them, nor to the descriptor for an id map; in a joined mount namespace it does not see the host's
    /// paths. Otherwise the child opens them: since Linux 6.8, mounts cloned before the process appear first
    /// in mountinfo, and mounts must be in the order of the config (config.md, Mounts).
    pub fn opens_sources(&self) -> bool {
        let id_mapped = self.rootfs.mounts.iter().any(|mount| mount.id_map.is_some());
        let apart = self.process.in_user_namespace || self.rootfs.jail == rootfs::Jail::Chroot;
        self.rights.may_mount && (apart || id_mapped)
    }

    /// Whether the child's capabilities, those in its user namespace, are not valid on the host, e.g. for
    /// raising limits.
    pub fn only_parent_is_root(&self) -> bool {
        self.rights.privileged && self.process.in_user_namespace
    }

    /// Validates in the order of config.json.
    ///
    /// # Errors
    ///
    /// If the config is not valid on this host; the error contains the place in config.json. Nothing has been
    /// changed then.
    pub fn new(spec: &Spec, request: &Request<'_>, host: &Host) -> Result<Plan> {
        let mut warnings = Vec::new();
        version(&spec.oci_version).at("ociVersion")?;
        annotations::check(spec, &mut warnings)?;
        let namespaces = Namespaces::new(&spec.linux, host)?;
        let id_maps = idmap::of_namespace(spec, &namespaces, host)?;
        let time_offsets = time::offsets(spec, &namespaces, &mut warnings)?;
        let net_devices = netdev::plan(&spec.linux, &namespaces)?;
        rights::check_net_devices(&net_devices, host)?;
        let readiness = request.tells_readiness.and_then(|state| readiness::mount(spec, state));
        let rootfs = Rootfs::new(spec, request, readiness.as_ref(), &namespaces, host)?;
        warnings.extend_from_slice(&rootfs.warnings);
        let rights = Rights::new(&rootfs, &namespaces, host)?;
        let mut process = process(spec, request, &namespaces, host, &mut warnings)?;
        if readiness.is_some() {
            readiness::add_variable(&mut process.env);
        }
        if namespaces.new & libc::CLONE_NEWUSER != 0 {
            idmap::check_user(&id_maps, &process)?;
        }
        namespaces.check_names(spec)?;
        let mut resources = resources::Resources::new(&spec.linux.resources, &mut warnings)?;
        resources.optional = resources::Optional::of(&spec.annotations);
        warnings.extend(cgroup::unenforced_devices(spec, request.cgroup_manager));
        let rdt = spec.linux.intel_rdt.as_ref().map(rdt::Rdt::new).transpose()?;
        let sysctl = sysctl::plan(spec, &namespaces)?;
        let hooks = hooks(spec, &process)?;
        let user = delegate::user(spec, &namespaces, &id_maps);
        let user = user.filter(|&owner| rights.privileged && owner != 0);
        let delegated = delegate::annotated(&spec.annotations)?.map(|path| (path.to_owned(), user));
        let plan = Plan {
            rights,
            rootfs,
            process,
            tells_readiness: readiness.is_some(),
            execution: sched::Execution::new(&spec.linux)?,
            id_maps,
            net_devices,
            time_offsets,
            hostname: given_name(spec.hostname.as_ref()),
            domainname: given_name(spec.domainname.as_ref()),
            hooks,
            cgroup_manager: request.cgroup_manager,
            goes_without_cgroup: request.rootless.unwrap_or(!rights.root_of_host),
            cgroup_owner: user.filter(|_| delegate::is_writable(spec, &namespaces)),
            delegated,
            resources,
            rdt,
            names_cgroup: spec.linux.cgroups_path.as_ref().is_some_and(|path| !path.is_empty()),
            sysctl,
            warnings,
            notes: notes(spec, rights),
            namespaces,
        };
        rights::check_namespaces(&plan.namespaces, host)?;
        cgroup::check(&plan, host)?;
        Ok(plan)
    }
}

/// `process`, including related parts of the config and the request.
fn process(
    spec: &Spec,
    request: &Request<'_>,
    namespaces: &Namespaces,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Process> {
    let process = spec.process.as_ref();
    let process = process.ok_or_else(|| anyhow!("missing: it names the program to run"));
    let has_user = namespaces.has(libc::CLONE_NEWUSER);
    let mut process = Process::new(process.at("process")?, has_user, host, warnings)?;
    // As in runc and crun: a container's files do not depend on the caller's, unlike those of exec.
    process.umask.get_or_insert(0o022);
    process.filter = Filter::of(spec.linux.seccomp.as_ref(), &spec.annotations, warnings)?;
    process.landlock = landlock::of(&spec.annotations, host)?;
    process.keeps_original_groups(&spec.annotations);
    process.activation.clone_from(&request.activation);
    let listening = request.activation.as_ref().map_or(0, |activation| activation.count);
    process.preserved_fds = listening.saturating_add(request.preserve_fds);
    if let Some(terminal) = &mut process.terminal {
        terminal.carried = request.carries_terminal;
        if namespaces.new & libc::CLONE_NEWNS == 0 {
            // It is mounted on /dev/console.
            Err(anyhow!("needs a new mount namespace in linux.namespaces"))
                .at("process.terminal")?;
        }
    }
    Ok(process)
}

/// Plans `hooks`, and checks that all of them can run with this process.
fn hooks(spec: &Spec, process: &Process) -> Result<Hooks> {
    let hooks = Hooks::new(spec.hooks.as_ref())?;
    if process.scheduling.forbids_fork() && !hooks.start_container.is_empty() {
        let why = "SCHED_DEADLINE does not permit fork, and so no startContainer hooks, \
                   without SCHED_FLAG_RESET_ON_FORK";
        Err(anyhow!(why)).at("process.scheduler")?;
    }
    Ok(hooks)
}

/// Go programs omit empty values, other programs write them: both mean the same.
fn given_name(name: Option<&String>) -> Option<String> {
    name.filter(|name| !name.is_empty()).cloned()
}

fn notes(spec: &Spec, rights: Rights) -> Vec<String> {
    let has_rules = spec.linux.resources.devices.as_ref().is_some_and(|rules| !rules.is_empty());
    let note = "linux.resources.devices: device rules need root; this container cannot create devices, and file permissions apply to those it is given";
    if has_rules && !rights.privileged { vec![note.to_owned()] } else { Vec::new() }
}

impl Plan {
    /// Whether the child has to wait for something that only the parent can do.
    pub fn needs_parent(&self) -> bool {
        self.namespaces.new & libc::CLONE_NEWUSER != 0 || !self.net_devices.is_empty()
    }

    /// Whether the child has to write to the host's /proc.
    pub fn writes_proc(&self) -> bool {
        let time = self.namespaces.new & libc::CLONE_NEWTIME != 0;
        time || !self.sysctl.is_empty() || !self.process.labels.is_empty()
    }
}

/// Any 1.x: newer minor versions only add fields, and unknown fields are ignored.
fn version(version: &str) -> Result<()> {
    let mut parts = version.splitn(3, '.');
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    match (number(), number()) {
        (Some(1), Some(_)) => Ok(()),
        (Some(_), Some(_)) => Err(anyhow!("{version} is not supported: brig implements 1.x")),
        _ => Err(anyhow!("{version:?} is not a version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_1_x_is_accepted() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0+x", "1.2"] {
            assert!(version(good).is_ok(), "{good}");
        }
        for bad in ["", "1", "0.9.0", "2.0.0", "latest", "1.x"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }
}
