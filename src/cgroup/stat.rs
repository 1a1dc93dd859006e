//! The resource usage of the container, read from its cgroups, in the format and units of runc's
//! `types/events.go`: times in nanoseconds, sizes in bytes, cgroup2's numbers under v1's names. What the host
//! does not account is absent.

pub mod shape;
#[cfg(test)]
mod tests;

use super::{Cgroup, Dir};
use crate::plan::id_list;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use sys::hierarchy::read;
use sys::{Errno, errno_of};

pub use shape::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Psi, Stats,
    Throttling,
};

impl Cgroup {
    /// Reads all statistics.
    pub fn stats(&self) -> Result<Stats> {
        let of = |controller: &str| Files(self.dir(controller).or_else(|| self.unified()));
        let unified = Files(self.unified());
        let v1 = |controller: &str| self.dir(controller).is_some();
        Ok(Stats {
            cpu: Cpu {
                usage: match v1("cpuacct") {
                    true => Some(usage_v1(&of("cpuacct"))?),
                    false => usage_v2(&unified)?,
                },
                throttling: throttling(&of("cpu"))?,
                psi: unified.psi("cpu.pressure")?,
            },
            cpuset: if v1("cpuset") { cpuset_v1(&of("cpuset"))? } else { cpuset_v2(&unified)? },
            memory: Memory {
                psi: unified.psi("memory.pressure")?,
                ..if v1("memory") { memory_v1(&of("memory"))? } else { memory_v2(&unified)? }
            },
            pids: self.pids_stats(&of("pids"))?,
            blkio: Blkio {
                psi: unified.psi("io.pressure")?,
                ..if v1("blkio") { blkio_v1(&of("blkio"))? } else { blkio_v2(&unified)? }
            },
            hugetlb: hugetlb(&of("hugetlb"), v1("hugetlb"))?,
        })
    }

    /// Without the controller, the processes are counted.
    fn pids_stats(&self, files: &Files<'_>) -> Result<Pids> {
        let Some(current) = files.number("pids.current")? else {
            return Ok(Pids { current: u64::try_from(self.pids()?.len())?, limit: 0 });
        };
        let limit = files.number("pids.max")?.filter(|&limit| limit != u64::MAX);
        Ok(Pids { current, limit: limit.unwrap_or_default() })
    }
}

/// The files of one of the container's directories, if the directory exists.
struct Files<'a>(Option<&'a Dir>);

impl Files<'_> {
    /// None if the kernel does not have this file, or the container no longer exists.
    fn text(&self, file: &str) -> Result<Option<String>> {
        let Some(dir) = self.0 else { return Ok(None) };
        match read(&dir.path.join(file)) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(error) => match errno_of(&error) {
                // EOPNOTSUPP: pressure stall information is disabled.
                Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn number(&self, file: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        number(text.trim()).with_context(|| file.to_owned()).map(Some)
    }

    fn or_zero(&self, file: &str) -> Result<u64> {
        Ok(self.number(file)?.unwrap_or_default())
    }

    /// Parses a file of `key number` lines.
    fn table(&self, file: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.text(file)?.unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let pairs = pairs.map(|(key, value)| Ok((key.to_owned(), number(value.trim())?)));
        pairs.collect::<Result<_>>().with_context(|| file.to_owned())
    }

    fn psi(&self, file: &str) -> Result<Option<Psi>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        psi(&text).with_context(|| file.to_owned()).map(Some)
    }
}

fn number(text: &str) -> Result<u64> {
    match text {
        "max" => Ok(u64::MAX),
        // v1 has per-CPU counters for some values, whose sum can temporarily be negative.
        _ if text.starts_with('-') => Ok(0),
        _ => text.parse().with_context(|| format!("{text:?} is not a number")),
    }
}

fn numbers(text: &str) -> Result<Vec<u64>> {
    text.split_ascii_whitespace().map(number).collect()
}

fn psi(text: &str) -> Result<Psi> {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let target = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => target.avg10 = value.parse()?,
                "avg60" => target.avg60 = value.parse()?,
                "avg300" => target.avg300 = value.parse()?,
                "total" => target.total = value.parse()?,
                _ => {}
            }
        }
    }
    Ok(psi)
}

fn usage_v1(files: &Files<'_>) -> Result<CpuUsage> {
    // USER_HZ, which is 100 on every architecture.
    const TICK: u64 = 10_000_000;
    let stat = files.table("cpuacct.stat")?;
    let ticks = |key: &str| stat.get(key).copied().unwrap_or_default() * TICK;
    let (mut percpu_user, mut percpu_kernel) = (Vec::new(), Vec::new());
    // A header, then lines of `cpu user system`.
    let all = files.text("cpuacct.usage_all")?.unwrap_or_default();
    for line in all.lines().skip(1) {
        if let [_, user, kernel, ..] = numbers(line).context("cpuacct.usage_all")?[..] {
            percpu_user.push(user);
            percpu_kernel.push(kernel);
        }
    }
    let percpu = files.text("cpuacct.usage_percpu")?.unwrap_or_default();
    Ok(CpuUsage {
        total: files.or_zero("cpuacct.usage")?,
        percpu: numbers(&percpu).context("cpuacct.usage_percpu")?,
        percpu_kernel,
        percpu_user,
        kernel: ticks("system"),
        user: ticks("user"),
    })
}

/// cgroup2 counts it without a controller.
fn usage_v2(files: &Files<'_>) -> Result<Option<CpuUsage>> {
    let stat = files.table("cpu.stat")?;
    let Some(&total) = stat.get("usage_usec") else { return Ok(None) };
    let nanoseconds = |key: &str| stat.get(key).copied().unwrap_or_default() * 1000;
    Ok(Some(CpuUsage {
        total: total * 1000,
        kernel: nanoseconds("system_usec"),
        user: nanoseconds("user_usec"),
        ..CpuUsage::default()
    }))
}

fn throttling(files: &Files<'_>) -> Result<Option<Throttling>> {
    let stat = files.table("cpu.stat")?;
    let get = |key: &str| stat.get(key).copied();
    let Some(periods) = get("nr_periods") else { return Ok(None) };
    Ok(Some(Throttling {
        periods,
        throttled_periods: get("nr_throttled").unwrap_or_default(),
        throttled_time: get("throttled_time")
            .or_else(|| Some(get("throttled_usec")? * 1000))
            .unwrap_or_default(),
    }))
}

fn cpuset_v1(files: &Files<'_>) -> Result<Cpuset> {
    let list = |file| ids(&files.text(file)?.unwrap_or_default()).context(file);
    let level = files.text("cpuset.sched_relax_domain_level")?;
    Ok(Cpuset {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: files.or_zero("cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: files.or_zero("cpuset.mem_hardwall")?,
        mem_exclusive: files.or_zero("cpuset.mem_exclusive")?,
        memory_migrate: files.or_zero("cpuset.memory_migrate")?,
        memory_spread_page: files.or_zero("cpuset.memory_spread_page")?,
        memory_spread_slab: files.or_zero("cpuset.memory_spread_slab")?,
        memory_pressure: files.or_zero("cpuset.memory_pressure")?,
        sched_load_balance: files.or_zero("cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.map_or(Ok(0), |level| level.trim().parse())?,
    })
}

/// cgroup2 does not have the switches of v1; the effective lists take their place.
fn cpuset_v2(files: &Files<'_>) -> Result<Cpuset> {
    let list = |file| ids(&files.text(file)?.unwrap_or_default()).context(file);
    let (cpus, mems) = (list("cpuset.cpus.effective")?, list("cpuset.mems.effective")?);
    Ok(Cpuset { cpus, mems, ..Cpuset::default() })
}

/// Parses e.g. `0-2,7` as 0, 1, 2, 7; an empty list has no elements.
fn ids(list: &str) -> Result<Vec<u16>> {
    let list = list.trim();
    let ranges = if list.is_empty() { Some(Vec::new()) } else { id_list::ranges(list, 1 << 16) };
    let ranges = ranges.with_context(|| format!("{list:?} is not a list as 0-3,7"))?;
    Ok(ranges.into_iter().flatten().map(u16::try_from).collect::<Result<_, _>>()?)
}

fn memory_v1(files: &Files<'_>) -> Result<Memory> {
    let raw = files.table("memory.stat")?;
    let entry = |kind: &str| -> Result<Option<MemoryEntry>> {
        let number = |what: &str| files.number(&format!("memory.{kind}{what}"));
        let Some(usage) = number("usage_in_bytes")? else { return Ok(None) };
        Ok(Some(MemoryEntry {
            limit: number("limit_in_bytes")?.unwrap_or(u64::MAX),
            usage,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?.unwrap_or_default(),
        }))
    };
    Ok(Memory {
        cache: raw.get("cache").copied(),
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw,
        psi: None,
    })
}

fn memory_v2(files: &Files<'_>) -> Result<Memory> {
    let Some(used) = files.number("memory.current")? else { return Ok(Memory::default()) };
    let raw = files.table("memory.stat")?;
    // How often the limit was hit, as v1 counts it.
    let failures = |file: &str| -> Result<u64> {
        Ok(files.table(file)?.get("max").copied().unwrap_or_default())
    };
    let usage = MemoryEntry {
        limit: files.number("memory.max")?.unwrap_or(u64::MAX),
        usage: used,
        max: files.number("memory.peak")?,
        failcnt: failures("memory.events")?,
    };
    let swap = files.number("memory.swap.max")?.map(|limit| -> Result<MemoryEntry> {
        Ok(MemoryEntry {
            limit: limit.saturating_add(usage.limit),
            usage: used + files.or_zero("memory.swap.current")?,
            // The two maxima may not have occurred at the same time, so their sum is not the maximum.
            max: None,
            failcnt: failures("memory.swap.events")?,
        })
    });
    let (cache, swap) = (raw.get("file").copied(), swap.transpose()?);
    Ok(Memory { cache, usage: Some(usage), swap, raw, ..Memory::default() })
}

fn blkio_v1(files: &Files<'_>) -> Result<Blkio> {
    let entries = |file: String| -> Result<Vec<BlkioEntry>> {
        blkio_entries(&files.text(&file)?.unwrap_or_default()).context(file)
    };
    // BFQ's, CFQ's (before Linux 5.0), or those of throttling: the first that has counted.
    for prefix in ["blkio.bfq.", "blkio.", "blkio.throttle."] {
        let recursive = |name: &str| entries(format!("{prefix}{name}_recursive"));
        let io_serviced_recursive = recursive("io_serviced")?;
        if !io_serviced_recursive.is_empty() {
            return Ok(Blkio {
                io_serviced_recursive,
                io_service_bytes_recursive: recursive("io_service_bytes")?,
                io_queued_recursive: recursive("io_queued")?,
                io_service_time_recursive: recursive("io_service_time")?,
                io_wait_time_recursive: recursive("io_wait_time")?,
                io_merged_recursive: recursive("io_merged")?,
                io_time_recursive: recursive("time")?,
                sectors_recursive: recursive("sectors")?,
                counted: true,
                psi: None,
            });
        }
    }
    Ok(Blkio {
        io_serviced_recursive: entries("blkio.throttle.io_serviced".to_owned())?,
        io_service_bytes_recursive: entries("blkio.throttle.io_service_bytes".to_owned())?,
        counted: true,
        ..Blkio::default()
    })
}

/// Parses lines such as `8:0 Read 4096` or `8:0 4096`; a line without a device is a total.
fn blkio_entries(text: &str) -> Result<Vec<BlkioEntry>> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (op, value) = match (words.next(), words.next()) {
            (Some(op), Some(value)) => (op, value),
            (Some(value), None) => ("", value),
            _ => continue,
        };
        let (major, minor) = (number(major)?, number(minor)?);
        entries.push(BlkioEntry { major, minor, op: op.to_owned(), value: number(value)? });
    }
    Ok(entries)
}

fn blkio_v2(files: &Files<'_>) -> Result<Blkio> {
    match files.text("io.stat")? {
        Some(text) => io_stat(&text).context("io.stat"),
        None => Ok(Blkio::default()),
    }
}

/// Parses `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_stat(text: &str) -> Result<Blkio> {
    let mut blkio = Blkio { counted: true, ..Blkio::default() };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let (major, minor, value) = (number(major)?, number(minor)?, number(value)?);
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(blkio)
}

fn hugetlb(files: &Files<'_>, v1: bool) -> Result<BTreeMap<String, Hugetlb>> {
    let Some(dir) = files.0 else { return Ok(BTreeMap::new()) };
    let mut pages = BTreeMap::new();
    for size in page_sizes(&dir.path) {
        // The reservations, if the kernel counts them: the limit applies to them.
        let reserved = |file: &str| -> Result<u64> {
            match files.number(&format!("hugetlb.{size}.rsvd.{file}"))? {
                Some(number) => Ok(number),
                None => files.or_zero(&format!("hugetlb.{size}.{file}")),
            }
        };
        let page = match v1 {
            true => Hugetlb {
                usage: reserved("usage_in_bytes")?,
                max: Some(reserved("max_usage_in_bytes")?),
                failcnt: reserved("failcnt")?,
            },
            false => {
                let events = files.table(&format!("hugetlb.{size}.events"))?;
                let failcnt = events.get("max").copied().unwrap_or_default();
                Hugetlb { usage: reserved("current")?, max: None, failcnt }
            }
        };
        pages.insert(size, page);
    }
    Ok(pages)
}

/// The page sizes in the file names of a cgroup, e.g. `hugetlb.2MB.current`.
fn page_sizes(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |name: &str| Some(name.strip_prefix("hugetlb.")?.split('.').next()?.to_owned());
    entries.filter_map(|entry| size(entry.file_name().to_str()?)).collect()
}
