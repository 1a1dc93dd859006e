//! `diff`, `commit` and `export` while the container changes its files, and when the output cannot be written.

use crate::images::Images;
use crate::images_commit::entries;
use crate::images_limits::fill;
use crate::sandbox::brig_only;
use nix::mount::{MsFlags, mount, umount};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn files_that_come_and_go_do_not_end_diff_commit_and_export() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    // Files and directories disappear, replace each other, and one below is deleted again and again.
    let script = "
        mkdir /w; echo ready
        while :; do
            mkdir /w/d; echo b >/w/d/b; mv /w/d/b /w/d/c; rm /w/d/c; rmdir /w/d
            echo f >/w/d; echo g >/w/g; mv /w/g /w/d; rm /w/d; ln -s x /w/d; rm /w/d
        done
    ";
    images.start(&[], &image, script);
    let exported = images.sandbox.dir.join("exported.tar");
    let until = Instant::now() + Duration::from_secs(8);
    let mut rounds = 0;
    while Instant::now() < until || rounds < 5 {
        rounds += 1;
        for _ in 0..4 {
            let lines = images.diff(&id);
            assert!(lines.iter().any(|line| line == "A /w"), "{lines:?}");
        }
        images.brig(&["export", "-o", exported.to_str().unwrap(), &id]).ok();
        assert!(entries(&fs::read(&exported).unwrap()).contains_key("w/"));
        let commit = ["commit", "--no-pause", "--compression", "none", &id, "out:v2"];
        images.brig(&commit).ok();
    }
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn an_export_replaces_the_file_when_it_is_complete() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    let script = "
        n=x; while [ ${#n} -lt 200 ]; do n=x$n; done
        i=0; while [ $i -lt 25 ]; do mkdir $n; cd $n; i=$((i+1)); done
    ";
    images.keep(&image, &id, script);
    let out = images.sandbox.dir.join("out");
    fs::create_dir(&out).unwrap();
    let (file, link) = (out.join("old.tar"), out.join("link.tar"));
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("old.tar", &link).unwrap();
    for path in [&file, &link, &out.join("new.tar")] {
        let path = path.to_str().unwrap();
        images.brig(&["export", "-o", path, &id]).fails_with("a path longer than 4096 bytes");
    }
    assert_eq!(names(&out), ["link.tar", "old.tar"]);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    let whole = format!("{id}-whole");
    images.keep(&image, &whole, "echo x >/new");
    for path in [&file, &link, &out.join("new.tar")] {
        images.brig(&["export", "-o", path.to_str().unwrap(), &whole]).ok();
        assert!(entries(&fs::read(path).unwrap()).contains_key("new"));
    }
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(&out), ["link.tar", "new.tar", "old.tar"]);
    let done = images.brig(&["export", "-o", "/dev/stdout", &whole]).ok();
    assert!(entries(&fs::read(done.stdout_path).unwrap()).contains_key("new"));
}

#[test]
fn an_output_that_is_full_is_named() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "echo x >/new");
    let small = images.sandbox.dir.join("small");
    fs::create_dir(&small).unwrap();
    let size = Some("size=48m");
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    images.brig(&["commit", &id, "small/x:before"]).ok();
    let mut noise = Vec::new();
    File::open("/dev/urandom").unwrap().take(8 << 20).read_to_end(&mut noise).unwrap();
    fs::write(images.own_bundle(&id).join("data/upper/big"), noise).unwrap();
    fill(&small, 3 << 20);
    let blobs = small.join("x/blobs/sha256");
    let before = (names(&small), names(&blobs));
    for packed in ["none", "gzip", "zstd"] {
        let said = images.brig(&["commit", "--compression", packed, &id, "small/x:v"]).fails();
        let expected = format!("commit {id}: write {}/x/blobs/.brig-", small.display());
        assert!(said.contains(&expected), "{packed}: {said}");
        assert!(said.trim_end().ends_with(": No space left on device"), "{packed}: {said}");
    }
    let expected = format!("export {id}: write small/e.tar: No space left on device");
    images.brig(&["export", "-o", "small/e.tar", &id]).fails_with(&expected);
    assert_eq!((names(&small), names(&blobs)), before);
    umount(&small).unwrap();
}
