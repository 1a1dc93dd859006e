//! The cost of a filter: compiling engines' default profiles, and the number of instructions per system call,
//! compared with libseccomp as used by crun (sorted numbers) and runc (a tree). `cargo bench --bench
//! seccomp`, also part of `make bench`; without libseccomp nothing is compared. Fails if this crate exceeds
//! its limits.

#![allow(unsafe_code, reason = "calls a C library")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]

#[path = "../src/interpreter.rs"]
#[expect(dead_code, reason = "nothing is verified here")]
mod interpreter;
#[path = "../tests/oracle/libseccomp.rs"]
#[expect(dead_code, reason = "the oracle's")]
mod libseccomp;
#[path = "../tests/oracle/profiles.rs"]
#[expect(dead_code, reason = "the oracle's")]
mod profiles;

use interpreter::{Call, run};
use libseccomp::Library;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_seccomp::{Arch, LinuxSeccomp, sock_filter, syscalls};
use std::process::ExitCode;
use std::time::Instant;

const NATIVE: Arch = Arch::NATIVE.expect("an architecture that the crate knows");
const ROUNDS: usize = 200;

/// The fastest of all rounds, in microseconds.
fn fastest(mut work: impl FnMut()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..ROUNDS).map(|_| ()).map(time).fold(f64::INFINITY, f64::min)
}

/// The maximum number of instructions for a system call without rules about its arguments.
const MAX_STEPS: usize = 16;
/// The maximum compile time relative to libseccomp's.
const MAX_TIME: f64 = 0.25;

/// The cost of a program per system call.
struct Cost {
    instructions: usize,
    /// Over the native architecture's system calls.
    average: usize,
    most: usize,
    /// The maximum over those without rules about arguments, on any architecture.
    plain: usize,
}

impl Cost {
    fn of(program: &[sock_filter], spec: &LinuxSeccomp) -> Cost {
        let steps = |arch: Arch, number: u32| {
            let number = if arch == Arch::X32 { number | 0x4000_0000 } else { number };
            run(program, &Call { arch: arch.audit(), number, args: [0; 6] }).steps
        };
        let native: Vec<usize> = (0..450).map(|number| steps(NATIVE, number)).collect();
        let plain = NATIVE.family().iter().flat_map(|&arch| {
            let asking = asking(arch, spec);
            let plain = (0..600).filter(move |number| !asking.contains(number));
            plain.map(move |number| steps(arch, number))
        });
        Cost {
            instructions: program.len(),
            average: native.iter().sum::<usize>() / native.len(),
            most: native.iter().copied().max().unwrap(),
            plain: plain.max().unwrap(),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cost { instructions, average, most, plain } = self;
        write!(f, "{instructions:>4} instructions, a call {average:>3} on average, ")?;
        write!(f, "{most:>3} at most, {plain:>3} without rules about arguments")
    }
}

/// The system calls whose arguments the profile checks, including those that multiplex others on 32-bit x86.
fn asking(arch: Arch, spec: &LinuxSeccomp) -> Vec<u32> {
    let named = |name: &String| match syscalls::lookup(name) {
        syscalls::Lookup::Found(syscall) => Some(syscall),
        _ => None,
    };
    let mut numbers = Vec::new();
    for entry in spec.syscalls.iter().flatten() {
        let asks = entry.args.as_ref().is_some_and(|args| !args.is_empty());
        for syscall in entry.names.iter().filter_map(named) {
            numbers.extend(syscall.number(arch).filter(|_| asks));
            let other = syscall.multiplexed().filter(|_| arch == Arch::X86);
            numbers.extend(other.map(|(number, _)| number));
        }
    }
    numbers
}

fn main() -> ExitCode {
    let library = Library::open();
    let mut failures = 0;
    for (engine, spec) in [
        ("docker", profiles::docker(NATIVE)),
        ("containerd", profiles::containerd(NATIVE)),
        ("podman", profiles::podman(NATIVE)),
    ] {
        let compile = || oci_seccomp::compile(&spec, NATIVE).unwrap();
        let ours = fastest(|| drop(compile()));
        let cost = Cost::of(&compile().program, &spec);
        println!("{engine:10} oci-seccomp       {ours:>7.0} µs, {cost}");
        if cost.plain > MAX_STEPS {
            println!("{engine:10} takes {} instructions for a call, not {MAX_STEPS}", cost.plain);
            failures += 1;
        }
        let Some(library) = &library else { continue };
        for (how, tree) in [("libseccomp", false), ("libseccomp, tree", true)] {
            let archs = NATIVE.family();
            let time = fastest(|| {
                let file = memfd_create(c"filter", MFdFlags::MFD_CLOEXEC).unwrap();
                library.export(archs, &spec, tree, &file).unwrap();
            });
            let cost = Cost::of(&library.compile(archs, &spec, tree).unwrap(), &spec);
            println!("{engine:10} {how:17} {time:>7.0} µs, {cost}");
            if ours > time * MAX_TIME {
                println!("{engine:10} takes {:.2} of its time, not {MAX_TIME}", ours / time);
                failures += 1;
            }
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
