//! Foreground `run`, `--detach` and `--keep`.

use crate::facts::Facts;
use crate::sandbox::{Running, Sandbox, before_exec, brig_only};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::unistd::Pid;

fn spawn(sandbox: &Sandbox, args: &[&str]) -> Running {
    let bundle = sandbox.bundle();
    let all =
        [&["run", "--bundle", bundle.to_str().unwrap()], args, &[sandbox.id.as_str()]].concat();
    sandbox.spawn(sandbox.command(&all))
}

#[test]
fn run_prints_what_the_process_prints_and_nothing_else() {
    let sandbox = Sandbox::new();
    let done = sandbox.script("say out ; warn err").run().ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    sandbox.assert_nothing_left();
}

#[test]
fn run_exits_with_the_code_of_the_process() {
    for code in [0, 1, 7, 255] {
        let sandbox = Sandbox::new();
        assert_eq!(sandbox.script(&format!("exit {code}")).run().code, Some(code));
        sandbox.assert_nothing_left();
    }
}

#[test]
fn run_exits_with_128_and_the_signal_that_ended_the_process() {
    let sandbox = Sandbox::new();
    let running = spawn(sandbox.script("say ready ; sleep 60"), &[]);
    running.wait_for_line("ready");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    assert_eq!(running.wait().code, Some(128 + 9));
    sandbox.assert_nothing_left();
}

#[test]
fn run_exits_with_128_and_the_signal_also_without_a_pid_namespace() {
    let sandbox = Sandbox::minimal();
    sandbox.patch(|config| config["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]));
    assert_eq!(sandbox.script("raise TERM").run().code, Some(128 + 15));
    sandbox.assert_nothing_left();
}

#[test]
fn run_forwards_signals() {
    let sandbox = Sandbox::new();
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGCONT,
        Signal::SIGTERM,
        Signal::SIGABRT,
        Signal::SIGPIPE,
        Signal::SIGTRAP,
        Signal::SIGSYS,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
    ];
    let running = spawn(sandbox.script(&format!("sigloop {} ; exit 3", signals.len())), &[]);
    running.wait_for_line("ready");
    for signal in signals {
        kill(Pid::from_raw(running.child.id().try_into().unwrap()), signal).unwrap();
        running.wait_for_line(&format!("signal {signal}"));
    }
    assert_eq!(running.wait().code, Some(3));
}

#[test]
fn run_leaves_no_process_behind_the_first() {
    for namespaces in [
        serde_json::json!([{"type": "mount"}]),
        serde_json::json!([{"type": "mount"}, {"type": "pid"}]),
    ] {
        let sandbox = Sandbox::minimal();
        sandbox.patch(|config| config["linux"]["namespaces"] = namespaces);
        let done = sandbox.script("orphans 3 ; exit 4").run();
        assert_eq!(done.code, Some(4), "{done:?}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn run_sees_the_end_even_when_its_caller_ignores_and_blocks_sigchld() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("status SigIgn SigBlk SigCgt ; exit 5").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || {
        // SAFETY: no handler function is installed.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
        Ok(SigSet::all().thread_block()?)
    });
    let done = sandbox.spawn(command).wait();
    assert_eq!(done.code, Some(5), "{done:?}");
}

/// A caller that need not reap its children: they can reap theirs.
#[test]
fn an_ignored_sigchld_loses_no_status_of_any_command() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    std::fs::write(sandbox.dir.join("mounts"), r#"[{"destination": "/added", "type": "tmpfs"}]"#)
        .unwrap();
    let id = sandbox.id.as_str();
    for (args, code) in [
        (&["exec", id, "/init", "exit", "7"][..], 7),
        (&["ps", id], 0),
        (&["mounts", "add", id, "mounts"], 0),
        (&["mounts", "remove", id, "mounts"], 0),
    ] {
        if args[0] == "mounts" && crate::sandbox::is_peer() {
            continue;
        }
        let mut command = sandbox.command(args);
        before_exec(&mut command, || {
            // SAFETY: no handler function is installed.
            unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
            Ok(())
        });
        let done = sandbox.spawn(command).wait();
        assert_eq!(done.code, Some(code), "{args:?} {done:?}");
    }
}

#[test]
fn three_hundred_runs_of_a_process_that_ends_at_once_never_hang() {
    let sandbox = Sandbox::minimal();
    for round in 0..300 {
        let done = sandbox.run();
        assert_eq!(done.code, Some(0), "round {round}: {done:?}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_detached_run_returns_while_the_process_runs() {
    let sandbox = Sandbox::new();
    let done = sandbox.script("say ready ; sleep 60").run_with(&["--detach"]).ok();
    assert_eq!(done.stderr, "");
    done.wait_for_line("ready");
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_kept_run_leaves_a_stopped_container() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.script("exit 6").run_with(&["--keep"]).code, Some(6));
    assert_eq!(sandbox.status(), "stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_run_that_fails_at_execve_says_so_and_leaves_nothing() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.add_file("bin/broken", "#!/no/such/interpreter\n");
    make_executable(&sandbox, "bin/broken");
    sandbox.args(&["/bin/broken"]).run().fails_with("no such file or directory");
    sandbox.assert_nothing_left();
}

/// Sets a file of the rootfs to 0755.
pub fn make_executable(sandbox: &Sandbox, path: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(sandbox.rootfs().join(path), std::fs::Permissions::from_mode(0o755))
        .unwrap();
}

#[test]
fn orphans_are_brigs_unless_it_is_told_not_to_be_their_reaper() {
    let adopted_by_brig = |args: &[&str]| {
        let sandbox = Sandbox::minimal();
        sandbox
            .patch(|config| config["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]));
        let bundle = sandbox.script("adopted").bundle();
        let run = ["run", "--bundle", bundle.to_str().unwrap()];
        let running = sandbox.spawn(sandbox.command(&[&run[..], args, &[&sandbox.id]].concat()));
        let brig = running.child.id();
        let done = running.wait().ok();
        let facts = Facts::parse(&done.stdout);
        facts.get("adopted by") == brig.to_string()
    };
    assert!(adopted_by_brig(&[]));
    assert!(!adopted_by_brig(&["--no-subreaper"]));
}

/// The lock of another brig on the container.
fn lock(sandbox: &Sandbox) -> Flock<std::fs::File> {
    let dir = std::fs::File::open(sandbox.state_root().join(&sandbox.id)).unwrap();
    Flock::lock(dir, FlockArg::LockExclusive).unwrap()
}

#[test]
fn how_a_kept_run_has_ended_is_known_at_every_moment() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("say up ; sleep 2 ; exit 6");
    let running = spawn(&sandbox, &["--keep"]);
    running.wait_for_line("up");
    let other = lock(&sandbox);
    sandbox.wait_for_status("stopped");
    // It cannot be stored yet.
    assert_eq!(sandbox.state()["exitStatus"], 6);
    drop(other);
    assert_eq!(running.wait().code, Some(6));
    assert_eq!(sandbox.state()["exitStatus"], 6);
}

/// Another brig holds it for longer than any is waited for.
#[test]
fn a_run_that_cannot_delete_its_container_says_so_and_keeps_its_exit_code() {
    brig_only!();
    for (flags, what) in [(&[][..], "is not deleted"), (&["--keep"], "is not kept")] {
        let sandbox = Sandbox::new();
        sandbox.script("say up ; sleep 2 ; exit 7");
        let running = spawn(&sandbox, flags);
        running.wait_for_line("up");
        let other = lock(&sandbox);
        let done = running.wait();
        drop(other);
        assert_eq!(done.code, Some(7), "{done:?}");
        assert!(done.stderr.contains(what), "{done:?}");
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}
