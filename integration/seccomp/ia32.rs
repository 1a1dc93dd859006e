//! `linux.seccomp` and 32-bit programs on x86_64: the filter sees another architecture, with other numbers.
//! The programs are assembled here, byte by byte.

#![cfg(target_arch = "x86_64")]

use crate::sandbox::{Sandbox, skip};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The load address of the program.
const BASE: u32 = 0x0804_8000;
/// An ELF header and one program header.
const HEADERS: u32 = 52 + 32;

/// An executable of `code` followed by `data`, whose address is passed to `code`.
fn elf32(code: impl Fn([u8; 4]) -> Vec<u8>, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(code([0; 4]).len()).unwrap();
    let code = code((BASE + HEADERS + length).to_le_bytes());
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable (2) for i386 (3), version 1.
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    let size = HEADERS + length + u32::try_from(data.len()).unwrap();
    // Entry, program headers, no sections, no flags.
    [BASE + HEADERS, 52, 0, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    // Sizes: of this header, of a program header and their number; no sections.
    [52_u16, 32, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // To be loaded (1) from offset 0 to BASE, readable and executable (5).
    [1, 0, BASE, BASE, size, size, 5, 0x1000]
        .iter()
        .for_each(|word: &u32| file.extend(word.to_le_bytes()));
    assert_eq!(file.len(), HEADERS as usize);
    file.extend(code);
    file.extend(data);
    file
}

/// Makes a call, and exits with its errno, or with its negated result.
fn call(load: &[&[u8]]) -> Vec<u8> {
    let mut code = load.concat();
    code.extend(b"\xcd\x80"); // int $0x80
    code.extend(b"\xf7\xd8\x89\xc3"); // neg %eax; mov %eax, %ebx
    code.extend(b"\xb8\x01\0\0\0\xcd\x80"); // mov $1, %eax (exit); int $0x80
    code
}

/// `mkdir("/tmp/made", 0755)`.
fn mkdir() -> Vec<u8> {
    // mov $39, %eax; mov $path, %ebx; mov $0755, %ecx
    let code = |path: [u8; 4]| call(&[b"\xb8\x27\0\0\0\xbb", &path, b"\xb9\xed\x01\0\0"]);
    elf32(code, b"/tmp/made\0")
}

/// `socketcall(SYS_SOCKET, {AF_UNIX, SOCK_STREAM, 0})`.
fn socket() -> Vec<u8> {
    // mov $102, %eax; mov $1, %ebx; mov $arguments, %ecx
    let code = |args: [u8; 4]| call(&[b"\xb8\x66\0\0\0\xbb\x01\0\0\0\xb9", &args]);
    elf32(code, b"\x01\0\0\0\x01\0\0\0\0\0\0\0")
}

/// The exit code of the program in a container with this filter.
fn run(program: &[u8], seccomp: Option<&Value>) -> i32 {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["root"]["readonly"] = json!(false);
        config["process"]["args"] = json!(["/i386"]);
        if let Some(seccomp) = seccomp {
            config["linux"]["seccomp"] = seccomp.clone();
        }
    });
    let path = sandbox.rootfs().join("i386");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let done = sandbox.run();
    assert_eq!(done.code == Some(0), sandbox.rootfs().join("tmp/made").exists(), "{done:?}");
    done.code.unwrap()
}

fn profile(architectures: &[&str], name: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures,
        "syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}],
    })
}

/// Whether this kernel runs such programs: unfiltered, mkdir succeeds.
fn runs() -> bool {
    let runs = run(&mkdir(), None) == 0;
    if !runs {
        skip("this kernel runs no 32-bit programs");
    }
    runs
}

const BOTH: [&str; 2] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"];

#[test]
fn a_32_bit_process_is_filtered_by_its_own_numbers() {
    if runs() {
        assert_eq!(run(&mkdir(), Some(&profile(&BOTH, "mkdir"))), libc::EXDEV);
        // i386's 39 is mkdir, x86_64's is getpid.
        assert_eq!(run(&mkdir(), Some(&profile(&BOTH, "getpid"))), 0);
    }
}

#[test]
fn a_32_bit_process_of_an_architecture_that_is_not_listed_is_killed() {
    if runs() {
        for listed in [&BOTH[..1], &[]] {
            let ended = run(&mkdir(), Some(&profile(listed, "mkdir")));
            assert_eq!(ended, 128 + libc::SIGSYS, "{listed:?}");
        }
    }
}

#[test]
fn what_is_denied_is_denied_by_socketcall_too() {
    if runs() {
        assert_eq!(run(&socket(), Some(&profile(&BOTH, "socket"))), libc::EXDEV);
        // Exit code 256 - 3: it got descriptor 3.
        assert_eq!(run(&socket(), Some(&profile(&BOTH, "socketpair"))), 253);
    }
}
