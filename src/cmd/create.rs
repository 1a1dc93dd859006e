//! create; and run, which creates, starts, waits and deletes.

use super::images::{self, FromImage};
use crate::launch::create::{self, Created, Options};
use crate::launch::foreground::notify::Forwarder;
use crate::launch::foreground::terminal::Carrier;
use crate::launch::gate::Outcome;
use crate::launch::{destroy, foreground, start};
use crate::log::{self, Log};
use anyhow::{Context, Result};
use std::os::fd::AsFd;
use sys::describe;

/// Creates a container from a bundle or an image; it then waits for start.
pub fn create(options: &Options, from: Option<&FromImage>, log: &mut Log) -> Result<()> {
    let mut act = || {
        created(options, from, log)?;
        print_made_up_name(options, from)
    };
    act().with_context(|| format!("create {}", options.id))
}

/// Creates and starts a container; in the foreground, also waits for it and deletes it. Returns the exit
/// code.
pub fn run(
    options: &Options,
    from: Option<&FromImage>,
    run_options: &RunOptions,
    log: &mut Log,
) -> Result<i32> {
    run_to_the_end(options, from, run_options, log).with_context(|| format!("run {}", options.id))
}

/// Creates it, from a bundle or from an image.
fn created(options: &Options, from: Option<&FromImage>, log: &mut Log) -> Result<Created> {
    match from {
        Some(from) => images::create(from, options, log),
        None => create::create(options, log),
    }
}

/// Prints a generated name or the value of `--name`, as engines do.
fn print_made_up_name(options: &Options, from: Option<&FromImage>) -> Result<()> {
    match from {
        Some(from) if images::prints_id(from) => log::out(format!("{}\n", options.id).as_bytes()),
        _ => Ok(()),
    }
}

/// What run does after start.
#[derive(Debug)]
pub struct RunOptions {
    /// Keep the stopped container.
    pub keep: bool,
    /// Orphans of the container become children of brig.
    pub subreaper: bool,
}

fn run_to_the_end(
    options: &Options,
    from: Option<&FromImage>,
    run_options: &RunOptions,
    log: &mut Log,
) -> Result<i32> {
    if !options.detach && run_options.subreaper {
        foreground::adopt_orphans()?;
    }
    let Created { dir, lock, state, init, master, manager } = created(options, from, log)?;
    let begin = || {
        let carrier = master.map(Carrier::new).transpose()?;
        let forwarder = Forwarder::open(&dir, manager)?;
        Ok(match start::start(&dir, &state)? {
            Outcome::Executed => (carrier, forwarder),
            Outcome::HookFailed(error) => return Err(error),
        })
    };
    let (mut carrier, forwarder) = match begin() {
        Ok(begun) => begun,
        Err(error) => return Err(destroy::because(error, dir, &state, log)),
    };
    // From now on other commands (kill, state, delete) can work on the container.
    drop(lock);
    if options.detach {
        print_made_up_name(options, from)?;
        if let Some(Err(error)) =
            forwarder.map(|forwarder| forwarder.until_ready(init.as_fd(), state.pid))
        {
            log.warn(&describe(&error));
        }
        return Ok(0);
    }
    let code = foreground::wait(&init, carrier.as_mut(), forwarder.as_ref())?;
    if let Some(errno) = carrier.and_then(|carrier| carrier.lost()) {
        log.warn(&format!(
            "write to stdout: {}: the output of the process is incomplete",
            errno.desc()
        ));
    }
    // If the lock cannot be taken, another brig has deleted the container.
    if !run_options.keep
        && let Ok(_lock) = dir.lock()
    {
        destroy::destroy(dir, &state, true, log)?;
    }
    Ok(code)
}
