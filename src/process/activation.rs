//! Socket activation, sd_listen_fds(3): sockets that a service manager has opened are passed to the
//! container's init.

use crate::plan::process::Activation;
use anyhow::{Context, Result, ensure};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

/// Reads brig's environment, if its variables are meant for brig and not for an ancestor.
pub fn of_environment() -> Result<Option<Activation>> {
    let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(std::env::var_os);
    read(std::process::id(), pid, count, names)
}

fn read(
    own: u32,
    pid: Option<OsString>,
    count: Option<OsString>,
    names: Option<OsString>,
) -> Result<Option<Activation>> {
    let number = |text: OsString| text.to_str().and_then(|text| text.parse::<u32>().ok());
    let Some(count) = count.filter(|_| pid.and_then(number) == Some(own)) else { return Ok(None) };
    let shown = count.display().to_string();
    let count = number(count).with_context(|| format!("LISTEN_FDS={shown} is not a number"))?;
    // As many as a process can have; brig itself needs some of them.
    ensure!(count < 1 << 16, "LISTEN_FDS={count} is more than a process can have");
    let names = names.map(|names| CString::new(names.as_bytes())).transpose()?;
    Ok((count > 0).then_some(Activation { count, names }))
}

/// The variables for process `pid`.
pub fn variables(activation: &Activation, pid: u32) -> Vec<(&'static str, Vec<u8>)> {
    let mut variables = vec![
        ("LISTEN_PID", pid.to_string().into_bytes()),
        ("LISTEN_FDS", activation.count.to_string().into_bytes()),
    ];
    variables
        .extend(activation.names.iter().map(|names| ("LISTEN_FDNAMES", names.as_bytes().to_vec())));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_counts() {
        let of = |pid: &str, count: &str| read(7, Some(pid.into()), Some(count.into()), None);
        assert_eq!(of("7", "2").unwrap(), Some(Activation { count: 2, names: None }));
        assert_eq!(of("8", "2").unwrap(), None);
        assert_eq!(of("", "2").unwrap(), None);
        assert_eq!(of("7", "0").unwrap(), None);
        assert!(of("7", "two").is_err() && of("7", "-1").is_err() && of("7", "65536").is_err());
        assert_eq!(read(7, None, Some("2".into()), None).unwrap(), None);
    }

    #[test]
    fn the_container_is_told_its_own_pid() {
        let activation = Activation { count: 2, names: Some(c"http:https".to_owned()) };
        let text = |(name, value): (&str, Vec<u8>)| {
            format!("{name}={}", String::from_utf8(value).unwrap())
        };
        let variables: Vec<String> = variables(&activation, 1).into_iter().map(text).collect();
        assert_eq!(variables, ["LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=http:https"]);
    }
}
