//! Everything concurrently, for any time: few ids, one store, commands that are killed, stopped and
//! terminated at random; at the end nothing may be left on the host.
//!
//! `make soak`, or `SOAK_SECONDS=n`; `SOAK_SEED=n` selects the actions, and is printed.

use crate::host::{self, wait_until};
use crate::images::{Images, base};
use crate::sandbox::{brig_only, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The number of concurrent commands, and of containers.
const WORKERS: u64 = 4;
const IDS: u64 = 4;
/// The time limit of commands; the longest wait of brig itself is a minute.
const MAX_DURATION: Duration = Duration::from_secs(100);

/// Deterministic pseudo-random numbers for a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Counts of actions, by name.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    fn count(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }
}

const VERBS: [&str; 14] = [
    "create",
    "create",
    "start",
    "start",
    "exec",
    "kill",
    "pause",
    "resume",
    "update",
    "delete",
    "run --image",
    "run --image",
    "commit",
    "gc",
];

/// The arguments of a command.
fn words(images: &Images, verb: &str, id: &str, dice: &mut Dice) -> Vec<String> {
    let path = |name: &str| images.sandbox.dir.join(name).display().to_string();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match verb {
        "create" => words(&["create", "--bundle", &path("bundle"), id]),
        "exec" => words(&["exec", id, "/init", "true"]),
        "kill" => {
            words(&["kill", id, ["TERM", "KILL", "USR1"][usize::try_from(dice.below(3)).unwrap()]])
        }
        "update" => words(&["update", "--pids-limit", &(20 + dice.below(20)).to_string(), id]),
        "delete" if dice.below(4) > 0 => words(&["delete", "--force", id]),
        "run --image" => words(&["run", "--image", &path("image:latest"), id, "/init", "true"]),
        "commit" => words(&["commit", id, &path(&format!("committed-{id}:latest"))]),
        "gc" => words(&["gc"]),
        verb => words(&[verb, id]),
    }
}

/// Lets a command run, or interferes with it.
fn meddle(child: &mut Child, dice: &mut Dice) -> Option<&'static str> {
    if dice.below(3) > 0 {
        return None;
    }
    std::thread::sleep(Duration::from_micros(dice.below(30_000)));
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    if child.try_wait().unwrap().is_some() {
        return None;
    }
    match dice.below(3) {
        0 => kill(pid, Signal::SIGKILL).ok().map(|()| "killed"),
        1 => kill(pid, Signal::SIGTERM).ok().map(|()| "told to end"),
        _ => {
            kill(pid, Signal::SIGSTOP).ok()?;
            std::thread::sleep(Duration::from_millis(dice.below(50)));
            kill(pid, Signal::SIGCONT).ok().map(|()| "stopped for a while")
        }
    }
}

/// Runs commands until the time is over.
fn work(images: &Images, mut dice: Dice, end: Instant, tally: &Tally) {
    while Instant::now() < end {
        let verb = VERBS[usize::try_from(dice.below(VERBS.len() as u64)).unwrap()];
        let id = format!("{}-{}", images.sandbox.id, dice.below(IDS));
        let words = words(images, verb, &id, &mut dice);
        let store = images.store().display().to_string();
        let args: Vec<&str> =
            ["--store", &store].into_iter().chain(words.iter().map(String::as_str)).collect();
        let mut command = images.sandbox.command(&args);
        let said =
            images.sandbox.dir.join(format!("said-{}", std::thread::current().name().unwrap()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let mut child = command.spawn().unwrap();
        let meddled = meddle(&mut child, &mut dice);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            // run waits for its container, which another command may have paused.
            if start.elapsed() > MAX_DURATION / 2 && verb == "run --image" {
                images.sandbox.brig(&["delete", "--force", &id]);
            }
            if start.elapsed() > MAX_DURATION {
                _ = child.kill();
                _ = child.wait();
                panic!("hangs: {words:?}, {meddled:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let text = fs::read_to_string(&said).unwrap_or_default();
        assert!(!text.contains("internal error"), "{words:?}: {text}");
        assert!(status.code().is_some() || meddled.is_some(), "{words:?}: {status}: {text}");
        let how = match status.code() {
            Some(0) => "done",
            Some(_) => "refused",
            None => "ended by a signal",
        };
        tally.count(&format!("{verb} {how}"));
        meddled.iter().for_each(|how| tally.count(&format!("meddled: {how}")));
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn whatever_happens_to_commands_nothing_hangs_and_all_of_it_can_be_deleted() {
    brig_only!();
    let seconds = number("SOAK_SECONDS", 0);
    if seconds == 0 {
        return skip("takes a while: make soak");
    }
    let seed = number("SOAK_SEED", u64::from(std::process::id()));
    let images = Images::new();
    images.sandbox.script("sleep 600");
    images.sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 30}));
    let mark = format!("BRIG_TEST={}", images.sandbox.id);
    images.layout("image").layer(base()).finish("latest", &json!({"Env": [mark]}));
    let (mounts, descriptors) = (host::mounts().len(), open_descriptors());
    let (tally, end) = (Tally::default(), Instant::now() + Duration::from_secs(seconds));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (images, tally) = (&images, &tally);
            let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(worker) | 1);
            let thread = std::thread::Builder::new().name(format!("worker-{worker}"));
            thread.spawn_scoped(scope, move || work(images, dice, end, tally)).unwrap();
        }
    });
    eprintln!("soak: seed {seed}, {seconds} s");
    for (what, count) in tally.0.lock().unwrap().iter() {
        eprintln!("soak: {count:6} {what}");
    }
    for id in 0..IDS {
        let id = format!("{}-{id}", images.sandbox.id);
        let deleted = images.brig(&["delete", "--force", &id]);
        assert_eq!(deleted.code, Some(0), "seed {seed}: {deleted:?}");
    }
    images.brig(&["gc", "--all"]).ok();
    let left = || {
        let mut left = images.sandbox.leftovers();
        for dir in ["containers", "tmp", "layers", "images"] {
            let entries = fs::read_dir(images.store().join(dir)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        left
    };
    let gone = wait_until(Duration::from_secs(5), || left().is_empty());
    assert!(gone, "seed {seed}: left behind {:#?}", left());
    if seconds > 30 {
        // Only if no other tests mount and open descriptors.
        assert_eq!(host::mounts().len(), mounts, "seed {seed}: mounts");
        assert_eq!(open_descriptors(), descriptors, "seed {seed}: descriptors");
    }
}
