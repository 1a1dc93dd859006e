//! Required privileges and versions of CRIU.

use super::with::{answers, brig, checkpoint, command, criu, criu_only, images, restored, running};
use crate::rootless::UID;
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// A `criu` that only reports a version.
fn old_criu(sandbox: &Sandbox, minor: u8) -> Option<PathBuf> {
    if !Path::new("/bin/bash").exists() {
        return None;
    }
    let dir = sandbox.dir.join("old");
    fs::create_dir_all(&dir).unwrap();
    let criu = dir.join("criu");
    // criu_resp { type: VERSION, success, version { major: 3, minor } }
    let answer = format!("\\x08\\x0a\\x10\\x01\\x52\\x04\\x08\\x03\\x10\\x{minor:02x}");
    // With exec: a child could still be exiting after brig has finished.
    let text = format!("#!/bin/bash\nread -r -N 1 -u $2\nexec /usr/bin/printf '{answer}' >&$2\n");
    fs::write(&criu, text).unwrap();
    fs::set_permissions(&criu, fs::Permissions::from_mode(0o755)).unwrap();
    Some(criu)
}

fn with_old(sandbox: &Sandbox, criu: &Path, args: &[&str]) -> Done {
    let images = images(sandbox);
    let before = ["--criu", criu.to_str().unwrap(), "checkpoint", "--image-path", &images];
    sandbox.brig(&[&before, args, &[&sandbox.id]].concat())
}

#[test]
fn a_criu_that_is_too_old_is_told_and_the_container_runs_on() {
    brig_only!();
    let sandbox = Sandbox::new();
    let Some(criu) = old_criu(&sandbox, 14) else { return skip("no bash") };
    let mut piped = running(&sandbox);
    let said = with_old(&sandbox, &criu, &[]).fails_with("criu 3.14.0 is too old: 3.15 or later");
    assert_eq!(said.lines().count(), 1, "{said}");
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_flag_that_this_criu_cannot_do_names_the_version_that_can() {
    criu_only!();
    let sandbox = Sandbox::new();
    let Some(criu) = old_criu(&sandbox, 15) else { return skip("no bash") };
    let mut piped = running(&sandbox);
    for (lock, version) in [("skip", "3.19"), ("nftables", "3.16")] {
        with_old(&sandbox, &criu, &["--network-lock", lock])
            .fails_with(&format!("--network-lock {lock} needs CRIU {version}, and this is 3.15"));
    }
    answers(&sandbox, &sandbox.id, &mut piped);
    checkpoint(&sandbox, &[]).ok();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let args = [
        "--criu",
        criu.to_str().unwrap(),
        "restore",
        "-d",
        "--lsm-mount-context",
        "x",
        "--image-path",
        &images,
        "--bundle",
        bundle.to_str().unwrap(),
        &sandbox.id,
    ];
    brig(&sandbox, &args).fails_with("--lsm-mount-context needs CRIU 3.16, and this is 3.15");
    sandbox.assert_nothing_left();
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn an_unprivileged_user_is_told_that_root_is_needed() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut piped = running(&sandbox);
    fs::set_permissions(&sandbox.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let restore = ["restore", "-d", "--image-path", &images, "--bundle", bundle, "x"];
    for args in [&["checkpoint", "--image-path", &images, &sandbox.id][..], &restore] {
        let mut command = command(&sandbox, args);
        command.uid(UID).gid(UID).current_dir("/");
        let said = sandbox.spawn(command).wait().fails_with("only root of the host can do this");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!Path::new(&images).exists());
    assert!(criu().is_ok());
    answers(&sandbox, &sandbox.id, &mut piped);
}
