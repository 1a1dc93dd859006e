//! Creates the container's directories and writes its limits.

use super::write::{Missing, Write, Writer};
use super::{Cgroup, Dir, MARK, Version, devices, open_at, v1, v2};
use crate::plan::resources::{Cpu, Memory, Resources};
use crate::spec::Place;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::OFlag;
use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use sys::hierarchy::read;
use sys::{Errno, IfExists, SysError, bpf, cred, xattr};

/// The number of attempts if another brig keeps removing the parent.
const MKDIR_TRIES: usize = 100;

impl Cgroup {
    /// Creates the directories and writes the limits. After an error, [`Cgroup::remove`] undoes it.
    pub fn create(&mut self, resources: &Resources) -> Result<()> {
        let limits = self.limits(resources).inspect_err(|_| self.give_up(0))?;
        for index in 0..self.dirs.len() {
            let made = self.dirs[index].prepare(&resources.cpu);
            made.inspect_err(|_| self.give_up(index + 1))?;
        }
        self.set(&limits, &resources.memory)
    }

    /// Gives up the directories from this one on, which are not made yet: another container may have made them
    /// in the meantime, and [`Cgroup::remove`] must not remove them.
    pub fn give_up(&mut self, from: usize) {
        for dir in self.dirs.iter_mut().skip(from) {
            dir.made = 0;
        }
    }

    /// Whether the container joins a directory that existed before.
    pub fn joins(&self) -> bool {
        self.unit.is_none() && self.dirs.iter().any(|dir| dir.made == 0)
    }

    /// The writes: to v1 for its controllers, to cgroup v2 for the others.
    pub(super) fn limits(&self, resources: &Resources) -> Result<Limits> {
        let (mut v1, mut v2) = self.writes(resources)?;
        if self.dirs.iter().any(|dir| !self.is_new(dir)) {
            self.order(&mut v1, &mut v2)?;
        }
        let mut limits = Limits { v1, v2, program: None };
        if self.dir("devices").is_some() {
            limits.v1.extend(devices::v1(&resources.devices)?);
        } else if self.version == Version::V1 {
            bail!(
                "controller devices is not mounted on this host (cgroup v1): the container could use every device"
            );
        } else if self.joined_unified() || !devices::allow_everything(&resources.devices) {
            limits.program = Some(devices::program(&resources.devices)?);
        }
        Ok(limits)
    }

    /// The same, without the device rules: writes to v1, and to cgroup2.
    pub(super) fn writes(&self, resources: &Resources) -> Result<(Vec<Write>, Vec<Write>)> {
        let here = |controller: &str| self.dir(controller).is_some();
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        if self.version != Version::V2 {
            v1 = v1::writes(resources);
            if here("cpu") {
                v1::ensure_shares(&resources.cpu).at("linux.resources.cpu.shares")?;
            }
        }
        if self.version != Version::V1 {
            v2 = v2::writes(resources, &|controller| !here(controller))?;
        } else {
            self.ensure_v1_has_all(resources, &v1)?;
        }
        v1.retain(|write| here(&write.controller));
        Ok((v1, v2))
    }

    /// The cgroup v2 directory existed before and may have an earlier device program; a program that allows
    /// everything replaces it.
    fn joined_unified(&self) -> bool {
        self.unified().is_some_and(|dir| !self.is_new(dir))
    }

    /// On a host without cgroup v2, only mounted v1 controllers are available.
    fn ensure_v1_has_all(&self, resources: &Resources, writes: &[Write]) -> Result<()> {
        if let Some(Write { controller, place, .. }) = writes
            .iter()
            .find(|write| write.missing != Missing::Fine && self.dir(&write.controller).is_none())
        {
            Err(anyhow!("controller {controller} is not mounted on this host (cgroup v1)"))
                .at(place)?;
        }
        if let Some((file, _)) = resources.unified.first() {
            Err(anyhow!("{file} is a file of cgroup v2, and this host has cgroup v1 only"))
                .at(format_args!("linux.resources.unified[{file:?}]"))?;
        }
        Ok(())
    }

    pub(super) fn set(&self, limits: &Limits, memory: &Memory) -> Result<()> {
        let mut writer = Writer::default();
        for write in &limits.v1 {
            let dir = self.dir(&write.controller).context("v1 controller without directory")?;
            writer.write(&dir.path, write)?;
        }
        if self.version == Version::V2
            && let Some(dir) = self.unified()
        {
            dir.offer_all_controllers(self.unit.is_some());
        }
        if limits.v2.is_empty() && limits.program.is_none() {
            return Ok(());
        }
        let dir = self.unified().context("cgroup2 without directory")?;
        dir.enable_controllers(&limits.v2)?;
        // Only a cgroup that existed before uses any.
        if dir.made == 0 && self.dir("memory").is_none() {
            dir.ensure_fits(memory)?;
        }
        for write in &limits.v2 {
            writer.write(&dir.path, write)?;
        }
        if let Some(program) = &limits.program {
            attach(program, dir, !self.is_new(dir)).at("linux.resources.devices")?;
        }
        Ok(())
    }
}

/// The requested limits in terms of the host's cgroups.
#[derive(Default)]
pub(super) struct Limits {
    v1: Vec<Write>,
    v2: Vec<Write>,
    pub(super) program: Option<Vec<bpf::Insn>>,
}

fn attach(program: &[bpf::Insn], dir: &Dir, replace: bool) -> Result<()> {
    let program = match bpf::load(program) {
        // Without these privileges it cannot create device nodes either, and those of the host keep their
        // permissions.
        Err(error) if error.errno == Errno::EPERM && !is_root_of_host() => return Ok(()),
        // The instruction limit of an older kernel, or of the verifier.
        Err(error) if error.errno == Errno::E2BIG => {
            let length = program.len();
            Err(error).with_context(|| format!(
                "the BPF program of the device rules has {length} instructions, more than this kernel accepts \
                 ({} since Linux 5.2, 4096 before)",
                bpf::MAX_INSTRUCTIONS
            ))?
        }
        loaded => loaded.context("load the device program (needs CAP_BPF or CAP_SYS_ADMIN)")?,
    };
    let cgroup = open_at(&dir.path, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC)?;
    bpf::attach(cgroup.as_fd(), program.as_fd(), replace)
        .with_context(|| format!("attach the device program to {}", dir.path.display()))
}

fn is_root_of_host() -> bool {
    cred::is_privileged().unwrap_or(true) && cred::in_first_user_namespace()
}

impl Dir {
    /// Makes it ready for a process to enter.
    fn prepare(&mut self, cpu: &Cpu) -> Result<()> {
        self.ensure_unused()?;
        self.make()?;
        self.ensure_thawed()?;
        if self.has("cpuset") { self.fill_cpuset(cpu) } else { Ok(()) }
    }

    /// Creates the missing directories.
    pub(super) fn make(&mut self) -> Result<()> {
        for _ in 0..MKDIR_TRIES {
            if self.make_once()? {
                return Ok(());
            }
        }
        bail!("mkdir {}: another process keeps removing the cgroups above", self.path.display())
    }

    /// Creates the missing directories from the top down; false if one above has been removed together with
    /// the container that had made it. Then this container owns it.
    fn make_once(&mut self) -> Result<bool> {
        for level in (0..self.made).rev() {
            let Some(path) = self.path.ancestors().nth(level) else { continue };
            let Err(error) = mkdir(path) else {
                if level > 0 {
                    mark(path);
                }
                continue;
            };
            match error.errno {
                Errno::EEXIST | Errno::ENOTDIR if !path.is_dir() => {
                    let why = "a part of the path has the name of a file that every cgroup has";
                    return Err(anyhow::Error::from(error).context(why)).at("linux.cgroupsPath");
                }
                // Another container is using this very cgroup at the moment.
                Errno::EEXIST if level == 0 => {
                    self.made = 0;
                    return Err(error).context("another container has made the same cgroup");
                }
                Errno::EEXIST => {}
                Errno::ENOENT if level + 1 < self.made => return Ok(false),
                Errno::ENOENT if self.can_make_more() => {
                    self.made += 1;
                    return Ok(false);
                }
                _ => return Err(error).context("create cgroup"),
            }
        }
        Ok(true)
    }

    fn can_make_more(&self) -> bool {
        self.path.ancestors().nth(self.made).is_some_and(|above| above != self.mountpoint)
    }

    /// Refuses a cgroup that is frozen, itself or by an ancestor: the container would never start. The mount
    /// point cannot be frozen, so a new cgroup right below it is not.
    fn ensure_thawed(&self) -> Result<()> {
        let depth = self.path.components().count() - self.mountpoint.components().count();
        let frozen = depth > self.made && self.frozen()?;
        ensure!(!frozen, "cgroup {} is frozen", self.path.display());
        Ok(())
    }

    /// v1 refuses a memory limit below the current usage; cgroup v2 kills, unless `checkBeforeUpdate` asks
    /// for an error.
    pub(super) fn ensure_fits(&self, memory: &Memory) -> Result<()> {
        if !memory.check_before_update {
            return Ok(());
        }
        let mut used = 0;
        for (file, limit, place) in [
            ("memory.current", memory.limit, "limit"),
            ("memory.swap.current", memory.swap, "swap"),
        ] {
            if let Some(text) = read(&self.path.join(file)).if_exists()? {
                used += String::from_utf8_lossy(&text).trim().parse::<u64>().context(file)?;
            }
            if let Some(Ok(limit)) = limit.map(u64::try_from)
                && used > limit
            {
                Err(anyhow!("the cgroup uses {used} bytes already"))
                    .at(format_args!("linux.resources.memory.{place}"))?;
            }
        }
        Ok(())
    }

    /// Whether it is in the v1 hierarchy of this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }

    /// No process can enter a v1 cpuset without CPUs and memory nodes, and one that was just made, by brig or by
    /// others, has none: it gets those of its parent, unless the config sets them.
    pub(super) fn fill_cpuset(&self, cpu: &Cpu) -> Result<()> {
        for (file, configured) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            let lowest = usize::from(configured.is_some());
            let existing = self.path.ancestors().nth(self.made.max(lowest));
            let Some(existing) = existing else { continue };
            let value = inherited(existing, &self.mountpoint, file)?;
            let new = (lowest..self.made).rev();
            for path in new.filter_map(|level| self.path.ancestors().nth(level)) {
                put(&path.join(file), &value)?;
            }
        }
        Ok(())
    }
}

/// CPUs or memory nodes of an existing v1 cgroup; empty ones are filled from the cgroups above, as runc does.
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

/// Marks a parent cgroup as created by brig: the last container below removes it. With a kernel that does not
/// support this (before 5.7), an empty cgroup may remain.
fn mark(path: &Path) {
    drop(xattr::mark(path, MARK));
}

fn mkdir(path: &Path) -> Result<(), SysError> {
    DirBuilder::new().mode(0o755).create(path).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        SysError::new(format!("mkdir({})", path.display()), errno)
    })
}

pub(super) fn put(path: &Path, value: &[u8]) -> Result<(), SysError> {
    let file = open_at(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC)?;
    nix::unistd::write(&file, value).map_err(|errno| {
        let value = String::from_utf8_lossy(value);
        SysError::new(format!("write({}, {value:?})", path.display()), errno)
    })?;
    Ok(())
}
