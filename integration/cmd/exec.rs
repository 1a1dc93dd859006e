//! exec: another process in a running container.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Done, Sandbox, brig_only, is_peer};
use serde_json::json;
use std::fs;

/// A running container that sleeps.
fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    started(&sandbox);
    sandbox
}

pub fn started(sandbox: &Sandbox) {
    sandbox.script("sleep 60").create();
    sandbox.start();
}

pub fn exec(sandbox: &Sandbox, flags: &[&str], script: &str) -> Done {
    let words: Vec<&str> = script.split_whitespace().collect();
    sandbox.brig(&[&["exec"], flags, &[sandbox.id.as_str(), "/init"], &words].concat())
}

#[track_caller]
fn facts(sandbox: &Sandbox, flags: &[&str], script: &str) -> Facts {
    Facts::parse(&exec(sandbox, flags, script).ok().stdout)
}

#[test]
fn it_joins_every_namespace_and_cgroup_of_the_container() {
    let sandbox = running();
    let pid = sandbox.pid();
    let seen = facts(&sandbox, &[], "ns ; cgroups ; uname");
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let of_init = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        let line = of_init.display().to_string();
        assert!(seen.0.iter().any(|fact| fact.ends_with(&line)), "{name}: {line}: {seen}");
    }
    let done = exec(&sandbox, &["--detach", "--pid-file", "pid"], "sleep 60").ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let other: i64 = fs::read_to_string(sandbox.dir.join("pid")).unwrap().parse().unwrap();
    let cgroup = |pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(other), cgroup(pid));
}

#[test]
fn its_exit_code_is_the_processes_own() {
    let sandbox = running();
    assert_eq!(exec(&sandbox, &[], "exit 7").code, Some(7));
    assert_eq!(exec(&sandbox, &[], "raise KILL").code, Some(137));
    assert_eq!(exec(&sandbox, &[], "true").code, Some(0));
}

#[test]
fn errors_and_warnings_name_the_flag_that_they_are_about() {
    brig_only!();
    let sandbox = running();
    for (flags, error) in [
        (["--env", "X"], "exec ID: --env: \"X\" is not NAME=value"),
        (["--cwd", "tmp"], "exec ID: --cwd: \"tmp\" is not an absolute path"),
        (["--cwd", "/no/such"], "exec ID: --cwd: chdir(/no/such): No such file"),
        (["--detach", "--tty"], "exec ID: --tty: the terminal of a detached container needs"),
        (
            ["--additional-gids", "4294967295"],
            "exec ID: --additional-gids: 4294967295 is not a valid id",
        ),
    ] {
        let failed = exec(&sandbox, &flags, "true");
        assert_eq!(failed.code, Some(255), "{failed:?}");
        assert!(failed.stderr.contains(&error.replace("ID", &sandbox.id)), "{failed:?}");
    }
    let done = exec(&sandbox, &["--cap", "CAP_OF_TOMORROW"], "true").ok();
    let warning = "brig: warning: --cap: unknown capability \"CAP_OF_TOMORROW\" ignored\n";
    assert_eq!(done.stderr, warning);
}

#[test]
fn what_fails_in_the_container_is_located_in_the_process_file() {
    brig_only!();
    let sandbox = running();
    let file = sandbox.dir.join("process.json");
    fs::write(&file, "{\"args\": [\"/init\"],\n \"cwd\": \"/no/such\"}").unwrap();
    let done = sandbox.brig(&["exec", "--process", file.to_str().unwrap(), &sandbox.id]);
    let place = format!("cwd ({} line 2, column 9): chdir(/no/such)", file.display());
    assert!(done.stderr.contains(&place), "{done:?}");
}

#[test]
fn what_fails_before_the_process_is_255() {
    let sandbox = running();
    let nothing = sandbox.brig(&["exec", &sandbox.id, "/no/such"]);
    assert_eq!(nothing.code, Some(255));
    assert!(
        nothing.stderr.contains("exec: \"/no/such\": stat /no/such: no such file or directory"),
        "{nothing:?}"
    );
    let nowhere = sandbox.brig(&["exec", &sandbox.id, "nosuch"]);
    assert_eq!(nowhere.code, Some(255));
    assert!(
        nowhere.stderr.contains("exec: \"nosuch\": executable file not found in $PATH"),
        "{nowhere:?}"
    );
    assert_eq!(sandbox.brig(&["exec", "nobody", "/init"]).code, Some(255));
}

/// As in errors.
#[test]
fn warnings_about_its_process_file_have_line_and_column() {
    brig_only!();
    let sandbox = running();
    let mut process = sandbox.config()["process"].clone();
    process["args"] = json!(["/init", "true"]);
    process["capabilities"]["bounding"] = json!(["CAP_NOSUCH"]);
    let text = serde_json::to_string_pretty(&process).unwrap();
    fs::write(sandbox.dir.join("process.json"), &text).unwrap();
    let said = sandbox.brig(&["exec", "--process", "process.json", &sandbox.id]).ok().stderr;
    let line = 1 + text.lines().position(|line| line.contains("CAP_NOSUCH")).unwrap();
    let place = format!("capabilities.bounding[0] (process.json line {line}, column 7): unknown");
    assert!(said.starts_with(&format!("brig: warning: {place}")), "{said}");
}

/// conmon since 2.2 uses only this file to detect whether the program was executed.
#[test]
fn its_pid_file_is_written_only_after_the_program_is_executed() {
    let sandbox = running();
    sandbox.add_file("etc/program", "not executable");
    sandbox.add_file("etc/script", "#!/no/such/interpreter\n");
    crate::run::make_executable(&sandbox, "etc/script");
    let file = sandbox.dir.join("pid");
    let exec = |detach: &[&'static str], words: &[&str]| {
        let flags = [&["exec", "--pid-file", "pid"][..], detach, &[&sandbox.id]].concat();
        sandbox.brig(&[&flags[..], words].concat())
    };
    for detach in [&[][..], &["--detach"]] {
        for program in ["nosuch", "/etc/program", "/etc", "/etc/script"] {
            let done = exec(detach, &[program]);
            assert!(done.code.is_some_and(|code| code != 0), "{program}: {done:?}");
            // runc writes it before it detects a missing interpreter.
            assert!(!file.exists() || program == "/etc/script" && is_peer(), "{program}: {done:?}");
            drop(fs::remove_file(&file));
            if !is_peer() {
                let one_line = done.stderr.ends_with('\n') && done.stderr.lines().count() == 1;
                assert!(one_line, "{program}: {done:?}");
                fs::write(&file, "old").unwrap();
                exec(detach, &[program]);
                assert_eq!(fs::read_to_string(&file).unwrap(), "old", "{program}");
                fs::remove_file(&file).unwrap();
            }
        }
        // It exists when exec ends, although the program has ended before.
        exec(detach, &["/init", "true"]).ok();
        let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
        assert!(pid > 1);
        fs::remove_file(&file).unwrap();
    }
    let beside = fs::read_dir(&sandbox.dir).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = beside.filter(|name| name.to_string_lossy().starts_with(".pid")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// conmon 2.2 relies on nothing else: a program that exits with the codes of a failed execution has been
/// executed.
#[test]
fn its_pid_file_tells_a_program_that_fails_from_one_that_was_not_executed() {
    let sandbox = running();
    let file = sandbox.dir.join("pid");
    for code in [1, 126, 127, 255] {
        let script = format!("exit {code}");
        let done = exec(&sandbox, &["--pid-file", "pid"], &script);
        assert_eq!((done.code, done.stderr.as_str()), (Some(code), ""), "{done:?}");
        assert!(
            fs::read_to_string(&file).is_ok_and(|pid| pid.parse::<i32>().is_ok_and(|pid| pid > 1))
        );
        fs::remove_file(&file).unwrap();
        let done = exec(&sandbox, &["--detach", "--pid-file", "pid"], &script).ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
        fs::remove_file(&file).unwrap();
    }
}

/// Detectable errors come before the clone: no program is executed whose pid cannot be written.
#[test]
fn a_pid_file_that_cannot_be_written_fails_exec_before_its_program_runs() {
    brig_only!();
    let sandbox = running();
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    for path in ["no/such/directory/pid", "/proc/pid"] {
        let args = ["exec", "--pid-file", path, &sandbox.id, "/init", "write", "/tmp/ran", "yes"];
        let done = sandbox.brig(&args);
        assert_eq!(done.code, Some(255), "{done:?}");
        assert!(done.stderr.contains("--pid-file"), "{done:?}");
        assert!(!sandbox.rootfs().join("tmp/ran").exists(), "{done:?}");
    }
}

#[test]
fn its_capabilities_are_ambient_where_the_config_has_inheritable_ones() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let process = &mut config["process"];
        process["noNewPrivileges"] = json!(false);
        process["capabilities"] =
            json!({"bounding": ["CAP_NET_RAW"], "inheritable": ["CAP_NET_RAW"]});
    });
    started(&sandbox);
    let seen = facts(
        &sandbox,
        &["--user", "1000", "--cap", "CAP_NET_RAW"],
        "status CapEff ; status CapAmb",
    );
    assert_eq!(seen.get("CapEff"), "0000000000002000", "{seen}");
    assert_eq!(seen.get("CapAmb"), "0000000000002000", "{seen}");
    // A capability that is not inheritable cannot be ambient.
    let seen =
        facts(&sandbox, &["--user", "1000", "--cap", "CAP_CHOWN"], "status CapEff ; status CapAmb");
    assert_eq!(seen.get("CapEff"), "0000000000000000", "{seen}");
}

/// The contents of a directory that may not be searched are unknown.
#[test]
fn a_program_is_not_said_to_be_in_a_directory_that_cannot_be_searched() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["process"]["capabilities"] = json!({}));
    started(&sandbox);
    sandbox.add_file("closed/nosuch", "");
    sandbox.add_file("open/plain", "");
    let closed = sandbox.rootfs().join("closed");
    fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let env = ["exec", "--user", "1000", "--env", "PATH=/closed:/open:/bin", &sandbox.id];
    for (program, there) in [("nosuch", false), ("other", false), ("plain", true)] {
        let said = sandbox.brig(&[&env[..], &[program]].concat()).stderr.replace("\\\"", "\"");
        assert!(
            said.contains(&format!("exec: \"{program}\": executable file not found in $PATH")),
            "{said}"
        );
        if !is_peer() {
            assert_eq!(said.contains("exists, but is not executable"), there, "{said}");
        }
    }
}

#[test]
fn a_failed_exec_leaves_no_zombie_in_the_container() {
    let sandbox = running();
    sandbox.brig(&["exec", &sandbox.id, "/no/such"]);
    let seen = facts(&sandbox, &[], "list /proc");
    let entries = seen.all("entry /proc");
    let pids: Vec<_> = entries.iter().filter(|name| name.parse::<u32>().is_ok()).collect();
    assert_eq!(pids.len(), 2, "init and what lists: {pids:?}");
}

#[test]
fn flags_change_what_the_config_says() {
    let sandbox = running();
    let seen = facts(
        &sandbox,
        &[
            "--cwd",
            "/tmp",
            "--env",
            "A=1",
            "-e",
            "B=2",
            "--user",
            "1000:7",
            "-g",
            "8",
            "--additional-gids",
            "9",
        ],
        "cwd ; env ; ids",
    );
    assert_eq!(seen.get("cwd"), "/tmp");
    assert_eq!(seen.get("groups"), "8 9");
    assert!(seen.0.iter().any(|line| line.contains("A=1")), "{seen}");
    assert!(seen.0.iter().any(|line| line.contains("B=2")), "{seen}");
    assert!(seen.0.iter().any(|line| line.starts_with("uid") && line.contains("1000")), "{seen}");
    assert!(seen.0.iter().any(|line| line.starts_with("gid") && line.contains('7')), "{seen}");
}

#[test]
fn a_user_that_is_not_two_plain_numbers_is_refused() {
    brig_only!();
    let sandbox = running();
    for bad in ["1000abc", ":5", "-1", "4294967296", "4294967295", "1:", "root"] {
        let done = exec(&sandbox, &[&format!("--user={bad}")], "ids");
        assert_eq!((done.code, done.stdout.as_str()), (Some(255), ""), "{bad}: {done:?}");
        assert!(done.stderr.contains(bad), "{done:?}");
    }
}

#[test]
fn a_process_file_says_all() {
    let sandbox = running();
    let process = json!({
        "args": ["/init", "ids", ";", "env", ";", "cwd", ";", "status", "CapEff"],
        "env": ["ONLY=this"], "cwd": "/tmp", "user": {"uid": 5, "gid": 6},
    });
    fs::write(sandbox.dir.join("process.json"), process.to_string()).unwrap();
    let seen = Facts::parse(
        &sandbox.brig(&["exec", "--process", "process.json", &sandbox.id]).ok().stdout,
    );
    assert_eq!(seen.get("cwd"), "/tmp");
    assert!(seen.0.iter().any(|line| line.contains("ONLY=this")), "{seen}");
    assert!(!seen.0.iter().any(|line| line.contains("BRIG_TEST")), "{seen}");
}

#[test]
fn what_a_process_file_does_not_limit_is_limited_as_the_container_is() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let sets = ["bounding", "effective", "permitted"].map(|set| (set, json!(["CAP_KILL"])));
        config["process"]["capabilities"] = sets.into_iter().collect();
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 99 }]);
        config["process"]["oomScoreAdj"] = json!(321);
    });
    started(&sandbox);
    let script = "status CapEff ; read /proc/self/limits ; read /proc/self/oom_score_adj";
    let args: Vec<&str> = std::iter::once("/init").chain(script.split(' ')).collect();
    let process = json!({ "args": args, "cwd": "/" });
    fs::write(sandbox.dir.join("process.json"), process.to_string()).unwrap();
    let done = sandbox.brig(&["exec", "-p", "process.json", &sandbox.id]).ok();
    let seen = Facts::parse(&done.stdout);
    assert_eq!(seen.get("CapEff"), "0000000000000020");
    let limits = seen.get("read /proc/self/limits");
    assert!(limits.contains("Max open files            77                   99"), "{limits}");
    if !is_peer() {
        assert_eq!(seen.get("read /proc/self/oom_score_adj"), "\"321\\n\"");
    }
}

#[test]
fn a_bad_process_file_names_the_place() {
    brig_only!();
    let sandbox = running();
    fs::write(sandbox.dir.join("process.json"), "{\"args\": [\"/init\"],\n \"cwd\": 5}").unwrap();
    let done = sandbox.brig(&["exec", "--process", "process.json", &sandbox.id]);
    assert_eq!(done.code, Some(255));
    for part in ["process.json", "cwd", "line 2"] {
        assert!(done.stderr.contains(part), "{done:?}");
    }
}

#[test]
fn capabilities_are_added_but_never_inheritable() {
    let sandbox = running();
    let seen =
        facts(&sandbox, &["--cap", "CAP_NET_RAW"], "status CapInh CapPrm CapEff CapBnd CapAmb");
    let set = |name| u64::from_str_radix(seen.get(name), 16).unwrap();
    let net_raw = 1 << 13;
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_ne!(set(name) & net_raw, 0, "{name}: {seen}");
    }
    assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "CVE-2022-29162");
}

#[test]
fn it_has_the_containers_limits_and_no_new_privileges() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["oomScoreAdj"] = json!(321);
    });
    started(&sandbox);
    let seen = facts(
        &sandbox,
        &["--no-new-privs"],
        "rlimits ; status NoNewPrivs ; read /proc/self/oom_score_adj",
    );
    assert_eq!(seen.get("NoNewPrivs"), "1");
    assert!(seen.0.iter().any(|line| line.contains("NOFILE") && line.contains("100")), "{seen}");
    assert!(seen.0.iter().any(|line| line.contains("321")), "{seen}");
    assert_eq!(facts(&sandbox, &[], "status NoNewPrivs").get("NoNewPrivs"), "0");
}

#[test]
fn nothing_of_the_caller_is_inherited_but_the_descriptors_it_preserves() {
    let sandbox = running();
    let hand_over = |redirections: &str, flags: &[&str]| {
        let brig = sandbox.command(&[&["exec"], flags, &[&sandbox.id, "/init", "fds"]].concat());
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &format!("exec \"$@\" {redirections}"), "sh"]);
        command.arg(brig.get_program()).args(brig.get_args());
        sandbox.spawn(command).wait()
    };
    let numbers = |done: Done| -> Vec<String> {
        let seen = Facts::parse(&done.ok().stdout).0;
        seen.iter()
            .filter_map(|line| {
                Some(line.strip_prefix("fd ")?.split_whitespace().next()?.to_string())
            })
            .collect()
    };
    assert_eq!(numbers(hand_over("3</dev/null 4</dev/null 5</dev/null", &[])), ["0", "1", "2"]);
    assert_eq!(
        numbers(hand_over("3</dev/null 4</dev/null 5</dev/null", &["--preserve-fds", "2"])),
        ["0", "1", "2", "3", "4"]
    );
    let missing = hand_over("3</dev/null 4<&- 5<&-", &["--preserve-fds", "2"]);
    assert_eq!(missing.code, Some(255));
    brig_only!();
    assert!(missing.stderr.contains("descriptor 4 is not open"), "{missing:?}");
}

#[test]
fn it_joins_the_session_keyring_of_the_container() {
    let sandbox = Sandbox::new();
    let created = sandbox.script("keyring ; say done ; sleep 60").create();
    sandbox.start();
    created.wait_for_line("done");
    let own = created.facts_now();
    let theirs = facts(&sandbox, &[], "keyring");
    assert_eq!(own.get("keyring"), theirs.get("keyring"));
    assert!(own.get("keyring").contains(&format!("_ses.{}", sandbox.id)), "{own}");
}

#[test]
fn a_stopped_created_or_frozen_container_is_a_clear_case() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("true").create();
    assert_eq!(exec(&sandbox, &[], "exit 3").code, Some(3), "a created one has its namespaces");
    sandbox.start();
    sandbox.wait_for_status("stopped");
    let done = exec(&sandbox, &[], "true");
    assert_eq!(done.code, Some(255));
    assert!(done.stderr.contains("stopped container"), "{done:?}");
}

#[test]
fn the_config_of_create_counts_not_the_one_of_now() {
    let sandbox = running();
    sandbox.patch(|config| config["process"]["env"].as_array_mut().unwrap().push(json!("LATER=1")));
    let seen = facts(&sandbox, &[], "env");
    if is_peer() {
        return crate::sandbox::skip("runc reads the bundle again");
    }
    assert!(!seen.0.iter().any(|line| line.contains("LATER")), "{seen}");
}

#[test]
fn exec_cpu_affinity_is_set_before_and_after_the_cgroup() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"})
    });
    started(&sandbox);
    assert_eq!(facts(&sandbox, &[], "affinity").get("affinity"), "1");
}

#[test]
fn without_a_final_affinity_the_initial_one_stays() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["process"]["execCPUAffinity"] = json!({"initial": "1"}));
    started(&sandbox);
    assert_eq!(facts(&sandbox, &[], "affinity").get("affinity"), "1");
}

#[test]
fn signals_to_brig_reach_the_process() {
    let sandbox = running();
    let args = ["exec", &sandbox.id, "/init", "sigloop", "1"];
    let running = sandbox.spawn(sandbox.command(&args));
    running.wait_for_line("ready");
    let brig = nix::unistd::Pid::from_raw(running.child.id().cast_signed());
    nix::sys::signal::kill(brig, nix::sys::signal::Signal::SIGUSR1).unwrap();
    assert_eq!(Facts::parse(&running.wait().ok().stdout).get("signal"), "SIGUSR1");
}

#[test]
fn a_frozen_container_is_refused_unless_asked_otherwise() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    started(&sandbox);
    let Some((host::Version::V1, freezer)) = host::controller("freezer") else {
        return crate::sandbox::skip("no v1 freezer");
    };
    let state = freezer.join(&sandbox.id).join("freezer.state");
    fs::write(&state, "FROZEN").unwrap();
    let done = exec(&sandbox, &[], "true");
    // The process hangs in the freezer as soon as it is in the cgroup, so it must be thawed before waiting
    // for brig.
    fs::write(&state, "THAWED").unwrap();
    assert_eq!(done.code, Some(255));
    assert!(done.stderr.contains("paused") && done.stderr.contains("--ignore-paused"), "{done:?}");
    exec(&sandbox, &["--ignore-paused"], "true").ok();
}
