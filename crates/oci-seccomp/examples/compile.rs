//! Compiles a profile, in the format of runtime-spec or of Docker, and prints the program:
//! `cargo run --example compile -- FILE [SCMP_ARCH_…]`.

use oci_seccomp::docker::{Target, read};
use oci_seccomp::{Arch, LinuxSeccomp, LinuxSeccompArch, compile, sock_filter};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: compile FILE [SCMP_ARCH_…]")?;
    let native = match args.next() {
        Some(name) => {
            let arch: LinuxSeccompArch = serde_json::from_value(name.into())?;
            Arch::from_spec(arch)
        }
        None => Arch::NATIVE,
    };
    let native = native.ok_or("the system calls of this architecture are not known")?;
    // A container without capabilities, on a kernel that is newer than all conditions.
    let target = Target::<&str>::new(&[], native, (7, 0));
    let profile: LinuxSeccomp = serde_json::from_value(read(&std::fs::read(file)?, &target)?)?;
    let filter = compile(&profile, native)?;
    for (at, instruction) in filter.program.iter().enumerate() {
        println!("{at:4}  {}", text(at, instruction));
    }
    println!("flags {:#x}, notifies: {}", filter.flags, filter.notifies);
    if !filter.unknown.is_empty() {
        println!("unknown system calls: {}", filter.unknown.join(", "));
    }
    Ok(())
}

/// Formats the instruction, with jump targets as indexes of the program.
fn text(at: usize, &sock_filter { code, jt, jf, k }: &sock_filter) -> String {
    let target = |skip: u8| at + 1 + usize::from(skip);
    let compare = |op: &str| format!("if A {op} {k:#x} goto {} else {}", target(jt), target(jf));
    match code {
        0x20 => format!("A = data[{k}]"),
        0x05 => format!("goto {}", at + 1 + k as usize),
        0x15 => compare("=="),
        0x25 => compare(">"),
        0x35 => compare(">="),
        0x45 => compare("&"),
        0x54 => format!("A &= {k:#x}"),
        0x06 => format!("return {k:#x}"),
        _ => format!("{code:#x} {jt} {jf} {k:#x}"),
    }
}
