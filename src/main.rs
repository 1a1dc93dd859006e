//! The binary: arguments in, one error line at most, an exit code out. Everything else is the
//! library's.
//!
//! There is a C `main` instead of std's, whose start-up costs 60 µs of poll, sigaction and
//! sigaltstack, and leaves SIGPIPE ignored for whatever is executed.
#![no_main]

use anyhow::Context;
use brig::cli::{self, Parsed, UsageError};
use brig::cmd::command::Globals;
use brig::log::Log;
use brig::{cmd, seal};

/// Called by the C library's start-up code. The arguments reach std through its own initialiser.
// SAFETY: this is the only definition of `main` in the binary, with C's signature of it.
#[expect(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
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
    let args: Vec<_> = std::env::args_os().collect();
    // Before anything is read or made: memory that is mapped anew, or another brig, which begins anew.
    let sealed = if seal::may_be_needed(&args) { seal::ensure() } else { Ok(()) };
    let (globals, command) = match cli::parse(args) {
        Parsed::Run(globals, command) => (globals, *command),
        Parsed::Say(text) => return brig::log::out(text.as_bytes()).map_or(1, |()| 0),
        Parsed::Wrong(UsageError { globals, text, help, code }) => {
            if let Some(help) = help {
                // A reader that has gone away misses nothing: the error is on stderr.
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
    let failure = cmd::failure_code(&command);
    log.is_about(command.name(), command.container());
    let sealed =
        sealed.context("brig's own file cannot be kept from the container (CVE-2019-5736)");
    // After the last execve, which makes a process dumpable again.
    let hidden = sealed.and_then(|()| Ok(sys::cred::hide_root()?));
    match hidden.and_then(|()| cmd::run(&globals, command, &mut log)) {
        Ok(code) => {
            log.finish();
            code
        }
        Err(error) => {
            log.fail(&error);
            failure
        }
    }
}

fn open_log(globals: &Globals) -> anyhow::Result<Log> {
    Log::open(globals.log.as_deref(), globals.log_format, globals.log_level)
}
