//! `--pid-file`: a regular file is replaced atomically, other files are written to.

use crate::host::wait_until;
use crate::sandbox::{Sandbox, brig_only};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The commands with the flag, each of which ends with its process running or created.
fn commands(sandbox: &Sandbox) -> Vec<Vec<String>> {
    let bundle = sandbox.bundle().to_str().unwrap().to_owned();
    let (id, other) = (sandbox.id.clone(), format!("{}-other", sandbox.id));
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    vec![
        words(&["create", "--bundle", &bundle, "--pid-file", "FILE", &other]),
        words(&["run", "--detach", "--bundle", &bundle, "--pid-file", "FILE", &other]),
        words(&["exec", "--detach", "--pid-file", "FILE", &id, "/init", "sleep", "60"]),
    ]
}

/// Runs each of the commands with this pid file, and checks the result.
fn each(sandbox: &Sandbox, file: &Path, mut look: impl FnMut(&str, crate::sandbox::Done)) {
    for command in commands(sandbox) {
        let named = |word: &String| word.replace("FILE", file.to_str().unwrap());
        let args: Vec<String> = command.iter().map(named).collect();
        let done = sandbox.brig(&args.iter().map(String::as_str).collect::<Vec<_>>());
        look(&command[0], done);
        sandbox.brig(&["delete", "--force", &format!("{}-other", sandbox.id)]);
    }
}

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    sandbox
}

fn node(sandbox: &Sandbox, kind: SFlag, minor: u64) -> PathBuf {
    let node = sandbox.dir.join("node");
    mknod(&node, kind, Mode::from_bits_truncate(0o600), nix::sys::stat::makedev(1, minor)).unwrap();
    node
}

#[test]
fn a_device_node_stays_one() {
    let sandbox = running();
    let null = node(&sandbox, SFlag::S_IFCHR, 3);
    each(&sandbox, &null, |verb, done| {
        done.ok();
        assert!(null.metadata().unwrap().file_type().is_char_device(), "{verb}");
    });
    // An error when it is written to is reported, and nothing is left.
    fs::remove_file(&null).unwrap();
    let full = node(&sandbox, SFlag::S_IFCHR, 7);
    each(&sandbox, &full, |verb, done| {
        assert_ne!(done.code, Some(0), "{verb}: {done:?}");
        assert!(done.stderr.contains("--pid-file: write "), "{verb}: {done:?}");
        assert!(full.metadata().unwrap().file_type().is_char_device(), "{verb}");
    });
}

#[test]
fn a_link_stays_one_and_what_it_leads_to_gets_the_pid() {
    let sandbox = running();
    let (link, real) = (sandbox.dir.join("link"), sandbox.dir.join("real"));
    symlink("real", &link).unwrap();
    each(&sandbox, &link, |verb, done| {
        done.ok();
        assert!(link.symlink_metadata().unwrap().is_symlink(), "{verb}");
        let pid: i32 = fs::read_to_string(&real).unwrap().parse().unwrap();
        assert!(pid > 1, "{verb}");
    });
}

#[test]
fn a_fifo_stays_one_and_its_reader_gets_the_pid() {
    let sandbox = running();
    let fifo = sandbox.dir.join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let both = || File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
    let mut reader = both().unwrap();
    each(&sandbox, &fifo, |verb, done| {
        done.ok();
        assert!(fifo.metadata().unwrap().file_type().is_fifo(), "{verb}");
        let mut text = [0; 64];
        let length = std::io::Read::read(&mut reader, &mut text).unwrap();
        let pid: i32 = std::str::from_utf8(&text[..length]).unwrap().parse().unwrap();
        assert!(pid > 1, "{verb}");
    });
}

#[test]
fn a_fifo_without_a_reader_is_an_error_at_once() {
    brig_only!();
    let sandbox = running();
    let fifo = sandbox.dir.join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let inode = fifo.metadata().unwrap().ino();
    each(&sandbox, &fifo, |verb, done| {
        let start = Instant::now();
        assert_ne!(done.code, Some(0), "{verb}: {done:?}");
        assert!(done.stderr.contains("a fifo without a reader"), "{verb}: {done:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "{verb}");
        assert_eq!(fifo.metadata().unwrap().ino(), inode, "{verb}");
    });
    // A process of exec that brig had to give up has been killed.
    let alone = || sandbox.brig(&["ps", "--format", "json", &sandbox.id]).stdout;
    let one = format!("[{}]", sandbox.pid());
    assert!(wait_until(Duration::from_secs(5), || alone().trim() == one), "{}", alone());
}
