//! System calls by name: their numbers on each architecture, up to Linux 7.0.
//!
//! ```
//! use oci_seccomp::Arch;
//! use oci_seccomp::syscalls::{Lookup, lookup};
//!
//! let Lookup::Found(openat2) = lookup("openat2") else { panic!("openat2 is unknown") };
//! assert_eq!(openat2.number(Arch::X86_64), Some(437));
//! assert!(matches!(lookup("s390_sthyi"), Lookup::Foreign));
//! assert!(matches!(lookup("opneat"), Lookup::Unknown));
//! ```

mod table;

use crate::arch::Arch;
use table::{FOREIGN, SYSCALLS};

/// A system call and its number on each architecture.
#[derive(Debug)]
pub struct Syscall {
    pub(crate) name: &'static str,
    /// In the order of [`Arch`]; -1: does not exist.
    pub(crate) numbers: [i32; 6],
}

/// The result of looking up a name.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lookup {
    /// It has a number on at least one architecture.
    Found(&'static Syscall),
    /// It only exists on other architectures.
    Foreign,
    /// It is misspelt, or newer than the table.
    Unknown,
}

/// Looks a name up.
pub fn lookup(name: &str) -> Lookup {
    match SYSCALLS.binary_search_by(|syscall| syscall.name.cmp(name)) {
        Ok(index) => Lookup::Found(&SYSCALLS[index]),
        Err(_) if FOREIGN.split(' ').any(|foreign| foreign == name) => Lookup::Foreign,
        Err(_) => Lookup::Unknown,
    }
}

/// All system calls with a number on at least one architecture.
pub fn all() -> &'static [Syscall] {
    SYSCALLS
}

impl Syscall {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its number; on x32 without bit 30, which is set in the kernel's number.
    pub fn number(&self, arch: Arch) -> Option<u32> {
        u32::try_from(self.numbers[arch as usize]).ok()
    }

    /// How it is multiplexed on 32-bit x86: the number of socketcall or ipc, and the value of their first
    /// argument that selects this call.
    pub fn multiplexed(&self) -> Option<(u32, u64)> {
        let index = MULTIPLEXED.binary_search_by(|(name, ..)| name.cmp(&self.name)).ok()?;
        let (_, number, call) = MULTIPLEXED[index];
        Some((number, call))
    }
}

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// linux/net.h (`SYS_SOCKET` and on) and linux/ipc.h (`SEMOP` and on), by name.
const MULTIPLEXED: [(&str, u32, u64); 32] = [
    ("accept", SOCKETCALL, 5),
    ("accept4", SOCKETCALL, 18),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("getpeername", SOCKETCALL, 7),
    ("getsockname", SOCKETCALL, 6),
    ("getsockopt", SOCKETCALL, 15),
    ("listen", SOCKETCALL, 4),
    ("msgctl", IPC, 14),
    ("msgget", IPC, 13),
    ("msgrcv", IPC, 12),
    ("msgsnd", IPC, 11),
    ("recv", SOCKETCALL, 10),
    ("recvfrom", SOCKETCALL, 12),
    ("recvmmsg", SOCKETCALL, 19),
    ("recvmsg", SOCKETCALL, 17),
    ("semctl", IPC, 3),
    ("semget", IPC, 2),
    ("semop", IPC, 1),
    ("semtimedop", IPC, 4),
    ("send", SOCKETCALL, 9),
    ("sendmmsg", SOCKETCALL, 20),
    ("sendmsg", SOCKETCALL, 16),
    ("sendto", SOCKETCALL, 11),
    ("setsockopt", SOCKETCALL, 14),
    ("shmat", IPC, 21),
    ("shmctl", IPC, 24),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shutdown", SOCKETCALL, 13),
    ("socket", SOCKETCALL, 1),
    ("socketpair", SOCKETCALL, 8),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_so_that_searching_finds() {
        assert!(SYSCALLS.is_sorted_by(|a, b| a.name < b.name));
        assert!(MULTIPLEXED.is_sorted_by(|a, b| a.0 < b.0));
        assert!(FOREIGN.split(' ').all(|name| matches!(lookup(name), Lookup::Foreign)));
        assert!(matches!(lookup(""), Lookup::Unknown));
    }

    #[test]
    fn no_number_of_an_architecture_has_two_names() {
        for index in 0..6 {
            let mut numbers: Vec<i32> = SYSCALLS.iter().map(|s| s.numbers[index]).collect();
            numbers.retain(|&number| number != -1);
            let named = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), named, "column {index}");
        }
    }

    #[test]
    fn libc_agrees_on_the_native_architecture() {
        let native = [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("seccomp", libc::SYS_seccomp),
            ("mount_setattr", libc::SYS_mount_setattr),
        ];
        for (name, number) in native {
            let Lookup::Found(syscall) = lookup(name) else { panic!("{name} is unknown") };
            let native = syscall.number(Arch::NATIVE.unwrap());
            assert_eq!(native.map(i64::from), Some(number), "{name}");
        }
    }
}
