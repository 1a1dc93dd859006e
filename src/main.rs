//! The binary: parses arguments, prints at most one error line, returns an exit code. Everything else is in
//! the library.
//!
//! It defines C's `main` instead of std's, whose start-up costs 60 µs (poll, sigaction, sigaltstack) and
//! leaves SIGPIPE ignored in every program it executes.
#![no_main]

use anyhow::Context;
use brig::cli::{self, Parsed, UsageError};
use brig::cmd::command::{Command, Globals};
use brig::log::Log;
use brig::{cmd, seal};

/// Called by the C library's start-up code. std finds the arguments by itself only with glibc.
// SAFETY: this is the only definition of `main` in the binary, and it has the signature that C expects.
#[expect(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, values: *const *const libc::c_char) -> libc::c_int {
    // SAFETY: what C passes to main lasts as long as the process, and nothing else has run yet.
    unsafe { sys::process::keep_args(count, values) };
    sys::fd::fill_standard_fds();
    sys::process::take_no_backtraces();
    std::panic::set_hook(Box::new(|info| {
        sys::tty::restore();
        brig::log::panic(info);
        sys::exit(1)
    }));
    sys::exit(run())
}

fn run() -> i32 {
    let args = sys::process::args();
    // Before anything is read or created, because a re-executed brig would have to do it again.
    let sealed = if seal::may_be_needed(&args) { seal::ensure() } else { Ok(()) };
    let (globals, command) = match cli::parse(args) {
        Parsed::Run(globals, command) => (globals, *command),
        Parsed::Say(text) => return brig::log::out(text.as_bytes()).map_or(1, |()| 0),
        Parsed::Wrong(UsageError { globals, text, help, code }) => {
            if let Some(help) = help {
                // If stdout is closed, nothing is lost: the error is also on stderr.
                let _ = brig::log::out(format!("Incorrect Usage: {text}\n\n{help}").as_bytes());
            }
            let log = globals.and_then(|globals| open_log(&globals).ok());
            log.unwrap_or_default().fail(&anyhow::anyhow!(text));
            return code;
        }
    };
    let mut log = match open_log(&globals) {
        Ok(log) => log,
        Err(error) => {
            Log::default().fail(&error);
            return 1;
        }
    };
    // Engines parse stdout and stderr of `features` together.
    let accounts = !matches!(command, Command::Features);
    if accounts && log.debugs() {
        let (version, commit) = (env!("CARGO_PKG_VERSION"), brig::COMMIT);
        let line: Vec<_> = sys::process::args().iter().map(|arg| format!("{arg:?}")).collect();
        log.debug(format_args!("brig {version}, commit {commit}: {}", line.join(" ")));
    }
    let failure = cmd::failure_code(&command);
    log.is_about(command.name(), command.container());
    let sealed =
        sealed.context("cannot protect brig's own binary from the container (CVE-2019-5736)");
    // After the last execve, because execve makes a process dumpable again.
    let hidden = sealed.and_then(|()| Ok(sys::cred::hide_root()?));
    // If SIGCHLD were ignored, as some callers leave it, the kernel would reap brig's children and their statuses
    // would be lost.
    let reaps = hidden.and_then(|()| Ok(sys::signal::reset(libc::SIGCHLD)?));
    let recorded = reaps.and_then(|()| log.record(globals.trace.as_deref(), globals.timings));
    match recorded.and_then(|()| execute(&globals, command, &mut log)) {
        Ok(code) => {
            if accounts {
                log.phase("the rest");
            }
            log.finish();
            code
        }
        Err(error) => {
            log.fail(&error);
            failure
        }
    }
}

/// Runs a command of [`brig::cmd`] and returns brig's exit code.
fn execute(globals: &Globals, command: Command, log: &mut Log) -> anyhow::Result<i32> {
    let (root, store) = (&globals.root, globals.store.as_deref());
    match command {
        Command::Create(options, from) => {
            cmd::apart(|| cmd::create::create(&options, from.as_ref(), log))
        }
        Command::Run(options, from, run_options) => {
            return cmd::apart(|| cmd::create::run(&options, from.as_ref(), &run_options, log));
        }
        Command::Checkpoint(options) => cmd::apart(|| cmd::checkpoint::checkpoint(&options, log)),
        Command::Restore(options, how) => {
            return cmd::apart(|| cmd::restore::restore(&options, &how, log));
        }
        Command::Exec(options) => return cmd::apart(|| cmd::exec::exec(&options, log)),
        Command::Start { id } => cmd::apart(|| cmd::start::start(root, &id, log)),
        Command::State { id } => cmd::apart(|| cmd::state::state(root, &id)),
        Command::Kill { id, regex, signal, all } => {
            cmd::apart(|| cmd::each(root, &id, regex, |id| cmd::kill::kill(root, id, &signal, all)))
        }
        Command::Mounts(options) => cmd::apart(|| cmd::mounts::mounts(root, &options, log)),
        Command::Pause { id } => cmd::apart(|| cmd::pause::pause(root, &id)),
        Command::Resume { id } => cmd::apart(|| cmd::pause::resume(root, &id)),
        Command::Ps { id, format, options } => {
            cmd::apart(|| cmd::ps::ps(root, &id, format, &options))
        }
        Command::Delete { id, regex, force } => cmd::apart(|| {
            cmd::each(root, &id, regex, |id| cmd::delete::delete(root, id, force, log))
        }),
        Command::Doctor(options) => return cmd::apart(|| cmd::doctor::doctor(&options)),
        Command::Inspect(options) => return cmd::apart(|| cmd::inspect::inspect(root, &options)),
        Command::Lint(options) => return cmd::apart(|| cmd::lint::lint(&options)),
        Command::List { format, quiet } => cmd::apart(|| cmd::list::list(root, format, quiet, log)),
        Command::Seccomp(options) => return cmd::apart(|| cmd::seccomp::seccomp(&options)),
        Command::Spec { bundle, file, rootless } => {
            cmd::apart(|| cmd::spec::spec(&bundle, file.as_deref(), rootless))
        }
        Command::Events(options) => cmd::apart(|| cmd::events::events(root, &options)),
        Command::Stats(options) => cmd::apart(|| cmd::stats::stats(root, &options, log)),
        Command::Update(options) => cmd::apart(|| cmd::update::update(root, &options, log)),
        Command::Image(command) => cmd::apart(|| cmd::images::run(root, store, &command, log)),
        Command::Wait(options) => cmd::apart(|| cmd::wait::wait(root, &options)),
        Command::Features => cmd::apart(cmd::features::features),
    }
    .map(|()| 0)
}

fn open_log(globals: &Globals) -> anyhow::Result<Log> {
    Log::open(globals.log.as_deref(), globals.log_format, globals.log_level)
}
