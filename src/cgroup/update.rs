//! Changes the limits of an existing container, in an order in which the kernel accepts each of them.

use super::write::{Write, Writer};
use super::{Cgroup, Dir, properties};
use crate::plan::resources::{Cpu, Memory, Resources};
use crate::spec::Place;
use crate::systemd::Property;
use anyhow::{Context, Result, anyhow, ensure};
use std::path::PathBuf;
use sys::hierarchy::read;

/// The writes, in order.
#[derive(Debug)]
pub struct Update<'a> {
    cgroup: &'a Cgroup,
    memory: Memory,
    /// The corresponding properties for systemd.
    properties: Vec<Property>,
    v1: Vec<Write>,
    v2: Vec<Write>,
}

/// Undoes an update: the previous contents of each file, in reverse order.
#[derive(Debug, Default)]
pub struct Undo(Vec<(PathBuf, Write)>);

/// Reads a file of a controller's directory; None if it does not exist.
type Now<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

impl Cgroup {
    /// The writes for these limits, without device rules; nothing is written yet. `total` is the last limit
    /// of memory and swap together: with cgroup v2, which limits them separately, it cannot be read back.
    ///
    /// # Errors
    ///
    /// If the host's cgroups do not support a limit.
    pub fn update(&self, mut resources: Resources, total: Option<i64>) -> Result<Update<'_>> {
        ensure!(
            !self.dirs.is_empty(),
            "the container has no cgroups of its own, so it cannot be limited"
        );
        let now = |controller: &str, file: &str| self.now(controller, file);
        let unified = |controller: &str| self.dir(controller).is_none();
        complete_memory(&mut resources.memory, unified("memory"), total, &now)?;
        complete_cpu(&mut resources.cpu, unified("cpu"), &now);
        let (v1, v2) = self.writes(&resources)?;
        let lines = |writes: Vec<Write>| writes.iter().flat_map(by_line).collect();
        let (mut v1, mut v2) = (lines(v1), lines(v2));
        self.order(&mut v1, &mut v2)?;
        let properties = match &self.unit {
            Some(_) => properties::limits(&resources, self.version),
            None => Vec::new(),
        };
        Ok(Update { cgroup: self, memory: resources.memory, properties, v1, v2 })
    }

    /// Reorders writes to a cgroup that already has limits so that the kernel accepts them.
    pub(super) fn order(&self, v1: &mut Vec<Write>, v2: &mut Vec<Write>) -> Result<()> {
        let now = |controller: &str, file: &str| self.now(controller, file);
        order_memory(v1, &now)?;
        order_memory(v2, &now)?;
        order_cpu(v1, &now);
        order_cpu(v2, &now);
        Ok(())
    }

    /// The contents of a file in a controller's directory.
    fn now(&self, controller: &str, file: &str) -> Option<String> {
        let dir = self.dir(controller).or_else(|| self.unified())?;
        let text = read(&dir.path.join(file)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }
}

impl Update<'_> {
    /// Every write: path and value.
    pub fn lines(&self) -> Result<Vec<String>> {
        let writes = self.writes()?;
        let line = |(dir, write): (&Dir, &Write)| {
            let Write { file, value, .. } = write.resolved(&dir.path)?;
            Some(format!("{} {value}", dir.path.join(&*file).display()))
        };
        Ok(writes.into_iter().filter_map(line).collect())
    }

    /// Performs the writes. If one of the limits is refused, all are restored.
    pub fn apply(&self) -> Result<Undo> {
        let mut undo = Undo::default();
        match self.write(&mut undo) {
            Ok(()) => match self.tell_systemd() {
                Ok(()) => Ok(undo),
                Err(error) => Err(undo.after(error)),
            },
            Err(error) => Err(undo.after(error)),
        }
    }

    /// Called after the kernel has accepted everything. systemd writes the limits to the files as well, with
    /// quotas in whole per cent: so they are written again.
    fn tell_systemd(&self) -> Result<()> {
        let Some(unit) = self.cgroup.unit() else { return Ok(()) };
        unit.set(&self.properties)?;
        self.write(&mut Undo::default())
    }

    fn writes(&self) -> Result<Vec<(&Dir, &Write)>> {
        let mut writes = Vec::with_capacity(self.v1.len() + self.v2.len());
        for write in &self.v1 {
            let dir = self.cgroup.dir(&write.controller);
            writes.push((dir.context("v1 controller without directory")?, write));
        }
        for write in &self.v2 {
            writes.push((self.cgroup.unified().context("cgroup2 without directory")?, write));
        }
        Ok(writes)
    }

    fn write(&self, undo: &mut Undo) -> Result<()> {
        if !self.v2.is_empty() {
            let dir = self.cgroup.unified().context("cgroup2 without directory")?;
            dir.enable_controllers(&self.v2)?;
            if self.cgroup.dir("memory").is_none() {
                dir.ensure_fits(&self.memory)?;
            }
        }
        let mut writer = Writer::default();
        for (dir, write) in self.writes()? {
            let Some(write) = write.resolved(&dir.path) else { continue };
            let text = read(&dir.path.join(&*write.file)).ok();
            let old = |text| old_value(&write.file, &write.value, &String::from_utf8_lossy(text));
            let old = text.as_deref().and_then(old);
            let weight = write.weight_before_idle(&dir.path);
            writer.write(&dir.path, &write)?;
            undo.0.extend(weight.map(|weight| (dir.path.clone(), weight)));
            undo.0.extend(old.map(|value| (dir.path.clone(), Write { value, ..write })));
        }
        Ok(())
    }
}

impl Undo {
    /// Undoes the update because of this error, which is returned together with what could not be undone.
    pub fn after(self, mut error: anyhow::Error) -> anyhow::Error {
        let mut writer = Writer::default();
        for (dir, write) in self.0.into_iter().rev() {
            if let Err(stays) = writer.write(&dir, &write) {
                let path = dir.join(&*write.file);
                let text = format!("{} could not be restored ({stays:#})", path.display());
                error = error.context(text);
            }
        }
        error
    }
}

/// The kernel accepts one line per write, and an undo restores one old value per write.
fn by_line(write: &Write) -> Vec<Write> {
    let text = write.value.strip_suffix('\n').unwrap_or(&write.value);
    text.split('\n').map(|line| Write { value: line.to_owned(), ..write.clone() }).collect()
}

/// A limit from a file or a table: u64's largest value means none.
fn limit(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(u64::MAX),
        // v1 counts pages, and shows "unlimited" as its largest number of pages in bytes.
        text => text.parse().ok().map(|limit| if limit >= 1 << 62 { u64::MAX } else { limit }),
    }
}

/// Adds the consequences of a change of one memory limit for the others.
fn complete_memory(
    memory: &mut Memory,
    unified: bool,
    total: Option<i64>,
    now: Now<'_>,
) -> Result<()> {
    // Unlimited memory with limited swap is certainly not intended; v1 does not support it.
    if memory.limit == Some(-1) && memory.swap.is_none() {
        let accounted = unified || now("memory", "memory.memsw.limit_in_bytes").is_some();
        memory.swap = accounted.then_some(-1);
    }
    if !unified {
        return Ok(());
    }
    let limited = |limit: &Option<i64>| limit.is_some_and(|limit| limit != -1);
    if limited(&memory.swap) && memory.limit.is_none() {
        memory.limit = now("memory", "memory.max").and_then(|text| text.parse().ok());
    }
    if limited(&memory.limit) && memory.swap.is_none() {
        memory.swap = total.filter(|&total| total != -1);
    }
    match (memory.limit, memory.swap) {
        (Some(limit), Some(swap)) if swap != -1 && swap < limit => {
            too_small(u64::try_from(swap)?, u64::try_from(limit)?)
        }
        _ => Ok(()),
    }
}

fn too_small(swap: u64, limit: u64) -> Result<()> {
    Err(anyhow!(
        "{limit} is more than the limit of memory and swap together ({swap}): change memory.swap as well \
         (--memory-swap)"
    ))
    .at("linux.resources.memory.limit")
}

/// cgroup v2 has quota and period in one file: setting only a period must not lose the quota.
fn complete_cpu(cpu: &mut Cpu, unified: bool, now: Now<'_>) {
    if unified && cpu.period.is_some() && cpu.quota.is_none() {
        let text = now("cpu", "cpu.max").unwrap_or_default();
        cpu.quota = text.split(' ').next().and_then(|quota| quota.parse().ok());
    }
}

/// v1: memory can never be more than memory and swap together. v2 limits them separately: one is raised
/// before the other is lowered, so that nothing is killed in between.
fn order_memory(writes: &mut Vec<Write>, now: Now<'_>) -> Result<()> {
    const TOTAL: &str = "memory.memsw.limit_in_bytes";
    const V1: &str = "memory.limit_in_bytes";
    if let (Some(new), Some(total)) = (new(writes, V1), current(TOTAL, now))
        && new > total
    {
        if find(writes, TOTAL).is_none() {
            too_small(total, new)?;
        }
        put_before(writes, TOTAL, V1);
    }
    if raised(writes, "memory.swap.max", now) {
        put_before(writes, "memory.swap.max", "memory.max");
    }
    Ok(())
}

/// The burst is never more than the quota, the share of a period never more than the parent's, real-time
/// runtime never more than its period; and an idle cgroup accepts no shares.
fn order_cpu(writes: &mut Vec<Write>, now: Now<'_>) {
    for (period, time) in
        [("cpu.cfs_period_us", "cpu.cfs_quota_us"), ("cpu.rt_period_us", "cpu.rt_runtime_us")]
    {
        if lowered(writes, period, now) {
            put_before(writes, time, period);
        }
    }
    for (burst, quota) in [("cpu.cfs_burst_us", "cpu.cfs_quota_us"), ("cpu.max.burst", "cpu.max")] {
        if lowered(writes, burst, now) {
            put_before(writes, burst, quota);
        }
    }
    let shares = find(writes, "cpu.shares").or_else(|| find(writes, "cpu.weight"));
    if let (Some(shares), Some(idle)) = (shares, find(writes, "cpu.idle"))
        && writes[idle].value == "1"
        && now("cpu", "cpu.idle").as_deref() == Some("1")
    {
        let awake = Write { value: "0".to_owned(), ..writes[idle].clone() };
        writes.insert(shares, awake);
    }
}

fn find(writes: &[Write], file: &str) -> Option<usize> {
    writes.iter().position(|write| write.file == file)
}

fn new(writes: &[Write], file: &str) -> Option<u64> {
    limit(&writes[find(writes, file)?].value)
}

/// The contents of the file, whose name starts with its controller.
fn current(file: &str, now: Now<'_>) -> Option<u64> {
    limit(&now(file.split('.').next()?, file)?)
}

fn raised(writes: &[Write], file: &str, now: Now<'_>) -> bool {
    new(writes, file).zip(current(file, now)).is_some_and(|(new, current)| new > current)
}

fn lowered(writes: &[Write], file: &str, now: Now<'_>) -> bool {
    new(writes, file).zip(current(file, now)).is_some_and(|(new, current)| new < current)
}

/// Moves the write to `file` right before that to `other`, if both exist.
fn put_before(writes: &mut Vec<Write>, file: &str, other: &str) {
    if let (Some(from), Some(to)) = (find(writes, file), find(writes, other))
        && from > to
    {
        let write = writes.remove(from);
        writes.insert(to, write);
    }
}

/// The write that restores the previous contents of a file, if it can be restored.
fn old_value(file: &str, written: &str, text: &str) -> Option<String> {
    let text = text.trim();
    let line = |key: &str| {
        text.lines().find(|line| line.split([' ', '\t']).next() == Some(key)).map(str::to_owned)
    };
    let key = written.split(' ').next().unwrap_or_default();
    match file {
        "memory.oom_control" => {
            line("oom_kill_disable").and_then(|line| line.split(' ').nth(1).map(str::to_owned))
        }
        "rdma.max" | "net_prio.ifpriomap" => line(key),
        // Triggers and commands: there is nothing to undo.
        "memory.reclaim" | "cgroup.kill" => None,
        _ if file.ends_with(".pressure") => None,
        // Per-device file: a device that is not listed has no limit or weight of its own.
        _ if key.contains(':') => line(key).or_else(|| {
            Some(match file {
                "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
                _ if file.contains("weight") => format!("{key} default"),
                _ => format!("{key} 0"),
            })
        }),
        _ if text.starts_with("default ") => line("default"),
        _ if text.contains('\n') => None,
        _ => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{v1, v2};
    use crate::spec;

    fn resources(json: &str) -> Resources {
        let spec: spec::Resources = serde_json::from_str(json).unwrap();
        Resources::new(&spec, &mut Vec::new()).unwrap()
    }

    /// `file value` of every write, in order, with `now` as the current contents of the files.
    fn ordered(json: &str, unified: bool, total: Option<i64>, now: &[(&str, &str)]) -> Vec<String> {
        let now = |_: &str, file: &str| {
            now.iter().find(|(name, _)| *name == file).map(|(_, value)| (*value).to_owned())
        };
        let mut resources = resources(json);
        let mut writes = || -> Result<Vec<Write>> {
            complete_memory(&mut resources.memory, unified, total, &now)?;
            complete_cpu(&mut resources.cpu, unified, &now);
            let mut writes = match unified {
                true => v2::writes(&resources, &|_| true)?,
                false => v1::writes(&resources),
            };
            order_memory(&mut writes, &now)?;
            order_cpu(&mut writes, &now);
            Ok(writes)
        };
        match writes() {
            Ok(writes) => {
                let short = |write: &Write| format!("{} {}", write.file, write.value);
                writes.iter().map(short).collect()
            }
            Err(error) => vec![format!("{error:#}")],
        }
    }

    const UNLIMITED: &str = "9223372036854771712";

    #[test]
    fn v1_memory_is_never_more_than_memory_and_swap_together() {
        let order = |limit: u64, swap: i64, now: &str| -> Vec<String> {
            let json = format!(r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#);
            let writes = ordered(&json, false, None, &[("memory.memsw.limit_in_bytes", now)]);
            writes.iter().map(|write| write.split('.').nth(1).unwrap().to_owned()).collect()
        };
        let (memory_first, swap_first) =
            (["limit_in_bytes 300", "memsw"], ["memsw", "limit_in_bytes 300"]);
        assert_eq!(order(300, 400, "200"), swap_first, "both raised");
        assert_eq!(order(300, 400, "300"), memory_first, "raised as far as it goes");
        assert_eq!(order(300, 400, UNLIMITED), memory_first, "both lowered");
        assert_eq!(order(300, -1, "200"), swap_first, "swap is unlimited from now on");
    }

    #[test]
    fn v1_memory_above_memory_and_swap_needs_more_of_both() {
        let now = [("memory.memsw.limit_in_bytes", "200")];
        let refused = ordered(r#"{"memory":{"limit":201}}"#, false, None, &now);
        assert!(
            refused[0].contains("201 is more than the limit of memory and swap together (200)")
        );
        let fits = ordered(r#"{"memory":{"limit":200}}"#, false, None, &now);
        assert_eq!(fits, ["memory.limit_in_bytes 200"]);
    }

    #[test]
    fn unlimited_memory_is_unlimited_swap() {
        let now = [("memory.memsw.limit_in_bytes", "200")];
        let both = ["memory.memsw.limit_in_bytes -1", "memory.limit_in_bytes -1"];
        assert_eq!(ordered(r#"{"memory":{"limit":-1}}"#, false, None, &now), both);
        let alone = ["memory.limit_in_bytes -1"];
        assert_eq!(ordered(r#"{"memory":{"limit":-1}}"#, false, None, &[]), alone);
        let both = ["memory.max max", "memory.swap.max max"];
        assert_eq!(ordered(r#"{"memory":{"limit":-1}}"#, true, Some(200), &[]), both);
    }

    #[test]
    fn v2_swap_is_what_is_left_of_what_was_asked_for() {
        let now = [("memory.max", "100"), ("memory.swap.max", "100")];
        let limit = |limit: u64, total: Option<i64>| {
            ordered(&format!(r#"{{"memory":{{"limit":{limit}}}}}"#), true, total, &now)
        };
        assert_eq!(limit(150, Some(200)), ["memory.max 150", "memory.swap.max 50"]);
        assert_eq!(limit(50, Some(200)), ["memory.swap.max 150", "memory.max 50"]);
        assert_eq!(limit(150, None), ["memory.max 150"]);
        assert_eq!(limit(150, Some(-1)), ["memory.max 150"]);
        let refused = limit(201, Some(200));
        assert!(
            refused[0].contains("201 is more than the limit of memory and swap together (200)")
        );
    }

    #[test]
    fn v2_swap_alone_is_counted_from_the_memory_limit_that_is_there() {
        let swap =
            |now: &str| ordered(r#"{"memory":{"swap":300}}"#, true, None, &[("memory.max", now)]);
        assert_eq!(swap("100"), ["memory.max 100", "memory.swap.max 200"]);
        assert!(swap("max")[0].contains("need memory.limit as well"));
        assert!(swap("301")[0].contains("is more than the limit of memory and swap together"));
    }

    #[test]
    fn a_period_is_raised_before_its_quota_and_lowered_after_it() {
        let json = r#"{"cpu":{"quota":50,"period":100}}"#;
        let order = |now| ordered(json, false, None, &[("cpu.cfs_period_us", now)]);
        assert_eq!(order("50"), ["cpu.cfs_period_us 100", "cpu.cfs_quota_us 50"]);
        assert_eq!(order("200"), ["cpu.cfs_quota_us 50", "cpu.cfs_period_us 100"]);
    }

    #[test]
    fn a_burst_is_lowered_before_its_quota_and_raised_after_it() {
        let json = r#"{"cpu":{"quota":50,"burst":20}}"#;
        let v1 = |now| ordered(json, false, None, &[("cpu.cfs_burst_us", now)]);
        assert_eq!(v1("10"), ["cpu.cfs_quota_us 50", "cpu.cfs_burst_us 20"]);
        assert_eq!(v1("60"), ["cpu.cfs_burst_us 20", "cpu.cfs_quota_us 50"]);
        let v2 = |now| ordered(json, true, None, &[("cpu.max.burst", now)]);
        assert_eq!(v2("10"), ["cpu.max 50", "cpu.max.burst 20"]);
        assert_eq!(v2("60"), ["cpu.max.burst 20", "cpu.max 50"]);
    }

    #[test]
    fn v2_a_period_alone_keeps_the_quota() {
        let json = r#"{"cpu":{"period":50000}}"#;
        let with = |now| ordered(json, true, None, &[("cpu.max", now)]);
        assert_eq!(with("20000 100000"), ["cpu.max 20000 50000"]);
        assert_eq!(with("max 100000"), ["cpu.max max 50000"]);
    }

    #[test]
    fn an_idle_cgroup_is_woken_to_get_its_shares() {
        let json = r#"{"cpu":{"shares":1024,"idle":1}}"#;
        let with = |now| ordered(json, true, None, &[("cpu.idle", now)]);
        assert_eq!(with("0"), ["cpu.weight 100", "cpu.idle 1"]);
        assert_eq!(with("1"), ["cpu.idle 0", "cpu.weight 100", "cpu.idle 1"]);
    }

    #[test]
    fn what_was_there_before_can_be_written_back() {
        for (file, written, text, old) in [
            ("memory.limit_in_bytes", "5", "9223372036854771712\n", Some(UNLIMITED)),
            ("cpu.max", "20000 100000", "max 100000\n", Some("max 100000")),
            ("cpuset.cpus", "0", "\n", Some("")),
            ("io.weight", "5", "default 100\n8:0 7\n", Some("default 100")),
            ("io.weight", "8:0 5", "default 100\n8:0 7\n", Some("8:0 7")),
            ("io.weight", "8:16 5", "default 100\n8:0 7\n", Some("8:16 default")),
            (
                "io.max",
                "8:0 rbps=1",
                "8:0 rbps=9 wbps=max riops=max wiops=max\n",
                Some("8:0 rbps=9 wbps=max riops=max wiops=max"),
            ),
            ("io.max", "8:16 rbps=1", "", Some("8:16 rbps=max wbps=max riops=max wiops=max")),
            ("blkio.throttle.read_bps_device", "8:0 5", "8:0 9\n", Some("8:0 9")),
            ("blkio.throttle.read_bps_device", "8:0 5", "", Some("8:0 0")),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", Some("0")),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 3\n", Some("eth0 3")),
            (
                "rdma.max",
                "a hca_handle=1",
                "a hca_handle=max hca_object=max\n",
                Some("a hca_handle=max hca_object=max"),
            ),
            ("memory.pressure", "some 1 2", "some avg10=0.00\n", None),
        ] {
            assert_eq!(old_value(file, written, text).as_deref(), old, "{file} {written}");
        }
    }

    #[test]
    fn several_lines_are_several_writes() {
        let write = Write::new("io", "io.max", &"8:0 rbps=1\n8:1 rbps=2\n", "x");
        let values: Vec<String> = by_line(&write).into_iter().map(|write| write.value).collect();
        assert_eq!(values, ["8:0 rbps=1", "8:1 rbps=2"]);
        let empty = by_line(&Write::new("cpuset", "cpuset.cpus", &"", "x"));
        assert_eq!(empty.len(), 1);
    }
}
