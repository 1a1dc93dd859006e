//! What is to happen to each system call of one architecture.
//!
//! Rules of one system call are taken as libseccomp takes them, since profiles are written for it:
//!
//! * A rule without conditions covers all others of its system call; of two the first counts.
//! * Of rules with conditions the first that matches counts, in the order of [`Rule::ranks`],
//!   whatever their order in the profile.
//! * A rule never matches, and counts for nothing, if another one with the same action, or an earlier
//!   one that is tried before it, has some of its conditions and no others.
//! * If all conditions of a rule are also the first ones of an earlier rule, and the actions differ,
//!   the two contradict each other: an error.

use crate::MAX_INSTRUCTIONS;
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::syscalls::Syscall;
use seccompiler::SeccompCmpOp as Op;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// One comparison of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which argument, 0 to 5.
    pub(crate) index: u8,
    /// How.
    pub(crate) op: Op,
    /// With what.
    pub(crate) value: u64,
}

/// One of `LinuxSeccomp::syscalls`.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Index there.
    pub(crate) index: usize,
    /// Those of its names that are known.
    pub(crate) syscalls: Vec<&'static Syscall>,
    /// What the filter returns.
    pub(crate) action: u32,
    /// Conditions of which all have to hold, in the order of arguments, none twice; any of these
    /// lists is enough.
    pub(crate) alternatives: Vec<Vec<Condition>>,
}

/// An action, and the conditions that all have to hold for it.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// In the order of arguments.
    pub(crate) conditions: Vec<Condition>,
    /// What the filter returns.
    pub(crate) action: u32,
    /// Index in `LinuxSeccomp::syscalls`.
    pub(crate) entry: usize,
}

/// What happens to one system call.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The same for any arguments; and the index of the rule, if it is not the default action.
    Always(u32, Option<usize>),
    /// The action of the first rule that matches.
    Rules(Vec<Rule>),
}

/// What happens to the system calls of one architecture.
#[derive(Debug)]
pub(crate) struct Table {
    /// Which.
    pub(crate) arch: Arch,
    /// Of all that the profile names, by number, without x32's bit.
    pub(crate) verdicts: BTreeMap<u32, Verdict>,
    /// The highest number that it names. 0: there is none, or no other one, and nothing is said
    /// about what is new: as in runc.
    pub(crate) newest: u32,
}

/// More, of five instructions at least, never fit: no need to compare them all with each other.
const MAX_RULES: usize = MAX_INSTRUCTIONS / 5;

/// From here on ARM has private ones (`__ARM_NR_BASE`), which are as old as the others.
const ARM_PRIVATE: u32 = 0x0f_0000;

impl Table {
    /// What the entries say about one architecture. `default` needs no rule.
    pub(crate) fn new(arch: Arch, entries: &[Entry], default: u32) -> Result<Table> {
        let mut table = Table { arch, verdicts: BTreeMap::new(), newest: 0 };
        let mut named = Vec::new();
        for entry in entries {
            for syscall in &entry.syscalls {
                named.extend(syscall.number(arch));
                if entry.action != default {
                    table.add_syscall(syscall, entry)?;
                }
            }
        }
        for &number in &named {
            table.verdicts.entry(number).or_insert(Verdict::Always(default, None));
        }
        let old = named.into_iter().filter(|&number| number < ARM_PRIVATE);
        table.newest = old.max().unwrap_or(0);
        Ok(table)
    }

    fn add_syscall(&mut self, syscall: &Syscall, entry: &Entry) -> Result<()> {
        for conditions in &entry.alternatives {
            let conditions = conditions.iter().filter_map(|c| c.on(self.arch)).collect();
            let rule = Rule { conditions, action: entry.action, entry: entry.index };
            if self.arch == Arch::X86
                && let Some((number, call)) = syscall.multiplexed()
            {
                self.add(syscall, number, rule.multiplexed(call))?;
            }
            if let Some(number) = syscall.number(self.arch) {
                self.add(syscall, number, rule)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, syscall: &Syscall, number: u32, rule: Rule) -> Result<()> {
        let unconditional = rule.conditions.is_empty();
        match self.verdicts.entry(number) {
            Slot::Vacant(slot) if unconditional => {
                slot.insert(Verdict::Always(rule.action, Some(rule.entry)));
            }
            Slot::Vacant(slot) => {
                slot.insert(Verdict::Rules(vec![rule]));
            }
            Slot::Occupied(mut slot) => match slot.get_mut() {
                Verdict::Always(..) => {}
                verdict @ Verdict::Rules(_) if unconditional => {
                    *verdict = Verdict::Always(rule.action, Some(rule.entry));
                }
                Verdict::Rules(rules) => add_rule(rules, rule, syscall.name())?,
            },
        }
        Ok(())
    }
}

fn add_rule(rules: &mut Vec<Rule>, rule: Rule, name: &str) -> Result<()> {
    let covers = |a: &Rule, b: &Rule| a.conditions.iter().all(|c| b.conditions.contains(c));
    let never = |known: &Rule| {
        covers(known, &rule) && (known.action == rule.action || known.ranks().lt(rule.ranks()))
    };
    if rules.iter().any(never) {
        return Ok(());
    }
    rules.retain(|known| known.action != rule.action || !covers(&rule, known));
    if let Some(known) = rules.iter().find(|known| known.conditions.starts_with(&rule.conditions)) {
        let other = known.entry;
        return Err(Error::new(
            format_args!("syscalls[{}]", rule.entry),
            format_args!(
                "{name}: the same or fewer conditions than syscalls[{other}] has for another action"
            ),
        ));
    }
    if rules.len() >= MAX_RULES {
        return Err(Error::new(
            format_args!("syscalls[{}]", rule.entry),
            format_args!("{name}: more rules than fit into a filter"),
        ));
    }
    let place = rules.partition_point(|known| known.ranks().le(rule.ranks()));
    rules.insert(place, rule);
    Ok(())
}

impl Rule {
    /// Its place in the order in which rules are tried: with fewer conditions before more.
    fn ranks(&self) -> impl Iterator<Item = (Reverse<u8>, u8, u64)> {
        self.conditions.iter().map(Condition::rank)
    }

    /// The same for what socketcall or ipc calls `call`. As with libseccomp a condition on the first
    /// argument is lost: of the call's own arguments these two have a pointer only, if at all.
    fn multiplexed(&self, call: u64) -> Rule {
        let mut rule = self.clone();
        rule.conditions.retain(|condition| condition.index != 0);
        rule.conditions.insert(0, Condition { index: 0, op: Op::Eq, value: call });
        rule
    }
}

impl Condition {
    /// As compared on this architecture; `None` if it always holds.
    fn on(&self, arch: Arch) -> Option<Condition> {
        let bits = if arch.is_64_bit() { u64::MAX } else { u64::from(u32::MAX) };
        let mut condition = Condition { value: self.value & bits, ..self.clone() };
        if let Op::MaskedEq(mask) = &mut condition.op {
            *mask &= bits;
            condition.value &= *mask;
            if *mask == 0 {
                return None;
            }
        }
        Some(condition)
    }

    /// Low ones are tried first: later arguments before earlier, then equality before "less" before
    /// "greater", then higher values, of "less" lower ones.
    fn rank(&self) -> (Reverse<u8>, u8, u64) {
        let (class, value) = match self.op {
            Op::Eq | Op::Ne | Op::MaskedEq(_) => (0, !self.value),
            Op::Lt | Op::Le => (1, self.value),
            Op::Gt | Op::Ge => (2, !self.value),
        };
        (Reverse(self.index), class, value)
    }
}
