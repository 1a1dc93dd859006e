//! Compares the table of system calls with the kernel headers of each architecture whose headers are
//! installed.

use oci_seccomp::{Arch, syscalls};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// For each architecture: the directory of Debian's headers, their package, the header, and the required
/// macros.
const HEADERS: [(Arch, &str, &str, &str, &str); 6] = [
    (Arch::X86_64, "/usr/include/x86_64-linux-gnu", "linux-libc-dev", "asm/unistd_64.h", "_"),
    (Arch::X86, "/usr/include/x86_64-linux-gnu", "linux-libc-dev", "asm/unistd_32.h", "_"),
    (
        Arch::X32,
        "/usr/include/x86_64-linux-gnu",
        "linux-libc-dev",
        "asm/unistd_x32.h",
        "__X32_SYSCALL_BIT=0",
    ),
    (
        Arch::Arm,
        "/usr/arm-linux-gnueabihf/include",
        "linux-libc-dev-armhf-cross",
        "asm/unistd.h",
        "__ARM_EABI__",
    ),
    (
        Arch::Aarch64,
        "/usr/aarch64-linux-gnu/include",
        "linux-libc-dev-arm64-cross",
        "asm/unistd.h",
        "_",
    ),
    (
        Arch::Riscv64,
        "/usr/riscv64-linux-gnu/include",
        "linux-libc-dev-riscv64-cross",
        "asm/unistd.h",
        "__riscv_xlen=64",
    ),
];

/// Macros whose names look like system calls but are not.
const OTHERS: [&str; 5] =
    ["syscalls", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "SYSCALL_MASK", "arch_specific_syscall"];

/// Added in gaps between older numbers: missing in some headers that have later ones.
const LATER: [&str; 3] = ["riscv_hwprobe", "uprobe", "uretprobe"];

/// The headers' name for `arm_sync_file_range`, as it is called here and in libseccomp.
const ALIAS: &str = "sync_file_range2";

/// The macros defined by a header.
fn macros(directory: &str, header: &str, define: &str) -> BTreeMap<String, String> {
    let mut command = Command::new("cc");
    command.args(["-E", "-dM", "-nostdinc", "-include", header, "-I", directory]);
    let done = command.args(["-D", define, "-x", "c", "/dev/null"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Evaluates a sum of numbers and other macros.
fn value(macros: &BTreeMap<String, String>, text: &str) -> u32 {
    let term = |term: &str| match term.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
        None => term.parse().unwrap_or_else(|_| value(macros, &macros[term])),
    };
    text.split(['(', ')', '+', ' ']).filter(|word| !word.is_empty()).map(term).sum()
}

/// System calls by name.
fn numbers(macros: &BTreeMap<String, String>) -> BTreeMap<&str, u32> {
    let name = |name: &'_ str| {
        let name = name.strip_prefix("__NR_").or(name.strip_prefix("__ARM_NR_"))?;
        (!OTHERS.contains(&name) && name != "BASE").then_some(name.len())
    };
    let calls = macros.iter().filter_map(|(key, text)| {
        name(key).map(|length| (&key[key.len() - length..], value(macros, text)))
    });
    calls.collect()
}

#[test]
fn names_and_numbers_are_the_kernels() {
    for (arch, directory, package, header, define) in HEADERS {
        if !Path::new(directory).join(header).exists() {
            eprintln!("skipped: no headers of {arch:?}: apt-get install {package}");
            continue;
        }
        let macros = macros(directory, header, define);
        let theirs = numbers(&macros);
        for (name, number) in theirs.iter().filter(|(name, _)| **name != ALIAS) {
            let syscalls::Lookup::Found(ours) = syscalls::lookup(name) else {
                panic!("{name} on {arch:?} is unknown")
            };
            assert_eq!(ours.number(arch), Some(*number), "{name} on {arch:?}");
        }
        // x32 has its own numbers from 512 on.
        let newest = theirs.values().filter(|number| **number < 512).max().unwrap();
        let extra: Vec<_> = syscalls::all()
            .iter()
            .filter(|call| call.number(arch).is_some_and(|number| number <= *newest))
            .map(|call| call.name())
            .filter(|name| !theirs.contains_key(name) && !LATER.contains(name))
            .collect();
        eprintln!("{arch:?}: {} are the same, up to {newest}", theirs.len());
        assert_eq!(extra, [""; 0], "not in the headers of {arch:?}");
    }
}
