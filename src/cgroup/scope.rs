//! Cgroups created by systemd: the scope to request, and what is left for brig to do.
//!
//! systemd moves the child into the scope, so the child exists before the scope. The scope is requested right
//! after the clone ([`Scope::ask`]) and waited for as late as possible ([`Scope::settle`]), while the child
//! mounts.

use super::create::put;
use super::{Cgroup, Dir, Version, properties};
use crate::plan::resources::Resources;
use crate::systemd::{Bus, Instance, Property, Start, UnitRequest};
use anyhow::{Context, Result, anyhow, ensure};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use sys::hierarchy::{self, Hierarchies, Hierarchy, ProcessCgroups};

/// A scope that is being created.
#[derive(Debug)]
pub struct Scope {
    /// None in the child.
    bus: Option<Bus>,
    properties: Vec<Property>,
    hierarchies: Vec<Hierarchy>,
    /// The pending request.
    start: Option<Start>,
}

impl Cgroup {
    /// The cgroups of a unit that systemd will create. Connects now, so that a missing systemd is detected
    /// before anything has been created.
    ///
    /// # Errors
    ///
    /// If systemd cannot be reached.
    pub fn of_unit(found: Hierarchies, asked: UnitRequest) -> Result<(Cgroup, Scope)> {
        let Hierarchies { version, mounted: hierarchies } = found;
        let UnitRequest { unit, properties } = asked;
        let bus = Bus::connect(unit.instance)?;
        let cgroup = Cgroup { version, dirs: Vec::new(), unit: Some(unit) };
        Ok((cgroup, Scope { bus: Some(bus), properties, hierarchies, start: None }))
    }

    /// Whether brig is not permitted to move a process into it: an unprivileged user called brig from outside
    /// the cgroups delegated to the user's systemd instance.
    pub fn only_systemd_moves_in(&self) -> Result<bool> {
        let (Some(unit), Some(dir)) = (&self.unit, self.unified()) else { return Ok(false) };
        if unit.instance != Instance::User {
            return Ok(false);
        }
        let path = dir.path.strip_prefix(&dir.mountpoint).unwrap_or(&dir.path);
        let given = |above: &&Path| {
            above.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"user@"))
        };
        let found = hierarchy::detect()?;
        let own =
            ProcessCgroups::read()?.within(found.unified().context("no cgroup2 is mounted")?)?;
        Ok(!path.ancestors().find(given).is_some_and(|given| own.starts_with(given)))
    }
}

impl Scope {
    /// A signal at this descriptor ends the waits.
    pub fn interrupted_by(&mut self, signals: OwnedFd) {
        if let Some(bus) = &mut self.bus {
            bus.interrupt = Some(signals);
        }
    }

    /// Closes the connection, which is the parent's: a container that waits for start must not keep it open.
    pub fn disconnect(&mut self) {
        self.bus = None;
    }

    /// What is known of the hierarchies before systemd has created the unit: their mount points. That is
    /// sufficient for mounts in a cgroup namespace, and for cgroup2.
    pub fn prospect(&self, version: Version) -> Cgroup {
        let dirs = self.hierarchies.iter().map(|hierarchy| Dir {
            controllers: hierarchy.controllers.clone(),
            mountpoint: hierarchy.mountpoint.clone(),
            path: hierarchy.mountpoint.clone(),
            made: 0,
        });
        Cgroup { version, dirs: dirs.collect(), unit: None }
    }

    /// Called by the child after it was moved: resolves its own cgroups.
    pub fn here(&self, cgroup: &Cgroup) -> Result<Cgroup> {
        let dirs = self.directories(&ProcessCgroups::read()?, cgroup)?;
        Ok(Cgroup { dirs, ..cgroup.clone() })
    }

    /// Requests the unit from systemd, with process `pid` in it.
    pub fn ask(
        &mut self,
        cgroup: &Cgroup,
        id: &str,
        pid: i32,
        resources: &Resources,
    ) -> Result<()> {
        let unit = cgroup.unit.as_ref().context("no unit")?;
        let mut limits = properties::limits(resources, cgroup.version);
        if unit.instance == Instance::System {
            limits.append(&mut properties::device_rules(&resources.devices));
        }
        let pid = u32::try_from(pid).context("pid")?;
        let bus = self.bus.as_mut().context("no connection")?;
        self.start = Some(unit.start(bus, id, pid, limits, &self.properties)?);
        Ok(())
    }

    /// Cleans up after an error that [`Cgroup::remove`] cannot handle: systemd has accepted the request, but
    /// the cgroup is not known. A unit that it has not accepted is not brig's, and one without processes is
    /// removed by systemd.
    pub fn abandon(&self, cgroup: &mut Cgroup) -> Result<()> {
        let taken = self.start.as_ref().is_some_and(Start::is_taken);
        match cgroup.unit.take_if(|_| cgroup.dirs.is_empty()) {
            Some(unit) if taken => unit.stop(),
            _ => Ok(()),
        }
    }

    /// Waits until the process is in the unit, completes what systemd does not do, and writes the limits.
    ///
    /// # Errors
    ///
    /// If systemd refuses the unit or does not create it in time, or the kernel refuses a limit.
    pub fn settle(&mut self, cgroup: &mut Cgroup, pid: i32, resources: &Resources) -> Result<()> {
        let unit = cgroup.unit.clone().context("no unit")?;
        let start = self.start.as_mut().context("internal error: the unit was not requested")?;
        unit.started(self.bus.as_mut().context("no connection")?, start)?;
        cgroup.dirs = self.directories(&ProcessCgroups::of(&pid.to_string())?, cgroup)?;
        // An unprivileged user's systemd instance has no delegated v1 controllers.
        let delegated = unit.instance != Instance::User || cgroup.version == Version::V2;
        let resources = if delegated { resources } else { &resources.required() };
        let mut limits = cgroup.limits(resources)?;
        if unit.instance == Instance::User {
            // The kernel accepts the program only from root, and an unprivileged user cannot create device
            // nodes anyway. runc and crun omit it as well.
            limits.program = None;
        }
        for dir in &mut cgroup.dirs {
            dir.make()?;
            if dir.has("cpuset") {
                dir.fill_cpuset(&resources.cpu)?;
            }
        }
        // No process can enter an empty v1 cpuset; and a cgroup2 with processes cannot enable controllers for
        // its children, of which the container's cgroup may be one.
        if cgroup.version == Version::V2 {
            self.move_in(cgroup, pid)?;
            return cgroup.set(&limits, &resources.memory);
        }
        cgroup.set(&limits, &resources.memory)?;
        self.move_in(cgroup, pid)
    }

    /// Moves the process into the hierarchies in which systemd has not moved it.
    fn move_in(&self, cgroup: &Cgroup, pid: i32) -> Result<()> {
        let own = ProcessCgroups::of(&pid.to_string())?;
        for (dir, hierarchy) in cgroup.dirs.iter().zip(&self.hierarchies) {
            if dir.mountpoint.join(own.within(hierarchy)?) != dir.path {
                put(&dir.path.join("cgroup.procs"), pid.to_string().as_bytes())
                    .context("move the container into its cgroup")?;
            }
        }
        Ok(())
    }

    /// The container's directories: one in each hierarchy that the unit is in, whether it exists or not.
    fn directories(&self, own: &ProcessCgroups, cgroup: &Cgroup) -> Result<Vec<Dir>> {
        let unit = cgroup.unit.as_ref().context("no unit")?;
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| *name == *unit.name);
        let systemds = |hierarchy: &&Hierarchy| {
            hierarchy.controllers.is_empty() || hierarchy.controllers == "name=systemd"
        };
        let mut found = self.hierarchies.iter().filter(systemds).map(|of| own.within(of));
        let path = found.find_map(|path| path.ok().filter(named));
        let path = path.ok_or_else(|| {
            anyhow!(
                "systemd has started unit {}, but the container's process is not in it",
                unit.name
            )
        })?;
        let below = [path.as_path(), unit.subgroup.as_ref()];
        let path: PathBuf = below.into_iter().filter(|part| !part.as_os_str().is_empty()).collect();
        self.hierarchies
            .iter()
            .map(|hierarchy| {
                let dir = Dir::locate(hierarchy.clone(), &path);
                ensure!(
                    cgroup.version != Version::V2 || dir.made == 0 || !unit.subgroup.is_empty(),
                    "{} does not exist",
                    dir.path.display()
                );
                Ok(dir)
            })
            .collect()
    }
}
