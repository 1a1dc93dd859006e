//! The compared programs: runtimes, and the floor.

use crate::host::{Host, cgroup_name};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of the compared programs.
#[derive(Clone)]
pub struct Peer {
    pub name: String,
    pub path: PathBuf,
    pub version: String,
    pub size: u64,
    /// Its own directory: bundles and, for a runtime, its states.
    pub dir: PathBuf,
    /// Mount namespace to run it in.
    pub namespace: Option<PathBuf>,
    is_floor: bool,
    /// It is the floor that also does what every runtime has to.
    is_honest: bool,
}

/// An operation of a peer.
#[derive(Clone, Copy)]
pub enum Verb {
    Run,
    Create,
    Start,
    State,
    Exec,
    Kill,
    Delete,
    Force,
    List,
    ListIds,
}

impl Peer {
    /// Parses `NAME=PATH`. Missing runtimes are skipped; on a hybrid host brig is measured twice.
    pub fn new(arg: &str, out: &Path, host: &Host) -> Result<Vec<Peer>> {
        let (name, path) = arg.split_once('=').context("NAME=PATH")?;
        let Some(path) = find(path) else {
            eprintln!("{name}: no {path}, left out");
            return Ok(Vec::new());
        };
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        {
            bail!("{name:?} is no name for a runtime");
        }
        let is_honest = name == "honest";
        let is_floor = is_honest || name == "floor";
        let path = copied(&path, &out.join("work/bin").join(name))?;
        let version = if is_floor { String::new() } else { version(&path)? };
        let size = fs::metadata(&path)?.len();
        let dir = out.join("work").join(name);
        let plain = Peer {
            name: name.into(),
            path,
            version,
            size,
            dir,
            namespace: None,
            is_floor,
            is_honest,
        };
        let hybrid = host.hybrid_path().filter(|_| name == "brig").map(|namespace| Peer {
            name: format!("{name}-hybrid"),
            dir: plain.dir.with_file_name(format!("{name}-hybrid")),
            namespace: Some(namespace),
            ..plain.clone()
        });
        Ok([plain].into_iter().chain(hybrid).collect())
    }

    /// A copy with its own bundles, states and cgroups: the n-th of many concurrent ones.
    pub fn nth(&self, n: usize) -> Peer {
        let name = format!("{}-{n}", self.name);
        Peer { dir: self.dir.with_file_name(&name), name, ..self.clone() }
    }

    /// Where a bundle is.
    pub fn bundle(&self, config: &str) -> PathBuf {
        self.dir.join(config)
    }

    /// `--root`, and the directory for the floor's fifo.
    pub fn states(&self) -> PathBuf {
        self.dir.with_file_name("states").join(&self.name)
    }

    /// The name of the cgroup in a bundle's config.
    pub fn cgroup(&self) -> String {
        cgroup_name(&self.name)
    }

    /// The pid file of `create`.
    pub fn pid_file(&self) -> PathBuf {
        if self.is_floor { self.states().join("pid") } else { self.dir.join("pid") }
    }

    /// The command for `verb` on container `id` with the bundle `config`; empty if the floor has nothing to
    /// do.
    pub fn command(&self, verb: Verb, config: &str, id: &str, host: &Host) -> Vec<OsString> {
        if self.is_floor { self.floor(verb, config, host) } else { self.runtime(verb, config, id) }
    }

    fn runtime(&self, verb: Verb, config: &str, id: &str) -> Vec<OsString> {
        let mut argv: Vec<OsString> =
            vec![self.path.clone().into(), "--root".into(), self.states().into()];
        let bundle = self.bundle(config);
        let words: &[OsString] = match verb {
            Verb::Run => &["run".into(), "--bundle".into(), bundle.into(), id.into()],
            Verb::Create => &[
                "create".into(),
                "--bundle".into(),
                bundle.into(),
                "--pid-file".into(),
                self.pid_file().into(),
                id.into(),
            ],
            Verb::Start => &["start".into(), id.into()],
            Verb::State => &["state".into(), id.into()],
            Verb::Exec => &["exec".into(), id.into(), "/true".into()],
            Verb::Kill => &["kill".into(), id.into(), "KILL".into()],
            Verb::Delete => &["delete".into(), id.into()],
            Verb::Force => &["delete".into(), "--force".into(), id.into()],
            Verb::List => &["list".into()],
            Verb::ListIds => &["list".into(), "-q".into()],
        };
        argv.extend_from_slice(words);
        argv
    }

    fn floor(&self, verb: Verb, config: &str, host: &Host) -> Vec<OsString> {
        let rootfs = crate::bundle::rootfs(&self.dir);
        let verb = match verb {
            Verb::Run => "run",
            Verb::Create => "create",
            Verb::Start => "start",
            Verb::Delete => "delete",
            Verb::Force => "force",
            // The minimum is an empty program.
            Verb::State | Verb::Exec | Verb::Kill | Verb::List | Verb::ListIds => {
                return vec![rootfs.join("true").into()];
            }
        };
        let config = if config.starts_with("full") { "full" } else { "minimal" };
        let config = format!("{config}{}", if self.is_honest { "-honest" } else { "" });
        vec![
            self.path.clone().into(),
            verb.into(),
            config.into(),
            rootfs.into(),
            self.cgroup().into(),
            host.for_floor().into(),
            self.states().into(),
        ]
    }

    /// Whether it is the floor, not a runtime.
    pub fn is_floor(&self) -> bool {
        self.is_floor
    }
}

/// Copied, because a file's layout in the page cache depends on how it was written, and affects the results.
fn copied(path: &Path, target: &Path) -> Result<PathBuf> {
    let dir = target.parent().context("no directory")?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let copy = || {
        // Not written in place: a container of an earlier run may still execute it.
        let _ = fs::remove_file(target);
        fs::copy(path, target)
    };
    copy().with_context(|| format!("copy {} to {}", path.display(), target.display()))?;
    Ok(target.to_owned())
}

fn find(path: &str) -> Option<PathBuf> {
    if path.contains('/') {
        return fs::canonicalize(path).ok();
    }
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs).map(|dir| dir.join(path)).find(|path| path.is_file())
}

fn version(path: &Path) -> Result<String> {
    let output =
        Command::new(path).arg("--version").output().with_context(|| path.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
