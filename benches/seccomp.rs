//! What a filter costs: compiling engines' default profiles, and the instructions that a system call
//! then takes, brig's against libseccomp's as crun (in order of numbers) and runc (a tree) ask for it.
//! `cargo bench --bench seccomp`; without libseccomp there is nothing to compare with.

#![allow(unsafe_code, reason = "calls a C library")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]

#[path = "../src/seccomp/interpreter.rs"]
#[expect(dead_code, reason = "nothing is verified here")]
mod interpreter;
#[path = "../integration/oracle/libseccomp.rs"]
#[expect(dead_code, reason = "the oracle's")]
mod libseccomp;
#[path = "../integration/oracle/profiles.rs"]
#[expect(dead_code, reason = "the oracle's")]
mod profiles;

use brig::seccomp::Filter;
use brig::seccomp::arch::Arch;
use interpreter::{Call, run};
use libseccomp::Library;
use nix::sys::memfd::{MFdFlags, memfd_create};
use seccompiler::sock_filter;
use std::time::Instant;

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

/// Instructions, and the most and on average that one of the native system calls takes.
fn steps(program: &[sock_filter]) -> String {
    let call = |number| Call { arch: Arch::NATIVE.audit(), number, args: [0; 6] };
    let steps: Vec<usize> = (0..450).map(|number| run(program, &call(number)).steps).collect();
    let (most, sum) = (steps.iter().max().unwrap(), steps.iter().sum::<usize>());
    let average = sum / steps.len();
    format!("{:>4} instructions, a call {average:>3} on average, {most:>3} at most", program.len())
}

fn main() {
    let library = Library::open();
    for (engine, spec) in [
        ("docker", profiles::docker(Arch::NATIVE)),
        ("containerd", profiles::containerd(Arch::NATIVE)),
        ("podman", profiles::podman(Arch::NATIVE)),
    ] {
        let compile = || Filter::new(&spec, &mut Vec::new()).unwrap();
        let time = fastest(|| drop(compile()));
        println!("{engine:10} brig              {time:>7.0} µs, {}", steps(&compile().program));
        let Some(library) = &library else { continue };
        for (how, tree) in [("libseccomp", false), ("libseccomp, tree", true)] {
            let archs = Arch::NATIVE.family();
            let time = fastest(|| {
                let file = memfd_create(c"filter", MFdFlags::MFD_CLOEXEC).unwrap();
                library.export(archs, &spec, tree, &file).unwrap();
            });
            let program = library.compile(archs, &spec, tree).unwrap();
            println!("{engine:10} {how:17} {time:>7.0} µs, {}", steps(&program));
        }
    }
}
