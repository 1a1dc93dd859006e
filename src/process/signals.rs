//! Signal names.

use crate::suggest;
use anyhow::{Result, anyhow};

/// The names that [`parse`] knows, without SIG, and their numbers.
pub const NAMES: [(&str, i32); 34] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGIOT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// The kernel's first real-time signal: glibc reserves two and counts from 34.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The name of a signal by its number, e.g. `SIGTERM`; none for real-time signals.
pub fn name(number: i32) -> Option<String> {
    NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| format!("SIG{name}"))
}

/// The number of a signal, from its name in any case, with or without SIG, or from its number.
///
/// # Errors
///
/// If Linux has no such signal; the error may suggest one.
pub fn parse(text: &str) -> Result<i32> {
    let unknown = || {
        let word = text.to_ascii_uppercase();
        let word = word.strip_prefix("SIG").unwrap_or(&word);
        match suggest::nearest(word, NAMES.iter().map(|(known, _)| *known)) {
            Some(known) => anyhow!("unknown signal {text:?}: did you mean {known}?"),
            None => {
                anyhow!("unknown signal {text:?}: give a name, e.g. TERM, or a number, e.g. 15")
            }
        }
    };
    if text.is_empty() {
        // An empty string, e.g. from an unset shell variable, is the default, as in runc and crun.
        return Ok(libc::SIGTERM);
    }
    if let Ok(number) = text.parse::<i32>() {
        // 0 sends nothing: it checks whether the process exists.
        return if (0..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let distance = |rest: &str, sign| match rest {
        "" => Some(0),
        _ => {
            rest.strip_prefix(sign)?.parse::<i32>().ok().filter(|n| (0..=RTMAX - RTMIN).contains(n))
        }
    };
    let counted = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => distance(rest, '+').map(|n| RTMIN + n),
        (_, Some(rest)) => distance(rest, '-').map(|n| RTMAX - n),
        _ => None,
    };
    counted.ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("term", 15),
            ("15", 15),
            ("KILL", 9),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("rtmax", 64),
            ("64", 64),
            ("XFSZ", 25),
            ("0", 0),
            ("", 15),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in
            ["65", "-9", "SIG", "FOO", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMIN+", "SIGSIGTERM"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
