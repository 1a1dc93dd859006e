//! The cost of one more container depending on the number of containers on the host: brig's operations alone,
//! and beside many running containers. The floor shows the kernel's share.

use crate::bundle::{self, World};
use crate::measure::{self, Sample};
use crate::operations::{ID, stop};
use crate::peer::{Peer, Verb};
use anyhow::{Context, Result};
use std::thread::sleep;
use std::time::Duration;

/// The operations in the order of measurement, and their names.
const LIFE: [(&str, Verb); 4] = [
    ("create", Verb::Create),
    ("state", Verb::State),
    ("start", Verb::Start),
    ("exec", Verb::Exec),
];

/// The results for one operation: alone, and beside the others.
pub struct Row {
    pub operation: &'static str,
    pub alone: Vec<Sample>,
    pub beside: Vec<Sample>,
}

/// The operations of one runtime.
pub struct Curve {
    pub peer: String,
    /// The number of containers, including the measured one.
    pub containers: usize,
    pub rows: Vec<Row>,
}

/// Measures brig and the floor, with up to `containers`, all but one brig's.
pub fn curves(world: &World, containers: usize, rounds: usize) -> Result<Vec<Curve>> {
    let named = |name: &str| world.peers.iter().find(|peer| peer.name == name);
    let (Some(brig), Some(floor)) = (named("brig"), named("floor")) else { return Ok(Vec::new()) };
    eprintln!("one container, and one of {containers}");
    let both = || -> Result<[Measured; 2]> {
        Ok([measured(world, brig, rounds)?, measured(world, floor, rounds)?])
    };
    let found = both().and_then(|alone| {
        others(world, brig, containers.saturating_sub(1))?;
        Ok(alone.into_iter().zip(both()?))
    });
    world.clear(floor)?;
    world.clear(brig)?;
    let curve = |(peer, (alone, beside)): (&Peer, (Measured, Measured))| {
        let rows = alone.into_iter().zip(beside);
        let rows = rows.map(|((operation, alone), (_, beside))| Row { operation, alone, beside });
        Curve { peer: peer.name.clone(), containers, rows: rows.collect() }
    };
    Ok([brig, floor].into_iter().zip(found?).map(curve).collect())
}

/// Idle running containers.
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

type Measured = Vec<(&'static str, Vec<Sample>)>;

/// The first round, with cold caches, is not counted.
fn measured(world: &World, peer: &Peer, rounds: usize) -> Result<Measured> {
    let mut measured: Measured = LIFE
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
        if peer.is_floor() {
            world.clear(peer)?;
        }
        if round > 0 {
            measured.iter_mut().zip(samples).for_each(|((_, all), sample)| all.push(sample));
        }
    }
    Ok(measured)
}
