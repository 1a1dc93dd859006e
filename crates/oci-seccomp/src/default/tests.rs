//! Every system call of the table, on every architecture, for the default bounding set and with each
//! capability added.

#[path = "../../tests/oracle/capabilities.rs"]
mod capabilities;

use super::*;
use crate::compile;
use crate::interpreter::{Call, run, verify};
use crate::syscalls::{self, Lookup};
use capabilities::{CAPABILITIES, DEFAULT};
use libc::sock_filter;

const NATIVES: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::Riscv64];
const ALLOW: u32 = 0x7fff_0000;
const EPERM_: u32 = 0x0005_0001;
const EINVAL_: u32 = 0x0005_0016;
const ENOSYS_: u32 = 0x0005_0026;

/// A filter for a bounding set, on one machine.
struct Made {
    program: Vec<sock_filter>,
    native: Arch,
    bounding: Vec<String>,
}

impl Made {
    fn new(native: Arch, added: Option<&str>) -> Made {
        let bounding = DEFAULT.into_iter().chain(added).map(str::to_owned).collect::<Vec<_>>();
        let filter = compile(&default_profile(&bounding, native), native).unwrap();
        assert_eq!(filter.unknown, Vec::<String>::new());
        verify(&filter.program);
        Made { program: filter.program, native, bounding }
    }

    fn has(&self, name: &str) -> bool {
        self.bounding.iter().any(|known| known == name)
    }

    /// None: the architecture does not have this system call.
    fn ret(&self, arch: Arch, name: &str, args: [u64; 6]) -> Option<u32> {
        let number = match syscalls::lookup(name) {
            Lookup::Found(syscall) => syscall.number(arch)?,
            Lookup::Foreign => return None,
            Lookup::Unknown => panic!("{name} is unknown"),
        };
        let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
        let call = Call { arch: arch.audit(), number: number | bit, args };
        Some(run(&self.program, &call).ret)
    }
}

/// Each machine, with the default bounding set and with each capability added.
fn all() -> impl Iterator<Item = Made> {
    let added = || std::iter::once(None).chain(CAPABILITIES.iter().map(Some));
    NATIVES.into_iter().flat_map(move |native| {
        added().map(move |name| Made::new(native, name.map(|name| &**name)))
    })
}

#[test]
fn every_call_of_the_table_gets_what_its_row_says() {
    let mut checked = 0;
    for made in all() {
        for (when, names) in TABLE {
            let expected = match when {
                When::Always => ALLOW,
                When::With(any) if any.iter().any(|name| made.has(name)) => ALLOW,
                When::On(archs) if archs.contains(&made.native) => ALLOW,
                When::On(_) => ENOSYS_,
                When::With(_) | When::Never => EPERM_,
            };
            for name in names.split_ascii_whitespace() {
                for &arch in made.native.family() {
                    let Some(ret) = made.ret(arch, name, [u64::MAX; 6]) else { continue };
                    assert_eq!(ret, expected, "{name} on {arch:?}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 90_000, "{checked}");
}

#[test]
fn what_the_table_does_not_name_is_enosys() {
    let named: Vec<&str> =
        TABLE.iter().flat_map(|(_, names)| names.split_ascii_whitespace()).collect();
    let compared = ["clone", "clone3", "personality", "socket"];
    let unknown = |name: &&str| !named.contains(name) && !compared.contains(name);
    let unknown: Vec<&str> =
        syscalls::all().iter().map(|call| call.name()).filter(unknown).collect();
    assert!(unknown.contains(&"listns") && unknown.len() < 12, "{unknown:?}");
    for made in all() {
        for &arch in made.native.family() {
            for name in &unknown {
                let ret = made.ret(arch, name, [0; 6]);
                assert!(ret.is_none_or(|ret| ret == ENOSYS_), "{name} on {arch:?}: {ret:x?}");
            }
            let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
            for number in [600, 1023, 0x3fff_ffff] {
                let call = Call { arch: arch.audit(), number: number | bit, args: [0; 6] };
                assert_eq!(run(&made.program, &call).ret, ENOSYS_, "{number} on {arch:?}");
            }
        }
    }
}

#[test]
fn clone_makes_namespaces_with_cap_sys_admin_only() {
    const SIGCHLD: u64 = 17;
    for made in all() {
        let admin = made.has("CAP_SYS_ADMIN");
        for &arch in made.native.family() {
            let clone = |flags: u64| made.ret(arch, "clone", [flags, 0, 0, 0, 0, 0]).unwrap();
            assert_eq!(clone(SIGCHLD), ALLOW);
            assert_eq!(clone(0x003d_0f00), ALLOW, "a thread");
            for bit in [
                0x0002_0000,
                0x0200_0000,
                0x0400_0000,
                0x0800_0000,
                0x1000_0000,
                0x2000_0000,
                0x4000_0000,
            ] {
                let expected = if admin { ALLOW } else { EPERM_ };
                assert_eq!(clone(bit | SIGCHLD), expected, "{bit:#x} on {arch:?}");
            }
            let expected = if admin { ALLOW } else { ENOSYS_ };
            assert_eq!(made.ret(arch, "clone3", [7; 6]), Some(expected));
        }
    }
}

#[test]
fn families_are_refused_whatever_is_in_the_upper_half_of_the_argument() {
    for made in all() {
        for &arch in made.native.family() {
            let socket = |family: u64, protocol: u64| {
                made.ret(arch, "socket", [family, 1, protocol, 0, 0, 0]).unwrap()
            };
            for family in 0..46 {
                let expected = if FAMILIES.contains(&family) { EPERM_ } else { ALLOW };
                for high in [0, 1 << 32, 0xffff_ffff << 32] {
                    assert_eq!(socket(high | family, 0), expected, "{family} on {arch:?}");
                }
            }
            let expected = if made.has("CAP_AUDIT_WRITE") { ALLOW } else { EINVAL_ };
            assert_eq!(socket(16, 9), expected, "NETLINK_AUDIT on {arch:?}");
            assert_eq!((socket(16, 0), socket(16, 15), socket(2, 9)), (ALLOW, ALLOW, ALLOW));
        }
        if made.native == Arch::X86_64 {
            let call = |call| made.ret(Arch::X86, "socketcall", [call, 9, 9, 9, 9, 9]);
            assert!((0..25).all(|number| call(number) == Some(ALLOW)));
        }
    }
}

#[test]
fn personalities_are_those_of_linux() {
    for made in all() {
        for &arch in made.native.family() {
            let ret = |value| made.ret(arch, "personality", [value, 0, 0, 0, 0, 0]).unwrap();
            for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
                assert_eq!(ret(value), ALLOW, "{value:#x} on {arch:?}");
            }
            for value in [1, 0x4_0000, 0x40_0000, 0x7fff_ffff] {
                assert_eq!(ret(value), EPERM_, "{value:#x} on {arch:?}");
            }
        }
    }
}
