//! Device rules as lists of cgroup v1 and as an eBPF program.
//!
//! The last rule that matches a device wins, except if all devices are allowed by default: then only a later
//! rule about exactly the same device lifts a denial, as in the kernel's lists and in runc, so that what the
//! default devices allow (`b *:* m`) does not undo an explicit denial (`b 7:* m`).

#[cfg(test)]
mod tests;

use super::write::Write;
use crate::plan::device_rules::{ALL_ACCESS, DeviceKind, DeviceRule, MKNOD, READ, WRITE};
use crate::spec::Place;
use anyhow::{Result, anyhow, ensure};
use std::borrow::Cow;
use sys::bpf::{self, Insn, Reg};

/// The simplified rules: whether everything is allowed by default, and the rules after the last one that
/// applies to all devices.
pub fn effective(rules: &[DeviceRule]) -> (bool, &[DeviceRule]) {
    let everything = |rule: &DeviceRule| {
        (rule.kind, rule.major, rule.minor, rule.access)
            == (DeviceKind::All, None, None, ALL_ACCESS)
    };
    match rules.iter().rposition(everything) {
        Some(last) => (rules[last].allow, &rules[last + 1..]),
        None => (false, rules),
    }
}

/// An exception from the default of a v1 cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
    index: Option<usize>,
}

/// Whether everything is allowed by default, and the exceptions. A list of exceptions cannot express an
/// exception from an exception.
fn exceptions(rules: &[DeviceRule]) -> Result<(bool, Vec<Exception>)> {
    let (allow, rules) = effective(rules);
    let mut exceptions: Vec<Exception> = Vec::new();
    for rule in rules {
        let kinds: &[char] = match rule.kind {
            DeviceKind::All => &['b', 'c'],
            DeviceKind::Block => &['b'],
            DeviceKind::Char => &['c'],
        };
        for &kind in kinds {
            let DeviceRule { major, minor, access, index, .. } = *rule;
            let exception = Exception { kind, major, minor, access, index };
            match (rule.allow == allow, allow) {
                (false, _) => add(&mut exceptions, exception),
                (true, true) => lift(&mut exceptions, &exception)?,
                (true, false) => take_back(&mut exceptions, &exception)?,
            }
        }
    }
    Ok((allow, exceptions))
}

/// The rules as writes to a v1 cgroup: a default for all devices, and a list of exceptions.
///
/// # Errors
///
/// If the rules contain an exception from an exception, which a v1 list cannot express.
pub fn v1(rules: &[DeviceRule]) -> Result<Vec<Write>> {
    let (allow, mut exceptions) = exceptions(rules)?;
    if !allow {
        join_opens(&mut exceptions);
    }
    let (all, one) =
        if allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    let mut writes = vec![Write::new("devices", all, &"a", "linux.resources.devices")];
    writes.extend(
        exceptions
            .iter()
            .map(|exception| Write::new("devices", one, &exception.text(), place(exception.index))),
    );
    Ok(writes)
}

/// open(2) for reading and writing needs both in a single exception, although one may be allowed for a device
/// and the other for all of its kind.
fn join_opens(exceptions: &mut [Exception]) {
    let all = exceptions.to_vec();
    for exception in exceptions {
        let covering = all.iter().filter(|wider| wider.covers(exception));
        exception.access |=
            covering.fold(0, |access, wider| access | wider.access) & (READ | WRITE);
    }
}

fn place(index: Option<usize>) -> Cow<'static, str> {
    match index {
        Some(index) => format!("linux.resources.devices[{index}]").into(),
        None => "linux.resources.devices".into(),
    }
}

fn add(exceptions: &mut Vec<Exception>, new: Exception) {
    let same =
        |old: &&mut Exception| (old.kind, old.major, old.minor) == (new.kind, new.major, new.minor);
    match exceptions.iter_mut().find(same) {
        Some(old) => old.access |= new.access,
        None => exceptions.push(new),
    }
}

/// Lifts the denial of exactly this device. For a part of what is denied it is an error, as in runc: the
/// author of the rule wants that part, but would not get it.
fn lift(exceptions: &mut Vec<Exception>, rule: &Exception) -> Result<()> {
    for denied in exceptions.iter_mut().filter(|denied| denied.overlaps(rule)) {
        if (denied.major, denied.minor) == (rule.major, rule.minor) {
            denied.access &= !rule.access;
        } else if denied.covers(rule) {
            let default = if rule.index.is_none() { "the default device " } else { "" };
            let error = anyhow!(
                "{default}{} cannot be excepted from the denial of {} before it: where all devices are \
                 allowed, a denial can only be lifted as a whole",
                rule.text(),
                denied.text(),
            );
            return Err(error).at(place(rule.index.or(denied.index)));
        }
    }
    exceptions.retain(|exception| exception.access != 0);
    Ok(())
}

/// Restores a denial that was lifted.
fn take_back(exceptions: &mut Vec<Exception>, rule: &Exception) -> Result<()> {
    for exception in exceptions.iter_mut().filter(|exception| exception.overlaps(rule)) {
        ensure_expressible(exception, rule).at(place(rule.index.or(exception.index)))?;
        exception.access &= !rule.access;
    }
    exceptions.retain(|exception| exception.access != 0);
    Ok(())
}

fn ensure_expressible(exception: &Exception, rule: &Exception) -> Result<()> {
    ensure!(
        rule.covers(exception),
        "cgroup v1, which this host has for devices, cannot except {} from the rule about {} before it",
        rule.text(),
        exception.text(),
    );
    Ok(())
}

impl Exception {
    /// The rule that denies this.
    fn denial(&self) -> DeviceRule {
        let Exception { kind, major, minor, access, index } = *self;
        let kind = if kind == 'b' { DeviceKind::Block } else { DeviceKind::Char };
        DeviceRule { allow: false, kind, major, minor, access, index }
    }

    /// Whether it applies to every device that `other` applies to.
    fn covers(&self, other: &Exception) -> bool {
        let covers = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        self.kind == other.kind
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    fn overlaps(&self, rule: &Exception) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == rule.kind
            && meets(self.major, rule.major)
            && meets(self.minor, rule.minor)
            && self.access & rule.access != 0
    }

    /// Formats it, e.g. `c 1:3 rwm` or `b *:* m`.
    fn text(&self) -> String {
        let number = |number: Option<u32>| {
            number.map_or(Cow::Borrowed("*"), |number| number.to_string().into())
        };
        let mut text = format!("{} {}:{} ", self.kind, number(self.major), number(self.minor));
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                text.push(letter);
            }
        }
        text
    }
}

/// Whether nothing is denied.
pub fn allow_everything(rules: &[DeviceRule]) -> bool {
    exceptions(rules).is_ok_and(|(allow, denied)| allow && denied.is_empty())
}

/// The rules as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
///
/// The last rule about each kind of requested access decides, so the program evaluates the rules backwards:
/// an allowing rule removes its accesses from the undecided ones, and the result is "allow" when none is
/// left; a denying rule ends the program if it applies to an undecided access. If everything is allowed by
/// default, the rules are the denials that no rule has lifted.
///
/// # Errors
///
/// If everything is allowed by default, and the rules contain an exception from an exception.
pub fn program(rules: &[DeviceRule]) -> Result<Vec<Insn>> {
    // struct bpf_cgroup_dev_ctx { u32 access_type /* access << 16 | type */, major, minor }
    let mut program = vec![
        Insn::load(Reg::Type, Reg::Context, 0),
        Insn::copy(Reg::Left, Reg::Type),
        Insn::and(Reg::Type, 0xffff),
        Insn::shift_right(Reg::Left, 16),
        Insn::load(Reg::Major, Reg::Context, 4),
        Insn::load(Reg::Minor, Reg::Context, 8),
    ];
    let (allow, behind) = effective(rules);
    if allow {
        let (_, denied) = exceptions(rules)?;
        program.extend(denied.iter().flat_map(|denied| block(&denied.denial())));
    } else {
        program.extend(behind.iter().rev().flat_map(block));
    }
    program.extend(verdict(allow));
    if program.len() > bpf::MAX_INSTRUCTIONS {
        Err(anyhow!(
            "the BPF program of the device rules has {} instructions, the maximum is {}",
            program.len(),
            bpf::MAX_INSTRUCTIONS,
        ))
        .at("linux.resources.devices")?;
    }
    Ok(program)
}

fn verdict(allow: bool) -> [Insn; 2] {
    [Insn::set(Reg::Verdict, i32::from(allow)), Insn::exit()]
}

/// One rule; if it does not match, it jumps to its end.
fn block(rule: &DeviceRule) -> Vec<Insn> {
    let access = i32::from(rule.access);
    let mut conditions = Vec::with_capacity(3);
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => conditions.push((Reg::Type, 1)),
        DeviceKind::Char => conditions.push((Reg::Type, 2)),
    }
    conditions.extend(rule.major.map(|major| (Reg::Major, major.cast_signed())));
    conditions.extend(rule.minor.map(|minor| (Reg::Minor, minor.cast_signed())));
    let body = match (rule.allow, rule.access) {
        (_, ALL_ACCESS) => verdict(rule.allow).to_vec(),
        (true, _) => {
            let [set, exit] = verdict(true);
            let other = i32::from(ALL_ACCESS & !rule.access);
            vec![Insn::and(Reg::Left, other), Insn::jump_unless(Reg::Left, 0, 2), set, exit]
        }
        (false, _) => {
            let [set, exit] = verdict(false);
            let left = Insn::copy(Reg::Scratch, Reg::Left);
            vec![
                left,
                Insn::and(Reg::Scratch, access),
                Insn::jump_if(Reg::Scratch, 0, 2),
                set,
                exit,
            ]
        }
    };
    let mut block = Vec::with_capacity(conditions.len() + body.len());
    for (index, &(register, value)) in conditions.iter().enumerate() {
        // At most 3 conditions and 5 instructions.
        let rest = conditions.len() - index - 1 + body.len();
        block.push(Insn::jump_unless(register, value, i16::try_from(rest).unwrap_or(i16::MAX)));
    }
    block.extend(body);
    block
}
