//! Truncated, overwritten or misplaced checkpoints: one clear error, and nothing is left.

use super::checkpoint_killed::at;
use super::with::{answers, checkpoint, criu_only, images, restore, restored, running};
use crate::sandbox::{Done, Sandbox};
use nix::mount::{MsFlags, mount, umount};
use std::fs;
use std::os::unix::fs::symlink;

/// Either a one-line error and nothing left, or a working container, which is then deleted.
#[track_caller]
fn is_clean(sandbox: &Sandbox, done: Done, what: &str) {
    if done.code == Some(0) {
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    } else {
        let said = done.fails();
        assert_eq!(said.lines().count(), 1, "{what}: {said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_checkpoint_may_be_cut_anywhere() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let images = images(&sandbox);
    let mut files: Vec<_> =
        fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "log"));
    for file in files {
        let whole = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let cuts = if matches!(name, "inventory.img" | "brig.json") { 12 } else { 2 };
        for cut in 0..cuts {
            let length = whole.len() * cut / cuts;
            fs::write(&file, &whole[..length]).unwrap();
            is_clean(&sandbox, restore(&sandbox, &[]), &format!("{name}, {length} bytes"));
        }
        fs::write(&file, whole).unwrap();
    }
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_record_that_is_none_is_named() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let record = format!("{}/brig.json", images(&sandbox));
    for (text, said) in [
        ("[", "brig.json: EOF while parsing"),
        ("{\"version\": 99}", "brig.json: is of version 99"),
        ("{\"external\": 5}", "brig.json: invalid type"),
    ] {
        fs::write(&record, text).unwrap();
        restore(&sandbox, &[]).fails_with(said);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_checkpoint_that_fails_does_not_leave_half_of_the_one_before() {
    criu_only!();
    let sandbox = Sandbox::new();
    let fail = sandbox.dir.join("fail");
    at(&sandbox, "post-dump", &format!("[ ! -e {} ] || exit 1", fail.display()));
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &["--leave-running"]).ok();
    fs::write(fail, "").unwrap();
    checkpoint(&sandbox, &["--leave-running"]).fails_with("criu: Error");
    answers(&sandbox, &sandbox.id, &mut piped);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    restore(&sandbox, &[]).fails_with("there is no complete checkpoint");
    sandbox.assert_nothing_left();
}

#[test]
fn what_is_refused_leaves_the_checkpoint_before_as_it_was() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &["--leave-running"]).ok();
    checkpoint(&sandbox, &["--empty-ns", "pid"]).fails();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_place_that_does_not_fit_leaves_nothing() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let file = sandbox.dir.join("file");
    fs::write(&file, "").unwrap();
    let (file, nowhere) = (file.to_str().unwrap(), sandbox.dir.join("nowhere/pid"));
    for (args, said) in [
        (["--pid-file", nowhere.to_str().unwrap()], "--pid-file: write"),
        (["--console-socket", file], "--console-socket"),
        (["--pidfd-socket", file], "--pidfd-socket"),
        (["--work-path", file], "--work-path"),
        (["--image-path", file], "--image-path"),
    ] {
        restore(&sandbox, &args).fails_with(said);
        sandbox.assert_nothing_left();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "");
    let mut piped = restored(&sandbox, &[]);
    // The id is in use now.
    restore(&sandbox, &[]).fails_with("already exists");
    answers(&sandbox, &sandbox.id, &mut piped);
    for args in [["--work-path", file], ["--image-path", file]] {
        checkpoint(&sandbox, &args).fails_with(args[0]);
        answers(&sandbox, &sandbox.id, &mut piped);
    }
}

#[test]
fn no_pid_file_tells_of_what_was_refused() {
    criu_only!();
    let sandbox = Sandbox::new();
    let strict = sandbox.config();
    sandbox.patch(|config| config["process"]["noNewPrivileges"] = false.into());
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    sandbox.write_config(&strict);
    let pid_file = sandbox.dir.join("pid");
    restore(&sandbox, &["--pid-file", pid_file.to_str().unwrap()]).fails_with("noNewPrivileges");
    assert!(!pid_file.exists());
    sandbox.assert_nothing_left();
}

#[test]
fn the_directory_may_be_a_link_and_have_other_files() {
    criu_only!();
    let sandbox = Sandbox::new();
    let real = sandbox.dir.join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("other"), "kept").unwrap();
    symlink("real", images(&sandbox)).unwrap();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
    assert_eq!(fs::read_to_string(real.join("other")).unwrap(), "kept");
}

/// Makes a directory read-only.
fn protect(dir: &str) {
    let none: Option<&str> = None;
    mount(Some(dir), dir, none, MsFlags::MS_BIND, none).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, dir, none, flags, none).unwrap();
}

#[test]
fn a_read_only_directory_is_restored_from_and_not_written_to() {
    criu_only!();
    let sandbox = Sandbox::new();
    let (images, work) = (images(&sandbox), sandbox.dir.join("work"));
    fs::create_dir(&images).unwrap();
    let mut piped = running(&sandbox);
    protect(&images);
    let said = checkpoint(&sandbox, &[]).fails_with("--image-path");
    assert!(said.contains("Read-only file system"), "{said}");
    answers(&sandbox, &sandbox.id, &mut piped);
    umount(images.as_str()).unwrap();
    checkpoint(&sandbox, &[]).ok();
    protect(&images);
    let said = restore(&sandbox, &[]).fails_with("--work-path");
    assert!(said.contains("Read-only file system"), "{said}");
    umount(images.as_str()).unwrap();
    sandbox.assert_nothing_left();
    protect(&images);
    let mut piped = restored(&sandbox, &["--work-path", work.to_str().unwrap()]);
    answers(&sandbox, &sandbox.id, &mut piped);
    umount(images.as_str()).unwrap();
}

#[test]
fn what_was_mounted_below_a_volume_is_not_looked_for_behind_a_link() {
    criu_only!();
    let sandbox = Sandbox::new();
    let (volume, secret) = (sandbox.dir.join("volume"), sandbox.dir.join("secret"));
    let below = volume.join("below");
    for dir in [&below, &secret] {
        fs::create_dir_all(dir).unwrap();
    }
    let tmpfs = || mount(Some("below"), &below, Some("tmpfs"), MsFlags::empty(), Some("mode=755"));
    tmpfs().unwrap();
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(
            serde_json::json!({"destination": "/volume", "source": volume, "options": ["rbind"]}),
        );
    });
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    umount(&below).unwrap();
    restore(&sandbox, &[])
        .fails_with("below a bind mount's source: nothing is mounted there any more");
    sandbox.assert_nothing_left();
    fs::remove_dir(&below).unwrap();
    symlink(&secret, &below).unwrap();
    restore(&sandbox, &[]).fails_with("below a bind mount's source");
    sandbox.assert_nothing_left();
    fs::remove_file(&below).unwrap();
    fs::create_dir(&below).unwrap();
    tmpfs().unwrap();
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
    sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
    umount(&below).unwrap();
}
