//! create; and run, which creates, starts, waits and deletes.

use super::images::{self, FromImage};
use crate::launch::create::{self, Created, Decision, Options};
use crate::launch::foreground::End;
use crate::launch::foreground::notify::{Forwarder, Manager};
use crate::launch::foreground::terminal::Carrier;
use crate::launch::gate::Outcome;
use crate::launch::{destroy, foreground, start};
use crate::log::{self, Log};
use crate::plan::{Host, Plan, Request};
use crate::process::{activation, stdio};
use crate::spec::{Owned, Spec, shape};
use crate::state::{self, Dir, State};
use anyhow::{Context, Result};
use std::os::fd::AsFd;
use std::path::Path;
use sys::{describe, memory};

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
        None => of_bundle(options, log),
    }
}

/// Creates it, from a bundle.
pub(super) fn of_bundle(options: &Options, log: &mut Log) -> Result<Created> {
    if !nix::unistd::geteuid().is_root() {
        memory::wipe_what_is_freed();
    }
    let bundle = options.real_bundle()?;
    let name = options.config.as_ref().map_or("config.json".into(), |path| path.to_string_lossy());
    let (name, text) = (name.into_owned(), options.read_config(&bundle)?);
    let mut config = Owned { name, shape: shape::CONFIG, text };
    let mut act = || {
        let decision = decide(options, &bundle, &config, log)?;
        create::create(options, &bundle, &mut config, decision, log)
    };
    act().map_err(|error| config.document().located(error))
}

/// Makes the plan; nothing is changed yet.
fn decide(options: &Options, bundle: &Path, owned: &Owned, log: &mut Log) -> Result<Decision> {
    state::check_id(&options.id)?;
    let mut warnings = Vec::new();
    let config = owned.document();
    let (mut spec, rewritten) = config.parse::<Spec>(&mut warnings)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    if options.strict {
        super::lint::refuse_mistakes(config)?;
    }
    if let Some(socket) = &options.record_calls {
        super::seccomp::notify_of_all(&mut spec, socket)?;
    }
    log.debug_each(|| config.unknown_keys());
    let manager = Manager::of_environment()?;
    let activation = activation::of_environment()?;
    let listening = activation.as_ref().map_or(0, |activation| activation.count);
    let directory = std::path::absolute(&options.root)?.join(&options.id);
    let request = Request {
        bundle,
        rootfs: &options.rootfs,
        cgroup_manager: options.cgroup_manager,
        rootless: options.rootless,
        tells_readiness: manager.is_some().then_some(&directory),
        activation,
        preserve_fds: options.preserve_fds,
        carries_terminal: !options.detach,
    };
    let host = Host::default();
    let mut plan = Plan::new(&spec, &request, &host)?;
    plan.hooks.locate(&config);
    stdio::set_cloexec_from(listening, options.preserve_fds)?;
    if manager.is_some() && !plan.tells_readiness {
        log.warn("NOTIFY_SOCKET is not passed on: this needs a new mount namespace");
    }
    let manager = manager.filter(|_| plan.tells_readiness);
    for warning in &plan.warnings {
        log.warn(&config.located_warning(warning));
    }
    log.phase("config and plan");
    let notes = plan.notes.iter().cloned().chain(plan.process.notes());
    notes.for_each(|note| log.debug(format_args!("{note}")));
    Ok(Decision { spec, rewritten, host, plan, manager })
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
        Ok(match start::start(&dir, &state, lock, log)? {
            Outcome::Executed => (carrier, forwarder),
            Outcome::HookFailed(error) => return Err(error),
        })
    };
    let (mut carrier, forwarder) = match begin() {
        Ok(begun) => begun,
        Err(error) => return Err(destroy::unlocked_because(error, dir, &state, log)),
    };
    if options.detach {
        print_made_up_name(options, from)?;
        if let Some(Err(error)) =
            forwarder.map(|forwarder| forwarder.until_ready(init.as_fd(), state.pid))
        {
            log.warn(&describe(&error));
        }
        return Ok(0);
    }
    let End { code, status } = foreground::wait(&init, carrier.as_mut(), forwarder.as_ref())?;
    log.phase("the container runs");
    if let Some(errno) = carrier.and_then(|carrier| carrier.lost()) {
        log.warn(&format!(
            "write to stdout: {}: the output of the process is incomplete",
            errno.desc()
        ));
    }
    if let Some(cause) = cause_of_end(code, &state) {
        log.warn(cause);
    }
    if run_options.keep
        && let Err(error) = remember_end(&dir, status)
    {
        log.warn(&format!("how the container has ended is not kept: {}", describe(&error)));
    }
    foreground::reap(&init)?;
    if !run_options.keep {
        destroy::at_the_end(dir, &state, log)?;
    }
    Ok(code)
}

/// Stores how init has ended: after brig has reaped it, no other process can find out.
fn remember_end(dir: &Dir, status: i32) -> Result<()> {
    let Some(_lock) = dir.lock_if_exists()? else { return Ok(()) };
    let Some(state) = dir.load()? else { return Ok(()) };
    dir.save(&State { ended: Some(status), ..state })
}

/// The reason if the kernel killed init, which its exit code does not show; must be queried before the cgroup
/// is removed.
fn cause_of_end(code: i32, state: &State) -> Option<&'static str> {
    const KILLED: i32 = 128 + libc::SIGKILL;
    const BAD_CALL: i32 = 128 + libc::SIGSYS;
    match code {
        KILLED if state.cgroup.oom_killed() => Some(
            "the container ran out of memory (linux.resources.memory.limit), and the kernel killed it",
        ),
        BAD_CALL => {
            Some("the seccomp filter killed the container for a system call (linux.seccomp)")
        }
        _ => None,
    }
}
