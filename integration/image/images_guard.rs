//! Two commits at the same time: into the same new layout, of which the first is killed, and of the same container.

use crate::host::{processes, status_of, wait_briefly, wait_until};
use crate::images::Images;
use crate::sandbox::brig_only;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use std::fs;
use std::io::Read;
use std::time::Duration;

/// The process that undoes a commit: its child with a session of its own.
fn guard_of(commit: Pid) -> Pid {
    let parent = commit.to_string();
    let child = |pid: &Pid| {
        let parents = status_of(pid.as_raw().into(), "PPid");
        parents.as_ref() == Some(&parent) && getsid(Some(*pid)) == Ok(*pid)
    };
    let mut found = None;
    assert!(wait_until(Duration::from_secs(10), || {
        found = processes().find(child);
        found.is_some()
    }));
    found.unwrap()
}

#[test]
fn a_commit_waits_until_a_killed_one_is_undone() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[]);
    let (id, dir) = (images.sandbox.id.as_str(), images.sandbox.dir.clone());
    images.brig(&["run", "--keep", "--image", &image, id, "--", "/init", "write", "/y", "2"]).ok();
    // Takes a while to compress.
    let mut large = Vec::new();
    fs::File::open("/dev/urandom").unwrap().take(48 << 20).read_to_end(&mut large).unwrap();
    let upper = fs::read_dir(images.store().join("containers")).unwrap().flatten();
    let upper = upper.map(|entry| entry.path().join("data/upper")).find(|path| path.exists());
    fs::write(upper.unwrap().join("large"), large).unwrap();
    let store = images.store();
    let command = |tag: &str| {
        let args = ["--store", store.to_str().unwrap(), "commit", id, tag];
        images.sandbox.command(&args)
    };
    let mut first = images.sandbox.spawn(command("out/new:first"));
    let pid = Pid::from_raw(i32::try_from(first.child.id()).unwrap());
    let blobs = dir.join("out/new/blobs/sha256");
    // The base's layer was copied: the second commit would count on it.
    let copied = || fs::read_dir(&blobs).is_ok_and(|mut blobs| blobs.next().is_some());
    assert!(wait_until(Duration::from_secs(30), copied));
    // It must not finish while its guard is searched for.
    kill(pid, Signal::SIGSTOP).unwrap();
    let guard = guard_of(pid);
    kill(guard, Signal::SIGSTOP).unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    first.child.wait().unwrap();
    assert!(!dir.join("out/new/index.json").exists(), "the first commit was too fast");
    let second = images.sandbox.spawn(command("out/new:second"));
    // Time enough to count on what is there.
    let named = || dir.join("out/new/index.json").exists();
    let early = wait_briefly(Duration::from_secs(3), named);
    kill(guard, Signal::SIGCONT).unwrap();
    second.wait().ok();
    assert!(!early, "did not wait");
    images.brig(&["delete", id]).ok();
    let bundle = images.bundle(dir.join("out/new:second").to_str().unwrap(), "of-second");
    assert_eq!(images.facts(&bundle, "read /y").get("read /y"), "\"2\"");
}

#[test]
fn two_commits_of_a_container_both_find_it_paused() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    // Whatever is paused has as many lines at the beginning as at the end of what is read, or one less.
    let script = "/bin/busybox dd if=/dev/urandom of=/large bs=1048576 count=64 2>/dev/null
        count() { echo x >>/first; echo x >>/last; }
        count; echo ready; while :; do count; done";
    images.start(&[], &image, script);
    let (id, store) = (images.sandbox.id.as_str(), images.store());
    let commit = |tag: &str| {
        let args = ["--store", store.to_str().unwrap(), "commit", id, tag];
        images.sandbox.spawn(images.sandbox.command(&args))
    };
    // Its base is in the layout already, so that it soon begins to read the container's files.
    commit("out-2:before").wait().ok();
    let first = commit("out-1:v1");
    // The second begins in the middle of the first.
    let blobs = images.sandbox.dir.join("out-1/blobs");
    let written = || {
        let files = fs::read_dir(&blobs).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).any(|bytes| bytes > 6 << 20)
    };
    assert!(wait_until(Duration::from_secs(60), written));
    assert_eq!(images.sandbox.status(), "paused");
    let second = commit("out-2:v1");
    for commit in [first, second] {
        commit.wait().ok();
    }
    assert_eq!(images.sandbox.status(), "running");
    images.brig(&["delete", "--force", id]).ok();
    for out in ["out-1", "out-2"] {
        let image = format!("{}/{out}:v1", images.sandbox.dir.display());
        let lines = |file: &str| images.prints(&image, &format!("cat /{file}")).lines().count();
        let (first, last) = (lines("first"), lines("last"));
        assert!([first, first - 1].contains(&last), "{out}: {first} {last}");
    }
}
