//! `process` except args: environment, working directory, user, privileges, limits.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, before_exec, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use sys::cred;

fn process(sandbox: &Sandbox, field: &str, value: Value) {
    sandbox.patch(|config| config["process"][field] = value);
}

/// The default configuration with one field of `process` changed.
fn with(field: &str, value: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    process(&sandbox, field, value);
    sandbox
}

/// The environment without the variable of the tests.
fn environment(facts: &Facts) -> Vec<&str> {
    facts.all("env").into_iter().filter(|variable| !variable.starts_with("BRIG_TEST=")).collect()
}

#[test]
fn the_environment_is_the_configured_one_and_home() {
    let sandbox = with("env", json!(["PATH=/bin", "EMPTY=", "A=b=c", "SPACE= x "]));
    let facts = sandbox.facts("env");
    assert_eq!(environment(&facts), ["PATH=/bin", "EMPTY=", "A=b=c", "SPACE= x ", "HOME=/"]);
}

#[test]
fn of_duplicate_variables_the_last_wins() {
    brig_only!();
    let facts =
        with("env", json!(["A=1", "PATH=/nowhere", "A=2", "PATH=/bin", "A=3"])).facts("env");
    let found = environment(&facts);
    assert_eq!(
        found.iter().filter(|variable| variable.starts_with("A=")).collect::<Vec<_>>(),
        [&"A=3"]
    );
    assert!(found.contains(&"PATH=/bin") && !found.contains(&"PATH=/nowhere"), "{facts}");
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let sandbox = with("user", json!({"uid": 1000, "gid": 1000}));
    sandbox.add_file(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n",
    );
    assert!(environment(&sandbox.facts("env")).contains(&"HOME=/home/me"));
    process(&sandbox, "user", json!({"uid": 7, "gid": 7}));
    assert!(environment(&sandbox.facts("env")).contains(&"HOME=/"));
    process(&sandbox, "env", json!(["HOME=/mine"]));
    assert!(environment(&sandbox.facts("env")).contains(&"HOME=/mine"));
}

#[test]
fn a_hostile_passwd_changes_nothing_but_home() {
    brig_only!();
    // Line ends, lines and fields of every kind; an infinite file; one that is not a regular file.
    for text in
        ["", "\n\n", "root", ":::::", "x:x:0", "root:x:4294967296:0::/evil:\n", "\u{0}\u{0}:\u{ff}"]
    {
        let sandbox = Sandbox::new();
        sandbox.add_file("etc/passwd", text);
        assert!(environment(&sandbox.facts("env")).contains(&"HOME=/"), "{text:?}");
    }
    for home in ["", "relative"] {
        let sandbox = Sandbox::new();
        sandbox.add_file("etc/passwd", &format!("root:x:0:0::{home}:\n"));
        let variable = format!("HOME={home}");
        assert!(environment(&sandbox.facts("env")).contains(&variable.as_str()), "{home:?}");
    }
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/passwd", &format!("root:x:0:0::{}:\n", "/x".repeat(1 << 20)));
    sandbox.facts("true");
    fs::remove_file(sandbox.rootfs().join("etc/passwd")).unwrap();
    // Opening a fifo without a writer must not block.
    nix::unistd::mkfifo(
        &sandbox.rootfs().join("etc/passwd"),
        nix::sys::stat::Mode::from_bits_truncate(0o644),
    )
    .unwrap();
    assert!(environment(&sandbox.facts("env")).contains(&"HOME=/"));
}

#[test]
fn a_passwd_that_is_a_link_stays_beneath_the_root() {
    brig_only!();
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.join("passwd");
    fs::write(&outside, "root:x:0:0::/outside:\n").unwrap();
    for to in
        [outside.to_str().unwrap(), "../../../passwd", "/proc/self/root/etc/passwd", "/dev/zero"]
    {
        let link = sandbox.rootfs().join("etc/passwd");
        std::os::unix::fs::symlink(to, &link).unwrap();
        assert!(environment(&sandbox.facts("env")).contains(&"HOME=/"), "{to}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn the_working_directory_is_made_when_it_is_missing() {
    let sandbox = with("cwd", json!("/new/deep/directory"));
    assert_eq!(sandbox.facts("cwd").get("cwd"), "/new/deep/directory");
}

#[test]
fn the_working_directory_may_be_a_mount() {
    let sandbox = with("cwd", json!("/dev/shm/here"));
    assert_eq!(sandbox.facts("cwd ; write x y ; stat /dev/shm/here/x").get("cwd"), "/dev/shm/here");
}

#[test]
fn the_working_directory_is_inside_of_the_container() {
    // CVE-2024-21626: a directory of the host that is open in brig, or was left open by its caller, must not
    // become the working directory.
    for fd in 3..20 {
        let sandbox = with("cwd", json!(format!("/proc/self/fd/{fd}")));
        let bundle = sandbox.script("cwd ; list ../../.. ; read ../../../etc/hostname").bundle();
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        let leaked = fs::File::open("/").unwrap();
        before_exec(&mut command, move || {
            // SAFETY: the number is free in the new process, and a failure only weakens the test.
            unsafe { libc::dup2(leaked.as_raw_fd(), 15) };
            Ok(())
        });
        let done = sandbox.spawn(command).wait();
        assert_eq!(done.code, Some(1), "{fd}: {done:?}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn the_working_directory_must_be_absolute() {
    brig_only!();
    for cwd in ["", "relative", "./x"] {
        let sandbox = with("cwd", json!(cwd));
        sandbox.create_with(&[]).fails_with("process.cwd");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn the_user_and_its_groups_are_as_configured() {
    let facts = with("user", json!({"uid": 1234, "gid": 5678, "additionalGids": [5678, 9, 10]}))
        .facts("ids");
    assert_eq!(facts.get("uid"), "1234 1234 1234");
    assert_eq!(facts.get("gid"), "5678 5678 5678");
    let mut groups: Vec<&str> = facts.get("groups").split(' ').collect();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, ["10", "5678", "9"]);
}

#[test]
fn rlimits_are_as_configured() {
    let sandbox = with(
        "rlimits",
        json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
            {"type": "RLIMIT_NPROC", "soft": 500, "hard": 500},
            {"type": "RLIMIT_FSIZE", "soft": 1_000_000, "hard": 18_446_744_073_709_551_615_u64}
        ]),
    );
    let facts = sandbox.facts("rlimits");
    assert_eq!(facts.get("rlimit NOFILE"), "100 200");
    assert_eq!(facts.get("rlimit CORE"), "0 4096");
    assert_eq!(facts.get("rlimit NPROC"), "500 500");
    assert_eq!(facts.get("rlimit FSIZE"), "1000000 18446744073709551615");
}

#[test]
fn a_low_limit_of_files_does_not_hinder_the_start() {
    brig_only!();
    let facts =
        with("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}])).facts("rlimits");
    assert_eq!(facts.get("rlimit NOFILE"), "4 4");
}

fn capabilities(
    bounding: &[&str],
    effective: &[&str],
    inheritable: &[&str],
    ambient: &[&str],
) -> Value {
    json!({
        "bounding": bounding, "effective": effective, "permitted": effective,
        "inheritable": inheritable, "ambient": ambient
    })
}

const CAP_SETS: &str = "status CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs";

#[test]
fn capabilities_are_exactly_the_configured_ones() {
    let sets = capabilities(
        &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        &["CAP_CHOWN", "CAP_KILL"],
        &[],
        &[],
    );
    let sandbox = with("capabilities", sets);
    let facts = sandbox.facts(CAP_SETS);
    assert_eq!(facts.get("CapPrm"), format!("{:016x}", 1 | 1 << 5));
    assert_eq!(facts.get("CapEff"), format!("{:016x}", 1 | 1 << 5));
    process(&sandbox, "noNewPrivileges", json!(false));
    let facts = sandbox.facts(CAP_SETS);
    assert_eq!(facts.get("CapInh"), "0000000000000000");
    assert_eq!(facts.get("CapAmb"), "0000000000000000");
    assert_eq!(facts.get("CapBnd"), format!("{:016x}", 1 | 1 << 5 | 1 << 13));
    // On root's execve, the bounding set determines permitted and effective.
    assert_eq!(facts.get("CapPrm"), format!("{:016x}", 1 | 1 << 5 | 1 << 13));
}

#[test]
fn a_user_keeps_only_ambient_capabilities() {
    let user = json!({"uid": 1000, "gid": 1000});
    let names = ["CAP_NET_BIND_SERVICE"];
    let sandbox = with("capabilities", capabilities(&names, &names, &names, &names));
    process(&sandbox, "user", user.clone());
    let facts = sandbox.facts(CAP_SETS);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(facts.get(set), format!("{:016x}", 1 << 10), "{set}");
    }
    let sandbox = with("capabilities", capabilities(&names, &names, &[], &[]));
    process(&sandbox, "user", user);
    let facts = sandbox.facts(CAP_SETS);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(facts.get(set), "0000000000000000", "{set}");
    }
}

#[test]
fn what_cannot_be_ambient_is_a_debug_line() {
    brig_only!();
    let names = ["CAP_NET_BIND_SERVICE"];
    // Ambient requires inheritable and permitted.
    let not_inheritable = capabilities(&names, &names, &[], &names);
    let not_permitted = capabilities(&names, &[], &names, &names);
    for sets in [not_inheritable, not_permitted] {
        let sandbox = with("capabilities", sets);
        let done = sandbox.script(CAP_SETS).run().ok();
        // podman build requests it with every RUN.
        assert_eq!(done.stderr, "");
        let bundle = sandbox.bundle();
        let debug = ["--debug", "run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        let said = sandbox.brig(&debug).ok().stderr;
        assert!(said.contains("brig: debug: process.capabilities.ambient: CAP_NET_BIND"), "{said}");
        assert_eq!(Facts::parse(&done.stdout).get("CapAmb"), "0000000000000000");
    }
}

/// CVE-2022-24769, and sets inherited from a service manager or a login.
#[test]
fn what_the_caller_has_inheritable_and_ambient_is_not_the_containers() {
    let sandbox = Sandbox::new();
    sandbox.script(&format!("{CAP_SETS} ; securebits"));
    let mut command =
        sandbox.command(&["run", "-b", sandbox.bundle().to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || {
        let mut sets = cred::capget().map_err(|error| error.errno)?;
        // CAP_CHOWN, which the config grants, and CAP_SYS_ADMIN.
        sets.inheritable |= 1 | 1 << 21;
        cred::capset(&sets).map_err(|error| error.errno)?;
        cred::raise_ambient(0).map_err(|error| error.errno)?;
        Ok(cred::raise_ambient(21).map_err(|error| error.errno)?)
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(facts.get("CapInh"), "0000000000000000");
    assert_eq!(facts.get("CapAmb"), "0000000000000000");
    assert_eq!(facts.number("securebits", 0), 0);
}

#[test]
fn securebits_are_the_callers() {
    /// linux/securebits.h
    const NO_CAP_AMBIENT_RAISE: libc::c_int = 1 << 6;
    let sandbox = Sandbox::new();
    sandbox.script("securebits");
    let mut command =
        sandbox.command(&["run", "-b", sandbox.bundle().to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || {
        // SAFETY: takes integers only.
        match unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_CAP_AMBIENT_RAISE) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(facts.get("securebits"), NO_CAP_AMBIENT_RAISE.to_string());
}

#[test]
fn without_capabilities_the_process_has_none() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| drop(config["process"].as_object_mut().unwrap().remove("capabilities")));
    let facts = sandbox.facts(CAP_SETS);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(facts.get(set), "0000000000000000", "{set}: {facts}");
    }
}

#[test]
fn an_unknown_capability_is_a_warning() {
    let names = ["CAP_CHOWN", "CAP_TIME_TRAVEL"];
    let sandbox = with("capabilities", capabilities(&names, &names, &[], &[]));
    let done = sandbox.script(CAP_SETS).run().ok();
    assert!(done.stderr.contains("CAP_TIME_TRAVEL"), "{done:?}");
    assert_eq!(Facts::parse(&done.stdout).get("CapBnd"), "0000000000000001");
    if !crate::sandbox::is_peer() {
        let text = fs::read_to_string(sandbox.bundle().join("config.json")).unwrap();
        let line = 1 + text.lines().position(|line| line.contains("TIME_TRAVEL")).unwrap();
        let place = format!("process.capabilities.bounding[1] (config.json line {line}, column ");
        assert!(done.stderr.contains(&place), "{done:?}");
    }
}

#[test]
fn warnings_go_to_the_log_where_there_is_one() {
    let names = ["CAP_CHOWN", "CAP_TIME_TRAVEL"];
    let sandbox = with("capabilities", capabilities(&names, &names, &[], &[]));
    let log = sandbox.dir.join("log");
    let bundle = sandbox.bundle();
    let done = sandbox
        .brig(&[
            "--log",
            log.to_str().unwrap(),
            "create",
            "--bundle",
            bundle.to_str().unwrap(),
            &sandbox.id,
        ])
        .ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert!(fs::read_to_string(log).unwrap().contains("CAP_TIME_TRAVEL"));
}

#[test]
fn no_new_privileges_is_what_it_says() {
    for value in [true, false] {
        let facts = with("noNewPrivileges", json!(value)).facts(CAP_SETS);
        assert_eq!(facts.get("NoNewPrivs"), if value { "1" } else { "0" });
    }
}

#[test]
fn oom_score_adj_is_as_configured_and_the_callers_otherwise() {
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(
        Sandbox::new().facts("read /proc/self/oom_score_adj").get("read /proc/self/oom_score_adj"),
        format!("{own:?}")
    );
    let facts = with("oomScoreAdj", json!(321)).facts("read /proc/self/oom_score_adj");
    assert_eq!(facts.get("read /proc/self/oom_score_adj"), "\"321\\n\"");
}

#[test]
fn a_passwd_that_is_a_file_of_the_kernels_is_not_read() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let passwd = sandbox.rootfs().join("etc/passwd");
    for link in
        ["/proc/self/environ", "/proc/thread-self/environ", "/proc/kmsg", "/proc/self/status"]
    {
        _ = fs::remove_file(&passwd);
        std::os::unix::fs::symlink(link, &passwd).unwrap();
        let mut command = sandbox.command(&["exec", &sandbox.id, "/init", "env"]);
        command.env("SECRET", "\nroot:x:0:0::/of-the-caller:\n");
        let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
        assert!(!facts.to_string().contains("of-the-caller"), "{link}: {facts}");
    }
}
