use super::*;
use crate::interpreter::{Call, Outcome, run, verify};
use serde_json::{Value, json};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM_: u32 = 0x0005_0001;
const ENOSYS_: u32 = 0x0005_0026;
const KILL: u32 = 0;

fn filter(profile: Value) -> Result<Filter> {
    let profile = serde_json::from_value(profile).expect("a profile");
    let filter = compile(&profile, Arch::X86_64)?;
    verify(&filter.program);
    Ok(filter)
}

#[track_caller]
fn ret(filter: &Filter, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    run(&filter.program, &Call { arch, number, args }).ret
}

/// The error's path and text.
#[track_caller]
fn refused(profile: Value) -> String {
    filter(profile).unwrap_err().to_string()
}

fn deny(syscalls: impl Into<Value>) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls.into() })
}

#[test]
fn what_is_not_named_gets_the_default_and_what_is_newer_enosys() {
    let filter = filter(deny(json!([
        { "names": ["read", "write", "openat"], "action": "SCMP_ACT_ALLOW" },
    ])))
    .unwrap();
    for (number, expected) in
        [(0, ALLOW), (1, ALLOW), (2, EPERM_), (256, EPERM_), (257, ALLOW), (258, ENOSYS_)]
    {
        assert_eq!(ret(&filter, X86_64, number, [0; 6]), expected, "{number}");
    }
    assert_eq!(ret(&filter, X86_64, 0x3fff_ffff, [0; 6]), ENOSYS_);
}

#[test]
fn who_allows_by_default_allows_new_system_calls() {
    for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let filter = filter(json!({
            "defaultAction": default,
            "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO" }],
        }));
        assert_ne!(ret(&filter.unwrap(), X86_64, 5000, [0; 6]), ENOSYS_, "{default}");
    }
}

#[test]
fn unlisted_architectures_and_x32_are_killed() {
    let filter = filter(json!({ "defaultAction": "SCMP_ACT_ALLOW" })).unwrap();
    assert_eq!(ret(&filter, X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(ret(&filter, I386, 0, [0; 6]), KILL);
    assert_eq!(ret(&filter, 0x4000_0028, 0, [0; 6]), KILL);
    assert_eq!(ret(&filter, X86_64, 0x4000_0000, [0; 6]), KILL);
    assert_eq!(ret(&filter, X86_64, u32::MAX, [0; 6]), ALLOW, "skipped by a tracer");
}

#[test]
fn native_counts_without_being_listed_and_foreign_ones_match_nothing() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_MIPS", "SCMP_ARCH_ARM"],
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO" }],
    }))
    .unwrap();
    assert_eq!(ret(&filter, X86_64, 0, [0; 6]), EPERM_);
    assert_eq!(ret(&filter, I386, 3, [0; 6]), EPERM_);
    assert_eq!(ret(&filter, I386, 0, [0; 6]), ALLOW);
    assert_eq!(ret(&filter, 0x4000_0028, 3, [0; 6]), KILL);
}

#[test]
fn x86_gets_socket_calls_through_socketcall_too() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{ "names": ["connect", "shmat"], "action": "SCMP_ACT_ALLOW" }],
    }))
    .unwrap();
    assert_eq!(ret(&filter, I386, 362, [0; 6]), ALLOW);
    assert_eq!(ret(&filter, I386, 102, [3, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(ret(&filter, I386, 102, [2, 0, 0, 0, 0, 0]), EPERM_);
    assert_eq!(ret(&filter, I386, 117, [21, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(ret(&filter, X86_64, 42, [0; 6]), ALLOW);
}

#[test]
fn conditions_compare_64_bits_unsigned() {
    let big = 0x1_0000_0005_u64;
    let around = [0, 4, 5, 6, big - 1, big, big + 1, 0x2_0000_0000, 0xffff_ffff, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let ops: [(&str, Holds); 7] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
        ("MASKED_EQ", |a, _| a & 0x1_0000_0001 == 1),
    ];
    for (op, holds) in ops {
        let (value, two) = if op == "MASKED_EQ" { (0x1_0000_0001, 0xff_ff01) } else { (big, 0) };
        let op = format!("SCMP_CMP_{op}");
        let args = json!([{ "index": 2, "value": value, "valueTwo": two, "op": op }]);
        let filter = filter(deny(json!([
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args },
        ])))
        .unwrap();
        for argument in around {
            let expected = if holds(argument, big) { ALLOW } else { EPERM_ };
            let args = [7, 7, argument, 7, 7, 7];
            assert_eq!(ret(&filter, X86_64, 0, args), expected, "{op} {argument:#x}");
        }
    }
}

#[test]
fn an_argument_twice_in_a_rule_is_either_of_them() {
    let filter = filter(deny(json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
        { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" },
        { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" },
        { "index": 1, "value": 9, "op": "SCMP_CMP_EQ" },
    ]}])))
    .unwrap();
    for (args, expected) in [([1, 0], ALLOW), ([2, 0], ALLOW), ([3, 9], ALLOW), ([3, 0], EPERM_)] {
        assert_eq!(ret(&filter, X86_64, 0, [args[0], args[1], 0, 0, 0, 0]), expected, "{args:?}");
    }
}

#[test]
fn unknown_names_are_listed_once_and_foreign_ones_not() {
    let spec = deny(json!([
        { "names": ["read", "mount_all", "s390_sthyi"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["mount_all", "nope"], "action": "SCMP_ACT_ALLOW" },
    ]));
    assert_eq!(filter(spec).unwrap().unknown, ["mount_all", "nope"]);
}

#[test]
fn errors_have_their_path() {
    let entry = |entry: Value| refused(deny(json!([entry])));
    let read = |more: Value| {
        let mut entry = json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW" });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(deny(json!([entry])))
    };
    let notify = json!({ "names": ["write"], "action": "SCMP_ACT_NOTIFY" });
    let errors = [
        (
            refused(json!({ "defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1 })),
            "defaultErrnoRet: SCMP_ACT_KILL has no errno",
        ),
        (
            refused(json!({ "defaultAction": "SCMP_ACT_NOTIFY" })),
            "defaultAction: SCMP_ACT_NOTIFY cannot be the default action",
        ),
        (
            refused(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096 })),
            "defaultErrnoRet: 4096 is more than 4095",
        ),
        (read(json!({ "errnoRet": 0 })), "syscalls[0].errnoRet: SCMP_ACT_ALLOW has no errno"),
        (
            entry(json!({ "names": [], "action": "SCMP_ACT_ALLOW" })),
            "syscalls[0].names: at least one is required",
        ),
        (
            read(json!({ "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] })),
            "syscalls[0].args[0].index: 6: the arguments of system calls are 0 to 5",
        ),
        (
            refused(json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a", "syscalls": [notify],
            })),
            "syscalls[0].names[0]: SCMP_ACT_NOTIFY cannot be the action for write",
        ),
        (
            entry(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })),
            "syscalls[0].action: SCMP_ACT_NOTIFY needs a listenerPath",
        ),
        (
            refused(json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" })),
            "listenerMetadata: there is no listenerPath to send it to",
        ),
        (
            refused(json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            })),
            "flags[1]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY",
        ),
        (
            refused(json!({
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE"],
            })),
            "architectures[0]: SCMP_ARCH_NATIVE is not one of runtime-spec's",
        ),
    ];
    for (error, expected) in errors {
        assert_eq!(error, expected);
    }
}

#[test]
fn contradictions_are_refused() {
    let equal = json!([{ "index": 0, "value": 5, "op": "SCMP_CMP_EQ" }]);
    let more = json!([
        { "index": 0, "value": 5, "op": "SCMP_CMP_EQ" },
        { "index": 1, "value": 6, "op": "SCMP_CMP_EQ" },
    ]);
    let profile = |first: &Value, second: &Value| {
        deny(json!([
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": first },
            { "names": ["read"], "action": "SCMP_ACT_LOG", "args": second },
        ]))
    };
    let expected = "syscalls[1]: read: the same or fewer conditions than \
                    syscalls[0] has for another action";
    assert_eq!(refused(profile(&equal, &equal)), expected);
    assert_eq!(refused(profile(&more, &equal)), expected);
    let filter = filter(profile(&equal, &more)).unwrap();
    assert_eq!(ret(&filter, X86_64, 0, [5, 6, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn the_kernels_limit_is_an_error() {
    let rules: Vec<Value> = (0..700)
        .map(|value| {
            let args = [json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" })];
            json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args })
        })
        .collect();
    let error = refused(deny(rules));
    assert!(error.starts_with("syscalls: the filter has 49"), "{error}");
    assert!(error.contains("the maximum is 4096"), "{error}");
}

#[test]
fn jumps_reach_over_a_program_of_thousands_of_instructions() {
    let names = ["read", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap"];
    let entries: Vec<Value> = (0..480)
        .map(|value: usize| {
            let args = [json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" })];
            json!({ "names": [names[value % 8]], "action": "SCMP_ACT_ALLOW", "args": args })
        })
        .collect();
    let filter = filter(deny(entries)).unwrap();
    assert!(filter.program.len() > 3000);
    for value in 0..480 {
        for (index, number) in [0, 3, 4, 5, 6, 7, 8, 9].into_iter().enumerate() {
            let expected = if value % 8 == index { ALLOW } else { EPERM_ };
            let value = u64::try_from(value).unwrap();
            assert_eq!(ret(&filter, X86_64, number, [value, 0, 0, 0, 0, 0]), expected);
        }
    }
    for number in 10..2000 {
        assert_eq!(ret(&filter, X86_64, number, [0; 6]), ENOSYS_);
    }
}

#[test]
fn flags_are_the_kernels_and_default_to_spec_allow() {
    let flags = |flags: Value| {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": flags,
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "m",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
        });
        let filter = filter(profile).unwrap();
        assert!(filter.notifies);
        filter.flags
    };
    assert_eq!(flags(Value::Null), 0b1100);
    assert_eq!(flags(json!([])), 0b1000);
    let all = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];
    let all = all.map(|flag| format!("SECCOMP_FILTER_FLAG_{flag}"));
    assert_eq!(flags(json!(all)), 0b10_1111);
}

#[test]
fn every_action_has_the_kernels_value() {
    let value = |action: &str, errno: Value| {
        let filter = filter(json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "listenerPath": "/run/agent.sock",
            "syscalls": [{ "names": ["read"], "action": action, "errnoRet": errno }],
        }));
        let Outcome { ret, .. } =
            run(&filter.unwrap().program, &Call { arch: X86_64, number: 0, args: [0; 6] });
        ret
    };
    for (action, expected) in [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", 0x0005_0001),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", 0x7fff_0000),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
    ] {
        assert_eq!(value(action, Value::Null), expected, "{action}");
    }
    assert_eq!(value("SCMP_ACT_ERRNO", json!(0)), 0x0005_0000);
    assert_eq!(value("SCMP_ACT_TRACE", json!(0xffff)), 0x7ff0_ffff);
}
