//! The process in the containers of the integration tests: prints facts about what it sees, one per line, and
//! performs actions. Commands are separated by `;`:
//!
//! ```text
//! /init ids ; stat /dev/null ; write /file text ; exit 3
//! ```
//!
//! Works as PID 1, with closed stdio, and without /proc unless the fact itself comes from there. It is
//! `no_main`, because std's start-up code would change what is tested: it ignores SIGPIPE, installs handlers,
//! and opens closed standard streams.

#![no_main]
#![expect(unsafe_code, reason = "calls that nix does not have, each with its argument")]
#![expect(
    clippy::disallowed_methods,
    reason = "not brig: exits and writes as any program in a container does"
)]

mod acts;
mod agent;
mod facts;
mod hunter;
mod network;
mod sched;
mod terminal;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Prints a line; a closed stdout is not an error.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {{
        // The test reads what arrived; a closed stdout is one of the tested cases.
        _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

/// The arguments of a command, as text and as given.
pub struct Words<'a>(&'a [OsString]);

impl<'a> Words<'a> {
    /// Argument `index`; empty if missing.
    pub fn text(&self, index: usize) -> &'a str {
        self.0.get(index).and_then(|word| word.to_str()).unwrap_or_default()
    }

    /// Argument `index` as a path.
    pub fn path(&self, index: usize) -> &'a Path {
        Path::new(self.0.get(index).map_or("".as_ref(), |word| word.as_os_str()))
    }

    /// Argument `index` as a number; 0 if it is not one.
    pub fn number(&self, index: usize) -> u64 {
        self.text(index).parse().unwrap_or(0)
    }

    /// All arguments.
    pub fn all(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(|word| word.to_str())
    }
}

// SAFETY: the only definition of `main` in this program, with C's signature, as required by `no_main`.
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, values: *const *const libc::c_char) -> libc::c_int {
    // SAFETY: the arguments passed to main exist as long as the process.
    unsafe { sys::process::keep_args(count, values) };
    let words: Vec<OsString> = sys::process::args().into_iter().skip(1).collect();
    for command in words.split(|word| word.as_bytes() == b";") {
        let Some((name, rest)) = command.split_first() else { continue };
        let (name, words) = (name.to_string_lossy(), Words(rest));
        let known = facts::tell(&name, &words)
            || acts::act(&name, &words)
            || terminal::act(&name, &words)
            || agent::act(&name, &words)
            || hunter::act(&name, &words)
            || network::act(&name, &words);
        if !known {
            say!("unknown command {name}");
            return 125;
        }
    }
    0
}
