//! What is compared: runtimes, and the floor.

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
}

/// What a peer is asked to do.
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
}

impl Peer {
    /// From `NAME=PATH`. Absent runtimes are left out; brig is there twice on a hybrid host.
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
        let is_floor = name == "floor";
        let version = if is_floor { String::new() } else { version(&path)? };
        let size = fs::metadata(&path)?.len();
        let dir = out.join("work").join(name);
        let plain = Peer { name: name.into(), path, version, size, dir, namespace: None, is_floor };
        let hybrid = host.hybrid_path().filter(|_| name == "brig").map(|namespace| Peer {
            name: format!("{name}-hybrid"),
            dir: plain.dir.with_file_name(format!("{name}-hybrid")),
            namespace: Some(namespace),
            ..plain.clone()
        });
        Ok([plain].into_iter().chain(hybrid).collect())
    }

    /// Where a bundle is.
    pub fn bundle(&self, config: &str) -> PathBuf {
        self.dir.join(config)
    }

    /// `--root`, and where the floor has its fifo.
    pub fn states(&self) -> PathBuf {
        self.dir.with_file_name("states").join(&self.name)
    }

    /// The name of the cgroup that a bundle asks for.
    pub fn cgroup(&self) -> String {
        cgroup_name(&self.name)
    }

    /// Where `create` writes the pid of the container's init.
    pub fn pid_file(&self) -> PathBuf {
        if self.is_floor { self.states().join("pid") } else { self.dir.join("pid") }
    }

    /// What to execute for `verb` on container `id` with the bundle `config`; none if the floor has
    /// nothing to do for it.
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
            // Less than an empty program is not possible.
            Verb::State | Verb::Exec | Verb::Kill | Verb::List => {
                return vec![rootfs.join("true").into()];
            }
        };
        let config = if config.starts_with("full") { "full" } else { "minimal" };
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

    /// It is the floor, not a runtime.
    pub fn is_floor(&self) -> bool {
        self.is_floor
    }
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
