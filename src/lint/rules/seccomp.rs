//! `linux.seccomp`.

use super::Rules;
use crate::suggest;
use oci_seccomp::syscalls::{self, Lookup};
use oci_seccomp::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use std::collections::BTreeMap;

pub(super) fn check(profile: &LinuxSeccomp, rules: &mut Rules) {
    let list = profile.syscalls.as_deref().unwrap_or_default();
    let mut decided = BTreeMap::new();
    for (index, rule) in list.iter().enumerate() {
        let place = format!("linux.seccomp.syscalls[{index}]");
        useless(profile, rule, &place, rules);
        conditions(rule, &place, rules);
        for (at, name) in rule.names.iter().enumerate() {
            let place = format!("{place}.names[{at}]");
            if matches!(syscalls::lookup(name), Lookup::Unknown) {
                let hint = suggest::hint(name, syscalls::all().iter().map(syscalls::Syscall::name));
                rules.warn(
                    "unknown-syscall",
                    &place,
                    format!("{name:?} is not a system call of Linux{hint}"),
                );
            } else if let Some(before) = decided.get(name.as_str()) {
                let text = format!(
                    "is never reached: syscalls[{before}] decides about {name} without conditions"
                );
                rules.warn("unreachable-rule", &place, text);
            } else if rule.args.as_deref().unwrap_or_default().is_empty()
                && rule.action != profile.default_action
            {
                decided.insert(name.as_str(), index);
            }
        }
    }
    program(profile, list, rules);
}

fn useless(profile: &LinuxSeccomp, rule: &LinuxSyscall, place: &str, rules: &mut Rules) {
    let same_errno = rule.errno_ret == profile.default_errno_ret;
    if rule.action == profile.default_action && same_errno {
        rules.warn("no-effect", place, "has the default action: it changes nothing");
    }
}

/// Comparisons that are always or never true.
fn conditions(rule: &LinuxSyscall, place: &str, rules: &mut Rules) {
    for (index, condition) in rule.args.iter().flatten().enumerate() {
        let outcome = match (condition.op, condition.value) {
            (Operator::Lt, 0) | (Operator::Gt, u64::MAX) => "never true: the rule is never applied",
            (Operator::Ge, 0) | (Operator::Le, u64::MAX) => "always true",
            (Operator::MaskedEq, mask) if condition.value_two.unwrap_or(0) & !mask != 0 => {
                "never true: valueTwo has bits that are not in the mask, value"
            }
            _ => continue,
        };
        let place = format!("{place}.args[{index}]");
        rules.warn("constant-condition", place, format!("this condition is {outcome}"));
    }
}

/// The program must be executed under the filter.
fn program(profile: &LinuxSeccomp, list: &[LinuxSyscall], rules: &mut Rules) {
    let lets =
        |action| matches!(action, Action::Allow | Action::Log | Action::Trace | Action::Notify);
    let of = |name: &str| {
        let rule = list.iter().find(|rule| rule.names.iter().any(|known| known == name));
        rule.map_or(profile.default_action, |rule| rule.action)
    };
    if !lets(of("execve")) && !lets(of("execveat")) {
        let text = "forbids execve: the container's program cannot be started";
        rules.error("program-forbidden", "linux.seccomp", text);
    }
    if !lets(of("exit_group")) && !lets(of("exit")) {
        rules.warn(
            "program-forbidden",
            "linux.seccomp",
            "forbids exit_group and exit: no program can end",
        );
    }
}
