//! Makes the container's directories and writes its limits.

use super::hierarchy::read;
use super::write::{Write, Writer};
use super::{Cgroup, Dir, Version, devices, open_at, v1, v2};
use crate::plan::resources::Resources;
use crate::spec::Place;
use crate::sys::{Errno, SysError, bpf};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// How often a directory is tried again that another brig keeps removing the parent of.
const MKDIR_TRIES: usize = 100;

impl Cgroup {
    /// Makes the directories and writes the limits. After an error, [`Cgroup::remove`] takes back
    /// what there is.
    pub fn create(&mut self, resources: &Resources) -> Result<()> {
        let limits = self.limits(resources)?;
        for dir in &mut self.dirs {
            if dir.made == 0 {
                dir.ensure_unused()?;
            }
            dir.make()?;
            if dir.has("cpuset") {
                dir.fill_cpuset(limits.cpuset())?;
            }
        }
        limits.set(self)
    }

    /// What has to be written; an error for what this host's cgroups cannot express.
    fn limits(&self, resources: &Resources) -> Result<Limits> {
        let mut limits = Limits { writes: Vec::new(), program: None };
        match self.version {
            Version::V2 => limits.writes = v2::writes(resources)?,
            Version::V1 | Version::Hybrid => limits.writes = v1::writes(resources)?,
        }
        if self.dir("devices").is_some() {
            limits.writes.extend(devices::v1(&resources.devices)?);
        } else {
            ensure!(
                self.unified().is_some(),
                "the devices controller is not mounted (cgroup v1): the container could use every device"
            );
            limits.program = devices::program(&resources.devices);
        }
        for write in &limits.writes {
            self.ensure_mounted(write)?;
        }
        Ok(limits)
    }

    fn ensure_mounted(&self, write: &Write) -> Result<()> {
        if self.version != Version::V2 && self.dir(&write.controller).is_none() {
            let controller = &write.controller;
            Err(anyhow::anyhow!("controller {controller} is not mounted on this host (cgroup v1)"))
                .at(&write.place)?;
        }
        Ok(())
    }
}

/// What is asked for, as the host's cgroups have it.
struct Limits {
    writes: Vec<Write>,
    program: Option<Vec<bpf::Insn>>,
}

impl Limits {
    /// CPUs and memory nodes that the config asks for.
    fn cpuset(&self) -> [bool; 2] {
        ["cpuset.cpus", "cpuset.mems"]
            .map(|file| self.writes.iter().any(|write| write.file == file))
    }

    fn set(&self, cgroup: &Cgroup) -> Result<()> {
        let mut writer = Writer::default();
        if cgroup.version == Version::V2 {
            self.enable_controllers(cgroup)?;
        }
        for write in &self.writes {
            let dir = match cgroup.version {
                Version::V2 => cgroup.unified(),
                Version::V1 | Version::Hybrid => cgroup.dir(&write.controller),
            };
            writer.write(&dir.context("no directory")?.path, write)?;
        }
        match (&self.program, cgroup.unified()) {
            (Some(program), Some(dir)) => attach(program, dir).at("linux.resources.devices"),
            _ => Ok(()),
        }
    }

    /// Enables the controllers that are needed in every cgroup above the container's. One look at
    /// what the container's has is enough where they are enabled already.
    fn enable_controllers(&self, cgroup: &Cgroup) -> Result<()> {
        let needed =
            |write: &Write| (!write.controller.is_empty()).then(|| write.controller.clone());
        let needed: BTreeSet<_> = self.writes.iter().filter_map(needed).collect();
        let Some(dir) = cgroup.unified().filter(|_| !needed.is_empty()) else { return Ok(()) };
        let enabled = read(&dir.path.join("cgroup.controllers"))?;
        let enabled = String::from_utf8_lossy(&enabled);
        for controller in needed {
            if !enabled.split_whitespace().any(|name| name == controller) {
                let place = self.writes.iter().find(|write| write.controller == controller);
                let place = place.map_or("linux.resources", |write| &write.place);
                dir.enable(&controller).at(place)?;
            }
        }
        Ok(())
    }
}

fn attach(program: &[bpf::Insn], dir: &Dir) -> Result<()> {
    let program =
        bpf::load(program).context("load the device program (needs CAP_BPF or CAP_SYS_ADMIN)")?;
    let cgroup = open_at(&dir.path, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC)?;
    bpf::attach(cgroup.as_fd(), program.as_fd(), dir.made == 0)
        .with_context(|| format!("attach the device program to {}", dir.path.display()))
}

impl Dir {
    /// Makes the directories that are missing.
    fn make(&mut self) -> Result<()> {
        for _ in 0..MKDIR_TRIES {
            if self.make_once()? {
                return Ok(());
            }
        }
        bail!("mkdir {}: another process keeps removing the cgroups above", self.path.display())
    }

    /// Makes the missing directories from the top down; false if one above has gone meanwhile: it
    /// was another container's and went with it, and is now this one's.
    fn make_once(&mut self) -> Result<bool> {
        for level in (0..self.made).rev() {
            let Some(path) = self.path.ancestors().nth(level) else { continue };
            match mkdir(path) {
                Ok(()) => {}
                Err(error) if error.errno == Errno::EEXIST => {}
                Err(error) if error.errno == Errno::ENOENT && self.can_make_more() => {
                    self.made += 1;
                    return Ok(false);
                }
                Err(error) => return Err(error).context("make cgroup"),
            }
        }
        Ok(true)
    }

    fn can_make_more(&self) -> bool {
        self.path.ancestors().nth(self.made).is_some_and(|above| above != self.mountpoint)
    }

    /// runtime-spec lets a runtime refuse a cgroup that somebody uses, or that is frozen: limits,
    /// kill and delete would hit processes that are not the container's.
    fn ensure_unused(&self) -> Result<()> {
        let path = self.path.display();
        let procs = read(&self.path.join("cgroup.procs"))?;
        let pids = String::from_utf8_lossy(&procs);
        if let Some(pid) = pids.lines().next() {
            bail!("cgroup {path} is not empty: process {pid} is in it");
        }
        let (file, frozen) = match &*self.controllers {
            "" => ("cgroup.events", "frozen 1"),
            _ if self.has("freezer") => ("freezer.state", "FROZEN"),
            _ => return Ok(()),
        };
        // The root cgroup has neither file.
        let text = read(&self.path.join(file)).unwrap_or_default();
        let mut lines = text.split(|&byte| byte == b'\n');
        ensure!(!lines.any(|line| line == frozen.as_bytes()), "cgroup {path} is frozen");
        Ok(())
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }

    /// Nobody can enter a v1 cpuset without CPUs and memory nodes, and a new one has none: it
    /// gets those of the one above, except where the config says which.
    fn fill_cpuset(&self, configured: [bool; 2]) -> Result<()> {
        if self.made == 0 {
            return Ok(());
        }
        for (file, configured) in [("cpuset.cpus", configured[0]), ("cpuset.mems", configured[1])] {
            let Some(above) = self.path.ancestors().nth(self.made) else { continue };
            if configured && self.made == 1 {
                continue;
            }
            let value = inherited(above, &self.mountpoint, file)?;
            for level in (usize::from(configured)..self.made).rev() {
                let Some(path) = self.path.ancestors().nth(level) else { continue };
                put(&path.join(file), &value)?;
            }
        }
        Ok(())
    }

    /// Enables a controller from the mount point down to the container's cgroup.
    fn enable(&self, controller: &str) -> Result<()> {
        let mut above: Vec<&Path> = self
            .path
            .ancestors()
            .skip(1)
            .take_while(|dir| dir.starts_with(&self.mountpoint))
            .collect();
        above.reverse();
        for dir in above {
            let file = dir.join("cgroup.subtree_control");
            if let Err(error) = put(&file, format!("+{controller}").as_bytes()) {
                let hint = match error.errno {
                    Errno::ENOENT => {
                        "controller is not available on cgroup v2 (on v1, or off at boot?)"
                            .to_owned()
                    }
                    Errno::EBUSY => format!(
                        "processes in {} keep it from having children with controllers",
                        dir.display()
                    ),
                    Errno::EACCES | Errno::EPERM => {
                        format!("controller is not delegated to this user in {}", dir.display())
                    }
                    _ => "enable it in the cgroups above".to_owned(),
                };
                return Err(anyhow::Error::from(error)
                    .context(hint)
                    .context(format!("controller {controller}")));
            }
        }
        Ok(())
    }
}

/// CPUs or memory nodes of a v1 cgroup that has been there before; where somebody has left them
/// empty they are filled from further above, as runc does.
fn inherited(dir: &Path, mountpoint: &Path, file: &str) -> Result<Vec<u8>> {
    let path = dir.join(file);
    let value = read(&path)?;
    let Some(above) = dir.parent().filter(|_| value.trim_ascii().is_empty() && dir != mountpoint)
    else {
        return Ok(value);
    };
    let value = inherited(above, mountpoint, file)?;
    put(&path, &value)?;
    Ok(value)
}

fn mkdir(path: &Path) -> Result<(), SysError> {
    DirBuilder::new().mode(0o755).create(path).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        SysError::new(format!("mkdir({})", path.display()), errno)
    })
}

fn put(path: &Path, value: &[u8]) -> Result<(), SysError> {
    let file = open_at(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC)?;
    nix::unistd::write(&file, value).map_err(|errno| {
        let value = String::from_utf8_lossy(value);
        SysError::new(format!("write({}, {value:?})", path.display()), errno)
    })?;
    Ok(())
}
