//! Filters that allow almost nothing: brig needs no more calls than runc, whatever action applies to the
//! rest, and still reports what happens to the program.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// What runc calls under the filter without noNewPrivileges: it closes descriptors, changes ids and
/// capabilities, searches the program, and waits for start at a fifo that it opens. And what the Go runtime
/// calls.
const OF_RUNC: &str = "capget capset chdir close close_range epoll_create1 epoll_ctl epoll_pwait execve exit \
     exit_group faccessat2 fcntl fstat fstatfs futex getcwd getdents64 getpid getppid gettid madvise mmap \
     munmap nanosleep newfstatat openat openat2 pipe2 prctl read readlinkat rt_sigaction rt_sigprocmask \
     rt_sigreturn sched_yield setgid setgroups setresgid setresuid setuid sigaltstack tgkill umask write";
/// What a static program calls before its first line, and to write one.
const OF_THE_PROGRAM: &str = "arch_prctl brk getrandom mprotect poll prlimit64 readlink rseq set_robust_list \
     set_tid_address writev";

/// Everything that is not in these lists gets the action.
fn allow_list(action: &str, flags: &[&str]) -> Value {
    let names: Vec<&str> =
        OF_RUNC.split_whitespace().chain(OF_THE_PROGRAM.split_whitespace()).collect();
    json!({
        "defaultAction": action,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "flags": flags,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

fn sandbox(seccomp: &Value, no_new_privileges: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_file("bin/text", "no program");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(sandbox.rootfs().join("bin/text"), mode).unwrap();
    sandbox.patch(|config| {
        config["linux"]["seccomp"] = seccomp.clone();
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["root"]["readonly"] = json!(false);
        config["process"]["user"] =
            json!({"uid": 7, "gid": 8, "additionalGids": [9], "umask": 0o27});
    });
    sandbox
}

const ACTIONS: [&str; 6] = [
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
];
/// Combined with the actions.
const FLAGS: [&[&str]; 3] = [
    &[],
    &["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"],
    &["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
];

#[test]
fn what_just_suffices_for_runc_suffices() {
    for (index, action) in ACTIONS.into_iter().enumerate() {
        for no_new_privileges in [true, false] {
            let seccomp = allow_list(action, FLAGS[index % FLAGS.len()]);
            let sandbox = sandbox(&seccomp, no_new_privileges);
            let what = format!("{action}, no new privileges {no_new_privileges}");
            let created = sandbox.script("say hello ; say done").create();
            sandbox.start();
            created.wait_for_line("done");
            sandbox.wait_for_status("stopped");
            sandbox.delete();
            // exec takes the same path, without the wait.
            sandbox.script("read /dev/fd/0").create();
            let done = sandbox.brig(&["exec", &sandbox.id, "/init", "say", "hello"]);
            assert_eq!((done.code, done.stdout.as_str()), (Some(0), "hello\n"), "{what}: {done:?}");
        }
    }
}

#[test]
fn a_set_up_that_the_filter_kills_names_it() {
    brig_only!();
    for (call, no_new_privileges) in [("write", true), ("capset", false)] {
        let sandbox = sandbox(
            &json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                [{"names": [call], "action": "SCMP_ACT_KILL_PROCESS"}]}),
            no_new_privileges,
        );
        let done = sandbox.script("true").run();
        done.fails_with("its seccomp filter (linux.seccomp) may forbid a system call");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn start_and_exec_tell_of_a_failed_execve_under_such_a_filter() {
    for action in ACTIONS {
        for no_new_privileges in [true, false] {
            let sandbox = sandbox(&allow_list(action, &[]), no_new_privileges);
            sandbox.args(&["/bin/text"]).create();
            sandbox.brig(&["start", &sandbox.id]).fails_with("exec format error");
            sandbox.wait_for_status("stopped");
            sandbox.delete();
            sandbox.script("say hello").create();
            let done = sandbox.brig(&["exec", &sandbox.id, "/bin/text"]);
            assert_ne!(done.code, Some(0), "{action}: {done:?}");
            assert!(done.stderr.contains("exec format error"), "{action}: {done:?}");
        }
    }
}

/// Denied on the way to the program, not only for it.
#[test]
fn a_filter_without_execve_keeps_the_program_from_running() {
    for no_new_privileges in [true, false] {
        for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
            let seccomp = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["execve", "execveat"], "action": action}],
            });
            let sandbox = sandbox(&seccomp, no_new_privileges);
            sandbox.script("say hello").create();
            let started = sandbox.brig(&["start", &sandbox.id]);
            // If execve itself kills the process, it cannot be distinguished from the program being killed.
            if action == "SCMP_ACT_ERRNO" {
                started.fails_with("operation not permitted");
            }
            sandbox.wait_for_status("stopped");
        }
    }
}

#[test]
fn every_action_in_one_filter_does_its_own() {
    let rule = |name: &str, action: &str, errno: Option<i32>| {
        let mut rule = json!({"names": [name, format!("{name}at")], "action": action});
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        rule
    };
    for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
        for no_new_privileges in [true, false] {
            let seccomp = json!({
                "defaultAction": default,
                "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
                "syscalls": [
                    rule("mkdir", "SCMP_ACT_ERRNO", Some(libc::EXDEV)),
                    // Without a tracer the call fails with ENOSYS.
                    rule("symlink", "SCMP_ACT_TRACE", Some(7)),
                    rule("getcwd", "SCMP_ACT_LOG", None),
                    rule("mknod", "SCMP_ACT_TRAP", None),
                    rule("unlink", "SCMP_ACT_KILL_THREAD", None),
                    rule("rename", "SCMP_ACT_KILL_PROCESS", None),
                ],
            });
            let sandbox = sandbox(&seccomp, no_new_privileges);
            let tmp = fs::Permissions::from_mode(0o1777);
            fs::set_permissions(sandbox.rootfs().join("tmp"), tmp).unwrap();
            let seen = sandbox.facts("mkdir /tmp/no ; symlink a /tmp/link ; cwd");
            assert_eq!(seen.get("mkdir /tmp/no"), "EXDEV");
            assert_eq!(seen.get("symlink a"), "ENOSYS", "{seen}");
            assert_eq!(seen.get("cwd"), "/");
            for fatal in ["mknod /tmp/p p 0 0", "unlink /tmp/x", "rename /tmp/x /tmp/y"] {
                let done = sandbox.script(&format!("{fatal} ; say alive")).run();
                assert_eq!(done.code, Some(128 + libc::SIGSYS), "{fatal}: {done:?}");
                assert!(Facts::parse(&done.stdout).all("alive").is_empty(), "{fatal}");
            }
        }
    }
}
