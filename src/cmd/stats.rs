//! stats: the resource usage of containers, as a table that is refreshed on a terminal, or as JSON; see
//! docs/output.md.

use super::command::ListFormat;
use super::events::{interval, running};
use super::table;
use crate::cgroup::stat::{BlkioEntry, Stats};
use crate::log::{self, Log};
use crate::state::{self, Dir, ListedContainer, State, Status};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};
use sys::describe;

/// The options of stats.
#[derive(Debug)]
pub struct StatsOptions {
    /// The containers; empty: all.
    pub ids: Vec<String>,
    /// The output format.
    pub format: ListFormat,
    /// Print once.
    pub once: bool,
    /// The measuring interval.
    pub interval: Option<String>,
}

/// One container; the fields are in the order of the JSON. Bytes and percentages; what no controller measures
/// is left out.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    status: Status,
    /// Per cent of one CPU; None without a second sample.
    cpu_percent: Option<f64>,
    /// Per cent of periods in which the quota was used up.
    throttled_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Amount>,
    pids: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_read: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_written: Option<u64>,
    /// Pressure stall information over the last 10 seconds, "some" lines; None if the kernel does not report
    /// it.
    pressure: Option<Pressure>,
}

/// Usage and limit; None is unlimited.
#[derive(Debug, PartialEq, Serialize)]
struct Amount {
    used: u64,
    limit: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Pressure {
    cpu: f64,
    memory: f64,
    io: f64,
}

/// A sample and its time.
type Look = (Instant, Stats);

/// Shows the resource usage of containers.
pub fn stats(root: &Path, options: &StatsOptions, log: &mut Log) -> Result<()> {
    show_until_interrupted(root, options, log).context("stats")
}

fn show_until_interrupted(root: &Path, options: &StatsOptions, log: &mut Log) -> Result<()> {
    let interval = interval(options.interval.as_deref(), Duration::from_secs(1))?;
    let once = options.once || !std::io::stdout().is_terminal();
    for id in &options.ids {
        let look = || running(&load(root, id)?);
        look().with_context(|| id.clone())?;
    }
    let mut before: BTreeMap<String, Look> = BTreeMap::new();
    let mut first = true;
    loop {
        let found = state::all(root)?;
        if first && options.ids.is_empty() {
            let trouble = found.iter().filter_map(|one| one.trouble.as_ref());
            trouble.for_each(|trouble| log.warn(&describe(trouble)));
        }
        let (rows, looks) = look(found, &options.ids, &before, log)?;
        if !(once && first) {
            log::out(draw(&rows, options.format, !once, first)?.as_bytes())?;
        }
        if once && !first || !options.ids.is_empty() && rows.is_empty() {
            return Ok(());
        }
        (before, first) = (looks, false);
        std::thread::sleep(interval);
    }
}

fn load(root: &Path, id: &str) -> Result<State> {
    Dir::open(root, id)?.existing()
}

/// All requested containers that are running. One that disappears in the meantime is left out.
fn look(
    found: Vec<ListedContainer>,
    ids: &[String],
    before: &BTreeMap<String, Look>,
    log: &mut Log,
) -> Result<(Vec<Row>, BTreeMap<String, Look>)> {
    let (mut rows, mut looks) = (Vec::new(), BTreeMap::new());
    for ListedContainer { state, status, .. } in found {
        let asked = ids.is_empty() || ids.contains(&state.id);
        if !asked || [Status::Creating, Status::Stopped, Status::Unknown].contains(&status) {
            continue;
        }
        if state.cgroup.dirs().is_empty() {
            ensure!(
                ids.is_empty(),
                "{}: the container has no cgroups, so there are no statistics",
                state.id
            );
            continue;
        }
        let now = Instant::now();
        let look = match state.cgroup.stats() {
            Ok(stats) => (now, stats),
            // A problem with one container is no reason not to show the others.
            Err(error) if ids.is_empty() => {
                log.warn(&format!("container {}: {}", state.id, describe(&error)));
                continue;
            }
            Err(error) => return Err(error.context(state.id)),
        };
        rows.push(row(&state.id, status, &look, before.get(&state.id)));
        looks.insert(state.id, look);
    }
    Ok((rows, looks))
}

fn row(id: &str, status: Status, (now, stats): &Look, before: Option<&Look>) -> Row {
    let percent = |part: u64, whole: u64| match whole {
        0 => 0.0,
        _ => float(part) * 100.0 / float(whole),
    };
    let cpu = |(then, old): &Look| {
        let nanoseconds = u64::try_from((*now - *then).as_nanos()).unwrap_or(u64::MAX);
        let (new, old) = (stats.cpu.usage.as_ref()?, old.cpu.usage.as_ref()?);
        Some(percent(new.total.saturating_sub(old.total), nanoseconds))
    };
    let throttled = |(_, old): &Look| {
        let (new, old) = (stats.cpu.throttling.as_ref()?, old.cpu.throttling.as_ref()?);
        let times = new.throttled_periods.saturating_sub(old.throttled_periods);
        Some(percent(times, new.periods.saturating_sub(old.periods)))
    };
    let waited =
        |psi: &Option<_>| psi.as_ref().map(|psi: &crate::cgroup::stat::Psi| psi.some.avg10);
    let pressure = || {
        Some(Pressure {
            cpu: waited(&stats.cpu.psi)?,
            memory: waited(&stats.memory.psi)?,
            io: waited(&stats.blkio.psi)?,
        })
    };
    let bytes = |op: &str| {
        let of = |entry: &&BlkioEntry| entry.op == op;
        let entries = stats.blkio.io_service_bytes_recursive.iter().filter(of);
        stats.blkio.counted.then(|| entries.map(|entry| entry.value).sum())
    };
    Row {
        id: id.to_owned(),
        status,
        cpu_percent: before.and_then(cpu),
        throttled_percent: before.and_then(throttled),
        memory: stats.memory.usage.as_ref().map(|memory| Amount {
            used: memory.usage.saturating_sub(idle_cache(stats)),
            // The largest numbers of cgroup v2 and v1 mean unlimited.
            limit: Some(memory.limit).filter(|&limit| limit < 1 << 62),
        }),
        pids: Amount {
            used: stats.pids.current,
            limit: Some(stats.pids.limit).filter(|&limit| limit != 0),
        },
        block_read: bytes("Read"),
        block_written: bytes("Write"),
        pressure: pressure(),
    }
}

/// Inactive page cache, which is as good as free.
fn idle_cache(stats: &Stats) -> u64 {
    let raw = &stats.memory.raw;
    raw.get("total_inactive_file").or_else(|| raw.get("inactive_file")).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "percentages and sizes for people")]
fn float(number: u64) -> f64 {
    number as f64
}

/// One frame: on a terminal it replaces the previous one.
fn draw(rows: &[Row], format: ListFormat, again: bool, first: bool) -> Result<String> {
    let text = match format {
        ListFormat::Json => return Ok(serde_json::to_string(rows)? + "\n"),
        ListFormat::Table => table(rows),
    };
    if !again {
        return Ok(text);
    }
    // Cursor home, then erase to the end of each line and below: this avoids flicker.
    let clear = if first { "\x1b[2J" } else { "" };
    Ok(format!("{clear}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}

const HEAD: [&str; 8] = [
    "ID",
    "CPU %",
    "MEMORY / LIMIT",
    "PIDS / LIMIT",
    "BLOCK READ",
    "WRITTEN",
    "THROTTLED %",
    "WAITING % CPU/MEM/IO",
];

fn table(rows: &[Row]) -> String {
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let memory =
        |memory: &Amount| format!("{} / {}", size(memory.used), or_dash(memory.limit.map(size)));
    let cells = |row: &Row| {
        let Row { pids, .. } = row;
        [
            row.id.clone(),
            percent(row.cpu_percent),
            or_dash(row.memory.as_ref().map(memory)),
            format!("{} / {}", pids.used, or_dash(pids.limit.map(|limit| limit.to_string()))),
            or_dash(row.block_read.map(size)),
            or_dash(row.block_written.map(size)),
            percent(row.throttled_percent),
            row.pressure.as_ref().map_or("-".to_owned(), |some| {
                format!("{:.1} / {:.1} / {:.1}", some.cpu, some.memory, some.io)
            }),
        ]
    };
    let rows = std::iter::once(HEAD.map(String::from)).chain(rows.iter().map(cells));
    table::table(&rows.map(Vec::from).collect::<Vec<_>>(), 3, 0)
}

/// `512B`, `1.5KiB`, `31MiB`: at least two significant digits.
fn size(bytes: u64) -> String {
    let mut amount = float(bytes);
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            let digits = usize::from(unit != "B" && amount < 10.0);
            return format!("{amount:.digits$}{unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.0}PiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::stat::shape::PsiLine;
    use crate::cgroup::stat::{CpuUsage, MemoryEntry, Psi, Throttling};

    fn memory(limit: u64) -> MemoryEntry {
        MemoryEntry { usage: 3 << 20, limit, ..MemoryEntry::default() }
    }

    fn stats(total: u64, periods: u64, throttled: u64) -> Stats {
        let mut stats = Stats::default();
        stats.cpu.usage = Some(CpuUsage { total, ..CpuUsage::default() });
        let throttling =
            Throttling { periods, throttled_periods: throttled, ..Throttling::default() };
        stats.cpu.throttling = Some(throttling);
        stats.memory.usage = Some(memory(64 << 20));
        stats.blkio.counted = true;
        stats.memory.raw = [("inactive_file".to_owned(), 1 << 20)].into();
        stats.pids.current = 2;
        stats
    }

    #[test]
    fn percents_are_of_the_time_between_two_looks() {
        let now = Instant::now();
        let before = (now, stats(1_000_000_000, 10, 5));
        let after = (now + Duration::from_secs(2), stats(2_000_000_000, 20, 10));
        let row = row("x", Status::Running, &after, Some(&before));
        assert_eq!((row.cpu_percent, row.throttled_percent), (Some(50.0), Some(50.0)));
        let alone = super::row("x", Status::Running, &after, None);
        assert_eq!((alone.cpu_percent, alone.throttled_percent), (None, None));
    }

    #[test]
    fn what_is_unlimited_has_no_limit() {
        let look = |limit| {
            let mut stats = stats(0, 0, 0);
            stats.memory.usage = Some(memory(limit));
            row("x", Status::Running, &(Instant::now(), stats), None).memory.unwrap()
        };
        assert_eq!(look(0x7fff_ffff_ffff_f000).limit, None);
        assert_eq!(look(u64::MAX).limit, None);
        assert_eq!(look(4096), Amount { used: 2 << 20, limit: Some(4096) });
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (31 << 20, "31MiB"),
            (3 << 30, "3.0GiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn the_table_is_aligned_and_json_has_all_of_it() {
        let mut stats = stats(0, 0, 0);
        let psi =
            Psi { some: PsiLine { avg10: 1.25, ..PsiLine::default() }, full: PsiLine::default() };
        (stats.cpu.psi, stats.memory.psi) = (Some(psi.clone()), Some(psi.clone()));
        stats.blkio.psi = Some(psi);
        let rows = [row("a-long-name", Status::Running, &(Instant::now(), stats), None)];
        let expected = "\
ID            CPU %   MEMORY / LIMIT   PIDS / LIMIT   BLOCK READ   WRITTEN   THROTTLED %   WAITING % CPU/MEM/IO
a-long-name   -       2.0MiB / 64MiB   2 / -          0B           0B        -             1.2 / 1.2 / 1.2
";
        assert_eq!(table(&rows), expected);
        let expected = r#"[{"id":"a-long-name","status":"running","cpuPercent":null,"throttledPercent":null,"memory":{"used":2097152,"limit":67108864},"pids":{"used":2,"limit":null},"blockRead":0,"blockWritten":0,"pressure":{"cpu":1.25,"memory":1.25,"io":1.25}}]"#;
        let json = draw(&rows, ListFormat::Json, false, true).unwrap();
        assert_eq!(json.trim_end(), expected);
    }

    #[test]
    fn what_no_controller_counts_is_a_dash_and_no_key() {
        let rows = [row("x", Status::Running, &(Instant::now(), Stats::default()), None)];
        let expected = "\
ID   CPU %   MEMORY / LIMIT   PIDS / LIMIT   BLOCK READ   WRITTEN   THROTTLED %   WAITING % CPU/MEM/IO
x    -       -                0 / -          -            -         -             -
";
        assert_eq!(table(&rows), expected);
        let expected = r#"[{"id":"x","status":"running","cpuPercent":null,"throttledPercent":null,"pids":{"used":0,"limit":null},"pressure":null}]"#;
        assert_eq!(draw(&rows, ListFormat::Json, false, true).unwrap().trim_end(), expected);
    }
}
