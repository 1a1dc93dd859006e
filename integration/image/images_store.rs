//! Stores and layouts with problems: damaged records, killed brigs, concurrent gc, directories that are not
//! brig's; trees that only hostile containers create.

use crate::images::{Images, base};
use crate::layout::Archive;
use crate::sandbox::{before_exec, brig_only};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::stat::{Mode, mkdirat};
use serde_json::json;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

impl Images {
    fn simple(&self, name: &str) -> String {
        let mut layout = self.layout(name);
        layout.layer(base()).layer(Archive::new().file(name, name.as_bytes()));
        layout.finish("v1", &json!({"Entrypoint": ["/init"]}))
    }

    fn records(&self, dir: &str) -> Vec<PathBuf> {
        fs::read_dir(self.store().join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn run_again(&self, image: &str) {
        let id = format!("{}-again", self.sandbox.id);
        self.brig(&["run", "--image", image, &id, "--", "true"]).ok();
    }
}

/// Creates nested directories, deeper than the maximum length of paths.
fn nest(dir: &Path, levels: usize) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut here: OwnedFd = openat(AT_FDCWD, dir, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
        here = openat(&here, "d", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn damaged_records_are_made_again_or_ignored() {
    brig_only!();
    let images = Images::new();
    let image = images.simple("image");
    images.run_again(&image);
    for text in [Vec::new(), vec![0; 300], b"{\"id\":".to_vec()] {
        for dir in ["images", "layers"] {
            for record in images.records(dir) {
                let path = if dir == "layers" { record.join("layer.json") } else { record };
                fs::write(path, &text).unwrap();
            }
            for command in ["images", "layers"] {
                images.brig(&[command]).ok();
            }
            images.run_again(&image);
            images.brig(&["gc"]).ok();
            images.run_again(&image);
        }
    }
    // What was moved aside has been removed.
    assert!(images.records("tmp").is_empty());
    assert_eq!(images.records("layers").len(), 2);
}

#[test]
fn other_files_in_place_of_records_count_as_missing() {
    brig_only!();
    let images = Images::new();
    let image = images.simple("image");
    images.run_again(&image);
    let beside = |dir: &str, name: &str| images.records(dir)[0].with_file_name(name);
    nix::unistd::mkfifo(&beside("images", "fifo.json"), Mode::S_IRWXU).unwrap();
    fs::write(beside("layers", &format!("sha256-{}", "a".repeat(64))), "").unwrap();
    let record = images.records("layers")[0].join("layer.json");
    if fs::remove_file(&record).is_ok() {
        nix::unistd::mkfifo(&record, Mode::S_IRWXU).unwrap();
    }
    for command in ["images", "layers", "gc"] {
        images.brig(&[command]).ok();
    }
    images.run_again(&image);
}

#[test]
fn gc_keeps_a_container_whose_record_is_damaged() {
    brig_only!();
    let images = Images::new();
    let image = images.simple("image");
    let id = images.sandbox.id.clone();
    images.brig(&["run", "--detach", "--image", &image, &id, "--", "sleep"]).ok();
    let own = images.store().join("containers").join(format!("{id}-0"));
    for text in [&b""[..], &[0; 100]] {
        fs::write(own.join("use.json"), text).unwrap();
        let said = images.brig(&["gc", "--all"]).ok().stdout;
        assert!(own.join("data/upper").exists(), "{said}");
        assert_eq!(images.records("layers").len(), 2, "{said}");
    }
    images.brig(&["delete", "--force", &id]).ok();
    images.brig(&["gc", "--all"]).ok();
    assert!(images.records("containers").is_empty());
    assert!(images.records("layers").is_empty());
}

#[test]
fn gc_beside_run_disturbs_neither() {
    brig_only!();
    let images = Images::new();
    let image = images.simple("image");
    images.run_again(&image);
    let (start, runs) = (Instant::now(), AtomicU32::new(0));
    // For 5 s, or longer on a slow machine.
    let go_on = || {
        let took = start.elapsed().as_secs();
        took < 5 || took < 60 && runs.load(Ordering::Relaxed) < 4
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while go_on() {
                images.brig(&["gc"]).ok();
                images.brig(&["images"]).ok();
            }
        });
        while go_on() {
            let id = format!("{}-{}", images.sandbox.id, runs.load(Ordering::Relaxed));
            images.brig(&["run", "--image", &image, &id, "--", "true"]).ok();
            runs.fetch_add(1, Ordering::Relaxed);
        }
    });
    let runs = runs.into_inner();
    assert!(runs > 3, "{runs} runs");
}

#[test]
fn gc_and_bundle_remove_nothing_that_brig_did_not_make() {
    brig_only!();
    let images = Images::new();
    let image = images.simple("image");
    let store = images.store();
    let mine = [
        "tmp/mine",
        "layers/mine",
        "patches/mine",
        "joined/mine",
        "images/mine.txt",
        "bundles/mine",
        "containers/mine-1/mine",
    ];
    for name in mine {
        fs::create_dir_all(store.join(name).parent().unwrap()).unwrap();
        fs::write(store.join(name), "mine").unwrap();
    }
    let said = images.brig(&["gc", "--all"]).ok().stdout;
    for name in mine {
        assert!(store.join(name).exists(), "{name}: {said}");
    }
    // A link to another store.
    let other = images.sandbox.dir.join("other");
    fs::create_dir_all(other.join("sha256-".to_owned() + &"0".repeat(64))).unwrap();
    fs::remove_dir_all(store.join("patches")).unwrap();
    std::os::unix::fs::symlink(&other, store.join("patches")).unwrap();
    images.brig(&["gc", "--all"]).fails_with("patches is not a directory");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    fs::remove_file(store.join("patches")).unwrap();
    // A bundle can be created if nothing like it exists.
    let bundle = images.sandbox.dir.join("own");
    for name in ["init", "data", "rootfs"] {
        fs::create_dir_all(bundle.join(name)).unwrap();
        fs::write(bundle.join(name).join("mine"), "").unwrap();
        images
            .brig(&["bundle", &image, bundle.to_str().unwrap()])
            .fails_with("already exists: a bundle needs a new directory");
        assert!(bundle.join(name).join("mine").exists());
    }
}

#[test]
fn a_moved_tag_names_one_image_and_what_commit_wrote_is_listed() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "echo x >/new");
    let args = ["commit", "--message", "again", &id, &image];
    for _ in 0..2 {
        images.brig(&args).ok();
        let listed = images.brig(&["images"]).ok().stdout;
        assert_eq!(listed.lines().filter(|line| line.contains("image:v1")).count(), 1, "{listed}");
    }
    images.brig(&["commit", &id, "out:v2"]).ok();
    let listed = images.brig(&["images"]).ok().stdout;
    assert_eq!(listed.lines().filter(|line| line.contains("/out:v2")).count(), 1, "{listed}");
}

/// Ends a commit while the container is paused, and checks that it leaves nothing. False if it had finished
/// before.
fn commit_is_ended_by(images: &Images, signal: Signal) -> bool {
    let (out, store) = (images.sandbox.dir.join("out"), images.store());
    let args = ["--store", store.to_str().unwrap(), "commit", &images.sandbox.id, "out:v1"];
    let mut command = images.sandbox.command(&args);
    // nohup(1) ignores it, and so would brig.
    before_exec(&mut command, || {
        // SAFETY: no handler function is installed.
        unsafe { nix::sys::signal::signal(Signal::SIGHUP, SigHandler::SigDfl) }?;
        Ok(())
    });
    let mut running = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let ended = loop {
        if let Some(status) = running.try_wait().unwrap() {
            break status;
        }
        if images.sandbox.status() == "paused" {
            let pid = nix::unistd::Pid::from_raw(running.id().cast_signed());
            nix::sys::signal::kill(pid, signal).unwrap();
            break running.wait().unwrap();
        }
        assert!(Instant::now() < end, "neither paused nor done");
    };
    let end = Instant::now() + Duration::from_secs(20);
    let left = || fs::read_dir(&out).map_or(0, |entries| entries.flatten().count());
    while images.sandbox.status() != "running" || left() > 0 {
        // The signal came after it had finished: then the image is complete.
        if ended.success() || Instant::now() >= end {
            assert_eq!(images.sandbox.status(), "running");
            images.bundle("out:v1", "whole");
            crate::tree::remove(&images.sandbox.dir.join("whole")).unwrap();
            crate::tree::remove(&out).unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_commit_that_is_killed_leaves_the_container_running_and_no_blob() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.start(&[], &image, "echo ready; sleep 1000");
    let noise: Vec<u8> =
        (0..48_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    fs::write(images.own_bundle(&id).join("data/upper/noise"), noise).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        // A commit that ended before it was observed proves nothing.
        let seen = (0..20).any(|_| commit_is_ended_by(&images, signal));
        assert!(seen, "{signal}: each commit ended before it was seen at work");
    }
    images.brig(&["delete", "--force", &id]).ok();
}

#[test]
fn trees_of_any_depth_are_walked_or_refused() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "mkdir /deep");
    let upper = images.own_bundle(&id).join("data/upper/deep");
    nest(&upper, 1000);
    let begun = Instant::now();
    let deepest = "/deep".to_owned() + &"/d".repeat(1000);
    assert!(images.diff(&id).contains(&format!("A {deepest}")));
    images.brig(&["commit", &id, "out:v2"]).ok();
    images.brig(&["export", "-o", "exported.tar", &id]).ok();
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    let bundle = images.bundle("out:v2", "bundle-of-commit");
    let top = images.layers(&bundle).pop().unwrap();
    assert!(top.join(&deepest[1..]).is_dir());
    // Deeper than the maximum length of paths in an image.
    crate::tree::remove(&upper.join("d")).unwrap();
    nest(&upper, 3000);
    for args in [vec!["diff", &id], vec!["commit", &id, "out:v3"], vec!["export", "-o", "x", &id]] {
        images.brig(&args).fails_with("a path longer than 4096 bytes");
    }
    images.brig(&["delete", &id]).ok();
}

#[test]
fn a_sparse_file_of_a_volume_stays_sparse() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let size = (1_u64 << 30).to_string();
    let big = Archive::new()
        .dir("data")
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", b"0,1,536870912,1"),
            ("GNU.sparse.name", b"data/big"),
        ])
        .file("data/big", b"xy");
    let mut layout = images.layout("sparse");
    layout.layer(crate::images_commit::shell().unwrap()).layer(big);
    let config = json!({"Env": ["PATH=/bin"], "Volumes": {"/data": {}}});
    let sparse = layout.finish("v1", &config);
    drop(image);
    let said = images.prints(
        &sparse,
        "stat -c '%s %b' /data/big; dd if=/data/big bs=1 skip=536870912 count=1 2>/dev/null",
    );
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!((words[0], words[2]), (size.as_str(), "y"), "{said}");
    assert!(words[1].parse::<u64>().unwrap() < 64, "{said}");
}

#[test]
fn a_store_on_an_overlay_keeps_changes_in_memory_or_says_what_to_do() {
    brig_only!();
    let images = Images::new();
    let dir = images.sandbox.dir.join("overlay");
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let path = |name: &str| dir.join(name).display().to_string();
    let data =
        format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let mounted = nix::mount::mount(
        Some("overlay"),
        &dir.join("merged"),
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(data.as_str()),
    );
    if mounted.is_err() {
        return crate::sandbox::skip("no overlayfs on this filesystem");
    }
    let store = path("merged") + "/store";
    let id = images.sandbox.id.clone();
    let run = |image: &str| {
        images.sandbox.brig(&["--store", &store, "run", "--image", image, &id, "--", "true"])
    };
    let done = run(&images.simple("image")).ok();
    assert!(done.stderr.contains("kept in memory"), "{done:?}");
    let mut layout = images.layout("removes");
    layout.layer(base()).layer(Archive::new().file("etc/.wh.base", b""));
    let said = run(&layout.finish("v1", &json!({"Entrypoint": ["/init"]}))).fails();
    assert!(said.contains("overlayfs") && said.contains("--store"), "{said}");
    // What an opaque directory hides is hidden, or it is an error.
    let mut layout = images.layout("empties");
    layout
        .layer(base().dir("d/").file("d/low", b""))
        .layer(Archive::new().dir("d/").file("d/.wh..wh..opq", b"").file("d/high", b""));
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let args = ["--store", &store, "run", "--image", &image, &id, "--", "list", "/d"];
    let done = images.sandbox.brig(&args);
    if done.code == Some(0) {
        assert!(done.stdout.contains("list /d 1\nentry /d high"), "{done:?}");
    } else {
        let said = done.fails();
        assert!(said.contains("overlayfs") && said.contains("--store"), "{said}");
    }
    nix::mount::umount(&dir.join("merged")).unwrap();
}

#[test]
fn brigs_that_bundle_at_once_wait_for_each_other_or_are_refused() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({}));
    let held = |path: &Path| {
        let file = fs::File::open(path).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap()
    };
    // One that creates a bundle holds its directory.
    let bundle = images.sandbox.dir.join("new");
    fs::create_dir(&bundle).unwrap();
    let lock = held(&bundle);
    let args = ["bundle", &image, bundle.to_str().unwrap()];
    images.brig(&args).fails_with("another brig is creating a bundle there");
    assert_eq!(fs::read_dir(&bundle).unwrap().count(), 0);
    drop(lock);
    // One that records an image holds images/, while others only share the store's lock.
    let lock = held(&images.store().join("images"));
    let store = images.store();
    let args = [&["--store", store.to_str().unwrap()], &args[..]].concat();
    let mut running = images.sandbox.spawn(images.sandbox.command(&args));
    std::thread::sleep(Duration::from_secs(1));
    assert!(running.child.try_wait().unwrap().is_none(), "it has not waited");
    drop(lock);
    running.wait().ok();
    assert!(bundle.join("config.json").exists());
}
