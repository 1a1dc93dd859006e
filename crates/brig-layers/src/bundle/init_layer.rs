//! A bundle's own layer above the image's: what docker also adds to images for a container's root.
//! /etc/hosts, /etc/hostname, /etc/resolv.conf, /etc/mtab, and the mount points.

use crate::bundle::patch::copy_attributes;
use crate::tree::view::View;
use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, mkdirat, umask};
use nix::unistd::symlinkat;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use sys::path::DIRECTORY;

/// The maximum size of a hosts file and of the host's resolv.conf: hosts files with blocked names can have
/// some MiB.
const MAX_BYTES: u64 = 8 << 20;

/// Network settings in files, not in the config.
#[derive(Debug, Default)]
pub struct NetworkFiles {
    /// Additional lines of /etc/hosts: address and name.
    pub hosts: Vec<(String, String)>,
    /// Whether the container uses the host's network.
    pub host_network: bool,
}

/// Creates it in the new directory `path`. `own_ids`: everything is owned by brig's caller.
///
/// # Errors
///
/// If a file cannot be created, or the image's files cannot be read.
pub fn make(
    path: &Path,
    view: &View,
    hostname: &str,
    beside: &NetworkFiles,
    own_ids: bool,
) -> Result<()> {
    let before = umask(Mode::empty());
    let made = fill(path, view, hostname, beside, own_ids);
    umask(before);
    made.with_context(|| path.display().to_string())
}

fn fill(
    path: &Path,
    view: &View,
    hostname: &str,
    beside: &NetworkFiles,
    own_ids: bool,
) -> Result<()> {
    nix::unistd::mkdir(path, Mode::from_bits_truncate(0o755))?;
    let root = open(path, DIRECTORY, Mode::empty())?;
    for (name, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555)] {
        if view.find(&[name.as_bytes()], view.len())?.is_none() {
            mkdirat(&root, name, Mode::from_bits_truncate(mode))?;
        }
    }
    let mut files = Vec::new();
    let own = [
        ("hosts", hosts(view, hostname, beside)?),
        ("hostname", format!("{hostname}\n").into_bytes()),
        // The name servers are reachable if the container shares the host's network.
        ("resolv.conf", host_file("/etc/resolv.conf")),
    ];
    for (name, text) in own {
        if lacks(view, name)? || name == "hosts" && !beside.hosts.is_empty() {
            files.push((name, text));
        }
    }
    let mtab = view.find(&[b"etc", b"mtab"], view.len())?.is_none();
    // A link, or another type, is the image's choice.
    let etc = view.find(&[b"etc"], view.len())?;
    let usable = etc.as_ref().is_none_or(|etc| etc.is(SFlag::S_IFDIR));
    if usable && (mtab || !files.is_empty()) {
        mkdirat(&root, "etc", Mode::from_bits_truncate(0o755))?;
        let dir = openat(&root, "etc", DIRECTORY, Mode::empty())?;
        for (name, text) in files {
            write(&dir, name, &text).with_context(|| format!("etc/{name}"))?;
        }
        if mtab {
            symlinkat("/proc/mounts", &dir, "mtab").context("etc/mtab")?;
        }
        if let Some((etc, _)) = view.named_directory(&[b"etc"])? {
            copy_attributes(&etc, root.as_fd(), b"etc", own_ids)?;
        }
    }
    // The highest layer's root directory becomes the container's.
    if let Some((image, _)) = view.named_directory(&[])? {
        copy_attributes(&image, root.as_fd(), b".", own_ids)?;
    }
    Ok(())
}

/// Whether a file does not exist, or is empty, as engines leave it in images.
fn lacks(view: &View, name: &str) -> Result<bool> {
    let found = view.find(&[b"etc", name.as_bytes()], view.len())?;
    Ok(found.is_none_or(|found| found.is(SFlag::S_IFREG) && found.stat.st_size == 0))
}

fn write(dir: &OwnedFd, name: &str, text: &[u8]) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_bits_truncate(0o644))?;
    Ok(File::from(file).write_all(text)?)
}

/// The image's file, if it exists; the host's, in its network; and the lines of `--add-host`.
fn hosts(view: &View, hostname: &str, beside: &NetworkFiles) -> Result<Vec<u8>> {
    let mut text = if !lacks(view, "hosts")? {
        let mut text = Vec::new();
        if let Some(file) = view.open_file(b"/etc/hosts")? {
            file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
        }
        if text.len() as u64 > MAX_BYTES {
            bail!("the image's /etc/hosts has more than {MAX_BYTES} bytes");
        }
        text
    } else if beside.host_network {
        host_file("/etc/hosts")
    } else {
        format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             127.0.1.1\t{hostname}\n"
        )
        .into_bytes()
    };
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    for (address, name) in &beside.hosts {
        text.extend(format!("{address}\t{name}\n").into_bytes());
    }
    Ok(text)
}

fn host_file(path: &str) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        // After an error, a part of it is better than nothing.
        let _ = file.take(MAX_BYTES).read_to_end(&mut text);
    }
    text
}
