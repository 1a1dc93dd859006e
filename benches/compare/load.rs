//! The cost of running a container on a loaded machine: every core is busy, and many containers are run
//! concurrently.

use crate::bundle::World;
use crate::measure;
use crate::operations::{ID, Results, in_turn};
use crate::peer::{Peer, Verb};
use anyhow::Result;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// The number of concurrent containers.
const AT_ONCE: usize = 16;

/// All peers in turn, `batches` times. The first batch of each is not counted.
pub fn loaded(world: &World, batches: usize, results: &mut Results) -> Result<()> {
    eprintln!("{batches} times {AT_ONCE} at once, every core busy");
    for peer in &world.peers {
        (0..AT_ONCE).try_for_each(|n| world.prepare_nth(&peer.nth(n)))?;
    }
    for batch in 0..=batches {
        for peer in in_turn(world, batch) {
            let peers: Vec<Peer> = (0..AT_ONCE).map(|n| peer.nth(n)).collect();
            let samples = busy(|| at_once(world, &peers));
            world.host.check_interrupt()?;
            for (sample, nth) in samples.into_iter().zip(&peers) {
                if sample.is_err() {
                    world.clear(nth)?;
                }
                if batch > 0 {
                    results.add("run-minimal-loaded", peer, sample);
                }
            }
        }
    }
    Ok(())
}

fn at_once(world: &World, peers: &[Peer]) -> Vec<Result<measure::Sample>> {
    let start = |peer| measure::start(world, peer, Verb::Run, "minimal", ID);
    let started: Vec<_> = peers.iter().map(start).collect();
    started.into_iter().map(|started| started?.finish(world)).collect()
}

/// Runs it while a thread on each core is busy.
fn busy<T>(work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        done.store(true, Relaxed);
        result
    })
}
