//! Detects bugs in libseccomp's programs: a comparison that is reached with one half of an argument in the
//! accumulator on one path, and with the other half, or another argument, on another path; and a comparison
//! of the system call number while the accumulator contains the architecture.

use oci_seccomp::sock_filter;
use std::collections::BTreeSet;

/// The contents of the accumulator: offset in `struct seccomp_data`, and mask.
type State = (u32, u32);

/// The offset of the architecture.
const ARCH: u32 = 4;

/// All `AUDIT_ARCH_*` that occur here have one of the two upper bits set, and an ELF machine.
fn is_arch(k: u32) -> bool {
    k & 0xc000_0000 != 0 && matches!(k & 0xffff, 3 | 0x3e | 0x28 | 0xb7 | 0xf3)
}

/// For each instruction, whether it is such a comparison.
pub fn comparisons(program: &[sock_filter]) -> Vec<bool> {
    let mut before: Vec<BTreeSet<State>> = vec![BTreeSet::new(); program.len() + 256];
    // All jumps go forward: one pass is sufficient.
    for (at, &sock_filter { code, jt, jf, k }) in program.iter().enumerate() {
        let states = before[at].clone();
        match code {
            0x20 => drop(before[at + 1].insert((k, u32::MAX))),
            0x54 => before[at + 1].extend(states.iter().map(|(offset, mask)| (*offset, mask & k))),
            0x05 => before[at + 1 + usize::try_from(k).unwrap()].extend(states),
            0x06 => {}
            _ => {
                before[at + 1 + usize::from(jt)].extend(&states);
                before[at + 1 + usize::from(jf)].extend(states);
            }
        }
    }
    let compares = |code: u16| code & 7 == 5 && code != 0x05;
    let confused = |(at, instruction): (usize, &sock_filter)| {
        let mut states = before[at].iter();
        let number_is_arch = states.any(|(offset, _)| *offset == ARCH && !is_arch(instruction.k));
        compares(instruction.code) && (before[at].len() > 1 || number_is_arch)
    };
    program.iter().enumerate().map(confused).collect()
}
