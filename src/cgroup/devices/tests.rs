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

/// The expected result of an access. If everything is denied by default, the last rule about it decides; if
/// everything is allowed by default, whether it is denied without a later rule about the same numbers that
/// lifts the denial.
fn allowed(rules: &[DeviceRule], block: bool, major: u32, minor: u32, access: u8) -> bool {
    let (allow, rules) = effective(rules);
    let meets = |own: Option<u32>, number| own.is_none_or(|own| own == number);
    let of_kind = |rule: &DeviceRule| match rule.kind {
        DeviceKind::All => true,
        DeviceKind::Block => block,
        DeviceKind::Char => !block,
    };
    [READ, WRITE, MKNOD].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let about = |rule: &DeviceRule| {
            let meets = meets(rule.major, major) && meets(rule.minor, minor);
            of_kind(rule) && meets && rule.access & bit != 0
        };
        let lifted = |denial: &DeviceRule, later: &[DeviceRule]| {
            later.iter().any(|rule| {
                let same = (rule.major, rule.minor) == (denial.major, denial.minor);
                rule.allow && same && of_kind(rule) && rule.access & bit != 0
            })
        };
        match allow {
            false => rules.iter().rfind(|&rule| about(rule)).is_some_and(|rule| rule.allow),
            true => !rules.iter().enumerate().any(|(index, rule)| {
                !rule.allow && about(rule) && !lifted(rule, &rules[index + 1..])
            }),
        }
    })
}

/// Interprets a program as the kernel would, for the few instructions in use.
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

/// Deterministic pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u8) -> u8 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
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
    let mut refused = 0;
    for _ in 0..2000 {
        let count = dice.below(7);
        let mut rules: Vec<DeviceRule> = (0..count).map(|_| dice.rule()).collect();
        if dice.below(2) == 0 {
            rules.insert(0, ALLOW_ALL);
        }
        let Ok(program) = program(&rules) else {
            assert!(effective(&rules).0, "{rules:#?}");
            refused += 1;
            continue;
        };
        every_access(|block, major, minor, access| {
            let expected = allowed(&rules, block, major, minor, access);
            let got = run(&program, block, major, minor, access);
            assert_eq!(got, expected, "{rules:#?} {block} {major}:{minor} {access}");
        });
    }
    assert!(refused < 700, "{refused}");
}

/// Rules after "everything is allowed", and the result for one access, which the v1 list, the program and
/// runc agree on.
#[test]
fn a_denial_is_lifted_by_a_rule_about_the_same_device_alone() {
    use DeviceKind::{All, Block, Char};
    let (deny, allow) = (false, true);
    type Row = (Vec<DeviceRule>, (bool, u32, u32, u8), Option<bool>);
    let loops = |access| rule(deny, Block, Some(7), None, access);
    let table: &[Row] = &[
        // The default devices allow mknod of all devices, which lifts no denial.
        (
            vec![loops(MKNOD), rule(allow, Block, None, None, MKNOD)],
            (true, 7, 200, MKNOD),
            Some(false),
        ),
        (
            vec![loops(MKNOD), rule(allow, Block, None, None, MKNOD)],
            (true, 8, 200, MKNOD),
            Some(true),
        ),
        (
            vec![loops(MKNOD), rule(allow, All, None, None, MKNOD)],
            (true, 7, 200, MKNOD),
            Some(false),
        ),
        (vec![loops(ALL_ACCESS), loops(READ)], (true, 7, 0, READ), Some(false)),
        // Exactly the same device, with the accesses that are named.
        (
            vec![loops(MKNOD), rule(allow, Block, Some(7), None, MKNOD)],
            (true, 7, 200, MKNOD),
            Some(true),
        ),
        (
            vec![loops(ALL_ACCESS), rule(allow, Block, Some(7), None, MKNOD)],
            (true, 7, 0, MKNOD),
            Some(true),
        ),
        (
            vec![loops(ALL_ACCESS), rule(allow, Block, Some(7), None, MKNOD)],
            (true, 7, 0, READ),
            Some(false),
        ),
        (
            vec![rule(deny, Char, None, None, MKNOD), rule(allow, All, None, None, MKNOD)],
            (false, 1, 3, MKNOD),
            Some(true),
        ),
        // Intersecting exceptions.
        (
            vec![rule(deny, Char, Some(1), None, READ), rule(allow, Char, None, Some(3), READ)],
            (false, 1, 3, READ),
            Some(false),
        ),
        // Another type of device, another access.
        (
            vec![loops(MKNOD), rule(allow, Char, Some(7), None, MKNOD)],
            (true, 7, 0, MKNOD),
            Some(false),
        ),
        (
            vec![loops(MKNOD), rule(allow, Block, Some(7), Some(1), READ)],
            (true, 7, 1, MKNOD),
            Some(false),
        ),
        // A part of what is denied.
        (
            vec![loops(ALL_ACCESS), rule(allow, Block, Some(7), Some(1), READ)],
            (true, 7, 1, READ),
            None,
        ),
        (
            vec![
                rule(deny, Char, Some(1), None, WRITE),
                rule(allow, Char, Some(1), Some(3), WRITE),
            ],
            (false, 1, 3, WRITE),
            None,
        ),
        // Everything is allowed again.
        (vec![loops(MKNOD), ALLOW_ALL], (true, 7, 0, MKNOD), Some(true)),
    ];
    for (rules, (block, major, minor, access), expected) in table {
        let rules = [&[ALLOW_ALL], &rules[..]].concat();
        let list = v1(&rules).ok().map(|list| v1_allows(&list, *block, *major, *minor, *access));
        assert_eq!(list, *expected, "v1: {rules:#?}");
        let program = program(&rules).ok();
        let answer = program.map(|program| run(&program, *block, *major, *minor, *access));
        assert_eq!(answer, *expected, "program: {rules:#?}");
    }
}

#[test]
fn what_cannot_be_lifted_is_refused_by_its_place() {
    let mut denial = rule(false, DeviceKind::Char, Some(1), None, ALL_ACCESS);
    denial.index = Some(1);
    let default = rule(true, DeviceKind::Char, Some(1), Some(3), ALL_ACCESS);
    for error in [
        v1(&[ALLOW_ALL, denial.clone(), default.clone()]).unwrap_err(),
        program(&[ALLOW_ALL, denial, default]).unwrap_err(),
    ] {
        assert_eq!(
            format!("{error:#}"),
            "linux.resources.devices[1]: the default device c 1:3 rwm cannot be excepted from the denial of \
             c 1:* rwm before it: where all devices are allowed, a denial can only be lifted as a whole"
        );
    }
}

#[test]
fn more_rules_than_the_kernel_takes_are_an_error_that_names_its_limit() {
    let rules = vec![rule(true, DeviceKind::Char, Some(1), Some(3), READ); 160_000];
    let error = format!("{:#}", program(&rules).unwrap_err());
    assert_eq!(
        error,
        "linux.resources.devices: the BPF program of the device rules has 1120008 instructions, the maximum is 1000000"
    );
}

/// The decision of a v1 cgroup after these writes.
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
            // Two accesses at once can be denied by intersecting exceptions (`1:*` and `*:1`).
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
