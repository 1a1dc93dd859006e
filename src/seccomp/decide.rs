//! What a program can return for a system call whose arguments are not known.

use oci_seccomp::sock_filter;
use std::collections::BTreeSet;

/// Every result that the program has for this call, whatever its arguments are. `arch`: `AUDIT_ARCH_*`.
pub fn outcomes(program: &[sock_filter], arch: u32, number: u32) -> BTreeSet<u32> {
    let (mut results, mut seen) = (BTreeSet::new(), BTreeSet::new());
    // The next instruction, and the accumulator's value if it does not depend on the arguments. All jumps go
    // forward.
    let mut open = vec![(0_usize, Some(0_u32))];
    while let Some((at, value)) = open.pop() {
        let Some(&sock_filter { code, jt, jf, k }) = program.get(at) else { continue };
        if !seen.insert((at, value)) {
            continue;
        }
        let next = at + 1;
        let (taken, not_taken) = (next + usize::from(jt), next + usize::from(jf));
        let mut branch = |holds: Option<bool>| match holds {
            Some(true) => open.push((taken, value)),
            Some(false) => open.push((not_taken, value)),
            None => open.extend([(taken, value), (not_taken, value)]),
        };
        // linux/bpf_common.h: the class is in the last three bits.
        match code {
            0x06 => drop(results.insert(k)),
            0x05 => open.push((next + usize::try_from(k).unwrap_or(usize::MAX - next), value)),
            0x15 => branch(value.map(|value| value == k)),
            0x25 => branch(value.map(|value| value > k)),
            0x35 => branch(value.map(|value| value >= k)),
            0x45 => branch(value.map(|value| value & k != 0)),
            _ if code & 7 == 5 => branch(None),
            0x00 => open.push((next, Some(k))),
            0x54 => open.push((next, value.map(|value| value & k))),
            0x20 if k == 0 => open.push((next, Some(number))),
            0x20 if k == 4 => open.push((next, Some(arch))),
            // Storing it, or loading the index register, does not change the accumulator.
            _ if [1, 2, 3].contains(&(code & 7)) => open.push((next, value)),
            _ => open.push((next, None)),
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, NATIVE, Receiver};
    use super::*;
    use oci_seccomp::syscalls;

    fn outcomes_of(name: &str, profile: &str) -> Vec<u32> {
        let (filter, _) =
            Filter::new(&serde_json::from_str(profile).unwrap(), Receiver::Config).unwrap();
        let call = syscalls::all().iter().find(|call| call.name() == name).unwrap();
        let number = call.number(NATIVE).unwrap();
        outcomes(&filter.program, NATIVE.audit(), number).into_iter().collect()
    }

    #[test]
    fn what_depends_on_arguments_has_several_outcomes() {
        let profile = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["umask"], "action": "SCMP_ACT_KILL_PROCESS" } ] }"#;
        let errno = libc::SECCOMP_RET_ERRNO | 1;
        assert_eq!(outcomes_of("read", profile), [libc::SECCOMP_RET_ALLOW]);
        assert_eq!(outcomes_of("personality", profile), [errno, libc::SECCOMP_RET_ALLOW]);
        assert_eq!(outcomes_of("umask", profile), [libc::SECCOMP_RET_KILL_PROCESS]);
        assert_eq!(outcomes_of("chdir", profile), [errno]);
    }
}
