//! A limit as data: which file, which value, and which place in `config.json` asked for it.

use crate::spec::Place;
use anyhow::Result;
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use sys::hierarchy::read;
use sys::{Errno, SysError};

/// One write to a cgroup file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The required controller; empty for the files that every cgroup v2 has.
    pub controller: Cow<'static, str>,
    /// The file in the container's directory.
    pub file: Cow<'static, str>,
    /// The value; each line is written separately.
    pub value: String,
    /// The place in `config.json` that asks for it.
    pub place: Cow<'static, str>,
    /// What to do if the file is missing.
    pub missing: Missing,
}

/// What it means that a file is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The limit cannot be set.
    Error,
    /// The request is satisfied without the file.
    Fine,
    /// Another file is written instead: its name, and its value.
    Instead(Cow<'static, str>, String),
}

impl Write {
    /// Creates a write of `value` to `file` for `place`; a missing file is an error.
    pub fn new(
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: &impl ToString,
        place: impl Into<Cow<'static, str>>,
    ) -> Write {
        Write {
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
            place: place.into(),
            missing: Missing::Error,
        }
    }

    /// Like [`Write::new`], but a missing file counts as written.
    pub fn or_fine(self) -> Write {
        Write { missing: Missing::Fine, ..self }
    }

    /// The weight of a cgroup that this write makes idle: afterwards it would have the default weight.
    pub(super) fn weight_before_idle(&self, dir: &Path) -> Option<Write> {
        let now =
            |file| Some(String::from_utf8_lossy(&read(&dir.join(file)).ok()?).trim().to_owned());
        if self.file != "cpu.idle" || self.value != "1" || now("cpu.idle")? != "0" {
            return None;
        }
        let file =
            if super::missing(&dir.join("cpu.shares")) { "cpu.weight" } else { "cpu.shares" };
        Some(Write { file: file.into(), value: now(file)?, ..self.clone() })
    }

    /// The write to perform in `dir`, if any.
    pub(super) fn resolved(&self, dir: &Path) -> Option<Write> {
        let plain = || Write { missing: Missing::Error, ..self.clone() };
        match &self.missing {
            Missing::Error => Some(plain()),
            _ if !super::missing(&dir.join(&*self.file)) => Some(plain()),
            Missing::Fine => None,
            Missing::Instead(file, value) => {
                Some(Write { file: file.clone(), value: value.clone(), ..plain() })
            }
        }
    }

    /// Like [`Write::new`], but if the file is missing `value` is written to `file`.
    pub fn or(self, file: impl Into<Cow<'static, str>>, value: &impl ToString) -> Write {
        Write { missing: Missing::Instead(file.into(), value.to_string()), ..self }
    }
}

/// Writes limits. Keeps the last file open: the device rules are many writes to one file.
#[derive(Default)]
pub struct Writer {
    open: Option<(PathBuf, File)>,
}

impl Writer {
    /// Does one write in the container's directory `dir`.
    pub fn write(&mut self, dir: &Path, write: &Write) -> Result<()> {
        let mut first = self.put(dir, &write.file, &write.value);
        if first.as_ref().is_err_and(|error| error.errno == Errno::ENOENT) && settle(dir, write) {
            first = self.put(dir, &write.file, &write.value);
        }
        let result = match (first, &write.missing) {
            (Err(error), Missing::Fine) if error.errno == Errno::ENOENT => Ok(()),
            (Err(error), Missing::Instead(file, value)) if error.errno == Errno::ENOENT => {
                self.put(dir, file, value)
            }
            (result, _) => result,
        };
        result.map_err(|error| hint(write, error)).at(&write.place)
    }

    fn put(&mut self, dir: &Path, file: &str, value: &str) -> Result<(), SysError> {
        let path = dir.join(file);
        let file = match &mut self.open {
            Some((open, file)) if *open == path => file,
            slot => {
                let file = OpenOptions::new().write(true).open(&path);
                let file = file.map_err(|error| failed("open", &path, value, &error))?;
                &mut slot.insert((path.clone(), file)).1
            }
        };
        // One rule, device or key per write: the kernel only reads the first line.
        for line in value.strip_suffix('\n').unwrap_or(value).split('\n') {
            let line = if line.is_empty() { "\n" } else { line };
            // A cgroup file accepts a write completely or not at all.
            let written = file.write(line.as_bytes());
            written.map_err(|error| failed("write", &path, line, &error))?;
        }
        Ok(())
    }
}

/// While another process enables a controller, cgroup v2 already lists it before its files exist. Enabling it
/// again changes nothing, but waits until the kernel has finished; false on v1.
fn settle(dir: &Path, write: &Write) -> bool {
    let Some(parent) = dir.parent().filter(|_| !write.controller.is_empty()) else { return false };
    let file = OpenOptions::new().write(true).open(parent.join("cgroup.subtree_control"));
    let enable = format!("+{}", write.controller);
    file.is_ok_and(|mut file| file.write(enable.as_bytes()).is_ok())
}

fn failed(call: &str, path: &Path, value: &str, error: &io::Error) -> SysError {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    SysError::new(format!("{call}({}, {value:?})", path.display()), errno)
}

/// The likely meaning of a refused limit.
fn hint(write: &Write, error: SysError) -> anyhow::Error {
    let hint = match (&*write.controller, error.errno) {
        ("memory", Errno::ENOENT) if write.file.contains("sw") => {
            "this kernel does not account swap (boot it with swapaccount=1)"
        }
        ("memory", Errno::EBUSY) => "the cgroup already uses more memory than that",
        ("cpu", Errno::ENOENT) if write.file.contains("rt_") => {
            "this kernel has no real-time group scheduling (CONFIG_RT_GROUP_SCHED)"
        }
        ("cpu", Errno::EINVAL)
            if write.file.contains("cfs") || write.file.starts_with("cpu.max") =>
        {
            "the kernel accepts quotas from 1000, periods from 1000 to 1000000, and bursts up to the quota"
        }
        ("devices", Errno::EPERM) => "the parent cgroup does not allow that device",
        ("cpuset", Errno::EACCES | Errno::EINVAL | Errno::ERANGE) => {
            "not all of these are online and in the cpuset of the parent cgroup"
        }
        ("blkio" | "io", Errno::ENODEV | Errno::ENXIO) => "no such block device",
        ("net_prio", Errno::ENODEV | Errno::EINVAL) => "no such network interface",
        ("rdma", Errno::ENODEV) => "no such RDMA device",
        ("hugetlb", Errno::ENOENT) if write.place.contains("hugepageLimits") => {
            "this kernel has no huge pages of that size"
        }
        (_, Errno::ENOENT) => "this kernel does not have this file",
        (_, Errno::EINVAL | Errno::ERANGE) => "the kernel rejects this value",
        (_, Errno::EROFS) => "cgroups are mounted read-only",
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(hint)
}
