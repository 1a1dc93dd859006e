//! Explains what a filter does with a system call, and because of which rule of the profile.
//!
//! ```
//! use oci_seccomp::explain::{Explainer, Reason, action_name};
//! use oci_seccomp::{Arch, LinuxSeccomp};
//!
//! let profile: LinuxSeccomp = serde_json::from_str(
//!     r#"{ "defaultAction": "SCMP_ACT_ERRNO",
//!          "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_ALLOW",
//!                         "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] }] }"#,
//! )?;
//! let explainer = Explainer::new(&profile, Arch::X86_64)?;
//! let allowed = explainer.decide(Arch::X86_64, 135, [8, 0, 0, 0, 0, 0]);
//! assert_eq!((allowed.ret, allowed.reason), (libc::SECCOMP_RET_ALLOW, Reason::Rule(0)));
//! let refused = explainer.decide(Arch::X86_64, 135, [1, 0, 0, 0, 0, 0]);
//! assert_eq!((action_name(refused.ret).as_str(), refused.reason), ("SCMP_ACT_ERRNO (EPERM)", Reason::Default));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::arch::Arch;
use crate::compile::{self, Compiled};
use crate::errno;
use crate::error::Result;
use crate::interpreter::{self, Call};
use crate::program::{self, X32_BIT};
use crate::rules::{Condition, Rule, Table, Verdict};
use crate::spec::{LinuxSeccomp, LinuxSeccompAction as Action};
use libc::{
    SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ALLOW, SECCOMP_RET_DATA, SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG, SECCOMP_RET_TRACE,
    SECCOMP_RET_TRAP, SECCOMP_RET_USER_NOTIF, sock_filter,
};
use seccompiler::SeccompCmpOp as Op;

/// Why the filter returns what it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The rule with this index in [`LinuxSeccomp::syscalls`].
    Rule(usize),
    /// No rule applies: the default action.
    Default,
    /// The system call is newer than all in the profile.
    Newer,
    /// The profile does not list the architecture.
    Architecture,
}

/// The decision about a system call with certain arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// The filter's return value: action and data.
    pub ret: u32,
    /// Conditions that must all hold, e.g. `args[0] == 0x8`. Empty: any arguments for which no earlier
    /// decision applies.
    pub conditions: Vec<String>,
    /// The reason.
    pub reason: Reason,
}

/// A compiled profile to query.
#[derive(Debug)]
pub struct Explainer {
    native: Arch,
    compiled: Compiled,
    program: Vec<sock_filter>,
}

impl Explainer {
    /// Compiles a profile like [`crate::compile`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::compile`].
    pub fn new(profile: &LinuxSeccomp, native: Arch) -> Result<Explainer> {
        let compiled = compile::tables(profile, native)?;
        let program = compiled.assemble()?;
        Ok(Explainer { native, compiled, program })
    }

    /// The architectures of the machine, whether listed in the profile or not; the native one first.
    pub fn architectures(&self) -> &'static [Arch] {
        self.native.family()
    }

    /// The filter's decision about a system call with these arguments. `number`: without x32's bit.
    pub fn decide(&self, arch: Arch, number: u32, args: [u64; 6]) -> Decision {
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        let call = Call { arch: arch.audit(), number: number | bit, args };
        let ret = interpreter::run(&self.program, &call).ret;
        let mut possible = self.decisions(arch, number);
        let rules = self.rules(arch, number);
        let holds = |index: usize| rules.get(index).is_none_or(|rule| matches(rule, arch, args));
        let index = (0..possible.len()).find(|&index| holds(index)).unwrap_or_default();
        Decision { ret, ..possible.swap_remove(index) }
    }

    /// All possible decisions about a system call: the first one whose conditions hold applies. The last one
    /// has no conditions.
    pub fn decisions(&self, arch: Arch, number: u32) -> Vec<Decision> {
        let Compiled { default, newer, .. } = self.compiled;
        let rest = |ret, reason| Decision { ret, conditions: Vec::new(), reason };
        let Some(table) = self.table(arch) else {
            return vec![rest(SECCOMP_RET_KILL_THREAD, Reason::Architecture)];
        };
        match table.verdicts.get(&number) {
            Some(Verdict::Always(ret, Some(entry))) => vec![rest(*ret, Reason::Rule(*entry))],
            Some(Verdict::Always(ret, None)) => vec![rest(*ret, Reason::Default)],
            Some(Verdict::Rules(rules)) => {
                let decision = |rule: &Rule| Decision {
                    ret: rule.action,
                    conditions: rule.conditions.iter().map(text).collect(),
                    reason: Reason::Rule(rule.entry),
                };
                rules.iter().map(decision).chain([rest(default, Reason::Default)]).collect()
            }
            None if table.newest > 0 && number > table.newest => {
                vec![rest(newer, Reason::Newer)]
            }
            None => vec![rest(default, Reason::Default)],
        }
    }

    fn table(&self, arch: Arch) -> Option<&Table> {
        self.compiled.tables.iter().find(|table| table.arch == arch)
    }

    fn rules(&self, arch: Arch, number: u32) -> &[Rule] {
        match self.table(arch).and_then(|table| table.verdicts.get(&number)) {
            Some(Verdict::Rules(rules)) => rules,
            _ => &[],
        }
    }
}

/// Whether the conditions hold, determined by running the program compiled from them.
fn matches(rule: &Rule, arch: Arch, args: [u64; 6]) -> bool {
    let alone = Rule { action: SECCOMP_RET_ALLOW, ..rule.clone() };
    let body = program::body(&[alone], arch, SECCOMP_RET_LOG).unwrap_or_default();
    let instruction = |it: &seccompiler::sock_filter| sock_filter {
        code: it.code,
        jt: it.jt,
        jf: it.jf,
        k: it.k,
    };
    let body: Vec<sock_filter> = body.iter().map(instruction).collect();
    let call = Call { arch: arch.audit(), number: 0, args };
    !body.is_empty() && interpreter::run(&body, &call).ret == SECCOMP_RET_ALLOW
}

fn text(condition: &Condition) -> String {
    let Condition { index, op, value } = condition;
    let operator = match op {
        Op::Eq => "==",
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Gt => ">",
        Op::Ge => ">=",
        Op::MaskedEq(mask) => return format!("args[{index}] & {mask:#x} == {value:#x}"),
    };
    format!("args[{index}] {operator} {value:#x}")
}

/// Formats the filter's return value as in profiles, e.g. `SCMP_ACT_ERRNO (EPERM)`.
pub fn action_name(ret: u32) -> String {
    const ACTIONS: [(u32, Action); 7] = [
        (SECCOMP_RET_KILL_PROCESS, Action::KillProcess),
        (SECCOMP_RET_KILL_THREAD, Action::KillThread),
        (SECCOMP_RET_TRAP, Action::Trap),
        (SECCOMP_RET_USER_NOTIF, Action::Notify),
        (SECCOMP_RET_LOG, Action::Log),
        (SECCOMP_RET_ALLOW, Action::Allow),
        (SECCOMP_RET_TRACE, Action::Trace),
    ];
    let (action, data) = (ret & SECCOMP_RET_ACTION_FULL, ret & SECCOMP_RET_DATA);
    if action == SECCOMP_RET_ERRNO {
        let name = errno::name(data).map_or_else(|| data.to_string(), str::to_owned);
        return format!("{} ({name})", Action::Errno);
    }
    let known = ACTIONS.iter().find(|(known, _)| *known == action);
    known.map_or_else(|| format!("{ret:#x}"), |(_, action)| action.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_profile;
    use crate::syscalls;

    /// Values around those that rules compare with.
    const VALUES: [u64; 9] = [0, 1, 2, 3, 8, 0x20008, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0000_0000];

    #[test]
    fn what_is_said_of_a_call_is_what_the_program_does() {
        for native in [Arch::X86_64, Arch::Aarch64] {
            let profile = default_profile(&["CAP_SYS_CHROOT"], native);
            let explainer = Explainer::new(&profile, native).unwrap();
            let mut decided = 0;
            for (arch, call) in explainer
                .architectures()
                .iter()
                .flat_map(|arch| syscalls::all().iter().map(move |call| (*arch, call)))
            {
                let Some(number) = call.number(arch) else { continue };
                for value in VALUES {
                    let args = [value, value, 2, value, 0, value];
                    let decision = explainer.decide(arch, number, args);
                    let listed = explainer.decisions(arch, number);
                    let found = listed.iter().find(|one| one.conditions == decision.conditions);
                    assert_eq!(found, Some(&decision), "{} {arch:?} {value:#x}", call.name());
                    decided += 1;
                }
            }
            assert!(decided > 5000);
        }
    }

    #[test]
    fn rules_are_named_by_their_index_and_what_has_no_rule_by_its_reason() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [
                { "names": ["read", "clone3"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
                  "args": [{ "index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
                { "names": ["ptrace"], "action": "SCMP_ACT_TRAP" }
            ]}"#;
        let profile: LinuxSeccomp = serde_json::from_str(text).unwrap();
        let explainer = Explainer::new(&profile, Arch::X86_64).unwrap();
        let of = |arch, number, first| {
            let decision = explainer.decide(arch, number, [first, 0, 0, 0, 0, 0]);
            (action_name(decision.ret), decision.reason)
        };
        let allow = || "SCMP_ACT_ALLOW".to_owned();
        let enosys = || "SCMP_ACT_ERRNO (ENOSYS)".to_owned();
        assert_eq!(of(Arch::X86_64, 0, 0), (allow(), Reason::Rule(0)));
        assert_eq!(of(Arch::X86_64, 56, 0), (allow(), Reason::Rule(1)));
        assert_eq!(of(Arch::X86_64, 56, 0x1000_0000), (enosys(), Reason::Default));
        assert_eq!(of(Arch::X86, 26, 0), ("SCMP_ACT_TRAP".to_owned(), Reason::Rule(2)));
        assert_eq!(of(Arch::X86_64, 1, 0), (enosys(), Reason::Default));
        assert_eq!(of(Arch::X86_64, 442, 0), (enosys(), Reason::Newer));
        let killed = ("SCMP_ACT_KILL_THREAD".to_owned(), Reason::Architecture);
        assert_eq!(of(Arch::X32, 0, 0), killed);
        let clone = explainer.decisions(Arch::X86_64, 56);
        assert_eq!(clone[0].conditions, ["args[0] & 0x7e020000 == 0x0"]);
        assert_eq!((clone.len(), clone[1].reason), (2, Reason::Default));
    }
}
