//! A bundle's own layer above the image's: what docker also adds to images for a container's root.
//! /etc/hosts, /etc/hostname, /etc/resolv.conf, /etc/mtab, and the mount points.

use crate::bundle::parents::Parents;
use crate::tree::view::View;
use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mkdirat, umask};
use nix::unistd::symlinkat;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

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
    let mut layer = Parents::new(path)?;
    for (name, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555)] {
        if view.find(&[name.as_bytes()], view.len())?.is_none() {
            mkdirat(layer.root(), name, Mode::from_bits_truncate(mode))?;
        }
    }
    let own = [
        ("hosts", hosts(view, hostname, beside)?),
        ("hostname", format!("{hostname}\n").into_bytes()),
        // The name servers are reachable if the container shares the host's network.
        ("resolv.conf", host_file("/etc/resolv.conf")),
    ];
    let mut taken: Vec<Vec<Vec<u8>>> = Vec::new();
    // Links may lead two of them to the same place, or one below another: the first is written.
    let mut is_free = |way: &Vec<Vec<u8>>| {
        let free = !taken.iter().any(|known| known.starts_with(way) || way.starts_with(known));
        taken.extend(free.then(|| way.clone()));
        free
    };
    for (name, text) in own {
        let must = name == "hosts" && !beside.hosts.is_empty();
        if let Some(way) = place(view, name, must)?.filter(&mut is_free) {
            write(&mut layer, &way, &text).with_context(|| format!("etc/{name}"))?;
        }
    }
    if let Some(way) = in_etc(view, "mtab")?
        && view.find(&slices(&way), view.len())?.is_none()
        && is_free(&way)
        && let Some((name, above)) = slices(&way).split_last()
    {
        symlinkat("/proc/mounts", layer.directory(above)?, *name).context("etc/mtab")?;
    }
    layer.finish(view, own_ids)
}

fn slices(way: &[Vec<u8>]) -> Vec<&[u8]> {
    way.iter().map(Vec::as_slice).collect()
}

/// Where a file of /etc is written: where the image's links lead, as docker mounts its own files. None if the image
/// has one that is not empty, as engines leave it in images, or something else, which is the image's choice. `must`: it
/// is written anyway.
fn place(view: &View, name: &str, must: bool) -> Result<Option<Vec<Vec<u8>>>> {
    if let Some(way) = view.place(format!("/etc/{name}").as_bytes())? {
        let free = match view.find(&slices(&way), view.len())? {
            Some(found) => found.is(SFlag::S_IFREG) && (must || found.stat.st_size == 0),
            None => can_be_made(view, &way)?,
        };
        if free {
            return Ok(Some(way));
        }
    }
    if must { in_etc(view, name) } else { Ok(None) }
}

/// The path of a name in /etc, without following it.
fn in_etc(view: &View, name: &str) -> Result<Option<Vec<Vec<u8>>>> {
    let Some(mut way) = view.place(b"/etc")? else { return Ok(None) };
    way.push(name.into());
    Ok(can_be_made(view, &way)?.then_some(way))
}

/// Whether all that exists on the way to a file are directories, and no mount will cover it.
fn can_be_made(view: &View, way: &[Vec<u8>]) -> Result<bool> {
    let parts = slices(way);
    if parts.first().is_some_and(|first| [&b"dev"[..], b"proc", b"sys"].contains(first)) {
        return Ok(false);
    }
    for length in 1..parts.len() {
        match view.find(&parts[..length], view.len())? {
            None => break,
            Some(found) if !found.is(SFlag::S_IFDIR) => return Ok(false),
            Some(_) => {}
        }
    }
    Ok(!parts.is_empty())
}

fn write(layer: &mut Parents, way: &[Vec<u8>], text: &[u8]) -> Result<()> {
    let parts = slices(way);
    let (name, above) = parts.split_last().context("the root is a directory")?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(layer.directory(above)?, *name, flags, Mode::from_bits_truncate(0o644))?;
    Ok(File::from(file).write_all(text)?)
}

/// The image's file, if it exists; the host's, in its network; and the lines of `--add-host`.
fn hosts(view: &View, hostname: &str, beside: &NetworkFiles) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    // Links that lead nowhere are not an error here.
    if view.place(b"/etc/hosts")?.is_some()
        && let Some(file) = view.open_file(b"/etc/hosts")?
    {
        file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            bail!("the image's /etc/hosts has more than {MAX_BYTES} bytes");
        }
    }
    let mut text = if !text.is_empty() {
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
