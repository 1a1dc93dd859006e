//! The changes of `update`: `linux.resources` as JSON, overridden by flags. What is absent stays unchanged,
//! and so does a 0 where runc ignores it.

use crate::spec;
use anyhow::{Context, Result, bail};

/// Applies one flag of the command line to the resources. An empty value is ignored.
pub fn take_flag(resources: &mut spec::Resources, flag: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    set(resources, flag, value).with_context(|| format!("--{flag} {value:?}"))
}

fn set(resources: &mut spec::Resources, flag: &str, value: &str) -> Result<()> {
    let memory = resources.memory.get_or_insert_default();
    let cpu = resources.cpu.get_or_insert_default();
    match flag {
        "blkio-weight" => {
            resources.block_io.get_or_insert_default().weight = Some(number(value)?);
        }
        "cpu-period" => cpu.period = Some(number(value)?),
        "cpu-quota" => cpu.quota = Some(number(value)?),
        "cpu-burst" => cpu.burst = Some(number(value)?),
        "cpu-share" => cpu.shares = Some(number(value)?),
        "cpu-rt-period" => cpu.realtime_period = Some(number(value)?),
        "cpu-rt-runtime" => cpu.realtime_runtime = Some(number(value)?),
        "cpu-idle" => cpu.idle = Some(number(value)?),
        "cpuset-cpus" => cpu.cpus = Some(value.to_owned()),
        "cpuset-mems" => cpu.mems = Some(value.to_owned()),
        "memory" => memory.limit = Some(limit(value)?),
        "memory-reservation" => memory.reservation = Some(limit(value)?),
        "memory-swap" => memory.swap = Some(limit(value)?),
        "kernel-memory" => memory.kernel = Some(limit(value)?),
        "kernel-memory-tcp" => memory.kernel_tcp = Some(limit(value)?),
        "pids-limit" => resources.pids.get_or_insert_default().limit = Some(number(value)?),
        _ => bail!("not a flag of resources"),
    }
    Ok(())
}

/// The places of the limits of kernel memory.
pub const KERNEL_MEMORY: [&str; 2] =
    ["linux.resources.memory.kernel", "linux.resources.memory.kernelTCP"];

/// Removes what an update does not change: device rules (as in runc; others may have added some since), zeros
/// of memory, and kernel memory, for which runc also only warns. `kernel_memory`: what has set these limits.
pub fn prune(
    resources: &mut spec::Resources,
    kernel_memory: [&str; 2],
    warnings: &mut Vec<String>,
) {
    resources.devices = None;
    let Some(memory) = &mut resources.memory else { return };
    for bytes in [&mut memory.limit, &mut memory.reservation, &mut memory.swap] {
        *bytes = bytes.filter(|&bytes| bytes != 0);
    }
    let kernel = [memory.kernel.take(), memory.kernel_tcp.take()];
    for (place, bytes) in kernel_memory.into_iter().zip(kernel) {
        if bytes.is_some_and(|bytes| bytes != 0) {
            warnings.push(format!("{place}: kernel memory limits are obsolete and ignored"));
        }
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T> {
    value.parse().ok().context("not a number in the valid range")
}

/// Bytes, or -1 for no limit.
fn limit(value: &str) -> Result<i64> {
    if value == "-1" { Ok(-1) } else { bytes(value) }
}

/// A size as in docker's and runc's flags: `1048576`, `64m`, `1.5GiB`, in units of 1024.
pub fn bytes(text: &str) -> Result<i64> {
    const SHAPE: &str = "not a size (e.g. 64m or -1)";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let shift = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 0,
        "k" | "ki" => 10,
        "m" | "mi" => 20,
        "g" | "gi" => 30,
        "t" | "ti" => 40,
        "p" | "pi" => 50,
        _ => bail!(SHAPE),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole: i64 = whole.parse().ok().context(SHAPE)?;
    // Millionths of the unit are precise enough.
    let part: i64 =
        format!("{part:0<6}").get(..6).and_then(|part| part.parse().ok()).context(SHAPE)?;
    let whole = whole.checked_mul(1 << shift).context("too large")?;
    let part = (i128::from(part) << shift) / 1_000_000;
    i64::try_from(part).ok().and_then(|part| whole.checked_add(part)).context(SHAPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_runcs_suffixes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("64kb", 64 << 10),
            ("64 MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("12b", 12),
        ] {
            assert_eq!(limit(text).unwrap(), size, "{text}");
        }
        assert_eq!(limit("-1").unwrap(), -1);
        for bad in ["-2", "", "m", "1x", "1mm", ".5m", "9999999p", "1.2.3", "64m64", "0x10"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_flag_sets_its_field() {
        let mut resources = spec::Resources::default();
        for (flag, value) in [
            ("memory", "64m"),
            ("memory-swap", "-1"),
            ("cpu-quota", "-1"),
            ("cpu-period", "50000"),
            ("cpuset-cpus", "0-1"),
            ("pids-limit", "7"),
            ("blkio-weight", "500"),
            ("cpu-share", ""),
        ] {
            take_flag(&mut resources, flag, value).unwrap();
        }
        let (memory, cpu) = (resources.memory.unwrap(), resources.cpu.unwrap());
        assert_eq!((memory.limit, memory.swap), (Some(64 << 20), Some(-1)));
        assert_eq!((cpu.quota, cpu.period, cpu.shares), (Some(-1), Some(50000), None));
        assert_eq!(cpu.cpus.as_deref(), Some("0-1"));
        assert_eq!(resources.pids.unwrap().limit, Some(7));
        assert_eq!(resources.block_io.unwrap().weight, Some(500));
    }

    #[test]
    fn what_is_no_value_of_its_flag_is_refused_with_the_flag() {
        let refused = |flag: &str, value: &str| {
            let error = take_flag(&mut spec::Resources::default(), flag, value).unwrap_err();
            format!("{error:#}")
        };
        assert_eq!(refused("cpu-share", "x"), "--cpu-share \"x\": not a number in the valid range");
        assert_eq!(
            refused("blkio-weight", "70000"),
            "--blkio-weight \"70000\": not a number in the valid range"
        );
        assert_eq!(refused("memory", "1q"), "--memory \"1q\": not a size (e.g. 64m or -1)");
    }

    #[test]
    fn zeros_of_memory_and_device_rules_ask_for_nothing() {
        let json = r#"{"devices":[{"allow":false}],"memory":{"limit":0,"swap":0,"reservation":0,
            "kernel":0,"kernelTCP":0},"cpu":{"burst":0}}"#;
        let mut resources: spec::Resources = serde_json::from_str(json).unwrap();
        let mut warnings = Vec::new();
        prune(&mut resources, KERNEL_MEMORY, &mut warnings);
        let memory = resources.memory.unwrap();
        assert!(resources.devices.is_none());
        assert_eq!((memory.limit, memory.swap, memory.reservation), (None, None, None));
        assert_eq!(resources.cpu.unwrap().burst, Some(0));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn kernel_memory_is_warned_of_and_left_alone() {
        let json = r#"{"memory":{"limit":5,"kernel":7}}"#;
        let mut resources: spec::Resources = serde_json::from_str(json).unwrap();
        let mut warnings = Vec::new();
        prune(&mut resources, KERNEL_MEMORY, &mut warnings);
        let memory = resources.memory.unwrap();
        assert_eq!((memory.limit, memory.kernel), (Some(5), None));
        assert_eq!(warnings.len(), 1);
    }
}
