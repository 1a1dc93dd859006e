//! The compiled filter that exec caches in the state directory: reused, and never for another one.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

/// The sizes of the header and of each instruction.
const HEAD: usize = 20;
const INSTRUCTION: usize = 8;

fn profile(denied: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": denied, "action": "SCMP_ACT_ERRNO"}],
    })
}

fn running(seccomp: Option<Value>) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["seccomp"] = seccomp.unwrap_or_default();
        config["root"]["readonly"] = json!(false);
    });
    sandbox.script("sleep 60").create();
    sandbox.start();
    sandbox
}

fn filtered() -> Sandbox {
    running(Some(profile(&["mkdir", "mkdirat"])))
}

fn kept(sandbox: &Sandbox) -> PathBuf {
    sandbox.state_root().join(&sandbox.id).join("seccomp")
}

/// The result of a call that the filter denies, in exec.
fn mkdir(sandbox: &Sandbox) -> String {
    let done = sandbox.brig(&["exec", &sandbox.id, "/init", "mkdir", "/tmp/no"]).ok();
    assert_eq!(done.stderr, "");
    Facts::parse(&done.stdout).get("mkdir /tmp/no").to_owned()
}

#[test]
fn the_first_exec_compiles_for_all() {
    brig_only!();
    let sandbox = filtered();
    let file = kept(&sandbox);
    assert!(!file.exists(), "create has no use for it");
    assert_eq!(mkdir(&sandbox), "EPERM");
    let first = fs::metadata(&file).unwrap();
    assert_eq!((first.mode() & 0o777, first.uid()), (0o600, 0));
    assert_eq!(mkdir(&sandbox), "EPERM");
    // A file that is not usable is replaced.
    assert_eq!(fs::metadata(&file).unwrap().ino(), first.ino());
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn without_a_filter_nothing_is_kept() {
    brig_only!();
    let sandbox = running(None);
    assert_eq!(mkdir(&sandbox), "ok");
    assert!(!kept(&sandbox).exists());
}

/// A program that is truncated after a return is accepted by the kernel.
#[test]
fn what_is_cut_or_changed_is_compiled_again() {
    brig_only!();
    let sandbox = filtered();
    assert_eq!(mkdir(&sandbox), "EPERM");
    let file = kept(&sandbox);
    let whole = fs::read(&file).unwrap();
    assert_eq!((whole.len() - HEAD) % INSTRUCTION, 0);
    for at in (HEAD..whole.len()).step_by(INSTRUCTION) {
        fs::write(&file, &whole[..at]).unwrap();
        assert_eq!(mkdir(&sandbox), "EPERM", "cut at {at}");
        assert_eq!(fs::read(&file).unwrap(), whole, "cut at {at}");
        let mut changed = whole.clone();
        // SECCOMP_RET_ALLOW.
        changed[at..at + INSTRUCTION].copy_from_slice(&[6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
        if changed != whole {
            fs::write(&file, &changed).unwrap();
            assert_eq!(mkdir(&sandbox), "EPERM", "changed at {at}");
            assert_eq!(fs::read(&file).unwrap(), whole, "changed at {at}");
        }
    }
}

#[test]
fn what_is_not_of_this_container_is_compiled_again() {
    brig_only!();
    let (sandbox, other) = (filtered(), running(Some(profile(&["rmdir"]))));
    assert_eq!((mkdir(&sandbox), mkdir(&other)), ("EPERM".into(), "ok".into()));
    let (file, theirs) = (kept(&sandbox), kept(&other));
    let whole = fs::read(&file).unwrap();
    fs::copy(&theirs, &file).unwrap();
    assert_eq!(mkdir(&sandbox), "EPERM");
    assert_eq!(fs::read(&file).unwrap(), whole);
    // The key, derived from brig, the kernel and the profile.
    let mut changed = whole.clone();
    changed[8] ^= 1;
    fs::write(&file, changed).unwrap();
    assert_eq!(mkdir(&sandbox), "EPERM");
    assert_eq!(fs::read(&file).unwrap(), whole);
    // Links are not followed, neither for reading nor for writing.
    let before = fs::read(&theirs).unwrap();
    for name in ["seccomp", "seccomp.new"] {
        let link = file.with_file_name(name);
        let _ = fs::remove_file(&file);
        symlink(&theirs, &link).unwrap();
        assert_eq!(mkdir(&sandbox), "EPERM");
        assert_eq!(fs::read(&theirs).unwrap(), before, "{name}");
        let _ = fs::remove_file(link);
    }
}

#[test]
fn where_there_is_no_room_each_exec_compiles() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["seccomp"] = profile(&["mkdir", "mkdirat"]));
    let root = sandbox.state_root();
    fs::create_dir_all(&root).unwrap();
    let size = Some("size=256k,mode=700");
    mount(Some("states"), &root, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let fill = root.join("fill");
    let mut file = fs::File::create(&fill).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    for _ in 0..2 {
        assert_eq!(mkdir(&sandbox), "EPERM");
        let dir = kept(&sandbox).parent().unwrap().to_owned();
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_str().unwrap().starts_with("seccomp")));
    }
    drop(file);
    fs::remove_file(fill).unwrap();
    assert_eq!(mkdir(&sandbox), "EPERM");
    assert!(kept(&sandbox).exists());
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    nix::mount::umount(&root).unwrap();
}
