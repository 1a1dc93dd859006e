//! The oracle for seccomp filters: compares this crate's with those that libseccomp creates from the same
//! profile as called by runc and crun. Both are run by the same interpreter, over all system call numbers,
//! all architectures of a machine and arguments at every boundary of a condition. Needs no privileges; is
//! skipped with a message if libseccomp is not installed.
//!
//! Only these differences are accepted (each is counted and shown); and whatever libseccomp returns, our
//! verdict must be that of a matching rule ([`model::Model`]):
//!
//! * ENOSYS for system calls newer than the profile comes from runc, not from libseccomp: the model adds it
//!   to libseccomp's verdict. Unlike in runc, ARM's private numbers (`set_tls` and later) do not make a
//!   profile new, and a call that is also multiplexed by socketcall or ipc never gets it if it is named.
//! * For rules of one system call that both match and have different actions, libseccomp's order depends on
//!   how it split 64-bit comparisons into halves.
//! * For the same reason it refuses some profiles with such rules (EEXIST) although no call matches
//!   contradicting rules, and accepts a few that contradict themselves: we refuse those, and no others.
//! * libseccomp compares the wrong half of an argument, or an architecture with a number: [`confused`]. It
//!   loses rules: [`Model::shares_halves`]. It does not return, or crashes.
//! * Names that this libseccomp does not know, because it is older, are removed from the profiles. It also
//!   refuses errno 4095, the kernel's maximum.

#![allow(unsafe_code, reason = "calls a C library")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod capabilities;
mod confused;
mod debian;
mod headers;
#[path = "../../src/interpreter.rs"]
mod interpreter;
mod kernel;
mod libseccomp;
mod model;
mod profiles;

use interpreter::{Call, run, trace, verify};
use libseccomp::{Failure, Library};
use model::Model;
use oci_seccomp::{Arch, LinuxSeccomp, compile, sock_filter, syscalls};
use profiles::Random;

const NATIVE: Arch = Arch::NATIVE.expect("an architecture that the crate knows");
const NATIVES: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::Riscv64];
const ALL: [Arch; 6] =
    [Arch::X86_64, Arch::X86, Arch::X32, Arch::Arm, Arch::Aarch64, Arch::Riscv64];
const X32_BIT: u32 = 0x4000_0000;
const EEXIST: Failure = Failure::Error(17);
/// The number of combinations of arguments to try for each system call with conditions.
const COMBINATIONS: usize = 150;

/// Statistics of comparisons and differences.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    order: u64,
    libseccomp_confused: u64,
    refused_by_both: u64,
    refused_by_libseccomp: u64,
    refused_by_us: u64,
    libseccomp_died: u64,
    lost_by_libseccomp: u64,
}

fn library() -> Option<Library> {
    let library = Library::open();
    if library.is_none() {
        eprintln!("skipped: there is no libseccomp.so.2");
    }
    library
}

/// The profile without the names that libseccomp does not know, and the number of those.
fn known(library: &Library, spec: &LinuxSeccomp) -> (LinuxSeccomp, usize) {
    let mut json = serde_json::to_value(spec).unwrap();
    let mut excluded = 0;
    for entry in json["syscalls"].as_array_mut().into_iter().flatten() {
        entry["names"].as_array_mut().unwrap().retain(|name| {
            let known = is_known(library, name.as_str().unwrap());
            excluded += usize::from(!known);
            known
        });
    }
    (serde_json::from_value(json).unwrap(), excluded)
}

/// Whether libseccomp has it for the same architectures.
fn is_known(library: &Library, name: &str) -> bool {
    let syscalls::Lookup::Found(syscall) = syscalls::lookup(name) else { return true };
    library.number(Arch::X86_64, name).is_some()
        && ALL.into_iter().all(|a| syscall.number(a) == model::direct(library, a, name))
}

/// The machine's own architecture, and those of the machine that the profile lists.
fn archs(native: Arch, spec: &LinuxSeccomp) -> Vec<Arch> {
    let listed: Vec<Arch> =
        spec.architectures.iter().flatten().filter_map(|&arch| Arch::from_spec(arch)).collect();
    let family = native.family().iter().copied();
    family.filter(|arch| *arch == native || listed.contains(arch)).collect()
}

/// System call numbers as the kernel passes them, with their architecture.
fn numbers(native: Arch) -> Vec<(Arch, u32)> {
    let mut numbers = Vec::new();
    for &arch in native.family() {
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        numbers.extend((0..600).map(|number| (arch, base + number)));
        if arch != Arch::X32 {
            numbers.extend([(arch, 1023), (arch, 0x3fff_ffff)]);
        }
        numbers.extend((0xf_0000..0xf_0008).map(|number| (arch, base + number)));
    }
    numbers
}

/// Compares one profile on one machine.
fn compare(library: &Library, native: Arch, spec: &LinuxSeccomp, mixed: bool, tally: &mut Tally) {
    let archs = archs(native, spec);
    let rules = spec.syscalls.iter().flatten().map(|entry| entry.names.len()).sum::<usize>();
    let theirs = library.compile(&archs, spec, rules > 32);
    let ours = compile(spec, native);
    let shown = || serde_json::to_string(spec).unwrap();
    let ours = match (ours, &theirs) {
        (Ok(ours), _) => ours.program,
        (Err(_), Err(EEXIST | Failure::Died(_))) => {
            tally.refused_by_both += 1;
            return;
        }
        (Err(error), Ok(_)) if mixed && error.message().contains("for another action") => {
            tally.refused_by_us += 1;
            return;
        }
        (Err(error), _) => panic!("{error}, but not for libseccomp\n{}", shown()),
    };
    verify(&ours);
    let theirs = match theirs {
        Ok(theirs) => Some(theirs),
        Err(EEXIST) if mixed => {
            tally.refused_by_libseccomp += 1;
            None
        }
        Err(Failure::Died(signal)) => {
            eprintln!("libseccomp: {signal}");
            tally.libseccomp_died += 1;
            None
        }
        Err(error) => panic!("libseccomp: {error:?}\n{}", shown()),
    };
    let models: Vec<(Arch, Model)> =
        archs.iter().map(|&arch| (arch, Model::new(library, arch, spec))).collect();
    let confused = theirs.as_deref().map(confused::comparisons).unwrap_or_default();
    let mut random = Random(1);
    for (arch, number) in numbers(native) {
        let model = models.iter().find(|(of, _)| *of == arch).map(|(_, model)| model);
        let mut check = |args| {
            let call = Call { arch: arch.audit(), number, args };
            check(&ours, theirs.as_deref(), &confused, model, &call, tally, &shown);
        };
        let own = number & !X32_BIT;
        match model.filter(|model| model.has_conditions(own)) {
            Some(model) => {
                combinations(&model.probes(own), &mut random).into_iter().for_each(&mut check);
            }
            None => check([7; 6]),
        }
    }
    for arch in ALL.into_iter().filter(|arch| !native.family().contains(arch)) {
        let call = Call { arch: arch.audit(), number: 1, args: [0; 6] };
        assert_eq!(run(&ours, &call).ret, 0, "{arch:?} is of another machine");
    }
}

fn check(
    ours: &[sock_filter],
    theirs: Option<&[sock_filter]>,
    confused: &[bool],
    model: Option<&Model>,
    call: &Call,
    tally: &mut Tally,
    shown: &dyn Fn() -> String,
) {
    tally.calls += 1;
    let our = run(ours, call).ret;
    let number = call.number & !X32_BIT;
    let newer = model.and_then(|model| model.newer(number));
    let their = match (newer, theirs) {
        (Some(enosys), _) => enosys,
        (None, Some(theirs)) => run(theirs, call).ret,
        (None, None) => our,
    };
    let possible = model.filter(|_| newer.is_none()).map(|m| m.possible(number, &call.args));
    if let Some(possible) = &possible {
        assert!(possible.contains(&our), "{our:#x} for {call:x?}, not {possible:x?}\n{}", shown());
    }
    if our == their {
        return;
    }
    if possible.is_some_and(|possible| possible.len() > 1 && possible.contains(&their)) {
        tally.order += 1;
        return;
    }
    if model.is_some_and(|model| model.shares_halves(number)) {
        tally.lost_by_libseccomp += 1;
        return;
    }
    let mut met = false;
    trace(theirs.unwrap_or_default(), call, |at| met |= confused[at]);
    assert!(met, "{our:#x} for {call:x?}, libseccomp {their:#x}\n{}", shown());
    tally.libseccomp_confused += 1;
}

/// Combinations of the probes of each argument: all, or a random selection.
fn combinations(probes: &[Vec<u64>; 6], random: &mut Random) -> Vec<[u64; 6]> {
    let total: usize = probes.iter().map(Vec::len).product();
    let combination = |index: usize| {
        let mut rest = index;
        probes.each_ref().map(|probes| {
            let probe = probes[rest % probes.len()];
            rest /= probes.len();
            probe
        })
    };
    match total {
        0..=COMBINATIONS => (0..total).map(combination).collect(),
        _ => (0..COMBINATIONS).map(|_| combination(random.below(total))).collect(),
    }
}

#[test]
fn names_and_numbers_are_libseccomps() {
    let Some(library) = library() else { return };
    let mut newer = Vec::new();
    for syscall in syscalls::all() {
        let name = syscall.name();
        if library.number(Arch::X86_64, name).is_none() {
            newer.push(name);
            continue;
        }
        for arch in ALL {
            let theirs = model::direct(&library, arch, name);
            // An architecture can have gained a number in the meantime for a name that others had already.
            if theirs.is_some() {
                assert_eq!(syscall.number(arch), theirs, "{name} on {arch:?}");
            } else if syscall.number(arch).is_some() {
                newer.push(name);
            }
        }
    }
    eprintln!("not known to libseccomp, or not everywhere: {newer:?}");
    for arch in ALL {
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        for number in (0..600).chain(0xf_0000..0xf_0008) {
            let Some(name) = library.name(arch, base + number) else { continue };
            let syscalls::Lookup::Found(ours) = syscalls::lookup(&name) else {
                panic!("{name} on {arch:?} is unknown")
            };
            assert_eq!(ours.number(arch), Some(number), "{name} on {arch:?}");
        }
    }
}

#[test]
fn default_profiles_of_engines_get_the_same_verdicts() {
    let Some(library) = library() else { return };
    for native in NATIVES {
        for (engine, spec) in [
            ("docker", profiles::docker(native)),
            ("containerd", profiles::containerd(native)),
            ("podman", profiles::podman(native)),
        ] {
            let (spec, excluded) = known(&library, &spec);
            let mut tally = Tally::default();
            compare(&library, native, &spec, false, &mut tally);
            eprintln!("{engine} on {native:?}: {excluded} newer names left out, {tally:?}");
        }
    }
}

#[test]
fn generated_profiles_get_the_same_verdicts() {
    let Some(library) = library() else { return };
    let names: Vec<&str> = syscalls::all().iter().map(|syscall| syscall.name()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| is_known(&library, name)).collect();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let count = std::env::var("PROFILES").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let mut random = Random(seed.unwrap_or(0x9e37_79b9_7f4a_7c15));
    let mut tallies = [Tally::default(), Tally::default()];
    for index in 0..count {
        let native = NATIVES[index % 3];
        let mixed = index % 2 == 1;
        let spec = profiles::generated(native, &mut random, &names, mixed);
        compare(&library, native, &spec, mixed, &mut tallies[usize::from(mixed)]);
    }
    eprintln!("one action for all rules with arguments: {:?}", tallies[0]);
    eprintln!("any action for each: {:?}", tallies[1]);
    for Tally { calls, order, libseccomp_confused, lost_by_libseccomp, .. } in tallies {
        let differ = order + libseccomp_confused + lost_by_libseccomp;
        assert!(differ * 100 < calls, "{differ} of {calls} verdicts differ: too many to be meant");
    }
}

#[test]
fn default_profiles_take_few_steps_and_instructions() {
    for native in NATIVES {
        for (engine, spec) in [
            ("docker", profiles::docker(native)),
            ("containerd", profiles::containerd(native)),
            ("podman", profiles::podman(native)),
        ] {
            let program = compile(&spec, native).unwrap().program;
            let conditional = ["clone", "socket", "personality"];
            let mut all = Vec::new();
            for (arch, number) in numbers(native) {
                let own = number & !X32_BIT;
                let names = |name: &&str| match syscalls::lookup(name) {
                    syscalls::Lookup::Found(syscall) => syscall.number(arch) == Some(own),
                    _ => false,
                };
                if conditional.iter().any(names) {
                    continue;
                }
                let steps = run(&program, &Call { arch: arch.audit(), number, args: [0; 6] }).steps;
                assert!(steps <= 16, "{engine}: {steps} for {number:#x} of {arch:?}");
                all.push((arch, steps));
            }
            let most = all.iter().map(|(_, steps)| steps).max().unwrap();
            let own = || all.iter().filter(|(arch, _)| *arch == native).map(|(_, steps)| steps);
            let (sum, count) = (own().sum::<usize>(), own().count());
            eprintln!(
                "{engine} on {native:?}: {} instructions, at most {most} steps, {}.{} on average",
                program.len(),
                sum / count,
                sum * 10 / count % 10
            );
        }
    }
}
