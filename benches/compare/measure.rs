//! Runs a program once, started, measured and reaped by `tiny`.

use crate::bundle::World;
use crate::peer::{Peer, Verb};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The cost of one call.
#[derive(Clone, Copy)]
pub struct Sample {
    /// From fork to reaped, in ns.
    pub wall: f64,
    /// User and system time, including its descendants, in ns.
    pub cpu: f64,
    /// Peak RSS in KiB, the maximum including its descendants.
    pub rss: f64,
}

/// Seconds after which a call counts as hung: youki 0.7 sometimes loses a SIGCHLD.
const PATIENCE: &str = "5";

/// Calls a peer. The error contains the exit status, unless it is 0.
pub fn call(world: &World, peer: &Peer, verb: Verb, config: &str, id: &str) -> Result<Sample> {
    start(world, peer, verb, config, id)?.finish(world)
}

/// Like [`call`], without waiting. One at a time per peer.
pub fn start(world: &World, peer: &Peer, verb: Verb, config: &str, id: &str) -> Result<Started> {
    started(world, peer, &peer.command(verb, config, id, &world.host), PATIENCE)
}

/// Runs any program like a peer.
pub fn run(world: &World, peer: &Peer, argv: &[OsString], patience: &str) -> Result<Sample> {
    started(world, peer, argv, patience)?.finish(world)
}

/// A call that has not been waited for.
pub struct Started {
    tiny: Child,
    out: PathBuf,
    errors: PathBuf,
}

fn started(world: &World, peer: &Peer, argv: &[OsString], patience: &str) -> Result<Started> {
    world.host.check_interrupt()?;
    let (out, errors) = (peer.dir.join("measured"), peer.dir.join("stderr"));
    let namespace = peer.namespace.clone().unwrap_or_else(|| "-".into());
    let tiny = Command::new(&world.tiny)
        .args([out.as_os_str(), namespace.as_os_str(), patience.as_ref()])
        .args(argv)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors)?)
        .spawn()
        .context("tiny")?;
    Ok(Started { tiny, out, errors })
}

impl Started {
    /// Waits for its end; returns its cost.
    pub fn finish(mut self, world: &World) -> Result<Sample> {
        let status = self.tiny.wait().context("tiny")?;
        world.host.check_interrupt()?;
        let errors = || fs::read_to_string(&self.errors);
        if !status.success() {
            bail!("tiny: {status}: {}", errors()?.trim());
        }
        let line = fs::read_to_string(&self.out)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [status, numbers @ ..] = words.as_slice() else { bail!("tiny wrote nothing") };
        if *status != "0" {
            bail!("{status}: {}", errors()?.lines().last().unwrap_or_default());
        }
        let numbers = numbers.iter().map(|word| word.parse()).collect::<Result<Vec<f64>, _>>()?;
        let [wall, user, system, rss] = numbers.as_slice() else { bail!("tiny wrote {line}") };
        Ok(Sample { wall: *wall, cpu: (user + system) * 1000.0, rss: *rss })
    }
}
