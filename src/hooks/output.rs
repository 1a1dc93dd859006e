//! Redirects the output of hooks to files, if crun's annotations ask for it.

use crate::plan::hooks::{STDERR, STDOUT};
use crate::spec::Place;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The files named by the annotations.
#[derive(Debug, Default)]
pub struct Output {
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Output {
    /// Opens the files on the host, also for hooks in the container. Relative paths start at the bundle.
    pub fn open(annotations: &BTreeMap<String, String>, bundle: &Path) -> Result<Output> {
        let open = |name: &str| -> Result<Option<Sink>> {
            let Some(path) = annotations.get(name) else { return Ok(None) };
            let path = bundle.join(path);
            let open = || appending(&path).with_context(|| path.display().to_string());
            let file = open().at(format!("annotations[{name:?}]"))?;
            Ok(Some(Sink { path, file }))
        };
        Ok(Output { stdout: open(STDOUT)?, stderr: open(STDERR)? })
    }

    /// The descriptors that must stay open until the last hook.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr].into_iter().flatten().map(|sink| sink.file.as_fd())
    }

    /// A hint at the file with the output, for errors: ` (see FILE)`.
    pub(super) fn hint(&self) -> String {
        let mut names: Vec<_> = [&self.stdout, &self.stderr]
            .into_iter()
            .flatten()
            .map(|sink| sink.path.display().to_string())
            .collect();
        names.dedup();
        if names.is_empty() { String::new() } else { format!(" (see {})", names.join(", ")) }
    }
}

/// Does not wait for a reader of a fifo, and does not acquire a controlling terminal.
fn appending(path: &Path) -> Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = File::options();
    let file = options.append(true).create(true).custom_flags(flags.bits()).open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).context("fcntl(O_APPEND)")?;
    Ok(file)
}
