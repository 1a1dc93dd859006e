//! Tests of the table of flags: the change that each makes, that it makes no other, and that docs/images.md
//! lists it.

use super::*;
use serde_json::json;

const TEMPLATE: &str = include_str!("../../cmd/default-config.json");

fn config() -> Value {
    let mut config: Value = serde_json::from_str(TEMPLATE).unwrap();
    config["process"]["env"] = json!(["PATH=/bin", "A=image"]);
    config["annotations"] = json!({});
    config
}

fn changed_for(uid: u32, given: &[(&'static str, &str)]) -> Result<Value> {
    let mut config = config();
    config["process"]["user"]["uid"] = uid.into();
    let given = given.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    apply(&mut config, &Flags { given }, &View::default(), None)?;
    Ok(config)
}

fn changed(given: &[(&'static str, &str)]) -> Result<Value> {
    changed_for(0, given)
}

/// Flags; a place in the config; the value there.
type Row = (&'static [(&'static str, &'static str)], &'static str, Value);

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let bind = |destination: &str, options: Value| json!({
        "destination": destination, "type": "bind", "source": "/etc", "options": options
    });
    vec![
        (&[], "/process/noNewPrivileges", json!(false)),
        (&[], "/linux/resources/pids/limit", json!(2048)),
        (&[], "/annotations", json!({"run.brig.defaults": "pids"})),
        (&[], "/linux/sysctl", json!({"net.ipv4.ping_group_range": "0 0"})),
        (&[], "/linux/seccomp/defaultErrnoRet", json!(38)),
        (&[], "/process/rlimits/0/type", json!("RLIMIT_NOFILE")),
        (&[("network", "none")], "/linux/sysctl", json!({"net.ipv4.ping_group_range": "0 0"})),
        (&[("network", "host")], "/linux/sysctl", Value::Null),
        (&[("network", "ns:/proc/self/ns/net")], "/linux/namespaces/5", json!({"type": "network", "path": "/proc/self/ns/net"})),
        (&[], "/mounts/0/options", json!(["nosuid", "noexec", "nodev"])),
        (&[("hostname", "h")], "/hostname", json!("h")),
        (&[("env", "A=1"), ("env", "B=x=y")], "/process/env", json!(["PATH=/bin", "A=1", "B=x=y"])),
        (&[("env", "NOT_IN_THE_ENVIRONMENT")], "/process/env", json!(["PATH=/bin", "A=image"])),
        (&[("group-add", "7"), ("group-add", "7")], "/process/user/additionalGids", json!([7])),
        (&[("group-add", "keep-groups")], "/annotations/run.oci.keep_original_groups", json!("1")),
        (&[("workdir", "/a"), ("workdir", "/b")], "/process/cwd", json!("/b")),
        (&[("tty", "")], "/process/terminal", json!(true)),
        (&[("volume", "/etc:/x/")], "/mounts/7", bind("/x", json!(["rbind", "rprivate"]))),
        (&[("volume", "/etc:/x:ro,z,shared,bind")], "/mounts/7", bind("/x", json!(["ro", "shared", "bind"]))),
        (&[("volume", "/etc:/x/y"), ("volume", "/etc:/x")], "/mounts/8/destination", json!("/x/y")),
        (&[("volume", "/etc:/dev/shm")], "/mounts/6/destination", json!("/dev/shm")),
        (&[("volume", "/etc:/x"), ("volume", "/etc:/x")], "/mounts/8", Value::Null),
        (&[("mount", "type=bind,src=/etc,dst=/x,ro")], "/mounts/7", bind("/x", json!(["ro", "rbind", "rprivate"]))),
        (&[("mount", "type=tmpfs,target=/x,tmpfs-size=1m,exec")], "/mounts/7/options", json!(["size=1048576", "exec", "rw", "nosuid", "nodev", "tmpcopyup"])),
        (&[("tmpfs", "/x")], "/mounts/7", json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["rw", "noexec", "nosuid", "nodev", "tmpcopyup"]})),
        (&[("tmpfs", "/x:size=64k,mode=1777")], "/mounts/7/options/0", json!("size=65536")),
        (&[("shm-size", "1m")], "/mounts/3/options/4", json!("size=1048576")),
        (&[("read-only", "")], "/root/readonly", json!(true)),
        (&[("read-only", "")], "/mounts/9/destination", json!("/var/tmp")),
        (&[("read-only", ""), ("read-only-tmpfs", "false")], "/mounts/7", Value::Null),
        (&[("read-only", ""), ("volume", "/etc:/tmp")], "/mounts/7/type", json!("bind")),
        (&[("device", "/dev/null:/dev/x:r")], "/linux/devices/0/path", json!("/dev/x")),
        (&[("device", "/dev/null:r")], "/linux/resources/devices/1", json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"})),
        (&[("memory", "64m")], "/linux/resources/memory", json!({"limit": 64 << 20, "swap": 128 << 20})),
        (&[("memory", "64m")], "/annotations/run.brig.defaults", json!("pids,swap")),
        (&[("memory", "64m"), ("memory-swap", "-1")], "/linux/resources/memory/swap", json!(-1)),
        (&[("memory", "64m"), ("memory-swap", "-1")], "/annotations/run.brig.defaults", json!("pids")),
        (&[("cpus", "1.5")], "/linux/resources/cpu", json!({"quota": 150_000, "period": 100_000})),
        (&[("cpus", "1.5"), ("cpus", "0")], "/linux/resources/cpu", Value::Null),
        (&[("pids-limit", "5")], "/linux/resources/pids/limit", json!(5)),
        (&[("pids-limit", "5")], "/annotations", json!({})),
        (&[("pids-limit", "-1")], "/linux/resources/pids", Value::Null),
        (&[("ulimit", "nofile=5:6")], "/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}])),
        (&[("ulimit", "core=-1")], "/process/rlimits/1", json!({"type": "RLIMIT_CORE", "soft": u64::MAX, "hard": u64::MAX})),
        (&[("ulimit", "host")], "/process/rlimits", json!([])),
        (&[("ulimit", "host"), ("ulimit", "core=0")], "/process/rlimits/0/type", json!("RLIMIT_CORE")),
        (&[("sysctl", "net.core.somaxconn=5")], "/linux/sysctl/net.core.somaxconn", json!("5")),
        (&[("sysctl", "net.ipv4.ping_group_range=1 0")], "/linux/sysctl/net.ipv4.ping_group_range", json!("1 0")),
        (&[("cap-drop", "all"), ("cap-add", "chown")], "/process/capabilities", json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]})),
        (&[("security-opt", "seccomp=unconfined")], "/linux/seccomp", Value::Null),
        (&[("security-opt", "no-new-privileges:true")], "/process/noNewPrivileges", json!(true)),
        (&[("security-opt", "apparmor=p")], "/process/apparmorProfile", json!("p")),
        (&[("security-opt", "label=disable")], "/process/selinuxLabel", Value::Null),
        (&[("security-opt", "mask=/a:/b"), ("security-opt", "unmask=/proc/*:/sys/*:/sys/dev/block:/sys/devices/virtual/powercap:/a")], "/linux/maskedPaths/0", json!("/sys/fs/selinux")),
        (&[("security-opt", "unmask=ALL"), ("security-opt", "mask=/a:/b")], "/linux/maskedPaths", json!(["/a", "/b"])),
        (&[("security-opt", "unmask=/proc/bus")], "/linux/readonlyPaths", json!(["/proc/asound", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"])),
        (&[("no-new-privs", "")], "/process/noNewPrivileges", json!(true)),
        (&[("label", "a=b=c"), ("label", "d")], "/annotations/a", json!("b=c")),
        (&[("annotation", "a=b")], "/annotations/a", json!("b")),
        (&[("stop-signal", "INT")], "/annotations/org.opencontainers.image.stopSignal", json!("INT")),
    ]
}

#[test]
fn each_flag_changes_what_the_table_says() {
    let mut tested: Vec<&str> = Vec::new();
    for (given, place, expected) in rows() {
        let config = changed(given).unwrap_or_else(|error| panic!("{given:?}: {error:#}"));
        let found = config.pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{given:?} at {place}");
        tested.extend(given.iter().map(|(name, _)| *name));
    }
    // Tested with an image, or without effect on the config.
    let elsewhere = ["add-host", "entrypoint", "env-file", "init", "interactive", "pull", "user"];
    for flag in FLAGS {
        let known = tested.contains(&flag.name) != elsewhere.contains(&flag.name);
        assert!(known, "--{}", flag.name);
    }
}

#[test]
fn another_user_has_what_was_added_by_name_and_keeps_it() {
    let capabilities =
        |given: &[_]| changed_for(5, given).unwrap()["process"]["capabilities"].clone();
    assert_eq!(capabilities(&[])["effective"], Value::Null);
    let added = capabilities(&[("cap-add", "net_raw"), ("cap-drop", "chown")]);
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(added[set], json!(["CAP_NET_RAW"]), "{set}");
    }
    assert_eq!(added["bounding"].as_array().unwrap().len(), 11);
}

#[test]
fn the_filter_is_for_the_bounding_set() {
    let allows = |given: &[_], name: &str| {
        let config = changed(given).unwrap();
        let entries = config["linux"]["seccomp"]["syscalls"].as_array().unwrap().clone();
        entries.iter().any(|entry| {
            entry["action"] == "SCMP_ACT_ALLOW"
                && entry["names"].as_array().unwrap().contains(&json!(name))
        })
    };
    assert!(allows(&[], "chroot") && !allows(&[], "mount"));
    assert!(allows(&[("cap-add", "sys_admin")], "mount"));
    assert!(!allows(&[("cap-drop", "ALL")], "chroot"));
}

#[test]
fn what_cannot_be_done_is_an_error_that_says_what_can() {
    let long = "x".repeat(65);
    for (name, value, word) in [
        ("network", "bridge", "docs/images.md"),
        ("network", "pasta", "ip netns"),
        ("network", "ns:rel", "absolute"),
        ("network", "ns:/nothing/there", "No such file"),
        ("network", "container:x", "ns:PATH"),
        ("hostname", long.as_str(), "64"),
        ("add-host", "a", "NAME:IP"),
        ("add-host", "a:b", "NAME:IP"),
        ("env", "=x", "no name"),
        ("env-file", "/dev/zero", "not a regular file"),
        ("env-file", "/nothing/there", "No such file"),
        ("workdir", "a", "absolute"),
        ("volume", "/x", "--tmpfs"),
        ("volume", "data:/x", "named volumes"),
        ("volume", "/nothing/there:/x", "must exist"),
        ("volume", "/etc:x", "absolute"),
        ("volume", "/etc:/", "root"),
        ("volume", "/etc:/x/../..", "contains .."),
        ("volume", "/etc:/x:O", "ro"),
        ("volume", "/etc:/x:U", "chown"),
        ("volume", "/etc:/x:nocreate", "named volumes"),
        ("volume", "/etc:/x:copy", "named volumes"),
        ("volume", "/etc:/x:rx", "\"rx\""),
        ("volume", "/etc:/x:ro,rw", "exclude each other"),
        ("volume", "/a:/b:/c:/d", "--mount"),
        ("mount", "type=bind,src=/etc,dst=/x,U=true", "chown -R"),
        ("mount", "type=volume,dst=/x", "does not support volumes"),
        ("mount", "type=bind,dst=/x", "source"),
        ("mount", "type=tmpfs", "destination"),
        ("mount", "type=bind,src=/etc,dst=/x,bogus=1", "bogus"),
        ("tmpfs", "/x:bogus", "bogus"),
        ("tmpfs", "x", "absolute"),
        ("shm-size", "x", "size"),
        ("device", "/etc/passwd", "is not a device"),
        ("device", "/etc:/dev/x", "/etc contains no device"),
        ("device", "vendor.com/class=name", "CDI"),
        ("device", "/dev/null:x", "absolute"),
        ("memory", "-5", "size"),
        ("memory-swap", "5", "--memory"),
        ("cpus", "-1", "CPUs"),
        ("cpus", "NaN", "CPUs"),
        ("pids-limit", "x", "tasks"),
        ("ulimit", "nofile", "NAME=VALUE"),
        ("ulimit", "bogus=1", "unknown limit"),
        ("ulimit", "nofile=2:1", "soft limit"),
        ("sysctl", "x", "NAME=VALUE"),
        ("cap-add", "bogus", "unknown capability"),
        ("security-opt", "label=type:x", "seccomp="),
        ("security-opt", "seccomp=/dev/zero", "not a regular file"),
        ("security-opt", "seccomp=/etc/passwd", "/etc/passwd"),
        ("label", "=x", "NAME=VALUE"),
        ("label", "run.brig.overlay.layers=/", "reserved for brig"),
        ("stop-signal", "NOPE", "NOPE"),
        ("pull", "always", "skopeo copy"),
    ] {
        let error = match changed(&[(name, value)]) {
            Err(error) => sys::describe(&error),
            Ok(_) => panic!("--{name} {value}"),
        };
        assert!(error.contains(word) && error.contains(name), "--{name} {value}: {error}");
    }
    assert!(changed(&[("tmpfs", "/x"), ("tmpfs", "/x/")]).is_err());
}

#[test]
fn the_page_has_a_line_for_each_flag() {
    let page = include_str!("../../../docs/images.md");
    for flag in FLAGS {
        let is_of = |line: &&str| {
            let name = line.strip_prefix("| `--").and_then(|line| line.strip_prefix(flag.name));
            name.is_some_and(|rest| rest.starts_with(['`', ' ']))
        };
        let line = page.lines().find(is_of);
        let line = line.unwrap_or_else(|| panic!("docs/images.md has no line for --{}", flag.name));
        for place in flag.change.split(", ") {
            assert!(line.contains(place), "--{}: {place} is missing in {line}", flag.name);
        }
    }
}
