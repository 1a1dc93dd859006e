//! kill: sends a signal to a container's init.

use crate::state::{self, Dir, NotFound};
use crate::sys::{Errno, signal};
use anyhow::{Context, Result, anyhow, bail};
use std::os::fd::AsFd;
use std::path::Path;

/// Sends `name` (TERM, SIGTERM, 15, RTMIN+3, …) to init, or to every process of the container.
pub fn kill(root: &Path, id: &str, name: &str, all: bool) -> Result<()> {
    go(root, id, name, all).with_context(|| format!("kill {id}"))
}

fn go(root: &Path, id: &str, name: &str, all: bool) -> Result<()> {
    let signal = parse(name)?;
    let dir = Dir::open(root, id)?;
    let state = dir.load()?.ok_or_else(|| anyhow!(NotFound))?;
    let Some(init) = state::open_init(&state)? else {
        // containerd kills all once more after init's end, and takes that as done.
        if all {
            return Ok(());
        }
        bail!("container not running");
    };
    if all {
        return every_process(&state.cgroup.pids()?, signal);
    }
    if signal == libc::SIGKILL && !state.has_namespace(libc::CLONE_NEWPID) {
        // Nobody else would end what init has started.
        return state.cgroup.kill();
    }
    match signal::pidfd_send_signal(init.as_fd(), signal) {
        Err(error) if error.errno == Errno::ESRCH => bail!("container not running"),
        sent => Ok(sent?),
    }
}

fn every_process(pids: &[i32], signal: i32) -> Result<()> {
    for &pid in pids {
        match signal::pidfd_open(pid).and_then(|fd| signal::pidfd_send_signal(fd.as_fd(), signal)) {
            // Died in the meantime, or a thread's id.
            Err(error) if [Errno::ESRCH, Errno::EINVAL].contains(&error.errno) => {}
            sent => sent?,
        }
    }
    Ok(())
}

const NAMES: [(&str, i32); 34] = [
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

/// The kernel's: glibc keeps two of them to itself and counts from 34.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal's number from its name in any case, with or without SIG, or from its number.
fn parse(text: &str) -> Result<i32> {
    let unknown = || anyhow!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
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
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in [
            "",
            "0",
            "65",
            "-9",
            "SIG",
            "FOO",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMIN+",
            "SIGSIGTERM",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
