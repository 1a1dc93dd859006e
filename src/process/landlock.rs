//! Landlock: the rules are made while brig can open every file, and take effect as late as they can.

use crate::plan::landlock::{Beneath, Landlock, OF_FILES, PLACE};
use crate::spec::Place;
use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use sys::file::kind;
use sys::landlock::Ruleset;
use sys::path::{Links, open_in};

/// Opens the files of the rules in this process's root: the container's, with everything mounted.
pub fn prepare(landlock: Option<&Landlock>) -> Result<Option<Ruleset>> {
    landlock.map(make).transpose().at(PLACE)
}

fn make(landlock: &Landlock) -> Result<Ruleset> {
    let ruleset = Ruleset::new(landlock.files, landlock.ports, landlock.scoped)?;
    let root = File::open("/").context("/")?;
    for rule in &landlock.beneath {
        allow(&ruleset, root.as_fd(), rule).with_context(|| rule.place.clone())?;
    }
    for &(port, rights) in &landlock.port_rules {
        ruleset.allow_port(port.into(), rights)?;
    }
    Ok(ruleset)
}

fn allow(ruleset: &Ruleset, root: BorrowedFd<'_>, rule: &Beneath) -> Result<()> {
    let file = open_in(root, &rule.path, OFlag::O_PATH, Links::Follow)?;
    let is_directory = kind(fstat(&file)?.st_mode) == SFlag::S_IFDIR;
    ensure!(
        is_directory || rule.rights & !OF_FILES == 0,
        "{} is not a directory, and can have execute, write_file, read_file, truncate and ioctl_dev only",
        rule.path.to_string_lossy()
    );
    Ok(ruleset.allow_beneath(file.as_fd(), rule.rights)?)
}

/// Restricts this process and everything that it executes.
pub fn enter(ruleset: Option<&Ruleset>) -> Result<()> {
    ruleset.map_or(Ok(()), Ruleset::enter).at(PLACE)
}
