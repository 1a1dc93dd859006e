//! `make bench`: compares brig with other runtimes and with the floor, interleaved in one run.
//!
//! `compare [NAME=]PATH…`: the runtimes; those named brig, floor and crun are the baselines. Reads ROUNDS,
//! LIST, CURVE, IDLE and LOADED from the environment. Prints tables, writes `OUT/results.json` with every
//! single measurement.

#![expect(clippy::disallowed_methods, reason = "not brig: a crash may leave half a results file")]

mod bundle;
#[path = "../config.rs"]
mod config;
mod curve;
mod host;
mod load;
mod measure;
mod memory;
mod operations;
mod peer;
mod report;
mod trace;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    // Linked like brig, without unwinding tables: capturing a backtrace would crash.
    sys::process::take_no_backtraces();
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<()> {
    let mut args = env::args().skip(1);
    let out = PathBuf::from(args.next().context("compare OUT NAME=PATH…")?);
    let out = std::path::absolute(out)?;
    let states = out.join("work/states");
    fs::create_dir_all(&states).with_context(|| states.display().to_string())?;
    let host = host::Host::enter(&states)?;
    let peers = args.map(|arg| peer::Peer::new(&arg, &out, &host)).collect::<Result<Vec<_>>>()?;
    if peers.len() < 2 {
        bail!("nothing to compare");
    }
    let rounds = number("ROUNDS", 20)?;
    let world = bundle::World::new(&out, host, peers.iter().flatten().cloned().collect())?;
    let mut results = operations::rounds(&world, rounds, number("IDLE", rounds / 2)?)?;
    load::loaded(&world, number("LOADED", rounds / 4)?, &mut results)?;
    operations::list(&world, number("LIST", 200)?, rounds, &mut results)?;
    let curves = curve::curves(&world, number("CURVE", 1000)?, rounds)?;
    let memory = memory::smallest(&world)?;
    let calls = trace::count(&world)?;
    let phases = trace::phases(&world)?;
    let found = report::Found { results, curves, memory, calls, phases };
    report::print(&world, &found);
    report::write(&world, &found, &out.join("results.json"))
}

fn number(name: &str, default: usize) -> Result<usize> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name}={text}")),
        _ => Ok(default),
    }
}
