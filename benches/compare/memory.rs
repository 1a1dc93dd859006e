//! The smallest memory limit with which a container can still run /bin/true. Near the limit it is a matter of
//! chance, so there are two values.

use crate::bundle::{self, World};
use crate::measure;
use crate::peer::{Peer, Verb};
use anyhow::Result;

/// In KiB; None if even the largest tested limit is too small.
pub struct Smallest {
    pub peer: String,
    /// One of the tries succeeds.
    pub ever: Option<u64>,
    /// All of the tries succeed.
    pub always: Option<u64>,
}

const TRIES: usize = 8;
const STEP: u64 = 16;
const MAX_KIB: u64 = 16 * 1024;

/// Of every runtime; the kernel's own minimum is measured with the same configuration.
pub fn smallest(world: &World) -> Result<Vec<Smallest>> {
    eprintln!("smallest memory limit");
    let runtimes = world.peers.iter().filter(|peer| !peer.is_floor());
    let all = runtimes.map(|peer| {
        let always = search(|limit| Ok(successes(world, peer, limit, true)? == TRIES))?;
        let ever = search(|limit| Ok(successes(world, peer, limit, false)? > 0))?;
        Ok(Smallest { peer: peer.name.clone(), ever, always })
    });
    all.collect()
}

/// The smallest multiple of `STEP` for which `works` returns true, assuming that it is monotonic.
fn search(works: impl Fn(u64) -> Result<bool>) -> Result<Option<u64>> {
    if !works(MAX_KIB)? {
        return Ok(None);
    }
    let (mut fails, mut succeeds) = (0, MAX_KIB / STEP);
    while succeeds - fails > 1 {
        let middle = (fails + succeeds) / 2;
        if works(middle * STEP)? { succeeds = middle } else { fails = middle }
    }
    Ok(Some(succeeds * STEP))
}

/// The number of successful tries; stops after one whose result is not `while_it`.
fn successes(world: &World, peer: &Peer, limit: u64, while_it: bool) -> Result<usize> {
    bundle::write_memory(peer, limit * 1024)?;
    let mut count = 0;
    for _ in 0..TRIES {
        let worked = measure::call(world, peer, Verb::Run, "memory", "bench").is_ok();
        world.host.check_interrupt()?;
        if !worked {
            world.clear(peer)?;
        }
        count += usize::from(worked);
        if worked != while_it {
            break;
        }
    }
    Ok(count)
}
