//! The measurements: each operation of each peer once per round, so that disturbances affect all of them
//! alike.

use crate::bundle::{self, World};
use crate::measure::{self, Sample};
use crate::peer::{Peer, Verb};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The operations and their descriptions, in the order of the tables.
pub const OPERATIONS: [(&str, &str); 14] = [
    ("run-minimal", "run /bin/true, minimal configuration, back to back"),
    ("run-full", "run /bin/true, full configuration, back to back"),
    ("run-minimal-idle", "run /bin/true, minimal configuration, 0.25 s of idleness before"),
    ("run-full-idle", "run /bin/true, full configuration, 0.25 s of idleness before"),
    ("run-minimal-loaded", "the same, minimal configuration, 16 at once, every core busy"),
    ("create", "create, full configuration; cpu with the container's init until then"),
    ("state", "state of a created container"),
    ("start", "start"),
    ("exec", "exec of /bin/true in a running container; the floor: that program alone"),
    (
        "exec-seccomp",
        "exec, with an engine's default seccomp profile, of the second process and later ones",
    ),
    ("delete", "delete of a stopped container"),
    ("delete-force", "delete --force of a running container"),
    ("list", "list"),
    ("list-ids", "list -q"),
];

/// The measurements of each round, by operation and peer; None if it failed.
#[derive(Default)]
pub struct Results {
    pub samples: BTreeMap<(&'static str, String), Vec<Option<Sample>>>,
    /// How calls failed, and how often.
    pub failures: BTreeMap<(&'static str, String), (usize, String)>,
}

impl Results {
    /// Adds the cost of one call.
    pub fn add(&mut self, operation: &'static str, peer: &Peer, result: Result<Sample>) {
        let key = (operation, peer.name.clone());
        let sample = match result {
            Ok(sample) => Some(sample),
            Err(error) => {
                let failure = self.failures.entry(key.clone()).or_default();
                failure.0 += 1;
                failure.1 = format!("{error:#}");
                None
            }
        };
        self.samples.entry(key).or_default().push(sample);
    }
}

/// The container that is measured.
pub const ID: &str = "bench";

/// All operations except `list`. The first round, with cold caches, is not counted.
pub fn rounds(world: &World, rounds: usize, idle: usize) -> Result<Results> {
    let mut results = Results::default();
    eprintln!("{rounds} rounds of {} programs", world.peers.len());
    for round in 0..=rounds {
        for (operation, config, pause, until) in [
            ("run-minimal", "minimal", 0, rounds),
            ("run-full", "full", 0, rounds),
            ("run-minimal-idle", "minimal", 250, idle),
            ("run-full-idle", "full", 250, idle),
        ] {
            if round > until {
                continue;
            }
            for peer in in_turn(world, round) {
                sleep(Duration::from_millis(pause));
                let result = measure::call(world, peer, Verb::Run, config, ID);
                recover(world, peer, &result)?;
                results.add(operation, peer, result);
            }
        }
        for peer in in_turn(world, round) {
            life(world, peer, &mut results)?;
            filtered(world, peer, &mut results)?;
        }
        if round == 0 {
            results.samples.clear();
        }
    }
    Ok(results)
}

/// The peers, starting with another one in each round.
pub fn in_turn(world: &World, round: usize) -> impl Iterator<Item = &Peer> {
    let first = round % world.peers.len();
    world.peers[first..].iter().chain(&world.peers[..first])
}

/// After a failed call, its container is removed; after an interrupt, the benchmark stops.
fn recover(world: &World, peer: &Peer, result: &Result<Sample>) -> Result<()> {
    world.host.check_interrupt()?;
    if result.is_err() { world.clear(peer) } else { Ok(()) }
}

/// Create, state, start, delete of one container; create, start, delete --force of the next.
fn life(world: &World, peer: &Peer, results: &mut Results) -> Result<()> {
    for force in [false, true] {
        for (operation, verb) in
            [("create", Verb::Create), ("state", Verb::State), ("start", Verb::Start)]
        {
            let mut result = measure::call(world, peer, verb, "full-pause", ID);
            if let (Ok(sample), Verb::Create) = (&mut result, verb) {
                sample.cpu += init_cpu(peer).unwrap_or(0.0);
            }
            if result.is_err() {
                recover(world, peer, &result)?;
                results.add(operation, peer, result);
                return Ok(());
            }
            if !force {
                results.add(operation, peer, result);
            }
        }
        let (operation, verb) = if force {
            let result = measure::call(world, peer, Verb::Exec, "full-pause", ID);
            world.host.check_interrupt()?;
            results.add("exec", peer, result);
            ("delete-force", Verb::Force)
        } else {
            stop(world, peer)?;
            ("delete", Verb::Delete)
        };
        let result = measure::call(world, peer, verb, "full-pause", ID);
        recover(world, peer, &result)?;
        results.add(operation, peer, result);
        world.clear(peer)?;
    }
    Ok(())
}

/// exec in a container with a filter; the second one, because the first may cache something.
fn filtered(world: &World, peer: &Peer, results: &mut Results) -> Result<()> {
    if peer.is_floor() {
        return Ok(());
    }
    let call = |verb| measure::call(world, peer, verb, "full-seccomp", ID);
    let exec = || {
        call(Verb::Create)?;
        call(Verb::Start)?;
        call(Verb::Exec)?;
        call(Verb::Exec)
    };
    results.add("exec-seccomp", peer, exec());
    world.host.check_interrupt()?;
    world.clear(peer)
}

fn init_pid(peer: &Peer) -> Result<i32> {
    let text = fs::read_to_string(peer.pid_file()).context("pid file")?;
    text.trim().parse().with_context(|| format!("pid file: {text:?}"))
}

/// The CPU time of the container's init in ns: it is not a descendant that the benchmark waits for.
fn init_cpu(peer: &Peer) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", init_pid(peer).ok()?)).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Kills the container and waits until its init has exited.
pub fn stop(world: &World, peer: &Peer) -> Result<()> {
    let pid = init_pid(peer)?;
    if peer.is_floor() {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    } else {
        measure::call(world, peer, Verb::Kill, "full-pause", ID)?;
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        if matches!(state, None | Some("Z")) {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    bail!("{}: process {pid} did not end", peer.name)
}

/// `list` with many containers, which are created for one peer after the other.
pub fn list(world: &World, containers: usize, rounds: usize, results: &mut Results) -> Result<()> {
    eprintln!("list with {containers} containers");
    for peer in &world.peers {
        if !peer.is_floor() {
            for n in 0..containers {
                bundle::write_nth(peer, n)?;
                let id = format!("{ID}-{n}");
                let result = measure::call(world, peer, Verb::Create, "list", &id);
                if let Err(error) = result {
                    world.host.check_interrupt()?;
                    results.add("list", peer, Err(error.context(format!("create number {n}"))));
                    break;
                }
            }
        }
        // Wait until the containers just created are idle.
        sleep(Duration::from_millis(100));
        for (operation, verb) in [("list", Verb::List), ("list-ids", Verb::ListIds)] {
            for round in 0..=rounds {
                let result = measure::call(world, peer, verb, "list", "");
                world.host.check_interrupt()?;
                if round > 0 {
                    results.add(operation, peer, result);
                }
            }
        }
        world.clear(peer)?;
    }
    Ok(())
}
