//! What a process must not inherit from brig's caller: environment, ids, umask, descriptors, signals,
//! affinity, keyring, session.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;

/// The default configuration with another user.
fn with_user(user: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["process"]["user"] = user);
    sandbox
}

#[test]
fn nothing_of_the_callers_environment_is_inherited() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("env").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    command.env("SECRET", "of the caller").env("LISTEN_FDS", "0");
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert!(!facts.0.iter().any(|line| line.contains("SECRET")), "{facts}");
}

#[test]
fn the_callers_groups_are_not_inherited() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("ids").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || Ok(nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(77)])?));
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(facts.get("groups"), "");
}

#[test]
fn the_umask_is_as_configured_and_otherwise_022_or_for_exec_the_callers() {
    assert_eq!(
        with_user(json!({"uid": 0, "gid": 0, "umask": 0o27})).facts("umask").get("umask"),
        "0027"
    );
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("umask").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o77));
        Ok(())
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(facts.get("umask"), "0022");
    // As in runc and crun, exec keeps the caller's.
    sandbox.script("sleep 60").create();
    sandbox.start();
    let mut command = sandbox.command(&["exec", &sandbox.id, "/init", "umask"]);
    before_exec(&mut command, || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o77));
        Ok(())
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(facts.get("umask"), "0077");
    let sandbox = with_user(json!({"uid": 0, "gid": 0, "umask": 0o1027}));
    assert_eq!(sandbox.facts("umask").get("umask"), "0027");
    // exec's processes get the container's, also with a file that does not set it.
    sandbox.script("sleep 60").create();
    sandbox.start();
    let process = json!({"args": ["/init", "umask"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "env": [format!("BRIG_TEST={}", sandbox.id)]});
    fs::write(sandbox.dir.join("process.json"), process.to_string()).unwrap();
    for args in [&["--process", "process.json", &sandbox.id][..], &[&sandbox.id, "/init", "umask"]]
    {
        let done = sandbox.brig(&[&["exec"], args].concat()).ok();
        assert_eq!(Facts::parse(&done.stdout).get("umask"), "0027", "{args:?}");
    }
}

#[test]
fn the_callers_umask_does_not_change_what_is_made() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("stat /dev/null ; stat /dev/shm").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o77));
        Ok(())
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert!(facts.get("stat /dev/null").starts_with("char 0666"), "{facts}");
    assert!(facts.get("stat /dev/shm").starts_with("dir 1777"), "{facts}");
}

#[test]
fn stdio_is_handed_over_to_the_user() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = with_user(json!({"uid": 1000, "gid": 1000}));
    let done = sandbox.script("open /proc/self/fd/1 w ; say done").run_with(&["--detach"]).ok();
    done.wait_for_line("done");
    assert_eq!(fs::metadata(&done.stdout_path).unwrap().uid(), 1000);
    // Owners of devices are not changed: stdin was /dev/null.
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0);
    assert_eq!(done.facts_now().get("open /proc/self/fd/1"), "ok");
}

#[test]
fn a_dev_null_of_the_callers_becomes_the_containers_own_open_both_ways() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = Sandbox::new();
    sandbox.create().ok();
    let of_init = |path: &str| format!("/proc/{}/{path}", sandbox.pid());
    // The harness opens stdin read-only, as containerd's shim does for all three.
    let flags = fs::read_to_string(of_init("fdinfo/0")).unwrap();
    assert!(flags.lines().any(|line| line.starts_with("flags:") && line.ends_with('2')), "{flags}");
    let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino())).unwrap();
    assert_eq!(file(&of_init("fd/0")), file(&of_init("root/dev/null")));
    assert_ne!(file(&of_init("fd/0")), file("/dev/null"));
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    let sandbox = Sandbox::new();
    let facts = sandbox.facts("keyring");
    assert!(facts.get("keyring").ends_with(&format!(";_ses.{}", sandbox.id)), "{facts}");
}

#[test]
fn without_a_new_keyring_the_session_stays() {
    let sandbox = Sandbox::new();
    let done = sandbox.script("keyring").run_with(&["--no-new-keyring"]).ok();
    assert!(!done.stdout.contains(&sandbox.id), "{done:?}");
}

#[test]
fn the_affinity_is_reset_to_what_the_cpuset_allows() {
    let all = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let cpus: Vec<usize> =
        (0..nix::sched::CpuSet::count()).filter(|&cpu| all.is_set(cpu).unwrap()).collect();
    if cpus.len() < 2 {
        return skip("one CPU");
    }
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("affinity").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    let mut one = nix::sched::CpuSet::new();
    one.set(cpus[0]).unwrap();
    before_exec(&mut command, move || {
        Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one)?)
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    assert_eq!(facts.get("affinity"), cpus.join(","));
}

#[test]
fn every_signal_is_at_its_default_and_unblocked() {
    brig_only!();
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("status SigIgn SigBlk SigCgt").bundle();
    for verb in ["run", "create"] {
        let mut command =
            sandbox.command(&[verb, "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        before_exec(&mut command, || {
            for ignored in
                Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP))
            {
                // SAFETY: no handler function is installed.
                unsafe { signal(ignored, SigHandler::SigIgn) }?;
            }
            Ok(SigSet::all().thread_block()?)
        });
        let done = sandbox.spawn(command).wait().ok();
        if verb == "create" {
            sandbox.start();
            sandbox.wait_for_status("stopped");
        }
        let facts = done.facts_now();
        for set in ["SigIgn", "SigBlk", "SigCgt"] {
            assert_eq!(facts.get(set), "0000000000000000", "{verb}: {facts}");
        }
    }
}

#[test]
fn every_fd_above_two_is_closed() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("fds").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    let open = fs::File::open(&bundle).unwrap();
    let fd = open.as_raw_fd();
    before_exec(&mut command, move || {
        for number in [3, 10, 100, 800] {
            // SAFETY: as above; a failure leaves the fd closed, which the test would not notice.
            if unsafe { libc::dup2(fd, number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    });
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    let fds: Vec<&str> =
        facts.all("fd").into_iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(fds, ["0", "1", "2"], "{facts}");
}

#[test]
fn closed_standard_streams_are_no_hazard() {
    // Otherwise the first file opened by brig would become the container's stdin or stdout.
    for closed in [&[0][..], &[1], &[2], &[0, 1, 2]] {
        let sandbox = Sandbox::new();
        let bundle = sandbox.script("write /tmp/ran yes ; say out ; warn err").bundle();
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        before_exec(&mut command, move || {
            for fd in closed {
                // SAFETY: the descriptor is a standard stream that is not used in this child any more.
                unsafe { libc::close(*fd) };
            }
            Ok(())
        });
        let done = sandbox.spawn(command).wait();
        if crate::sandbox::is_peer() {
            continue;
        }
        assert_eq!(done.code, Some(0), "{closed:?}: {done:?}");
        assert_eq!(fs::read_to_string(sandbox.rootfs().join("tmp/ran")).unwrap(), "yes");
        let config = fs::read(bundle.join("config.json")).unwrap();
        assert!(
            serde_json::from_slice::<Value>(&config).is_ok(),
            "something was printed into config.json"
        );
    }
}

#[test]
fn the_process_leads_a_session_of_its_own() {
    let facts = Sandbox::new().facts("group ; pid");
    assert_eq!(facts.get("pgid"), "1 sid 1");
}

#[test]
fn preserved_fds_are_refused_or_passed() {
    // The supported case is descriptor 3 only; others are refused by name, never ignored.
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("fds").bundle();
    let mut command = sandbox.command(&[
        "run",
        "--preserve-fds",
        "1",
        "--bundle",
        bundle.to_str().unwrap(),
        &sandbox.id,
    ]);
    let open = fs::File::open(&bundle).unwrap();
    let fd = open.as_raw_fd();
    before_exec(&mut command, move || {
        for number in [3, 4] {
            // SAFETY: as above.
            if unsafe { libc::dup2(fd, number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    });
    let done = sandbox.spawn(command).wait();
    if done.code == Some(0) {
        let facts = Facts::parse(&done.stdout);
        let fds: Vec<&str> =
            facts.all("fd").into_iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(fds, ["0", "1", "2", "3"], "{facts}");
    } else {
        done.fails_with("preserve-fds");
        sandbox.assert_nothing_left();
    }
}

/// brig blocks signals while there is something to undo. A daemon that a hook starts must be killable.
#[test]
fn hooks_inherit_no_blocked_signals() {
    let sandbox = Sandbox::new();
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    // The shell looks at itself: it unblocks signals in what it executes.
    let file = sandbox.dir.join("log").display().to_string();
    let look =
        format!("while read a b; do [ $a != SigBlk: ] || echo $b; done </proc/$$/status >>{file}");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", look]});
    sandbox.patch(|config| kinds.iter().for_each(|kind| config["hooks"][kind] = json!([hook])));
    sandbox.script("exit 0").run();
    let log = fs::read_to_string(sandbox.dir.join("log")).unwrap();
    assert_eq!(log, "0000000000000000\n".repeat(kinds.len()));
}
