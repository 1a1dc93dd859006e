//! The meaning of a profile: which system calls can differ, which arguments to try, and which verdicts are
//! acceptable where rules overlap.

use crate::libseccomp::{Library, ret};
use oci_seccomp::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompOperator as Operator,
};
use std::collections::{BTreeMap, BTreeSet};

/// An action, and conditions that must all hold.
#[derive(Debug, Clone)]
struct Rule {
    conditions: Vec<LinuxSeccompArg>,
    action: u32,
}

/// A profile on one architecture.
pub struct Model {
    arch: Arch,
    default: u32,
    rules: BTreeMap<u32, Vec<Rule>>,
    /// Higher numbers get ENOSYS, unless they are named.
    newest: Option<u32>,
    named: BTreeSet<u32>,
}

/// SCMP_ACT_ERRNO(ENOSYS).
const ENOSYS: u32 = 0x0005_0026;
/// The first private number of ARM.
const ARM_PRIVATE: u32 = 0x0f_0000;

/// In the order of libseccomp's pseudo-numbers: from -101 and from -201 down.
pub const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
pub const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

fn multiplexed(name: &str) -> Option<(u32, u64)> {
    let socket = SOCKETCALL.iter().position(|&known| known == name);
    let ipc = IPC.iter().find(|(known, _)| *known == name);
    match (socket, ipc) {
        (Some(index), _) => Some((102, u64::try_from(index).unwrap() + 1)),
        (None, Some(&(_, call))) => Some((117, call)),
        (None, None) => None,
    }
}

impl Model {
    pub fn new(library: &Library, arch: Arch, spec: &LinuxSeccomp) -> Model {
        let default = ret(spec.default_action, spec.default_errno_ret);
        let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for entry in spec.syscalls.iter().flatten() {
            let action = ret(entry.action, entry.errno_ret);
            for name in &entry.names {
                let number = direct(library, arch, name);
                named.extend(number);
                if action == default {
                    continue;
                }
                for conditions in alternatives(entry.args.as_deref().unwrap_or_default()) {
                    let rule = Rule { conditions, action };
                    if let (Arch::X86, Some((number, call))) = (arch, multiplexed(name)) {
                        let mut rule = rule.clone();
                        rule.conditions.retain(|condition| condition.index != 0);
                        rule.conditions.push(equal(call));
                        rules.entry(number).or_default().push(rule);
                    }
                    if let Some(number) = number {
                        rules.entry(number).or_default().push(rule);
                    }
                }
            }
        }
        let permissive = matches!(spec.default_action, Action::Allow | Action::Log | Action::Trace);
        let newest = named.range(..ARM_PRIVATE).next_back().copied();
        let newest = newest.filter(|&newest| newest > 0 && !permissive);
        Model { arch, default, rules, newest, named }
    }

    /// Too new for the profile: ENOSYS, whatever libseccomp's filter returns.
    pub fn newer(&self, number: u32) -> Option<u32> {
        let newer = self.newest.is_some_and(|newest| number > newest);
        (newer && !self.named.contains(&number)).then_some(ENOSYS)
    }

    /// Whether rules about it have conditions.
    pub fn has_conditions(&self, number: u32) -> bool {
        let rules = self.rules.get(&number);
        rules.is_some_and(|rules| rules.iter().all(|rule| !rule.conditions.is_empty()))
    }

    /// Rules that libseccomp can confuse with parts of one another, and then lose one or a part of it: it
    /// compares 64 bits in halves, and finds the same comparison of one half in both. That happens if an
    /// argument is compared by order with values of the same upper half, if it must be equal to one value and
    /// not equal to another, and if rules with several conditions share one. (`_db_tree_prune` returns
    /// "redundant" for a comparison with another action, and removes what is the end of another rule;
    /// `_db_tree_add` omits all of a rule whose upper half is decided already.)
    pub fn shares_halves(&self, number: u32) -> bool {
        use Operator::{Ge, Gt, Le, Lt};
        let upper = if self.arch.is_64_bit() { 32 } else { 0 };
        let shares = |a: &LinuxSeccompArg, b: &LinuxSeccompArg, several| {
            let order = |c: &LinuxSeccompArg| matches!(c.op, Lt | Le | Gt | Ge);
            let half = |c: &LinuxSeccompArg| (c.value & self.bits()) >> upper;
            let differ = if order(a) { a != b } else { a.op != b.op };
            a.index == b.index && order(a) == order(b) && half(a) == half(b) && (differ || several)
        };
        let rules = self.rules.get(&number).map(Vec::as_slice).unwrap_or_default();
        rules.iter().enumerate().any(|(index, a)| {
            rules[index + 1..].iter().any(|b| {
                let several = a.conditions.len() > 1 && b.conditions.len() > 1;
                let of_b = |c| b.conditions.iter().any(|d| shares(c, d, several));
                a.conditions.iter().any(of_b)
            })
        })
    }

    /// All verdicts of matching rules; the default if none matches.
    pub fn possible(&self, number: u32, args: &[u64; 6]) -> BTreeSet<u32> {
        let rules = self.rules.get(&number).map(Vec::as_slice).unwrap_or_default();
        let always = |rule: &&Rule| rule.conditions.iter().all(|c| self.always(c));
        if let Some(first) = rules.iter().find(always) {
            return BTreeSet::from([first.action]);
        }
        let holds = |rule: &&Rule| rule.conditions.iter().all(|c| self.holds(c, args));
        let possible: BTreeSet<u32> = rules.iter().filter(holds).map(|rule| rule.action).collect();
        if possible.is_empty() { BTreeSet::from([self.default]) } else { possible }
    }

    fn bits(&self) -> u64 {
        if self.arch.is_64_bit() { u64::MAX } else { u64::from(u32::MAX) }
    }

    fn always(&self, condition: &LinuxSeccompArg) -> bool {
        condition.op == Operator::MaskedEq && condition.value & self.bits() == 0
    }

    fn holds(&self, condition: &LinuxSeccompArg, args: &[u64; 6]) -> bool {
        let argument = args[condition.index] & self.bits();
        let value = condition.value & self.bits();
        match condition.op {
            Operator::Ne => argument != value,
            Operator::Lt => argument < value,
            Operator::Le => argument <= value,
            Operator::Eq => argument == value,
            Operator::Ge => argument >= value,
            Operator::Gt => argument > value,
            Operator::MaskedEq => argument & value == condition.value_two.unwrap_or(0) & value,
            other => panic!("{other} is new"),
        }
    }

    /// The values to try for each argument: everything next to a boundary of a condition.
    pub fn probes(&self, number: u32) -> [Vec<u64>; 6] {
        let mut probes: [BTreeSet<u64>; 6] = Default::default();
        for condition in self.rules.get(&number).into_iter().flatten().flat_map(|r| &r.conditions) {
            let probes = &mut probes[condition.index];
            probes.extend([0, 1, u64::from(u32::MAX), u64::MAX]);
            let two = condition.value_two.unwrap_or(0);
            let masked = two & condition.value;
            for value in [condition.value, two, masked, masked | !condition.value] {
                let low = value & u64::from(u32::MAX);
                let high = value ^ low;
                probes.extend([value, value.wrapping_sub(1), value.wrapping_add(1)]);
                probes.extend([low, low | 1 << 32, high, high | (low ^ 1), !value]);
                probes.extend([high.wrapping_add(1 << 32) | low, high.wrapping_sub(1 << 32) | low]);
            }
        }
        probes.map(|probes| match probes.is_empty() {
            true => vec![7],
            false => probes.into_iter().collect(),
        })
    }
}

fn equal(value: u64) -> LinuxSeccompArg {
    LinuxSeccompArg::new(0, Operator::Eq, value)
}

/// One for each condition if an argument occurs twice.
fn alternatives(args: &[LinuxSeccompArg]) -> Vec<Vec<LinuxSeccompArg>> {
    let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index == index).count() > 1);
    if twice { args.iter().map(|&arg| vec![arg]).collect() } else { vec![args.to_vec()] }
}

/// The direct number, without x32's bit, of a call that socketcall or ipc multiplexes as well.
pub fn direct(library: &Library, arch: Arch, name: &str) -> Option<u32> {
    let number = library.number(arch, name).and_then(|number| u32::try_from(number).ok());
    match arch {
        Arch::X86 => number.or_else(|| {
            multiplexed(name)?;
            (0..600).find(|&number| library.name(arch, number).as_deref() == Some(name))
        }),
        Arch::X32 => number.map(|number| number & !0x4000_0000),
        _ => number,
    }
}
