//! wait: blocks until containers have ended, and reports how.

use super::command::ListFormat;
use super::table::table;
use crate::deadline;
use crate::log;
use crate::process::signals;
use crate::state::exit_status::{self, Ended};
use crate::state::{Dir, NotFound, State, Status, open_init};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use sys::{poll, signal};

/// The polling interval for conditions that the kernel does not notify of.
const LOOK: Duration = Duration::from_millis(20);

/// The time limit for the parent of an exited process to reap it, which makes the exit status available.
const REAPED: Duration = Duration::from_secs(10);

/// The options of wait.
#[derive(Debug)]
pub struct WaitOptions {
    /// The containers.
    pub ids: Vec<String>,
    /// The condition to wait for.
    pub condition: Condition,
    /// The time limit, e.g. `10s`.
    pub timeout: Option<String>,
    /// The output format.
    pub format: ListFormat,
    /// Print only the exit statuses.
    pub quiet: bool,
}

/// A condition of a container to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// create has finished.
    Created,
    /// Its program runs.
    Running,
    /// Its init has ended.
    Stopped,
    /// It does not exist any more.
    Removed,
}

/// How a container has ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    /// null if it cannot be determined.
    exit_status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    reason: &'static str,
}

/// Waits for all of them, and prints how they have ended if that is the condition.
///
/// # Errors
///
/// If a container does not exist, or the time limit has expired.
pub fn wait(root: &Path, options: &WaitOptions) -> Result<()> {
    let timeout = options.timeout.as_deref();
    let timeout = super::events::duration_flag("timeout", timeout, deadline::FOREVER)?;
    let end = Instant::now() + timeout;
    let late = |id: &str| {
        format!("wait {id}: timed out after {}", options.timeout.as_deref().unwrap_or_default())
    };
    if options.condition != Condition::Stopped {
        for id in &options.ids {
            let reached =
                until(root, id, options.condition, end).with_context(|| format!("wait {id}"))?;
            ensure!(reached, late(id));
        }
        return Ok(());
    }
    // All are opened first: the status of a process that has been reaped by then would be lost.
    let open = |id: &String| {
        let watched = Watched::open(root, id, end).with_context(|| format!("wait {id}"))?;
        watched.with_context(|| late(id))
    };
    let watched = options.ids.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut ended = Vec::new();
    for container in watched {
        let id = container.state.id.clone();
        match container.ended(end).with_context(|| format!("wait {id}"))? {
            Some(one) => ended.push(one),
            None => bail!(late(&id)),
        }
    }
    print(&ended, options)
}

/// A container and its init, if that has not been reaped.
struct Watched {
    state: State,
    init: Option<OwnedFd>,
}

impl Watched {
    /// None if it is still being created when the time limit expires.
    fn open(root: &Path, id: &str, end: Instant) -> Result<Option<Watched>> {
        let dir = Dir::open(root, id)?;
        let state = loop {
            let (state, status) = dir.look()?;
            if status != Status::Creating {
                break state;
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            sleep(LOOK);
        };
        let init = match open_init(&state)? {
            None => exit_status::open_zombie(&state)?,
            init => init,
        };
        Ok(Some(Watched { state, init }))
    }

    /// How it has ended; None if the time limit has expired.
    fn ended(self, end: Instant) -> Result<Option<Shown>> {
        let Some(init) = &self.init else {
            let known = exit_status::known(&self.state);
            return Ok(Some(self.describe(known)));
        };
        if !poll::readable(init.as_fd(), end)? {
            return Ok(None);
        }
        let reaped = (Instant::now() + REAPED).min(end.max(Instant::now() + LOOK));
        loop {
            let status = signal::exit_status(init.as_fd());
            let status = status.or_else(|| exit_status::of_zombie(&self.state));
            if status.is_some() || Instant::now() >= reaped {
                return Ok(Some(self.describe(status)));
            }
            sleep(LOOK);
        }
    }

    /// Interprets a wait(2) status.
    fn describe(self, status: Option<i32>) -> Shown {
        let Ended { exit_status, signal, reason } = Ended::new(&self.state, status);
        Shown { id: self.state.id, exit_status, signal, reason }
    }
}

/// Polls until the condition is met; false if the time limit has expired.
fn until(root: &Path, id: &str, condition: Condition, end: Instant) -> Result<bool> {
    loop {
        let status = status(root, id)?;
        let reached = match (condition, status) {
            (Condition::Removed, status) => status.is_none(),
            (_, None) => false,
            (Condition::Created, Some(status)) => status != Status::Creating,
            (Condition::Running, Some(Status::Stopped)) => bail!("the container has ended"),
            (_, Some(status)) => status == Status::Running,
        };
        if reached || Instant::now() >= end {
            return Ok(reached);
        }
        sleep(LOOK);
    }
}

/// None if the container does not exist.
fn status(root: &Path, id: &str) -> Result<Option<Status>> {
    let look = || -> Result<Status> {
        let dir = Dir::open(root, id)?;
        let Some(state) = dir.load()? else { return Ok(Status::Creating) };
        Ok(match dir.status(&state)? {
            // start holds the lock until the program is executed: hooks may fail before that. Other commands
            // only delay the answer.
            Status::Running if dir.is_locked()? => Status::Created,
            status => status,
        })
    };
    match look() {
        Err(error) if error.is::<NotFound>() => Ok(None),
        status => status.map(Some),
    }
}

fn print(ended: &[Shown], options: &WaitOptions) -> Result<()> {
    let shown = |one: &Shown| {
        one.exit_status.map_or_else(|| "unknown".to_owned(), |status| status.to_string())
    };
    let text = match options.format {
        ListFormat::Json => format!("{}\n", serde_json::to_string_pretty(ended)?),
        ListFormat::Table if options.quiet => ended.iter().map(|one| shown(one) + "\n").collect(),
        ListFormat::Table => {
            let mut rows = vec![["ID", "EXIT STATUS", "REASON"].map(str::to_owned).to_vec()];
            rows.extend(ended.iter().map(|one| {
                let name = one.signal.and_then(signals::name);
                let reason =
                    name.map_or(one.reason.to_owned(), |name| format!("{} ({name})", one.reason));
                vec![one.id.clone(), shown(one), reason]
            }));
            table(&rows, 2, 0)
        }
    };
    log::out(text.as_bytes())
}
