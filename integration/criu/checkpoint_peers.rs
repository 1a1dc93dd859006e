//! Checkpoints of brig restored by runc, and the reverse.

use super::with::{Piped, answers, checkpoint, criu, criu_only, images, restored, running};
use crate::sandbox::{Sandbox, skip};
use std::path::Path;
use std::process::{Command, Stdio};

const RUNC: &str = "/usr/sbin/runc";

/// runc with its own state root.
fn runc(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = Command::new(RUNC);
    let dir = criu().as_ref().unwrap();
    command.arg("--root").arg(sandbox.dir.join("runc")).args(args);
    command.env_clear().env("BRIG_TEST", &sandbox.id).current_dir(&sandbox.dir);
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()));
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_checkpoint_of_runcs_is_restored() {
    criu_only!();
    if !Path::new(RUNC).exists() {
        return skip("runc is not installed");
    }
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 100");
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut run = runc(&sandbox, &["run", "-d", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    let started = run.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
    drop(run);
    if !started.success() {
        return skip("runc starts no container here");
    }
    let mut piped = Piped::of(reader);
    piped.wait_for("ready\n");
    let dumped =
        runc(&sandbox, &["checkpoint", "--image-path", &images, &sandbox.id]).output().unwrap();
    if !dumped.status.success() {
        _ = runc(&sandbox, &["delete", "-f", &sandbox.id]).status();
        return skip(&format!("runc makes no checkpoint here: {dumped:?}"));
    }
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn runc_restores_a_checkpoint_of_brigs() {
    criu_only!();
    if !Path::new(RUNC).exists() {
        return skip("runc is not installed");
    }
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let (reader, writer) = std::io::pipe().unwrap();
    let bundle = bundle.to_str().unwrap();
    let args = [
        "restore",
        "-d",
        "--empty-ns",
        "network",
        "--image-path",
        &images,
        "--bundle",
        bundle,
        &sandbox.id,
    ];
    let mut restore = runc(&sandbox, &args);
    let done = restore.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
    drop(restore);
    let mut piped = Piped::of(reader);
    if !done.success() {
        piped.wait_for("never");
    }
    runc(&sandbox, &["kill", &sandbox.id, "USR1"]).status().unwrap();
    piped.wait_for("signal SIGUSR1\n");
    runc(&sandbox, &["delete", "-f", &sandbox.id]).status().unwrap();
}
