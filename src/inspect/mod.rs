//! inspect: the settings of a container as reported by the kernel, beside those of its config.
//!
//! The container may be hostile: nothing that it can write is read, no path is looked up in its root
//! filesystem, and the process's directory in /proc is opened once, after a pidfd has shown that it is the
//! container's init.

mod limits;
mod mounts;
mod namespaces;
mod process;
mod summary;
mod task;

use crate::plan::{Host, Plan, Request};
use crate::spec::Spec;
use crate::state::{self, Dir, State, Status};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;
use sys::describe;
use task::Task;

/// One setting.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its value; null if there is none.
    pub has: Value,
    /// The value in the config; absent if the config has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Value>,
    /// Whether the two differ.
    pub drift: bool,
    /// Additional text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Additional fields for programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Row {
    fn new(name: impl Into<String>, has: impl Into<Value>) -> Row {
        Row { name: name.into(), has: has.into(), ..Row::default() }
    }

    /// Sets the configured value, and compares.
    fn asked(self, asked: impl Into<Value>) -> Row {
        let asked = asked.into();
        Row { drift: asked != self.has, asked: Some(asked), ..self }
    }

    fn note(self, note: impl Into<String>) -> Row {
        let note = note.into();
        Row { note: (!note.is_empty()).then_some(note), ..self }
    }

    fn more(mut self, key: &str, value: impl Into<Value>) -> Row {
        self.more.insert(key.to_owned(), value.into());
        self
    }
}

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The container's id.
    pub id: String,
    /// The host pid of its init, which the report describes.
    pub pid: i32,
    /// Its status as in `state`.
    pub status: Status,
    /// A one-line summary of its isolation.
    pub summary: String,
    /// The number of rows that differ from the config.
    pub drift: usize,
    /// Why the config is not available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Namespaces, and the id maps of the user namespace.
    pub namespaces: Vec<Row>,
    /// Ids, capabilities, seccomp filter, labels, terminal.
    pub process: Vec<Row>,
    /// Mounts, in the order of mountinfo, followed by missing ones.
    pub mounts: Vec<Row>,
    /// Files of its cgroup.
    pub cgroup: Vec<Row>,
    /// Resource limits of its init.
    pub rlimits: Vec<Row>,
}

/// The configured settings.
struct Asked {
    spec: Spec,
    plan: Plan,
}

/// The container to inspect.
struct Subject<'a> {
    root: &'a Path,
    state: &'a State,
    task: Task,
    asked: Option<Asked>,
    /// Whether its program has been executed: some settings are made right before that.
    started: bool,
}

impl Subject<'_> {
    fn plan(&self) -> Option<&Plan> {
        self.asked.as_ref().map(|asked| &asked.plan)
    }

    fn spec(&self) -> Option<&Spec> {
        self.asked.as_ref().map(|asked| &asked.spec)
    }
}

/// Inspects a container's init.
///
/// # Errors
///
/// If the container does not exist or is not running, or may not be inspected.
pub fn inspect(root: &Path, id: &str, call: Option<&str>) -> Result<Report> {
    let dir = Dir::open(root, id)?;
    let (state, status) = dir.look()?;
    let init = state::open_init(&state)?.context("container is not running")?;
    let task = Task::open(state.pid, init)?;
    let (asked, trouble) = match asked(&dir, &state) {
        Ok(asked) => (Some(asked), None),
        Err(error) => (None, Some(format!("what was asked is unknown: {}", describe(&error)))),
    };
    let started = status != Status::Created;
    let subject = Subject { root, state: &state, task, asked, started };
    let namespaces = namespaces::rows(&subject)?;
    let mut process = process::rows(&subject)?;
    process.extend(call.map(|call| process::call(&subject, call)).transpose()?);
    let mounts = mounts::rows(&subject)?;
    let cgroup = limits::cgroup(&subject)?;
    let rlimits = limits::rlimits(&subject)?;
    ensure!(subject.task.lives()?, "container has ended meanwhile");
    let all = [&namespaces, &process, &mounts, &cgroup, &rlimits];
    let drift = all.into_iter().flatten().filter(|row| row.drift).count();
    let summary = summary::of(&subject, &namespaces, &process, &mounts)?;
    let (id, pid) = (state.id.clone(), state.pid);
    Ok(Report {
        id,
        pid,
        status,
        summary,
        drift,
        trouble,
        namespaces,
        process,
        mounts,
        cgroup,
        rlimits,
    })
}

/// Makes the plan again from the config stored at creation.
fn asked(dir: &Dir, state: &State) -> Result<Asked> {
    let spec: Spec = serde_json::from_slice(&dir.read("config.json")?)?;
    let plan = Plan::new(&spec, &Request::of_bundle(&state.bundle), &Host::default())?;
    Ok(Asked { spec, plan })
}
