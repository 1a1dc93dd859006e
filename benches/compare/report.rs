//! Medians, ratios, tables, and everything as JSON.

use crate::bundle::World;
use crate::curve::Curve;
use crate::measure::Sample;
use crate::memory::Smallest;
use crate::operations::{OPERATIONS, Results};
use crate::trace::{Calls, PHASES, Phases};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The base of the ratios.
const BASE: &str = "crun";

fn median(values: Vec<f64>) -> Option<f64> {
    percentile(values, 50)
}

/// With few values, the 99th percentile is the maximum.
fn percentile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied()
}

impl Results {
    fn of(&self, operation: &'static str, peer: &str) -> &[Option<Sample>] {
        self.samples.get(&(operation, peer.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn median(&self, operation: &'static str, peer: &str, what: fn(&Sample) -> f64) -> Option<f64> {
        self.percentile(operation, peer, what, 50)
    }

    fn percentile(
        &self,
        operation: &'static str,
        peer: &str,
        what: fn(&Sample) -> f64,
        percent: usize,
    ) -> Option<f64> {
        percentile(self.of(operation, peer).iter().flatten().map(what).collect(), percent)
    }

    /// The median of the rounds' ratios: a disturbance slows both.
    fn ratio(&self, operation: &'static str, peer: &str, what: fn(&Sample) -> f64) -> Option<f64> {
        let pairs = self.of(operation, peer).iter().zip(self.of(operation, BASE));
        let ratios =
            pairs.filter_map(|(ours, base)| Some(what(ours.as_ref()?) / what(base.as_ref()?)));
        median(ratios.collect())
    }
}

const WALL: fn(&Sample) -> f64 = |sample| sample.wall / 1e6;
const CPU: fn(&Sample) -> f64 = |sample| sample.cpu / 1e6;
const RSS: fn(&Sample) -> f64 = |sample| sample.rss / 1024.0;

fn cell(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.decimals$}"))
}

fn count(value: Option<usize>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// All results.
pub struct Found {
    pub results: Results,
    pub curves: Vec<Curve>,
    pub memory: Vec<Smallest>,
    pub calls: Calls,
    pub phases: Phases,
}

/// The tables.
pub fn print(world: &World, found: &Found) {
    let Found { results, curves, memory, calls, phases } = found;
    println!("\n{:<12} {:>9}  version", "", "bytes");
    for peer in &world.peers {
        println!("{:<12} {:>9}  {}", peer.name, peer.size, peer.version);
    }
    println!(
        "\nMedians, and of the wall time the 99th percentile; ratios to {BASE} are medians of the rounds' ratios."
    );
    for (operation, title) in OPERATIONS {
        println!("\n{title}");
        println!(
            "  {:<12} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10} {:>10}",
            "", "wall ms", "p99", "cpu ms", "RSS MiB", "syscalls", "wall ratio", "cpu ratio"
        );
        for peer in &world.peers {
            let name = peer.name.as_str();
            let rounds = results.of(operation, name);
            let failed = rounds.iter().filter(|sample| sample.is_none()).count();
            let mut row = format!(
                "  {:<12} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10} {:>10}",
                name,
                cell(results.median(operation, name, WALL), 2),
                cell(results.percentile(operation, name, WALL, 99), 2),
                cell(results.median(operation, name, CPU), 2),
                cell(results.median(operation, name, RSS), 1),
                count(calls.get(&(operation, name.to_owned())).copied()),
                cell(results.ratio(operation, name, WALL), 2),
                cell(results.ratio(operation, name, CPU), 2),
            );
            if let Some((_, why)) =
                results.failures.get(&(operation, name.to_owned())).filter(|_| failed > 0)
            {
                row.push_str(&format!("  {failed} of {} failed: {why}", rounds.len()));
            }
            println!("{row}");
        }
    }
    curves.iter().for_each(print_curve);
    println!("\nsmallest memory limit, KiB, with which /bin/true runs: at times, always");
    for smallest in memory {
        let kib = |limit: Option<u64>| limit.map_or_else(|| "-".into(), |limit| limit.to_string());
        println!("  {:<12} {:>8} {:>8}", smallest.peer, kib(smallest.ever), kib(smallest.always));
    }
    print_phases(world, phases);
}

fn print_curve(curve: &Curve) {
    let Curve { peer, containers, rows } = curve;
    println!(
        "\n{peer}, full configuration: with this container alone, as one of {containers} that run"
    );
    println!("  {:<12} {:>18} {:>18} {:>10}", "", "wall ms", "cpu ms", "wall ratio");
    for row in rows {
        let of = |samples: &[Sample], what| median(samples.iter().map(what).collect());
        let both = |what| (of(&row.alone, what), of(&row.beside, what));
        let ((wall, wall_beside), (cpu, cpu_beside)) = (both(WALL), both(CPU));
        println!(
            "  {:<12} {:>8} {:>9} {:>8} {:>9} {:>10}",
            row.operation,
            cell(wall, 2),
            cell(wall_beside, 2),
            cell(cpu, 2),
            cell(cpu_beside, 2),
            cell(wall_beside.zip(wall).map(|(beside, alone)| beside / alone), 2),
        );
    }
}

fn print_phases(world: &World, phases: &Phases) {
    let named = |name: &str| phases.keys().any(|(_, peer)| peer == name);
    let peers: Vec<&str> =
        world.peers.iter().map(|peer| peer.name.as_str()).filter(|name| named(name)).collect();
    if peers.is_empty() {
        return;
    }
    println!(
        "\nrun, full configuration, by phase: system calls, and ms in the kernel as strace sees it"
    );
    let head: String = peers.iter().map(|name| format!("{name:>16}")).collect();
    println!("  {:<24}{head}", "");
    let mut sums = vec![(0, 0.0); peers.len()];
    for phase in PHASES {
        let mut row = String::new();
        for (peer, sum) in peers.iter().zip(&mut sums) {
            let (calls, ms) = phases.get(&(phase, (*peer).to_owned())).copied().unwrap_or_default();
            *sum = (sum.0 + calls, sum.1 + ms);
            row.push_str(&format!("{calls:>8}{ms:>8.2}"));
        }
        println!("  {phase:<24}{row}");
    }
    let row: String = sums.iter().map(|(calls, ms)| format!("{calls:>8}{ms:>8.2}")).collect();
    println!("  {:<24}{row}", "all");
}

/// Everything, including each single sample.
pub fn write(world: &World, found: &Found, path: &Path) -> Result<()> {
    let Found { results, curves, memory, calls, phases } = found;
    let row = |sample: &Sample| json!({ "wall_ns": sample.wall, "cpu_ns": sample.cpu, "peak_rss_kib": sample.rss });
    let samples = |samples: &[Option<Sample>]| -> Value {
        samples.iter().map(|sample| sample.as_ref().map(row)).collect()
    };
    let all = |samples: &[Sample]| -> Value { samples.iter().map(row).collect() };
    let failures = results.failures.iter().map(|((operation, peer), (times, why))| {
        json!({ "operation": operation, "peer": peer, "times": times, "last": why })
    });
    let all = json!({
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cgroup": if world.host.v2.is_some() { "v2" } else { "v1" },
        "peers": world.peers.iter().map(|peer| {
            json!({ "name": peer.name, "version": peer.version, "bytes": peer.size })
        }).collect::<Value>(),
        "samples": results.samples.iter().map(|((operation, peer), found)| {
            json!({ "operation": operation, "peer": peer, "samples": samples(found) })
        }).collect::<Value>(),
        "failures": failures.collect::<Value>(),
        "curves": curves.iter().map(|curve| json!({
            "peer": curve.peer,
            "containers": curve.containers,
            "operations": curve.rows.iter().map(|row| json!({
                "operation": row.operation, "alone": all(&row.alone), "beside": all(&row.beside)
            })).collect::<Value>(),
        })).collect::<Value>(),
        "smallest_memory_kib": memory.iter().map(|smallest| {
            json!({ "peer": smallest.peer, "ever": smallest.ever, "always": smallest.always })
        }).collect::<Value>(),
        "system_calls": calls.iter().map(|((operation, peer), calls)| {
            json!({ "operation": operation, "peer": peer, "calls": calls })
        }).collect::<Value>(),
        "phases_of_run_full": phases.iter().map(|((phase, peer), (calls, ms))| {
            json!({ "phase": phase, "peer": peer, "calls": calls, "ms": ms })
        }).collect::<Value>(),
    });
    fs::write(path, serde_json::to_vec_pretty(&all)?)
        .with_context(|| path.display().to_string())?;
    println!("\nevery sample: {}", path.display());
    Ok(())
}
