//! Randomly damaged archives, many with valid checksums: all result in a tree or in an error, and nothing
//! outside the tree is touched.

use crate::tree;
use crate::unpack::warnings::Warnings;
use crate::unpack::{Rights, unpack};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// A small deterministic pseudo-random number generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Entries of all types, with names that others refer to, and some that lead outside.
fn archive(random: &mut Random, victim: &str) -> Vec<u8> {
    let names = [
        "a",
        "a/b",
        "a/b/c",
        "b",
        "c",
        "d/e",
        "f/g/h",
        "l",
        "l/x",
        "a/.wh.b",
        "a/.wh..wh..opq",
        "./",
        "../x",
        "/x",
        victim,
    ];
    let targets = ["a", "a/b", "..", "../..", "/", victim, "l", "no/where", "a/../../x"];
    let kinds = *b"000000555522111667xLKSg34";
    let mut archive = Vec::new();
    for _ in 0..random.below(8) + 1 {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kinds[random.below(kinds.len())]));
        let name = names[random.below(names.len())].as_bytes();
        let link = targets[random.below(targets.len())].as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_mode(u32::try_from(random.below(0o10000)).unwrap() | 0o700);
        header.set_mtime(5);
        let content = [name, b" 12 path=l/x\n"].concat();
        // Links and directories have no content, whatever their size is.
        let has = !b"125634".contains(&header.entry_type().as_byte());
        header.set_size(if has { random.below(content.len()) as u64 } else { 0 });
        if random.below(20) == 0 {
            let at = random.below(512);
            header.as_mut_bytes()[at] = u8::try_from(random.below(256)).unwrap();
        }
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        if has {
            archive.extend_from_slice(&content);
        }
        // An entry of size 0 has no content block.
        let size =
            usize::try_from(header.entry_size().unwrap_or(0)).unwrap_or(0).min(content.len());
        archive.truncate(archive.len() - if has { content.len() - size } else { 0 });
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    if random.below(4) == 0 {
        let end = random.below(archive.len());
        archive.truncate(end);
    }
    archive
}

fn directory(path: &Path) -> std::os::fd::OwnedFd {
    fs::create_dir(path).unwrap();
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap()
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        tree::remove_path(&self.0).unwrap();
    }
}

#[test]
fn archives_at_random_touch_nothing_outside_their_tree() {
    let path = std::env::temp_dir().join(format!("brig-mutations-{}", std::process::id()));
    drop(directory(&path));
    let scratch = Scratch(path);
    let victim = scratch.0.join("victim");
    drop(directory(&victim));
    // A link may have it as its target, which must have no effect.
    let name = victim.to_str().unwrap();
    assert!(name.len() < 100);
    let mut random = Random(9);
    let (mut whole, mut refused) = (0, 0);
    for round in 0..500 {
        let root = scratch.0.join(format!("root-{round}"));
        let times = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(scratch.0.join("times"))
            .unwrap();
        let archive = archive(&mut random, name);
        let rights = Rights { chown: false, devices: false };
        let mut warnings = Warnings::default();
        match unpack(&archive[..], directory(&root), None, &times, rights, &mut warnings) {
            Ok(_) => whole += 1,
            Err(_) => refused += 1,
        }
        assert!(fs::read_dir(&victim).unwrap().next().is_none(), "round {round}");
        tree::remove_path(&root).unwrap();
        let left: Vec<_> =
            fs::read_dir(&scratch.0).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "round {round}: {left:?}");
    }
    // Both must occur, otherwise this tests nothing.
    assert!(whole > 50 && refused > 50, "{whole} {refused}");
}
