//! Decides: the spec becomes validated, resolved, plain data. Reads at most, changes nothing.
//! If [`Plan::new`] succeeds the config is valid, and nothing after it reads the spec.

pub mod annotations;
pub mod bind;
pub mod delegate;
pub mod destination;
pub mod device_rules;
pub mod devices;
pub mod exec;
pub mod extra_mounts;
pub mod hooks;
pub mod id_list;
pub mod idmap;
pub mod idmap_option;
pub mod lsm;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod overlay;
pub mod process;
pub mod rdt;
pub mod resources;
pub mod rootfs;
pub mod sched;
pub mod sysctl;
pub mod update;

use crate::seccomp::Filter;
use crate::spec::{Place, Spec};
use anyhow::{Result, anyhow, bail, ensure};
use hooks::Hooks;
use namespaces::Namespaces;
use std::path::Path;
use sys::idmap::IdMaps;
use sys::{cred, namespace};

/// A socket that gets a pidfd of init.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// All that create will do, in plain data.
#[derive(Debug)]
pub struct Plan {
    /// brig has root's rights on the host: it may open mount sources, make cgroups, …
    pub privileged: bool,
    /// It may mount where it is: in `unshare --user` alone, root may not.
    pub may_mount: bool,
    /// Root filesystem and mounts.
    pub rootfs: rootfs::Rootfs,
    /// What PID 1 is.
    pub process: process::Process,
    /// What exec'd processes have as well.
    pub execution: sched::Execution,
    /// New and joined namespaces.
    pub namespaces: Namespaces,
    /// Of the user namespace.
    pub id_maps: IdMaps,
    /// Network devices of the host to move in.
    pub net_devices: Vec<netdev::NetDevice>,
    /// Of a new time namespace: clock, seconds, nanoseconds.
    pub time_offsets: Vec<(&'static str, i64, u32)>,
    /// Host name in a UTS namespace of the container's own.
    pub hostname: Option<String>,
    /// NIS domain name there.
    pub domainname: Option<String>,
    /// Programs to run on the way.
    pub hooks: Hooks,
    /// Cgroup limits.
    pub resources: resources::Resources,
    /// The host's uid of the user to whom the container's cgroup is given.
    pub cgroup_owner: Option<u32>,
    /// The cgroup below the container's that it is moved into, and whose that is.
    pub delegated: Option<(String, Option<u32>)>,
    /// Caches and memory bandwidth.
    pub rdt: Option<rdt::Rdt>,
    /// The config says where the container's cgroup is to be.
    pub names_cgroup: bool,
    /// Kernel parameters.
    pub sysctl: Vec<sysctl::Sysctl>,
    /// Things the config asks for that the spec wants a warning about, not an error.
    pub warnings: Vec<String>,
    /// What is not as the config has it, and nobody can do anything about: debug lines.
    pub notes: Vec<String>,
}

impl Plan {
    /// The parent opens the sources of mounts: the child has no rights to them in another user
    /// namespace, nor a descriptor of the one for an id map, nor in a joined mount namespace the
    /// host's paths. Otherwise the child does: what is cloned before the clone stands before all
    /// else in mountinfo since Linux 6.8, and mounts have to be in their order (config.md, Mounts).
    pub fn opens_sources(&self) -> bool {
        let id_mapped = self.rootfs.mounts.iter().any(|mount| mount.id_map.is_some());
        let apart = self.process.in_user_namespace || self.rootfs.jail == rootfs::Jail::Chroot;
        self.may_mount && (apart || id_mapped)
    }

    /// The child's rights in its user namespace are not those that count on the host, as for limits.
    pub fn only_parent_is_root(&self) -> bool {
        self.privileged && self.process.in_user_namespace
    }

    /// Validates in the order of config.json.
    pub fn new(spec: &Spec, bundle: &Path, options: &rootfs::RootOptions) -> Result<Plan> {
        let mut warnings = Vec::new();
        version(&spec.oci_version).at("ociVersion")?;
        annotations::check(spec, &mut warnings)?;
        let namespaces = Namespaces::new(&spec.linux)?;
        let user = namespaces.new & libc::CLONE_NEWUSER != 0;
        let joins_user = namespaces.joined(libc::CLONE_NEWUSER).is_some();
        let own =
            spec.process.as_ref().map_or((0, 0), |process| (process.user.uid, process.user.gid));
        let id_maps = idmap::of_namespace(&spec.linux, user, joins_user, own)?;
        let time_offsets = time_offsets(spec, &namespaces)?;
        let privileged = cred::is_privileged()?;
        let net_devices = netdev::plan(&spec.linux, &namespaces)?;
        if !privileged && !net_devices.is_empty() {
            Err(anyhow!("only root may take network devices from the host"))
                .at("linux.netDevices")?;
        }
        let private = rootfs::Namespaces {
            // In one that it joins, pivot_root(2) would take the root from under others.
            mount: namespaces.new & libc::CLONE_NEWNS != 0,
            cgroup: namespaces.has(libc::CLONE_NEWCGROUP),
            user: namespaces.has(libc::CLONE_NEWUSER),
        };
        let rootfs = rootfs::Rootfs::new(spec, bundle, options, private)?;
        warnings.extend_from_slice(&rootfs.warnings);
        let asks = private.user || rootfs.mounts.iter().any(|mount| mount.id_map.is_some());
        let may_mount = privileged
            && (!asks || cred::in_first_user_namespace() || namespace::owns_mount_namespace()?);
        rootfs.check_hidden_paths(namespaces.has(libc::CLONE_NEWNS))?;
        for map in rootfs.mounts.iter().filter_map(|mount| mount.id_map.as_ref()) {
            let whose = map.maps.is_some() || namespaces.has(libc::CLONE_NEWUSER);
            let why = "needs uidMappings and gidMappings, of the mount or of a user namespace";
            let check = || {
                ensure!(whose, why);
                ensure!(may_mount, "only root may give a mount other ids");
                Ok(())
            };
            check().at(&map.place)?;
        }
        let process =
            spec.process.as_ref().ok_or_else(|| anyhow!("missing: there is nothing to run"));
        let user = namespaces.has(libc::CLONE_NEWUSER);
        let mut process = process::Process::new(process.at("process")?, user, &mut warnings)?;
        let seccomp = spec.linux.seccomp.as_ref();
        process.filter = Filter::of(seccomp, &spec.annotations, &mut warnings)?;
        process.keeps_original_groups(&spec.annotations);
        if process.terminal.is_some() && !private.mount {
            // It is mounted on /dev/console.
            Err(anyhow!("needs a new mount namespace in linux.namespaces"))
                .at("process.terminal")?;
        }
        if namespaces.new & libc::CLONE_NEWUSER != 0 {
            idmap::check_user(&id_maps, &process)?;
        }
        namespaces.check_names(spec)?;
        let mut resources = resources::Resources::new(&spec.linux.resources, &mut warnings)?;
        resources.optional = resources::Optional::of(&spec.annotations);
        let rules = spec.linux.resources.devices.as_deref().unwrap_or_default();
        let mut notes = Vec::new();
        if !privileged && !rules.is_empty() {
            notes.push(
                "linux.resources.devices: only root's containers can be kept from devices by rules; \
                 this one can make none, and has the permissions of those that it is given"
                    .to_owned(),
            );
        }
        let rdt = spec.linux.intel_rdt.as_ref().map(rdt::Rdt::new).transpose()?;
        let sysctl = sysctl::plan(spec, &namespaces)?;
        let hooks = Hooks::new(spec.hooks.as_ref())?;
        if process.scheduling.forbids_fork() && !hooks.start_container.is_empty() {
            let why = "SCHED_DEADLINE allows no fork, and so no startContainer hooks, \
                       without SCHED_FLAG_RESET_ON_FORK";
            Err(anyhow!(why)).at("process.scheduler")?;
        }
        let user = delegate::user(spec, &namespaces, &id_maps);
        let user = user.filter(|&owner| privileged && owner != 0);
        let cgroup_owner = user.filter(|_| delegate::is_writable(spec, &namespaces));
        let delegated = delegate::annotated(&spec.annotations)?.map(|path| (path.to_owned(), user));
        // Go's programs leave out what is empty, others do not: it means the same.
        let name = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (hostname, domainname) = (name(&spec.hostname), name(&spec.domainname));
        Ok(Plan {
            privileged,
            may_mount,
            rootfs,
            process,
            execution: sched::Execution::new(&spec.linux)?,
            namespaces,
            id_maps,
            net_devices,
            time_offsets,
            hostname,
            domainname,
            hooks,
            cgroup_owner,
            delegated,
            resources,
            rdt,
            names_cgroup: spec.linux.cgroups_path.as_ref().is_some_and(|path| !path.is_empty()),
            sysctl,
            warnings,
            notes,
        })
    }
}

impl Plan {
    /// The child has to wait until the parent has done what only it can do.
    pub fn needs_parent(&self) -> bool {
        self.namespaces.new & libc::CLONE_NEWUSER != 0 || !self.net_devices.is_empty()
    }

    /// The child has something to write in the host's /proc.
    pub fn writes_proc(&self) -> bool {
        let time = self.namespaces.new & libc::CLONE_NEWTIME != 0;
        time || !self.sysctl.is_empty() || !self.process.labels.is_empty()
    }
}

/// `linux.timeOffsets`, in the names of timens_offsets (time_namespaces(7)).
fn time_offsets(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<(&'static str, i64, u32)>> {
    let mut offsets = Vec::new();
    for (clock, offset) in &spec.linux.time_offsets {
        let place = format!("linux.timeOffsets[\"{clock}\"]");
        let read = || {
            let new = namespaces.new & libc::CLONE_NEWTIME != 0;
            ensure!(new, "needs a new time namespace in linux.namespaces");
            let clock = match clock.as_str() {
                "monotonic" => "monotonic",
                "boottime" => "boottime",
                _ => bail!("unknown clock: monotonic and boottime can be set off"),
            };
            let nanoseconds = offset.nanosecs().unwrap_or_default();
            ensure!(
                nanoseconds < 1_000_000_000,
                "has {nanoseconds} nanoseconds: more than a second"
            );
            Ok((clock, offset.secs().unwrap_or_default(), nanoseconds))
        };
        offsets.push(read().at(&place)?);
    }
    Ok(offsets)
}

/// Any 1.x: a newer minor version only adds fields, and unknown fields are ignored.
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
