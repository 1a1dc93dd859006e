//! The command line of checkpoint and restore: all flags of runc and crun, and what engines query before.

use super::with::{brig, checkpoint, criu_only, images, restored, running};
use crate::sandbox::{Sandbox, brig_only, skip};
use std::fs;

#[test]
fn engines_are_told_that_there_are_checkpoints() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.brig(&["checkpoint", "--help"]).ok();
    sandbox.brig(&["restore", "--help"]).ok();
    // podman matches on this message before it restores a pod.
    sandbox.brig(&["restore", "--lsm-mount-context"]).fails_with("flag needs an argument");
    let features = sandbox.brig(&["features"]).ok().stdout;
    for runtime in ["org.opencontainers.runc", "run.oci.crun"] {
        let line = format!("\"{runtime}.checkpoint.enabled\": \"true\"");
        assert!(features.contains(&line), "{features}");
    }
    assert!(features.contains("org.criu.config"), "{features}");
}

/// What engines and go-runc pass to restore in addition to the flags of checkpoint.
const HOSTS: [&str; 9] = [
    "-no-subreaper",
    "--no-pivot",
    "--no-new-keyring",
    "--preserve-fds",
    "0",
    "--tcp-close",
    "--leave-running",
    "--pre-dump",
    "--trust-image",
];

/// All flags of checkpoint and restore of runc and crun.
#[test]
fn every_flag_of_runc_and_crun_is_there() {
    brig_only!();
    let sandbox = Sandbox::new();
    let both = [
        "--image-path=x",
        "--work-path=x",
        "--parent-path=x",
        "--pre-dump",
        "--leave-running",
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--tcp-skip-in-flight",
        "--link-remap",
        "--auto-dedup",
        "--lazy-pages",
        "--status-fd=2",
        "--page-server=127.0.0.1:1",
        "--manage-cgroups-mode=ignore",
        "--empty-ns=network",
        "--network-lock=skip",
        "--tcp-close",
    ];
    let of_restore = [
        "--bundle=x",
        "-b=x",
        "--detach",
        "-d",
        "--pid-file=x",
        "--console-socket=x",
        "--no-subreaper",
        "-no-subreaper",
        "--no-pivot",
        "--no-new-keyring",
        "--preserve-fds=0",
        "--lsm-profile=selinux:x",
        "--lsm-mount-context=x",
    ];
    for flag in both {
        // The flag is accepted if the error is about the container, or its checkpoint.
        let said = sandbox.brig(&["checkpoint", flag, &sandbox.id]).fails();
        assert!(!said.contains("unexpected argument"), "{flag}: {said}");
    }
    for flag in both.iter().chain(&of_restore) {
        let said = sandbox.brig(&["restore", flag, &sandbox.id]).fails();
        assert!(!said.contains("unexpected argument"), "{flag}: {said}");
        if flag.contains("=0") || !flag.contains('=') {
            let said = sandbox.brig(&["restore", flag, flag, &sandbox.id]).fails();
            assert!(!said.contains("cannot be used multiple times"), "{flag}: {said}");
        }
    }
}

#[test]
fn every_flag_of_checkpoint_may_be_given_twice_and_to_restore() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    let work = sandbox.dir.join("work");
    let work = work.to_str().unwrap();
    let flags = [
        "--work-path",
        work,
        "--leave-running=false",
        "--ext-unix-sk",
        "--file-locks",
        "--link-remap",
        "--tcp-established",
        "--tcp-skip-in-flight",
        "--shell-job=false",
        "--auto-dedup",
        "--manage-cgroups-mode",
        "soft",
        "--empty-ns",
        "network",
        "--network-lock",
        "skip",
        "--ext-unix-sk",
        "--file-locks",
    ];
    let done = checkpoint(&sandbox, &flags);
    if done.stderr.contains("needs CRIU") {
        done.fails_with("--network-lock skip needs CRIU 3.19, and this is 3.1");
        assert_eq!(sandbox.status(), "running");
        return skip("this CRIU is older than 3.19");
    }
    done.ok();
    assert!(fs::exists(format!("{work}/dump.log")).unwrap());
    restored(&sandbox, &[&flags[..], &HOSTS].concat());
    assert!(fs::exists(format!("{work}/restore.log")).unwrap());
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn a_flag_that_cannot_be_is_refused_before_anything_happens() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    for (args, said) in [
        (&["--empty-ns", "pid"][..], "--empty-ns pid: only network can come back empty"),
        (&["--parent-path", "/tmp"], "--parent-path /tmp: has to be relative to --image-path"),
        (&["--parent-path", "nowhere"], "--parent-path nowhere"),
        (&["--manage-cgroups-mode", "sofd"], "did you mean soft?"),
        (&["--page-server", "here"], "--page-server here: give ADDRESS:PORT"),
        (&["--network-lock", "none"], "invalid value"),
    ] {
        checkpoint(&sandbox, args).fails_with(said);
        assert_eq!(sandbox.status(), "running");
    }
}

#[test]
fn a_kernel_without_soft_dirty_has_no_pre_dump() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    let done = checkpoint(&sandbox, &["--pre-dump"]);
    if done.code != Some(0) {
        done.fails_with("--pre-dump: the kernel does not tell which memory has changed");
    }
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn what_is_no_checkpoint_is_told_and_leaves_nothing() {
    criu_only!();
    let sandbox = Sandbox::new();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    brig(&sandbox, &args).fails_with("No such file or directory");
    fs::create_dir(&images).unwrap();
    brig(&sandbox, &args).fails_with("there is no complete checkpoint");
    fs::write(format!("{images}/inventory.img"), "nothing").unwrap();
    brig(&sandbox, &args).fails_with("there is only memory, as --pre-dump writes it");
    fs::write(format!("{images}/pstree.img"), "nothing").unwrap();
    brig(&sandbox, &args).fails_with("criu: ");
    sandbox.assert_nothing_left();
}
