//! Determines the action for each system call of one architecture.
//!
//! Rules of one system call are interpreted like libseccomp does, because profiles are written for it:
//!
//! * A rule without conditions overrides all others of its system call; of two the first applies.
//! * Of rules with conditions the first that matches applies, in the order of [`Rule::ranks`], whatever their
//!   order in the profile.
//! * A rule never matches, and is ignored, if another one with the same action, or an earlier one that is
//!   tried before it, has a subset of its conditions.
//! * If all conditions of a rule are also the first ones of an earlier rule, and the actions differ, the two
//!   contradict each other: an error.

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
    /// The index of the argument, 0 to 5.
    pub(crate) index: u8,
    /// The operator.
    pub(crate) op: Op,
    /// The value to compare with.
    pub(crate) value: u64,
}

/// One of `LinuxSeccomp::syscalls`.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its index there.
    pub(crate) index: usize,
    /// The known ones of its names.
    pub(crate) syscalls: Vec<&'static Syscall>,
    /// The filter's return value.
    pub(crate) action: u32,
    /// Lists of conditions, of which any one is sufficient; all conditions of a list must hold, sorted by
    /// argument, without duplicates.
    pub(crate) alternatives: Vec<Vec<Condition>>,
}

/// An action, and conditions that must all hold.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Sorted by argument.
    pub(crate) conditions: Vec<Condition>,
    /// The filter's return value.
    pub(crate) action: u32,
    /// Index in `LinuxSeccomp::syscalls`.
    pub(crate) entry: usize,
}

/// The decision about one system call.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The same action for any arguments; and the index of the rule, unless it is the default action.
    Always(u32, Option<usize>),
    /// The action of the first rule that matches.
    Rules(Vec<Rule>),
}

/// The decisions about the system calls of one architecture.
#[derive(Debug)]
pub(crate) struct Table {
    /// The architecture.
    pub(crate) arch: Arch,
    /// Those of all system calls in the profile, by number, without x32's bit.
    pub(crate) verdicts: BTreeMap<u32, Verdict>,
    /// The highest number in the profile. 0: none is known, so no system call counts as new, as in runc.
    pub(crate) newest: u32,
}

/// More rules, of at least five instructions each, never fit: so they need not be compared with each other.
const MAX_RULES: usize = MAX_INSTRUCTIONS / 5;

/// From here on, ARM has private numbers (`__ARM_NR_BASE`), which do not count as new.
const ARM_PRIVATE: u32 = 0x0f_0000;

impl Table {
    /// The decisions of the entries for one architecture. `default` needs no rule.
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
    /// Its position in the order in which rules are tried: fewer conditions before more.
    fn ranks(&self) -> impl Iterator<Item = (Reverse<u8>, u8, u64)> {
        self.conditions.iter().map(Condition::rank)
    }

    /// The rule for `call` through socketcall or ipc. As in libseccomp, a condition on the call's first
    /// argument is lost, because theirs selects the call; the call's own arguments are only behind a pointer,
    /// if at all.
    fn multiplexed(&self, call: u64) -> Rule {
        let mut rule = self.clone();
        rule.conditions.retain(|condition| condition.index != 0);
        rule.conditions.insert(0, Condition { index: 0, op: Op::Eq, value: call });
        rule
    }
}

impl Condition {
    /// The condition as compared on this architecture; `None` if it always holds.
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

    /// Conditions of lower rank are tried first: later arguments before earlier, then equality before "less"
    /// before "greater", then higher values, for "less" lower ones.
    fn rank(&self) -> (Reverse<u8>, u8, u64) {
        let (class, value) = match self.op {
            Op::Eq | Op::Ne | Op::MaskedEq(_) => (0, !self.value),
            Op::Lt | Op::Le => (1, self.value),
            Op::Gt | Op::Ge => (2, !self.value),
        };
        (Reverse(self.index), class, value)
    }
}
