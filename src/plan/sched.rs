//! Scheduling: `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`, and the settings of all
//! processes: `linux.memoryPolicy`, `linux.personality`.

use super::id_list;
use crate::spec::{self, Place};
use crate::suggest;
use anyhow::{Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use sys::sched::Attr;

/// Settings of one process; None if not configured.
#[derive(Debug, Default)]
pub struct Scheduling {
    /// `process.scheduler`.
    pub scheduler: Option<Attr>,
    /// `process.ioPriority`: class and level as linux/ioprio.h packs them.
    pub io_priority: Option<u16>,
    /// `process.execCPUAffinity`.
    pub affinity: Affinity,
}

/// CPUs as bits, lowest first; None if not configured.
#[derive(Debug, Default)]
pub struct Affinity {
    /// Before the process is moved into the container's cgroup.
    pub initial: Option<Vec<u8>>,
    /// After it has been moved.
    pub last: Option<Vec<u8>>,
}

/// Settings of all processes of a container, including those of exec: so they are stored in the state.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// `linux.memoryPolicy`.
    pub memory_policy: Option<MemoryPolicy>,
    /// `linux.personality`: `PER_*`.
    pub personality: Option<u32>,
}

/// For set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*`, with its flags.
    pub mode: u32,
    /// Memory nodes as bits, lowest first, if any.
    pub nodes: Vec<u8>,
}

impl Scheduling {
    /// Reads `process`; settings without effect are added to `warnings`.
    pub fn new(process: &spec::Process, warnings: &mut Vec<String>) -> Result<Self> {
        let scheduler = process.scheduler.as_ref();
        Ok(Scheduling {
            scheduler: scheduler.map(|spec| scheduler_attr(spec, warnings)).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            affinity: Affinity::new(process.exec_cpu_affinity.as_ref())?,
        })
    }

    /// Whether fork(2) fails in this process.
    pub fn forbids_fork(&self) -> bool {
        let deadline = |attr: &Attr| attr.policy == DEADLINE && attr.flags & RESET_ON_FORK == 0;
        self.scheduler.as_ref().is_some_and(deadline)
    }
}

/// linux/sched.h. No kernel implements SCHED_ISO.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", OTHER),
    ("SCHED_FIFO", FIFO),
    ("SCHED_RR", RR),
    ("SCHED_BATCH", BATCH),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", DEADLINE),
];
const OTHER: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const DEADLINE: u32 = 6;

/// SCHED_FIFO or SCHED_RR.
pub fn is_real_time(policy: u32) -> bool {
    [FIFO, RR].contains(&policy)
}

/// linux/sched.h
const SCHEDULER_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", RESET_ON_FORK),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const RESET_ON_FORK: u64 = 0x01;
const KEEP: u64 = 0x08 | 0x10;

fn scheduler_attr(spec: &spec::Scheduler, warnings: &mut Vec<String>) -> Result<Attr> {
    const PLACE: &str = "process.scheduler";
    let policy = named(&POLICIES, &spec.policy, "policy").at("process.scheduler.policy")?;
    let flags = bits(&SCHEDULER_FLAGS, &spec.flags, "process.scheduler.flags")?;
    let nice = spec.nice.unwrap_or(0);
    let priority = spec.priority.unwrap_or(0);
    let time = [spec.runtime, spec.deadline, spec.period].map(Option::unwrap_or_default);
    // With one of these flags the kernel ignores the values given here.
    if flags & KEEP == 0 {
        check_nice(policy, nice, &spec.policy, warnings).at(format!("{PLACE}.nice"))?;
        check_priority(policy, priority, &spec.policy).at(format!("{PLACE}.priority"))?;
        check_time(policy, time, &spec.policy).at(PLACE)?;
    }
    let priority = u32::try_from(priority).map_err(|_| anyhow!("is {priority}, less than 0"));
    let priority = priority.at(format!("{PLACE}.priority"))?;
    let [runtime, deadline, period] = time;
    Ok(Attr { policy, flags, nice, priority, runtime, deadline, period })
}

fn check_nice(policy: u32, nice: i32, name: &str, warnings: &mut Vec<String>) -> Result<()> {
    ensure!((-20..=19).contains(&nice), "is {nice}, must be from -20 to 19");
    if nice != 0 && ![OTHER, BATCH].contains(&policy) {
        warnings.push(format!("process.scheduler.nice: has no effect with {name}"));
    }
    Ok(())
}

fn check_priority(policy: u32, priority: i32, name: &str) -> Result<()> {
    match is_real_time(policy) {
        true => {
            ensure!((1..=99).contains(&priority), "is {priority}, must be from 1 to 99 for {name}")
        }
        false => ensure!(priority == 0, "is {priority}, must be 0 for {name}"),
    }
    Ok(())
}

/// sched_setattr(2), SCHED_DEADLINE. The kernel checks the bounds.
fn check_time(policy: u32, time: [u64; 3], name: &str) -> Result<()> {
    let [runtime, deadline, period] = time;
    if policy != DEADLINE {
        ensure!(
            time == [0; 3],
            "runtime, deadline and period are only valid for SCHED_DEADLINE, not for {name}"
        );
        return Ok(());
    }
    let ordered = runtime <= deadline && (period == 0 || deadline <= period);
    ensure!(
        runtime >= 1024 && ordered,
        "SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period, in nanoseconds"
    );
    Ok(())
}

fn io_priority(spec: &spec::IoPriority) -> Result<u16> {
    const CLASSES: [(&str, u16); 3] =
        [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let class = named(&CLASSES, &spec.class, "class").at("process.ioPriority.class")?;
    let level = u16::try_from(spec.priority).ok().filter(|level| *level <= 7);
    let level = level.ok_or_else(|| anyhow!("is {}, must be from 0 to 7", spec.priority));
    Ok(class << 13 | level.at("process.ioPriority.priority")?)
}

impl Affinity {
    fn new(spec: Option<&spec::ExecAffinity>) -> Result<Self> {
        /// The maximum that Linux can be built for.
        const MAX_CPUS: usize = 8192;
        let Some(spec) = spec else { return Ok(Affinity::default()) };
        let read = |list: &Option<String>, field| {
            let list = list.as_deref().filter(|list| !list.is_empty());
            let cpus = list.map(|list| numbers(list, MAX_CPUS, "CPUs"));
            cpus.transpose().at(format!("process.execCPUAffinity.{field}"))
        };
        Ok(Affinity { initial: read(&spec.initial, "initial")?, last: read(&spec.last, "final")? })
    }
}

/// linux/mempolicy.h
pub const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_LOCAL", 4),
];

/// linux/mempolicy.h
pub const MEMORY_FLAGS: [(&str, u64); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

impl Execution {
    /// Reads the settings of `linux`.
    pub fn new(linux: &spec::Linux) -> Result<Self> {
        Ok(Execution {
            memory_policy: linux.memory_policy.as_ref().map(memory_policy).transpose()?,
            personality: linux.personality.as_ref().map(personality).transpose()?,
        })
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        *self == Execution::default()
    }
}

fn memory_policy(spec: &spec::MemoryPolicy) -> Result<MemoryPolicy> {
    const BOTH: u64 = 1 << 14 | 1 << 15;
    /// Memory nodes: set_mempolicy(2) reads at most a page of bits.
    const MAX_NODES: usize = 4096 * 8;
    let mode = named(&MEMORY_MODES, &spec.mode, "mode").at("linux.memoryPolicy.mode")?;
    let flags = bits(&MEMORY_FLAGS, &spec.flags, "linux.memoryPolicy.flags")?;
    if flags & BOTH == BOTH {
        let why = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        Err(anyhow!(why)).at("linux.memoryPolicy.flags")?;
    }
    let list = spec.nodes.as_deref().map(str::trim).filter(|list| !list.is_empty());
    let check = || {
        let nodes = list.map(|list| numbers(list, MAX_NODES, "memory nodes")).transpose()?;
        match spec.mode.as_str() {
            "MPOL_DEFAULT" | "MPOL_LOCAL" => {
                ensure!(nodes.is_none(), "must be empty for {}", spec.mode)
            }
            "MPOL_PREFERRED" => {}
            mode => ensure!(nodes.is_some(), "missing: {mode} needs memory nodes"),
        }
        Ok(nodes.unwrap_or_default())
    };
    let nodes = check().at("linux.memoryPolicy.nodes")?;
    Ok(MemoryPolicy { mode: mode | u32::try_from(flags).unwrap_or(0), nodes })
}

/// linux/personality.h
fn personality(spec: &spec::Personality) -> Result<u32> {
    const DOMAINS: [(&str, u32); 2] = [("LINUX", 0), ("LINUX32", 8)];
    // config-linux.md, Personality: "Currently no flag values are supported."
    if let Some(flag) = spec.flags.first() {
        Err(anyhow!("{flag:?}: no flags are supported")).at("linux.personality.flags[0]")?;
    }
    named(&DOMAINS, &spec.domain, "domain").at("linux.personality.domain")
}

/// The number of a name.
fn named<T: Copy>(table: &[(&str, T)], name: &str, what: &str) -> Result<T> {
    match table.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None => {
            let hint = suggest::hint(name, table.iter().map(|(known, _)| *known));
            bail!("unknown {what} {name:?}{hint}")
        }
    }
}

/// The bits of all names.
fn bits(table: &[(&str, u64)], names: &[String], place: &str) -> Result<u64> {
    let mut bits = 0;
    for (i, name) in names.iter().enumerate() {
        bits |= named(table, name, "flag").at(format!("{place}[{i}]"))?;
    }
    Ok(bits)
}

/// A bit for each number of a list of `what` below `end`.
fn numbers(list: &str, end: usize, what: &str) -> Result<Vec<u8>> {
    id_list::bits(list, end).ok_or_else(|| anyhow!("{list:?} is not a list of {what} (e.g. 0-3,7)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(json: &str) -> Result<(Attr, Vec<String>)> {
        let mut warnings = Vec::new();
        let attr = scheduler_attr(&serde_json::from_str(json).unwrap(), &mut warnings)?;
        Ok((attr, warnings))
    }

    fn execution(json: &str) -> Result<Execution> {
        Execution::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_policy_and_flag_of_the_spec_has_the_kernels_number() {
        let policy = |json: &str| scheduler(json).unwrap().0.policy.cast_signed();
        assert_eq!(policy(r#"{"policy":"SCHED_OTHER"}"#), libc::SCHED_OTHER);
        assert_eq!(policy(r#"{"policy":"SCHED_FIFO","priority":1}"#), libc::SCHED_FIFO);
        assert_eq!(policy(r#"{"policy":"SCHED_RR","priority":99}"#), libc::SCHED_RR);
        assert_eq!(policy(r#"{"policy":"SCHED_BATCH","nice":-20}"#), libc::SCHED_BATCH);
        assert_eq!(policy(r#"{"policy":"SCHED_IDLE"}"#), libc::SCHED_IDLE);
        let times = r#""runtime":10000,"deadline":20000,"period":20000"#;
        let json = format!(r#"{{"policy":"SCHED_DEADLINE",{times}}}"#);
        assert_eq!(policy(&json), libc::SCHED_DEADLINE);
        let names: Vec<&str> = SCHEDULER_FLAGS.iter().map(|(name, _)| *name).collect();
        let json = serde_json::json!({"policy": "SCHED_OTHER", "flags": names}).to_string();
        assert_eq!(scheduler(&json).unwrap().0.flags, 0x7f);
    }

    #[test]
    fn what_the_kernel_would_not_take_is_named() {
        let error = |json: &str| format!("{:#}", scheduler(json).unwrap_err());
        for (json, text) in [
            (r#"{"policy":"FIFO"}"#, r#"process.scheduler.policy: unknown policy "FIFO""#),
            (
                r#"{"policy":"SCHED_FIFO"}"#,
                "process.scheduler.priority: is 0, must be from 1 to 99 for SCHED_FIFO",
            ),
            (
                r#"{"policy":"SCHED_IDLE","priority":1}"#,
                "process.scheduler.priority: is 1, must be 0 for SCHED_IDLE",
            ),
            (
                r#"{"policy":"SCHED_OTHER","nice":20}"#,
                "process.scheduler.nice: is 20, must be from -20 to 19",
            ),
            (
                r#"{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RECLAIM","RESET"]}"#,
                r#"process.scheduler.flags[1]: unknown flag "RESET""#,
            ),
        ] {
            assert_eq!(error(json), text);
        }
        assert!(
            error(r#"{"policy":"SCHED_RR","priority":1,"period":1}"#)
                .contains("only valid for SCHED_DEADLINE")
        );
        let late = r#"{"policy":"SCHED_DEADLINE","runtime":3000,"deadline":2000}"#;
        assert!(error(late).contains("runtime <= deadline"));
    }

    #[test]
    fn nice_without_effect_is_a_warning() {
        let warnings = |json: &str| scheduler(json).unwrap().1.len();
        assert_eq!(warnings(r#"{"policy":"SCHED_FIFO","priority":5,"nice":3}"#), 1);
        assert_eq!(warnings(r#"{"policy":"SCHED_BATCH","nice":3}"#), 0);
    }

    #[test]
    fn kept_parameters_are_the_kernels_to_judge() {
        let kept = r#"{"policy":"SCHED_FIFO","flags":["SCHED_FLAG_KEEP_PARAMS"]}"#;
        assert!(scheduler(kept).is_ok());
        let negative =
            r#"{"policy":"SCHED_FIFO","priority":-1,"flags":["SCHED_FLAG_KEEP_PARAMS"]}"#;
        assert!(scheduler(negative).is_err());
    }

    #[test]
    fn io_priority_is_packed_as_the_kernel_wants_it() {
        let of = |json: &str| io_priority(&serde_json::from_str(json).unwrap());
        assert_eq!(of(r#"{"class":"IOPRIO_CLASS_BE","priority":5}"#).unwrap(), 2 << 13 | 5);
        for bad in [
            r#"{"class":"BE","priority":5}"#,
            r#"{"class":"IOPRIO_CLASS_RT","priority":8}"#,
            r#"{"class":"IOPRIO_CLASS_RT","priority":-1}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_become_masks() {
        assert_eq!(numbers("0-2,9", 16, "CPUs").unwrap(), [0b111, 0b10]);
        for bad in ["", "a", "3-1", "1-", "-1", "16", "1,,2"] {
            assert!(numbers(bad, 16, "CPUs").is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_are_there_where_the_mode_needs_them_and_only_there() {
        let policy = |mode: &str, nodes: &str| {
            let policy = serde_json::json!({"memoryPolicy": {"mode": mode, "nodes": nodes}});
            execution(&policy.to_string()).map(|found| found.memory_policy.unwrap())
        };
        assert_eq!(policy("MPOL_DEFAULT", "").unwrap(), MemoryPolicy { mode: 0, nodes: vec![] });
        assert!(policy("MPOL_LOCAL", "0").is_err() && policy("MPOL_BIND", "").is_err());
        assert!(policy("MPOL_PREFERRED", "").is_ok() && policy("MPOL_PREFERRED", "1").is_ok());
        let far = policy("MPOL_BIND", "0,2000").unwrap();
        assert_eq!((far.mode, far.nodes.len()), (2, 251));
        assert!(policy("MPOL_BIND", "32768").is_err());
    }

    #[test]
    fn personality_has_domains_and_no_flags() {
        let of = |json: &str| execution(&format!(r#"{{"personality":{json}}}"#));
        assert_eq!(of(r#"{"domain":"LINUX32"}"#).unwrap().personality, Some(8));
        assert_eq!(of(r#"{"domain":"LINUX","flags":[]}"#).unwrap().personality, Some(0));
        let error = of(r#"{"domain":"LINUX","flags":["ADDR_NO_RANDOMIZE"]}"#).unwrap_err();
        assert!(format!("{error:#}").starts_with("linux.personality.flags[0]: "));
        assert!(of(r#"{"domain":"SVR4"}"#).is_err());
    }
}
