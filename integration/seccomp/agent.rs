//! SCMP_ACT_NOTIFY: an agent, a process on the host (`integration/init/agent.rs`), decides about system calls
//! of the container, and about those of brig itself before the program.

use crate::facts::Facts;
use crate::host;
use crate::rootless::as_user;
use crate::sandbox::{Running, Sandbox, brig_only, init};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The system call of mkdir(3): newer architectures only have mkdirat.
#[cfg(target_arch = "x86_64")]
const MKDIR_CALL: libc::c_long = libc::SYS_mkdir;
#[cfg(not(target_arch = "x86_64"))]
const MKDIR_CALL: libc::c_long = libc::SYS_mkdirat;

/// An agent that listens in the sandbox's directory.
pub struct Agent(Option<Running>);

impl Agent {
    /// Calls with an errno here fail with it.
    pub fn new(sandbox: &Sandbox, answers: &[(libc::c_long, i32)]) -> Agent {
        let answer = |(number, errno): &(libc::c_long, i32)| format!("{number}={errno}");
        Agent::listening(sandbox, &answers.iter().map(answer).collect::<Vec<_>>())
    }

    fn listening(sandbox: &Sandbox, words: &[String]) -> Agent {
        let mut command = Command::new(init());
        command.current_dir(&sandbox.dir);
        Agent::started(sandbox, command, words)
    }

    fn started(sandbox: &Sandbox, mut command: Command, words: &[String]) -> Agent {
        // A relative path, because socket addresses are short.
        command.args(["agent", "agent.sock"]).args(words);
        let agent = sandbox.spawn(command);
        agent.wait_for_line("ready");
        Agent(Some(agent))
    }

    fn facts(&self) -> Facts {
        let running = self.0.as_ref().unwrap();
        Facts::parse(&fs::read_to_string(&running.stdout).unwrap())
    }

    /// What it received: the last of `count` states, each with one descriptor.
    fn state(&self, count: usize) -> Value {
        let got = || self.facts().all("state").len() >= count;
        assert!(host::wait_until(Duration::from_secs(10), got), "{}", self.facts());
        let facts = self.facts();
        assert_eq!(facts.all("fds"), vec!["1"; count]);
        serde_json::from_str(facts.all("state")[count - 1]).unwrap()
    }

    /// Kills it, and waits until it has exited.
    fn end(&mut self) {
        if let Some(mut running) = self.0.take() {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

/// A container whose calls of these names are decided by the agent.
pub fn sandbox(names: &[&str], no_new_privileges: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": sandbox.dir.join("agent.sock"),
            "listenerMetadata": "for the agent",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
        });
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!({"org.example.of": "the container"});
    });
    sandbox
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

/// Nearly all system calls of brig between the filter and execve, and of the program after it.
const MANY: [&str; 60] = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "execve",
    "execveat",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fcntl",
    "fstat",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getrandom",
    "ioctl",
    "lseek",
    "madvise",
    "mkdir",
    "mkdirat",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "poll",
    "ppoll",
    "prctl",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "recvmsg",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setgroups",
    "setresgid",
    "setresuid",
    "sigaltstack",
    "stat",
    "umask",
    "wait4",
];

#[test]
fn an_agent_gets_the_listener_and_decides() {
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(&MKDIR, no_new_privileges);
        let agent = Agent::new(&sandbox, &[(MKDIR_CALL, libc::EXDEV)]);
        let created = sandbox.script("mkdir /tmp/no ; write /tmp/yes x ; status Seccomp").create();
        let state = agent.state(1);
        assert_eq!(
            state,
            json!({
                "ociVersion": state["ociVersion"],
                "fds": ["seccompFd"],
                "pid": sandbox.pid(),
                "metadata": "for the agent",
                "state": {
                    "ociVersion": state["ociVersion"],
                    "id": sandbox.id,
                    "status": "creating",
                    "pid": sandbox.pid(),
                    "bundle": sandbox.bundle(),
                    "annotations": {"org.example.of": "the container"},
                },
            })
        );
        // Neither brig nor the container keeps the listener.
        for fd in fs::read_dir(format!("/proc/{}/fd", sandbox.pid())).unwrap() {
            let to = fs::read_link(fd.unwrap().path()).unwrap();
            assert!(to.as_os_str() != "anon_inode:seccomp notify", "{}", to.display());
        }
        sandbox.start();
        sandbox.wait_for_status("stopped");
        let seen = created.facts_now();
        assert_eq!(seen.get("mkdir /tmp/no"), "EXDEV");
        assert_eq!(seen.get("write /tmp/yes"), "ok");
        assert_eq!(seen.get("Seccomp"), "2");
        assert!(agent.facts().all("asked").contains(&MKDIR_CALL.to_string().as_str()));
    }
}

#[test]
fn the_annotation_of_crun_and_variable_name_the_agent_too() {
    brig_only!();
    for by_variable in [false, true] {
        let sandbox = sandbox(&MKDIR, true);
        let path = sandbox.dir.join("agent.sock");
        sandbox.patch(|config| {
            config["linux"]["seccomp"]["listenerPath"].take();
            if !by_variable {
                config["annotations"]["run.oci.seccomp.receiver"] = json!(path);
            }
        });
        let agent = Agent::new(&sandbox, &[(MKDIR_CALL, libc::EXDEV)]);
        sandbox.script("mkdir /tmp/no");
        let bundle = sandbox.bundle();
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        if by_variable {
            command.env("RUN_OCI_SECCOMP_RECEIVER", &path);
        }
        let done = sandbox.spawn(command).wait().ok();
        assert_eq!(done.facts_now().get("mkdir /tmp/no"), "EXDEV");
        assert_eq!(agent.state(1)["metadata"], "for the agent");
    }
}

#[test]
fn every_executed_process_has_a_listener_of_its_own() {
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(&MKDIR, no_new_privileges);
        let agent = Agent::new(&sandbox, &[(MKDIR_CALL, libc::EXDEV)]);
        sandbox.script("sleep 60").create();
        let exec = |count| {
            let args = ["exec", "--pid-file", "pid", &sandbox.id, "/init", "mkdir", "/tmp/no"];
            let done = sandbox.brig(&args).ok();
            assert_eq!(Facts::parse(&done.stdout).get("mkdir /tmp/no"), "EXDEV");
            let pid: i64 = fs::read_to_string(sandbox.dir.join("pid")).unwrap().parse().unwrap();
            let state = agent.state(count);
            assert_eq!((&state["pid"], &state["metadata"]), (&json!(pid), &json!("for the agent")));
            assert_eq!(state["state"]["pid"], sandbox.pid());
            state["state"]["status"].clone()
        };
        assert_eq!(exec(2), "created");
        sandbox.start();
        assert_eq!(exec(3), "running");
    }
}

/// The unprivileged user may neither trace init, which is undumpable, nor take a descriptor from it.
#[test]
fn an_unprivileged_users_agent_decides_too() {
    for granted in [false, true] {
        as_user(granted, |user| {
            for (no_new_privileges, names) in [(true, &MKDIR[..]), (false, &MKDIR), (false, &MANY)]
            {
                let mut command = Command::new("/mnt/bundle/rootfs/init");
                user.become_user(&mut command);
                let answer = format!("{}={}", MKDIR_CALL, libc::EXDEV);
                let agent = Agent::started(&user.sandbox, command, &[answer]);
                user.patch(|config| {
                    config["process"]["args"] =
                        json!(["/init", "mkdir", "/tmp/no", ";", "list", "/proc"]);
                    config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                    config["linux"]["seccomp"] = json!({
                        "defaultAction": "SCMP_ACT_ALLOW",
                        "listenerPath": "/mnt/agent.sock",
                        "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
                    });
                });
                let seen = Facts::parse(&user.run(&[]).ok().stdout);
                // The listener's courier is not left to the container.
                let entries = seen.all("entry");
                let pids =
                    entries.iter().filter(|entry| entry.ends_with(|c: char| c.is_ascii_digit()));
                assert_eq!(pids.count(), 1, "{seen}");
                assert_eq!(seen.get("mkdir /tmp/no"), "EXDEV");
                assert_eq!(agent.state(1)["state"]["id"], user.sandbox.id);
                drop(agent);
                fs::remove_file("/mnt/agent.sock").unwrap();
            }
        });
    }
}

#[test]
fn an_agent_may_decide_about_nearly_every_call() {
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(&MANY, no_new_privileges);
        sandbox.patch(|config| {
            config["linux"]["seccomp"]["flags"] =
                json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"]);
            config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
        });
        let agent = Agent::new(&sandbox, &[(MKDIR_CALL, libc::EXDEV)]);
        let created = sandbox.script("mkdir /tmp/no ; ids ; sleep 60").create();
        sandbox.start();
        created.wait_for_line("mkdir /tmp/no EXDEV");
        let done = sandbox.brig(&["exec", &sandbox.id, "/init", "mkdir", "/tmp/no"]).ok();
        assert_eq!(Facts::parse(&done.stdout).get("mkdir /tmp/no"), "EXDEV");
        let asked =
            |call: libc::c_long| agent.facts().all("asked").contains(&call.to_string().as_str());
        assert!(asked(libc::SYS_execve) && asked(libc::SYS_read) && asked(libc::SYS_close));
        // With noNewPrivileges, the change of ids comes before the filter.
        assert_eq!(asked(libc::SYS_setresuid), !no_new_privileges);
    }
}

#[test]
fn what_a_dead_agent_should_decide_does_not_exist() {
    let sandbox = sandbox(&MKDIR, true);
    let mut agent = Agent::new(&sandbox, &[]);
    let created = sandbox.script("mkdir /tmp/no").create();
    agent.state(1);
    agent.end();
    sandbox.start();
    created.wait_for_line("mkdir /tmp/no ENOSYS");
}

#[test]
fn without_an_agent_there_is_no_container_and_nothing_is_left() {
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(&MKDIR, no_new_privileges);
        sandbox.create_with(&[]).fails_with("agent.sock: No such file or directory");
        sandbox.assert_nothing_left();
        Agent::new(&sandbox, &[]).end();
        sandbox.create_with(&[]).fails_with("agent.sock: connection refused: no process listens");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn without_an_agent_nothing_is_executed() {
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(&MKDIR, no_new_privileges);
        let mut agent = Agent::new(&sandbox, &[]);
        sandbox.script("sleep 60").create();
        sandbox.start();
        agent.end();
        let exec = sandbox.brig(&["exec", &sandbox.id, "/init", "sleep", "50"]);
        assert_eq!(exec.code, Some(255), "{exec:?}");
        assert!(exec.stderr.contains("no process listens"), "{exec:?}");
        assert_eq!(host::processes_of(&sandbox.id).len(), 1);
    }
}

#[test]
fn who_waits_for_a_silent_agent_can_be_interrupted() {
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(&MANY, no_new_privileges);
        let agent = Agent::listening(&sandbox, &["silent".to_string()]);
        let bundle = sandbox.bundle();
        let command =
            sandbox.command(&["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        let create = sandbox.spawn(command);
        agent.state(1);
        let pid = nix::unistd::Pid::from_raw(create.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        create.wait().fails_with("interrupted by a signal");
        sandbox.assert_nothing_left();
    }
}
