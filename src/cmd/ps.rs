//! ps: the processes of a container, as the host sees them.

use super::command::ListFormat;
use crate::deadline;
use crate::log;
use crate::state::Dir;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;
use sys::poll::readable;
use sys::signal;

/// Prints the pids as JSON, or the lines of the host's `ps OPTIONS` with these pids.
pub fn ps(root: &Path, id: &str, format: ListFormat, options: &[String]) -> Result<()> {
    print_processes(root, id, format, options).with_context(|| format!("ps {id}"))
}

fn print_processes(root: &Path, id: &str, format: ListFormat, options: &[String]) -> Result<()> {
    let state = Dir::open(root, id)?.existing()?;
    let pids = state.pids()?;
    if format == ListFormat::Json {
        // Without processes, `null` as in runc.
        let mut text = serde_json::to_vec(&Some(pids).filter(|pids| !pids.is_empty()))?;
        text.push(b'\n');
        return log::out(&text);
    }
    log::out(&select(&host_ps(options)?, &pids)?)
}

/// The output of the host's ps.
fn host_ps(options: &[String]) -> Result<Vec<u8>> {
    let (output, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    let mut command = Command::new("ps");
    command.args(options).args(options.is_empty().then_some("-ef")).stdin(Stdio::null());
    command.stdout(Stdio::from(theirs.try_clone()?)).stderr(Stdio::from(theirs));
    let mut child = command
        .spawn()
        .context("execute the host's ps to print a table (--format json does not need it)")?;
    // Closes the copies of the pipe's write end.
    drop(command);
    let pidfd = signal::pidfd_open(i32::try_from(child.id())?)?;
    let end = Instant::now() + deadline::PS;
    let mut text = Vec::new();
    let listen = || -> Result<Option<ExitStatus>> {
        let (mut output, mut part) = (File::from(output), [0; 64 << 10]);
        while readable(output.as_fd(), end)? {
            let length = output.read(&mut part).context("read the output of ps")?;
            text.extend_from_slice(&part[..length]);
            if length == 0 {
                return Ok(readable(pidfd.as_fd(), end)?.then(|| child.wait()).transpose()?);
            }
        }
        Ok(None)
    };
    let status = listen()?;
    let Some(status) = status else {
        // It may be stuck in the kernel: do not wait for it.
        drop(child.kill());
        bail!("timed out after {} s waiting for the host's ps", deadline::PS.as_secs());
    };
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&text).trim_end());
    Ok(text)
}

/// The header, and the lines with one of these pids.
fn select(table: &[u8], pids: &[i32]) -> Result<Vec<u8>> {
    let mut lines = table.split_inclusive(|&byte| byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let column = words(head).position(|word| word == b"PID");
    let column = column.context(
        "couldn't find PID field in ps output: the options of ps must include the PID column",
    )?;
    let mut selected = head.to_vec();
    for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
        let word = words(line).nth(column).and_then(|word| std::str::from_utf8(word).ok());
        let pid: Option<i32> = word.and_then(|word| word.parse().ok());
        let pid = pid.with_context(|| {
            let line = String::from_utf8_lossy(line);
            format!("unable to parse pid: the PID column has no number in {:?}", line.trim_end())
        })?;
        if pids.contains(&pid) {
            // The container chooses its command lines, and not every ps escapes them.
            let text = String::from_utf8_lossy(line);
            let mut text = log::one_line(text.strip_suffix('\n').unwrap_or(&text));
            if line.ends_with(b"\n") {
                text.push('\n');
            }
            selected.extend_from_slice(text.as_bytes());
        }
    }
    Ok(selected)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(table: &str, pids: &[i32]) -> Result<String> {
        select(table.as_bytes(), pids).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_headings_and_the_lines_of_the_container_are_shown() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\n\n1000   77     1 a b\nx    777 77 c";
        let shown = selected(table, &[777, 77]).unwrap();
        assert_eq!(shown, "UID   PID  PPID CMD\n1000   77     1 a b\nx    777 77 c");
        assert_eq!(selected(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert_eq!(selected("  PID\n   12\n", &[12]).unwrap(), "  PID\n   12\n");
    }

    #[test]
    fn a_table_without_pids_is_refused() {
        for (table, words) in [
            ("", "couldn't find PID field"),
            ("UID PPID\n0 1\n", "couldn't find PID field"),
            ("CMD PID\na b 1\n", "unable to parse pid"),
            ("PID\nx\n", "unable to parse pid"),
        ] {
            let error = format!("{:#}", selected(table, &[1]).unwrap_err());
            assert!(error.contains(words), "{table:?}: {error}");
        }
    }
}
