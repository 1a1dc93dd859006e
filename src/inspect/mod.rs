//! inspect: what a container really has, as the kernel tells it, beside what its config asked for.
//!
//! The container may be hostile: nothing is read that it can write, no path is looked up in its root filesystem, and the
//! process's directory in /proc is opened once, when a pidfd has shown that it is the container's init.

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

/// One thing that it has.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// What the kernel says; null where it has none.
    pub has: Value,
    /// What the config asked for, absent where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Value>,
    /// The two differ.
    pub drift: bool,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// More about it, for programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Row {
    fn new(name: impl Into<String>, has: impl Into<Value>) -> Row {
        Row { name: name.into(), has: has.into(), ..Row::default() }
    }

    /// What it has is compared with this.
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

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The container's name.
    pub id: String,
    /// Host pid of its init, which this is about.
    pub pid: i32,
    /// As `state` has it.
    pub status: Status,
    /// How isolated it is, by facts.
    pub summary: String,
    /// How many rows differ from what was asked.
    pub drift: usize,
    /// Why nothing is known of what the config asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Namespaces, and the id maps of the user namespace.
    pub namespaces: Vec<Row>,
    /// Ids, capabilities, filter, labels, terminal.
    pub process: Vec<Row>,
    /// Mounts, in the order of mountinfo, and last those that are missing.
    pub mounts: Vec<Row>,
    /// Values of its cgroup.
    pub cgroup: Vec<Row>,
    /// Resource limits of its init.
    pub rlimits: Vec<Row>,
}

/// What was asked for.
struct Asked {
    spec: Spec,
    plan: Plan,
}

/// A container to look at.
struct Subject<'a> {
    root: &'a Path,
    state: &'a State,
    task: Task,
    asked: Option<Asked>,
    /// Its program has been executed: before that some of what was asked is still to come.
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

/// Looks at a container's init.
///
/// # Errors
///
/// It does not exist, does not run, or may not be looked at.
pub fn inspect(root: &Path, id: &str, call: Option<&str>) -> Result<Report> {
    let dir = Dir::open(root, id)?;
    let state = dir.existing()?;
    let status = dir.status(&state)?;
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

/// Its config as it was when it was created, planned again.
fn asked(dir: &Dir, state: &State) -> Result<Asked> {
    let spec: Spec = serde_json::from_slice(&dir.read("config.json")?)?;
    let plan = Plan::new(&spec, &Request::of_bundle(&state.bundle), &Host::default())?;
    Ok(Asked { spec, plan })
}
