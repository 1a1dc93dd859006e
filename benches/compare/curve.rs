//! What the number of containers on a host does to the cost of one more: brig's operations with that
//! one alone, and beside many that run.

use crate::bundle::{self, World};
use crate::measure::{self, Sample};
use crate::operations::{ID, stop};
use crate::peer::{Peer, Verb};
use anyhow::{Context, Result};
use std::thread::sleep;
use std::time::Duration;

/// In the order in which they are measured; what they are called.
const LIFE: [(&str, Verb); 4] = [
    ("create", Verb::Create),
    ("state", Verb::State),
    ("start", Verb::Start),
    ("exec", Verb::Exec),
];

/// What was measured of one operation: alone, and beside the others.
pub struct Row {
    pub operation: &'static str,
    pub alone: Vec<Sample>,
    pub beside: Vec<Sample>,
}

/// The operations of one runtime.
pub struct Curve {
    pub peer: String,
    /// How many containers there were, the measured one among them.
    pub containers: usize,
    pub rows: Vec<Row>,
}

/// Measures brig, with up to `containers`.
pub fn curve(world: &World, containers: usize, rounds: usize) -> Result<Option<Curve>> {
    let Some(peer) = world.peers.iter().find(|peer| peer.name == "brig") else { return Ok(None) };
    eprintln!("one container, and one of {containers}");
    let alone = measured(world, peer, rounds);
    let beside = alone.and_then(|alone| {
        others(world, peer, containers.saturating_sub(1))?;
        Ok((alone, measured(world, peer, rounds)?))
    });
    world.clear(peer)?;
    let (alone, beside) = beside?;
    let rows = alone.into_iter().zip(beside);
    let rows = rows.map(|((operation, alone), (_, beside))| Row { operation, alone, beside });
    Ok(Some(Curve { peer: peer.name.clone(), containers, rows: rows.collect() }))
}

/// Containers that run and do nothing.
fn others(world: &World, peer: &Peer, number: usize) -> Result<()> {
    for n in 0..number {
        bundle::write_nth(peer, n)?;
        for verb in [Verb::Create, Verb::Start] {
            measure::call(world, peer, verb, "list", &format!("{ID}-{n}"))
                .with_context(|| format!("container number {n}"))?;
        }
    }
    sleep(Duration::from_millis(100));
    Ok(())
}

/// The first round, with cold caches, is not counted.
fn measured(world: &World, peer: &Peer, rounds: usize) -> Result<Vec<(&'static str, Vec<Sample>)>> {
    let mut measured: Vec<(&'static str, Vec<Sample>)> = LIFE
        .map(|(operation, _)| operation)
        .into_iter()
        .chain(["list", "delete"])
        .map(|operation| (operation, Vec::new()))
        .collect();
    for round in 0..=rounds {
        let mut samples = Vec::new();
        for (_, verb) in LIFE {
            samples.push(measure::call(world, peer, verb, "full-pause", ID)?);
        }
        samples.push(measure::call(world, peer, Verb::List, "list", "")?);
        stop(world, peer)?;
        samples.push(measure::call(world, peer, Verb::Delete, "full-pause", ID)?);
        if round > 0 {
            measured.iter_mut().zip(samples).for_each(|((_, all), sample)| all.push(sample));
        }
    }
    Ok(measured)
}
