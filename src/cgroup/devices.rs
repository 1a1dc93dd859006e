//! Device rules, where the last match wins, as cgroup v1's lists and as an eBPF program.

use super::write::Write;
use crate::plan::resources::{ALL_ACCESS, DeviceKind, DeviceRule, MKNOD, READ, WRITE};
use crate::spec::Place;
use crate::sys::bpf::{Insn, Reg};
use anyhow::{Result, ensure};
use std::borrow::Cow;

/// What is left of the rules: whether everything is allowed to begin with, and the rules behind
/// the last one that is about everything.
fn effective(rules: &[DeviceRule]) -> (bool, &[DeviceRule]) {
    let everything = |rule: &DeviceRule| {
        (rule.kind, rule.major, rule.minor, rule.access)
            == (DeviceKind::All, None, None, ALL_ACCESS)
    };
    match rules.iter().rposition(everything) {
        Some(last) => (rules[last].allow, &rules[last + 1..]),
        None => (false, rules),
    }
}

/// An exception from what a v1 cgroup does with all other devices.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
    index: Option<usize>,
}

/// The rules as writes to a v1 cgroup. It knows one behaviour for all devices and a list of
/// exceptions from it, and takes an exception back by its exact numbers only: rules that would
/// need an exception from an exception are an error.
pub fn v1(rules: &[DeviceRule]) -> Result<Vec<Write>> {
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
            if rule.allow == allow {
                take_back(&mut exceptions, &exception)?;
            } else {
                add(&mut exceptions, exception);
            }
        }
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

fn take_back(exceptions: &mut Vec<Exception>, rule: &Exception) -> Result<()> {
    for exception in exceptions.iter_mut().filter(|exception| exception.overlaps(rule)) {
        ensure_expressible(exception, rule).at(place(rule.index.or(exception.index)))?;
        exception.access &= !rule.access;
    }
    exceptions.retain(|exception| exception.access != 0);
    Ok(())
}

fn ensure_expressible(exception: &Exception, rule: &Exception) -> Result<()> {
    let covered = |rule: Option<u32>, part: Option<u32>| rule.is_none() || rule == part;
    ensure!(
        covered(rule.major, exception.major) && covered(rule.minor, exception.minor),
        "cgroup v1, which this host has for devices, cannot except {} from the rule about {} before it",
        rule.text(),
        exception.text(),
    );
    Ok(())
}

impl Exception {
    fn overlaps(&self, rule: &Exception) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == rule.kind
            && meets(self.major, rule.major)
            && meets(self.minor, rule.minor)
            && self.access & rule.access != 0
    }

    /// `c 1:3 rwm`, `b *:* m`.
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

/// The rules as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`; none where everything is allowed.
///
/// Each kind of access that is asked for is decided by the last rule about it, so the program goes
/// through the rules backwards: an allowing one takes its accesses off what is left to decide, and
/// all is well when nothing is left; a denying one ends it if it is about anything that is left.
pub fn program(rules: &[DeviceRule]) -> Option<Vec<Insn>> {
    let (allow, rules) = effective(rules);
    if allow && rules.iter().all(|rule| rule.allow) {
        return None;
    }
    // struct bpf_cgroup_dev_ctx { u32 access_type /* access << 16 | type */, major, minor }
    let mut program = vec![
        Insn::load(Reg::Type, Reg::Context, 0),
        Insn::copy(Reg::Left, Reg::Type),
        Insn::and(Reg::Type, 0xffff),
        Insn::shift_right(Reg::Left, 16),
        Insn::load(Reg::Major, Reg::Context, 4),
        Insn::load(Reg::Minor, Reg::Context, 8),
    ];
    for rule in rules.iter().rev() {
        program.append(&mut block(rule));
    }
    program.extend(verdict(allow));
    Some(program)
}

fn verdict(allow: bool) -> [Insn; 2] {
    [Insn::set(Reg::Verdict, i32::from(allow)), Insn::exit()]
}

/// One rule; what does not match jumps to its end.
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
