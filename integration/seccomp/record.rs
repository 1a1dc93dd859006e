//! `brig seccomp record`.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, brig_only, wait_for_line};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn sandbox() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    let file = sandbox.dir.join("profile.json");
    (sandbox, file)
}

fn args<'a>(sandbox: &'a Sandbox, bundle: &'a Path, file: &'a Path) -> [&'a str; 8] {
    let (file, bundle) = (file.to_str().unwrap(), bundle.to_str().unwrap());
    ["seccomp", "record", file, "--", "run", "--bundle", bundle, &sandbox.id]
}

/// The names in a rule of the recorded profile.
fn names(file: &Path, rule: usize) -> Vec<String> {
    let profile: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    serde_json::from_value(profile["syscalls"][rule]["names"].clone()).unwrap()
}

fn has(file: &Path, rule: usize, call: &str) -> bool {
    names(file, rule).iter().any(|name| name == call)
}

#[test]
fn the_calls_of_a_container_become_a_profile_that_it_can_run_with() {
    brig_only!();
    for no_new_privileges in [true, false] {
        let (sandbox, file) = sandbox();
        sandbox.patch(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let bundle = sandbox.bundle();
        let done = sandbox.script("mkdir /tmp/a ; exit 3").brig(&args(&sandbox, &bundle, &file));
        assert_eq!((done.code, done.stdout.as_str()), (Some(3), "mkdir /tmp/a ok\n"), "{done:?}");
        sandbox.assert_nothing_left();
        assert!(has(&file, 0, "mkdir") || has(&file, 0, "mkdirat"), "{:?}", names(&file, 0));
        assert!(!has(&file, 0, "symlink") && !has(&file, 0, "symlinkat"));
        // brig's own calls are listed separately.
        assert!(has(&file, 1, "execve") && !has(&file, 0, "execve"), "{:?}", names(&file, 1));
        assert_eq!(has(&file, 1, "capset"), !no_new_privileges, "{:?}", names(&file, 1));
        // A second run adds to the profile.
        sandbox.script("rmdir /tmp/a").brig(&args(&sandbox, &bundle, &file)).ok();
        assert!(has(&file, 0, "rmdir") || has(&file, 0, "unlinkat"), "{:?}", names(&file, 0));
        assert!(has(&file, 0, "mkdir") || has(&file, 0, "mkdirat"));
        // With the profile, everything that was recorded works, and nothing else.
        let profile: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        sandbox.patch(|config| config["linux"]["seccomp"] = profile);
        let seen = sandbox.facts("mkdir /tmp/a ; rmdir /tmp/a ; symlink x /tmp/link");
        for (act, how) in [("mkdir /tmp/a", "ok"), ("rmdir /tmp/a", "ok"), ("symlink x", "EPERM")] {
            assert_eq!(seen.get(act), how, "{act}");
        }
    }
}

#[test]
fn a_container_does_not_hang_when_who_records_it_has_died() {
    brig_only!();
    let (sandbox, file) = sandbox();
    sandbox.script("say begun ; sleep 5 ; mkdir /tmp/a ; say ended");
    let bundle = sandbox.bundle();
    let mut running = sandbox.spawn(sandbox.command(&args(&sandbox, &bundle, &file)));
    running.wait_for_line("begun");
    // By then, it sleeps.
    std::thread::sleep(Duration::from_secs(1));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wait_for_line(&running.stdout, "ended");
    let gone = || !sandbox.state_root().join(&sandbox.id).exists();
    assert!(host::wait_until(Duration::from_secs(10), gone), "{:?}", sandbox.leftovers());
    let seen = Facts::parse(&fs::read_to_string(&running.stdout).unwrap());
    assert_eq!(seen.get("mkdir /tmp/a"), "ENOSYS");
    assert!(!file.exists());
    // `run`, for which nothing waits any more, must end as well.
    let ended = || sandbox.leftovers().is_empty();
    assert!(host::wait_until(Duration::from_secs(10), ended), "{:?}", sandbox.leftovers());
}

#[test]
fn what_is_no_profile_is_not_overwritten_and_what_fails_writes_none() {
    brig_only!();
    let (sandbox, file) = sandbox();
    let bundle = sandbox.script("say x").bundle();
    fs::write(&file, "{\"precious\": 1}").unwrap();
    let refused = sandbox.brig(&args(&sandbox, &bundle, &file));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
    assert!(refused.stderr.contains("is not a seccomp profile"), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"precious\": 1}");
    fs::remove_file(&file).unwrap();
    sandbox.patch(|config| config["process"]["cwd"] = json!("relative"));
    let failed = sandbox.brig(&args(&sandbox, &bundle, &file));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("process.cwd"), "{failed:?}");
    assert!(!file.exists());
}

#[test]
fn a_profile_that_could_not_be_written_at_the_end_is_an_error_at_the_beginning() {
    brig_only!();
    let (sandbox, file) = sandbox();
    let bundle = sandbox.bundle();
    let fifo = sandbox.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (file, why) in [
        (sandbox.dir.join("missing/profile.json"), "missing: No such file or directory"),
        (fifo, "is not a regular file"),
    ] {
        let done = sandbox.script("mkdir /tmp/a").brig(&args(&sandbox, &bundle, &file));
        assert!(done.code == Some(2) && done.stderr.contains(why), "{done:?}");
        assert!(!done.stdout.contains("mkdir"), "{done:?}");
    }
    // A symbolic link is kept.
    let link = sandbox.dir.join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    fs::write(&file, r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap();
    sandbox.script("true").brig(&args(&sandbox, &bundle, &link)).ok();
    assert!(link.is_symlink() && names(&file, 1).contains(&"execve".to_owned()));
}
