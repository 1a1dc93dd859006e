//! Device rules, where the last match wins, as cgroup v1's lists and as an eBPF program.

use super::write::Write;
use crate::plan::device_rules::{ALL_ACCESS, DeviceKind, DeviceRule, MKNOD, READ, WRITE};
use crate::spec::Place;
use crate::sys::bpf::{Insn, Reg};
use anyhow::{Result, ensure};
use std::borrow::Cow;

/// What is left of the rules: whether everything is allowed to begin with, and the rules behind
/// the last one that is about everything.
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

/// open(2) for reading and writing has to find both in a single exception, though the rules may
/// allow the one for a device and the other for all of its kind.
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
    /// Is about every device that `other` is about.
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

/// Nothing is denied.
pub fn allow_everything(rules: &[DeviceRule]) -> bool {
    let (allow, rules) = effective(rules);
    allow && rules.iter().all(|rule| rule.allow)
}

/// The rules as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
///
/// Each kind of access that is asked for is decided by the last rule about it, so the program goes
/// through the rules backwards: an allowing one takes its accesses off what is left to decide, and
/// all is well when nothing is left; a denying one ends it if it is about anything that is left.
pub fn program(rules: &[DeviceRule]) -> Vec<Insn> {
    let (allow, rules) = effective(rules);
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
    program
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

#[cfg(test)]
mod tests {
    use super::*;

    const DENY_ALL: DeviceRule = rule(false, DeviceKind::All, None, None, ALL_ACCESS);
    const ALLOW_ALL: DeviceRule = rule(true, DeviceKind::All, None, None, ALL_ACCESS);

    const fn rule(
        allow: bool,
        kind: DeviceKind,
        major: Option<u32>,
        minor: Option<u32>,
        access: u8,
    ) -> DeviceRule {
        DeviceRule { allow, kind, major, minor, access, index: None }
    }

    fn lines(rules: &[DeviceRule]) -> Vec<String> {
        let writes = v1(rules).unwrap();
        writes.iter().map(|write| format!("{} {}", &write.file[8..], write.value)).collect()
    }

    #[test]
    fn v1_denies_all_and_then_allows_in_order() {
        let rules = [
            DENY_ALL,
            rule(true, DeviceKind::Char, Some(1), Some(3), ALL_ACCESS),
            rule(true, DeviceKind::Block, Some(8), None, READ | WRITE),
            rule(true, DeviceKind::All, None, None, MKNOD),
        ];
        let expected =
            ["deny a", "allow c 1:3 rwm", "allow b 8:* rw", "allow b *:* m", "allow c *:* m"];
        assert_eq!(lines(&rules), expected);
    }

    #[test]
    fn v1_without_rules_still_denies_all() {
        assert_eq!(lines(&[]), ["deny a"]);
    }

    #[test]
    fn v1_forgets_what_stands_before_a_rule_about_everything() {
        let null = rule(true, DeviceKind::Char, Some(1), Some(3), ALL_ACCESS);
        assert_eq!(lines(&[null.clone(), DENY_ALL]), ["deny a"]);
        assert_eq!(lines(&[DENY_ALL, null, ALLOW_ALL]), ["allow a"]);
    }

    #[test]
    fn v1_takes_back_part_of_an_access_and_whole_ranges() {
        let rules = [
            rule(true, DeviceKind::Char, Some(1), Some(3), ALL_ACCESS),
            rule(false, DeviceKind::Char, Some(1), Some(3), WRITE),
            rule(true, DeviceKind::Char, Some(4), Some(1), READ),
            rule(true, DeviceKind::Char, Some(4), Some(2), READ),
            rule(false, DeviceKind::Char, Some(4), None, ALL_ACCESS),
        ];
        assert_eq!(lines(&rules), ["deny a", "allow c 1:3 rm"]);
    }

    #[test]
    fn v1_allow_all_keeps_denied_devices() {
        let rules = [ALLOW_ALL, rule(false, DeviceKind::Block, Some(8), Some(0), ALL_ACCESS)];
        assert_eq!(lines(&rules), ["allow a", "deny b 8:0 rwm"]);
    }

    #[test]
    fn v1_opening_for_both_finds_both_in_one_line() {
        let rules = [
            rule(true, DeviceKind::Char, Some(1), Some(11), READ),
            rule(true, DeviceKind::Char, Some(1), None, WRITE | MKNOD),
        ];
        assert_eq!(lines(&rules), ["deny a", "allow c 1:11 rw", "allow c 1:* wm"]);
    }

    #[test]
    fn v1_refuses_a_hole_in_a_range_by_its_place() {
        let mut hole = rule(false, DeviceKind::Char, Some(1), Some(11), READ);
        hole.index = Some(1);
        let error = v1(&[rule(true, DeviceKind::Char, Some(1), None, READ), hole]).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "linux.resources.devices[1]: cgroup v1, which this host has for devices, cannot except \
             c 1:11 r from the rule about c 1:* r before it"
        );
    }

    /// Each access by the last rule about it: what the program has to come to.
    fn allowed(rules: &[DeviceRule], block: bool, major: u32, minor: u32, access: u8) -> bool {
        let meets = |own: Option<u32>, number| own.is_none_or(|own| own == number);
        let matches = |rule: &&DeviceRule| {
            let kind = match rule.kind {
                DeviceKind::All => true,
                DeviceKind::Block => block,
                DeviceKind::Char => !block,
            };
            kind && meets(rule.major, major) && meets(rule.minor, minor)
        };
        [READ, WRITE, MKNOD].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let about = |rule: &&DeviceRule| matches(rule) && rule.access & bit != 0;
            rules.iter().rfind(about).is_some_and(|rule| rule.allow)
        })
    }

    /// Runs a program as the kernel would, on the few instructions there are.
    fn run(program: &[Insn], block: bool, major: u32, minor: u32, access: u8) -> bool {
        let context = [u32::from(access) << 16 | if block { 1 } else { 2 }, major, minor];
        let mut registers = [0u32; 7];
        let mut next = 0;
        loop {
            let Insn { code, registers: both, offset, immediate } = program[next];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let immediate = immediate.cast_unsigned();
            next += 1;
            let jump = match code {
                0x61 => {
                    assert_eq!(from, 1, "only the context is read");
                    registers[to] = context[usize::try_from(offset).unwrap() / 4];
                    false
                }
                0xb4 => {
                    registers[to] = immediate;
                    false
                }
                0xbc => {
                    registers[to] = registers[from];
                    false
                }
                0x54 => {
                    registers[to] &= immediate;
                    false
                }
                0x74 => {
                    registers[to] >>= immediate;
                    false
                }
                0x16 => registers[to] == immediate,
                0x56 => registers[to] != immediate,
                0x95 => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            };
            if jump {
                next += usize::try_from(offset).unwrap();
            }
        }
    }

    /// Numbers that look random and are the same every time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u8) -> u8 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u8::try_from((self.0 >> 33) % u64::from(end)).unwrap()
        }

        fn rule(&mut self) -> DeviceRule {
            let mut number = || Some(u32::from(self.below(3))).filter(|&number| number != 2);
            let (major, minor) = (number(), number());
            let kind = [DeviceKind::All, DeviceKind::Block, DeviceKind::Char];
            let kind = kind[usize::from(self.below(3))];
            rule(self.below(2) == 0, kind, major, minor, self.below(7) + 1)
        }
    }

    fn every_access(mut check: impl FnMut(bool, u32, u32, u8)) {
        for block in [false, true] {
            for (major, minor) in [(0, 0), (0, 1), (1, 0), (1, 1), (7, 7)] {
                (1..=ALL_ACCESS).for_each(|access| check(block, major, minor, access));
            }
        }
    }

    #[test]
    fn program_decides_each_access_by_the_last_rule_about_it() {
        let mut dice = Dice(1);
        for _ in 0..2000 {
            let count = dice.below(7);
            let rules: Vec<DeviceRule> = (0..count).map(|_| dice.rule()).collect();
            let program = program(&rules);
            every_access(|block, major, minor, access| {
                let expected = allowed(&rules, block, major, minor, access);
                let got = run(&program, block, major, minor, access);
                assert_eq!(got, expected, "{rules:#?} {block} {major}:{minor} {access}");
            });
        }
    }

    /// What a v1 cgroup answers after these writes.
    fn v1_allows(writes: &[Write], block: bool, major: u32, minor: u32, access: u8) -> bool {
        let allow = writes[0].file == "devices.allow";
        let mut hits = writes[1..].iter().filter(|write| {
            let words: Vec<&str> = write.value.split([' ', ':']).collect();
            let number = |word: &str, number: u32| word == "*" || word == number.to_string();
            let about = |bit, letter| (access & bit != 0, words[3].contains(letter));
            let bits = [about(READ, 'r'), about(WRITE, 'w'), about(MKNOD, 'm')];
            let bits = match allow {
                true => bits.iter().any(|&(asked, listed)| asked && listed),
                false => bits.iter().all(|&(asked, listed)| !asked || listed),
            };
            (words[0] == "b") == block && number(words[1], major) && number(words[2], minor) && bits
        });
        allow != hits.next().is_some()
    }

    #[test]
    fn v1_writes_never_allow_more_than_the_rules() {
        let mut dice = Dice(2);
        let mut expressible = 0;
        for _ in 0..4000 {
            let rules: Vec<DeviceRule> = (0..dice.below(5)).map(|_| dice.rule()).collect();
            let Ok(writes) = v1(&rules) else { continue };
            expressible += 1;
            every_access(|block, major, minor, access| {
                let expected = allowed(&rules, block, major, minor, access);
                let got = v1_allows(&writes, block, major, minor, access);
                // Two accesses at once can be denied by lists that cross (`1:*` and `*:1`).
                let same = if access.count_ones() == 1 { got == expected } else { got <= expected };
                assert!(same, "{rules:#?} {writes:#?} {block} {major}:{minor} {access}");
            });
        }
        assert!(expressible > 1000, "{expressible}");
    }

    #[test]
    fn only_rules_that_leave_nothing_denied_allow_everything() {
        let rules = [rule(false, DeviceKind::Char, Some(1), Some(11), WRITE), ALLOW_ALL];
        assert!(allow_everything(&rules));
        assert!(!allow_everything(&[ALLOW_ALL, rules[0].clone()]));
        assert!(!allow_everything(&[]));
    }
}
