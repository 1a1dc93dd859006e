//! Interprets the part of BPF that compiled profiles use, like the kernel.

use libc::sock_filter;

/// The input of a filter: `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The system call number.
    pub number: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// The result of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Action and data.
    pub ret: u32,
    /// The number of executed instructions.
    pub steps: usize,
}

/// Panics if the kernel would refuse the program (`bpf_check_classic` in net/core/filter.c).
pub fn verify(program: &[sock_filter]) {
    assert!((1..=4096).contains(&program.len()));
    assert_eq!(program[program.len() - 1].code, 0x06, "the last instruction returns");
    for (at, &sock_filter { code, jt, jf, k }) in program.iter().enumerate() {
        let after = program.len() - at - 1;
        match code {
            0x05 => assert!(usize::try_from(k).is_ok_and(|k| k < after), "jump at {at}"),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(jt.max(jf)) < after, "branch at {at}");
            }
            0x06 | 0x20 | 0x54 => {}
            _ => panic!("instruction {code:#x} at {at}"),
        }
    }
}

/// Runs a program accepted by [`verify`].
pub fn run(program: &[sock_filter], call: &Call) -> Outcome {
    trace(program, call, |_| {})
}

/// Like [`run`], and calls `visit` with the index of each executed instruction.
pub fn trace(program: &[sock_filter], call: &Call, mut visit: impl FnMut(usize)) -> Outcome {
    let mut accumulator: u32 = 0;
    let mut at = 0;
    for steps in 1.. {
        visit(at);
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = word(call, k),
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x45 => branch(accumulator & k != 0),
            0x54 => accumulator &= k,
            0x06 => return Outcome { ret: k, steps },
            _ => panic!("instruction {code:#x} at {}", at - 1),
        }
    }
    unreachable!("every jump goes forward")
}

/// The word of `struct seccomp_data` at this offset.
fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.arch,
        16..64 if offset.is_multiple_of(4) => {
            let [a, b, c, d, e, f, g, h] = call.args[offset as usize / 8 - 2].to_le_bytes();
            let half = if offset % 8 == 4 { [e, f, g, h] } else { [a, b, c, d] };
            u32::from_le_bytes(half)
        }
        _ => panic!("word at {offset}"),
    }
}
