//! Tests: planted mistakes, and lint's findings with their place.

use super::*;
use crate::spec::shape;

fn findings(text: &str) -> Vec<Finding> {
    let document = Document { name: "config.json", shape: shape::CONFIG, text: text.as_bytes() };
    lint(document, None).unwrap()
}

fn shown(finding: &Finding) -> String {
    let Finding { severity, rule, place, line, column, message } = finding;
    format!("{line}:{column} {} {rule} {place}: {message}", severity.name())
}

/// A config without findings, one part per line, so that the line number identifies the part.
const CLEAN: [&str; 13] = [
    r#"{ "ociVersion": "1.2.0","#,
    r#""root": { "path": "rootfs" },"#,
    r#""process": { "cwd": "/", "args": ["/bin/sh"], "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } },"#,
    r#""hostname": "web","#,
    r#""mounts": ["#,
    r#"{ "destination": "/proc", "type": "proc" },"#,
    r#"{ "destination": "/sys", "type": "sysfs", "options": ["ro"] },"#,
    r#"{ "destination": "/dev/pts", "type": "devpts" },"#,
    r#"{ "destination": "/dev/shm", "type": "tmpfs" }],"#,
    r#""hooks": {},"#,
    r#""annotations": {},"#,
    r#""linux": {"#,
    r#""namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}] } }"#,
];

/// The findings about the config with line `number` replaced.
fn planted(number: usize, line: &str) -> Vec<String> {
    let mut lines = CLEAN;
    lines[number - 1] = line;
    findings(&lines.join("\n")).iter().map(shown).collect()
}

#[test]
fn of_a_clean_config_nothing_is_said() {
    assert_eq!(planted(1, CLEAN[0]), [""; 0]);
}

/// The line to replace, its new text, and the finding about it.
const MISTAKES: &[(usize, &str, &str)] = &[
    // Keys.
    (
        4,
        r#""hostnme": "web","#,
        "4:1 error unknown-key hostnme: unknown key, ignored: did you mean hostname?",
    ),
    (4, r#""frobnicate": 1,"#, "4:1 warning unknown-key frobnicate: unknown key, ignored"),
    (
        4,
        r#""windows": {},"#,
        "4:1 note no-effect windows: is for another platform and has no effect on Linux",
    ),
    (
        4,
        r#""HostName": "web","#,
        "4:1 warning key-case HostName: is read as \"hostname\": keys are case-sensitive, other runtimes may ignore it",
    ),
    (
        4,
        r#""hostname": "a", "hostname": "web","#,
        "4:18 error duplicate-key hostname: is given twice: only the last value counts",
    ),
    // Errors of the plan.
    (
        4,
        r#""hostname": 5,"#,
        "4:13 error config hostname: invalid type: integer `5`, expected a string",
    ),
    (
        1,
        r#"{ "ociVersion": "2.0.0","#,
        "1:17 error config ociVersion: 2.0.0 is not supported: brig implements 1.x",
    ),
    (2, r#""root": { "path": "" },"#, "2:19 error config root.path: is empty"),
    (2, r#""domainname": "","#, "1:1 error config root: missing"),
    (
        3,
        r#""process": { "cwd": "tmp", "args": ["/bin/sh"] },"#,
        "3:21 error config process.cwd: \"tmp\" is not an absolute path",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": [] },"#,
        "3:34 error config process.args: is empty: give the program to run",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "env": ["A"] },"#,
        "3:51 error config process.env[0]: \"A\" is not NAME=value",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "oomScoreAdj": 2000 },"#,
        "3:58 error config process.oomScoreAdj: must be from -1000 to 1000",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "tmpfs" }, { "destination": "/proc/x", "type": "tmpfs" }],"#,
        "9:66 error config mounts[4].destination: /proc/x is inside /proc: nothing can be mounted there",
    ),
    (
        13,
        r#""timeOffsets": {"monotonic": {"secs": 1}}, "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}] } }"#,
        "13:30 error config linux.timeOffsets.monotonic: needs a new time namespace in linux.namespaces",
    ),
    (
        13,
        r#""namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "pid"}] } }"#,
        "13:95 error config linux.namespaces[4].type: a second pid namespace",
    ),
    // Warnings of the plan.
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "capabilities": { "bounding": ["CAP_SYS_ADMN"] } },"#,
        "3:74 warning config process.capabilities.bounding[0]: unknown capability \"CAP_SYS_ADMN\" ignored: did you mean \
         CAP_SYS_ADMIN?",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "capabilities": { "effective": ["CAP_CHOWN"], "bounding": ["CAP_CHOWN"] } },"#,
        "3:74 error config process.capabilities.effective: CAP_CHOWN: not in permitted, so the kernel refuses it as \
         effective",
    ),
    // Rules.
    (
        1,
        r#"{ "ociVersion": "1.9.0","#,
        "1:17 warning newer-version ociVersion: brig implements runtime-spec 1.3.0: what is newer is ignored",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "consoleSize": {"height": 1, "width": 1} },"#,
        "3:58 note no-effect process.consoleSize: has no effect without process.terminal",
    ),
    (
        8,
        r#""#,
        "5:11 note missing-mount mounts: no devpts is mounted on /dev/pts, which programs expect (config-linux.md, \
         Default Filesystems)",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "env": ["A=1", "B=2", "A=3"] },"#,
        "3:51 warning duplicate-variable process.env[0]: A is set again further down: this value has no effect",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["sh"] },"#,
        "3:35 note no-path process.args[0]: process.env has no PATH: the program is looked for in /bin and /usr/bin only",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 9}] },"#,
        "3:89 warning tiny-limit process.rlimits[0].soft: 3 open files are too few for most programs to start",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "user": {"uid": 5}, "capabilities": {"permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]} },"#,
        "3:122 warning capability-lost process.capabilities.effective[0]: CAP_CHOWN is lost at execve(2): the user is not \
         root, and it is not in ambient",
    ),
    (
        3,
        r#""process": { "cwd": "/", "args": ["/sh"], "capabilities": {"permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]} },"#,
        "3:102 warning capability-lost process.capabilities.effective[0]: CAP_CHOWN is not in bounding, so that execve(2) \
         takes it from root",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "tmpfs" }, { "destination": "/dev/shm/", "type": "tmpfs" }],"#,
        "9:18 warning hidden-mount mounts[3].destination: is hidden by mounts[4], which is mounted later on /dev/shm",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "tmpfs", "options": ["sizr=1m"] }],"#,
        "9:59 warning unknown-option mounts[3].options[0]: \"sizr\" is not an option of tmpfs: did you mean size?",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "tmpfs", "options": ["ro", "rw"] }],"#,
        "9:59 warning contradicting-options mounts[3].options[0]: is taken back by \"rw\" further down",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "tmpfs", "options": ["nosuid", "nosuid"] }],"#,
        "9:69 note duplicate-option mounts[3].options[1]: is given before",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "bind", "source": "/x" }],"#,
        "9:38 error config mounts[3].type: \"bind\" is not a filesystem: a bind mount needs the option bind or rbind",
    ),
    (
        7,
        r#"{ "destination": "/sys", "type": "sysfs" },"#,
        "7:1 warning host-sys-writable mounts[1]: without a network namespace this is the host's /sys, writable: add \"ro\"",
    ),
    (
        9,
        r#"{ "destination": "/dev/shm", "type": "tmpfs" }, { "destination": "/sys/fs/cgroup", "type": "cgroup" }],"#,
        "9:49 warning host-cgroups-writable mounts[4]: without a cgroup namespace the host's cgroups are writable here: \
         add \"ro\" or the namespace",
    ),
    (
        10,
        r#""hooks": {"prestart": [{"path": "/bin/true"}]},"#,
        "10:23 note deprecated hooks.prestart: is deprecated since runtime-spec 1.0.2: use createRuntime, createContainer \
         or startContainer",
    ),
    (
        11,
        r#""annotations": {"run.oci.hooks.stdout": "/x"},"#,
        "11:41 note unsafe-annotation annotations[\"run.oci.hooks.stdout\"]: an engine must not let untrusted users set \
         this annotation: it changes how the runtime acts",
    ),
    (
        12,
        r#""linux": { "resources": {"memory": {"limit": 65536}},"#,
        "12:46 warning tiny-limit linux.resources.memory.limit: is less than 512 KiB: the program is likely to be killed \
         before it starts; the unit is bytes",
    ),
    (
        12,
        r#""linux": { "resources": {"memory": {"limit": 1048576, "reservation": 2097152}},"#,
        "12:70 warning no-effect linux.resources.memory.reservation: is more than the limit, and so has no effect",
    ),
    (
        12,
        r#""linux": { "resources": {"memory": {"swappiness": 10}},"#,
        "12:51 note cgroup-v1-only linux.resources.memory.swappiness: exists in cgroup v1 only: most hosts have cgroup v2 \
         alone",
    ),
    (
        12,
        r#""linux": { "resources": {"unified": {"pids.max": "9"}},"#,
        "12:37 note cgroup-v2-only linux.resources.unified: exists in cgroup v2 only: a host with v1 refuses it",
    ),
    (
        12,
        r#""linux": { "resources": {"cpu": {"period": 100000}},"#,
        "12:44 note no-effect linux.resources.cpu.period: has no effect without quota",
    ),
    (
        12,
        r#""linux": { "resources": {"devices": [{"allow": true, "access": "rwm"}]},"#,
        "12:38 warning all-devices linux.resources.devices[0]: allows every device of the host to be made and used, disks \
         included",
    ),
    (
        12,
        r#""linux": { "resources": {"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}, {"allow": false}]},"#,
        "12:38 warning hidden-rule linux.resources.devices[0]: is undone by linux.resources.devices[1], which is about all \
         devices",
    ),
    (
        12,
        r#""linux": { "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}],"#,
        "12:33 note default-device linux.devices[0].path: is made in every container (config-linux.md, Default Devices)",
    ),
    (
        12,
        r#""linux": { "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],"#,
        "12:27 warning no-effect linux.uidMappings: has no effect without a user namespace in linux.namespaces",
    ),
    (
        12,
        r#""linux": { "maskedPaths": ["/proc/kcore", "/proc/kcore"],"#,
        "12:43 note duplicate-path linux.maskedPaths[1]: /proc/kcore is in this list before",
    ),
    (
        12,
        r#""linux": { "maskedPaths": ["/a"], "readonlyPaths": ["/a"],"#,
        "12:53 note no-effect linux.readonlyPaths[0]: is masked, so it can be neither read nor written",
    ),
    (
        13,
        r#""namespaces": [{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}] } }"#,
        "13:15 note shared-namespace linux.namespaces: lists no pid namespace: it sees the host's processes, and orphans do \
         not end with it",
    ),
    // seccomp.
    (
        12,
        r#""linux": { "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mountt"], "action": "SCMP_ACT_ERRNO"}]},"#,
        "12:83 warning unknown-syscall linux.seccomp.syscalls[0].names[0]: \"mountt\" is not a system call of Linux: did \
         you mean mount?",
    ),
    (
        12,
        r#""linux": { "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW"}]},"#,
        "12:72 warning no-effect linux.seccomp.syscalls[0]: has the default action: it changes nothing",
    ),
    (
        12,
        r#""linux": { "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}, {"names": ["mount"], "action": "SCMP_ACT_KILL"}]},"#,
        "12:133 warning unreachable-rule linux.seccomp.syscalls[1].names[0]: is never reached: syscalls[0] decides about \
         mount without conditions",
    ),
    (
        12,
        r#""linux": { "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]},"#,
        "12:132 error config linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_KILL has no errno",
    ),
    (
        12,
        r#""linux": { "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_LT"}]}]},"#,
        "12:130 warning constant-condition linux.seccomp.syscalls[0].args[0]: this condition is never true: the rule is \
         never applied",
    ),
    (
        12,
        r#""linux": { "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_ERRNO"}]},"#,
        "12:23 error program-forbidden linux.seccomp: forbids execve: the container's program cannot be started",
    ),
];

#[test]
fn every_planted_mistake_is_found_at_its_place_and_nothing_else() {
    let differing = MISTAKES.iter().filter_map(|(number, line, said)| {
        let found = planted(*number, line);
        (found != [*said]).then(|| format!("{line}\n  not {said}\n  but {found:#?}\n"))
    });
    let differing: String = differing.collect();
    assert!(differing.is_empty(), "{differing}");
}

#[test]
fn a_terminal_needs_a_devpts() {
    let text = CLEAN
        .join("\n")
        .replace("\"args\"", "\"terminal\": true, \"args\"")
        .replace("\"devpts\"", "\"tmpfs\"");
    let said: Vec<_> = findings(&text).iter().map(shown).collect();
    let wanted = "3:38 warning terminal-without-devpts process.terminal: no devpts is mounted on /dev/pts, which the terminal \
                  comes from";
    assert_eq!(said, [wanted]);
}

#[test]
fn all_errors_are_found_in_one_run_at_their_own_places() {
    let mounts = r#"{ "destination": "/proc/a", "type": "tmpfs" }, { "destination": "/ok", "type": "tmpfs" },
        { "destination": "/proc/b", "type": "tmpfs" }, { "type": "tmpfs" },"#;
    let mut lines = CLEAN;
    lines[2] =
        r#""process": { "cwd": "x", "args": [], "env": ["A", "B=1", "C"], "oomScoreAdj": 2000 },"#;
    let text = lines.join("\n").replace("\"mounts\": [", &format!("\"mounts\": [{mounts}"));
    let places: Vec<_> = findings(&text)
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| (finding.place, finding.line))
        .collect();
    let wanted = [
        ("process.cwd", 3),
        ("process.args", 3),
        ("process.env[0]", 3),
        ("process.env[2]", 3),
        ("process.oomScoreAdj", 3),
        ("mounts[0].destination", 5),
        ("mounts[2].destination", 6),
        ("mounts[3]", 6),
    ];
    assert_eq!(places, wanted.map(|(place, line)| (place.to_owned(), line)));
}

#[test]
fn a_text_that_is_not_json_is_one_error() {
    let said: Vec<_> = findings("{\n \"root\": ").iter().map(shown).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("2:"), "{said:?}");
}

#[test]
fn what_brig_spec_writes_has_no_error_and_no_warning() {
    let text = include_str!("../cmd/default-config.json");
    let bad = findings(text).into_iter().filter(|finding| finding.severity != Severity::Note);
    assert_eq!(bad.map(|finding| shown(&finding)).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn formats_escape_what_is_not_theirs() {
    let list = findings("{\"ociVersion\": \"1.0.0\", \"x\u{9b}\": 1}");
    let text = render(&list, "a,b:c\u{9b}.json", Format::Text);
    assert!(text.lines().count() == list.len() + 1 && !text.contains('\u{9b}'), "{text}");
    let github = render(&list, "a,b:c", Format::Github);
    assert!(
        github.lines().all(|line| line.starts_with("::") && line.contains("file=a%2Cb%3Ac,")),
        "{github}"
    );
    let sarif: serde_json::Value =
        serde_json::from_str(&render(&list, "f", Format::Sarif)).unwrap();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), list.len());
    let json: serde_json::Value = serde_json::from_str(&render(&list, "f", Format::Json)).unwrap();
    assert_eq!(json[0]["line"], 1);
}
