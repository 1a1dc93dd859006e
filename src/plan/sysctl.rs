//! Kernel parameters: only those of the container's own namespaces.

use super::namespaces::Namespaces;
use crate::spec::{Place, Spec};
use anyhow::{Result, bail, ensure};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A kernel parameter to write.
#[derive(Debug)]
pub struct Sysctl {
    /// Path below /proc/sys.
    pub path: String,
    /// What to write.
    pub value: String,
    /// Its place in config.json.
    pub place: String,
}

/// System V IPC parameters whose names do not contain `ipc`.
const IPC: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Reads `linux.sysctl`: a parameter that would change the host is an error.
pub fn plan(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<Sysctl>> {
    let mut plan = Vec::new();
    for (name, value) in &spec.linux.sysctl {
        let place = format!("linux.sysctl[\"{name}\"]");
        let path = path(name).at(&place)?;
        let kind = namespace_of(&path, value, spec).at(&place)?;
        if !namespaces.has(kind) || is_own(namespaces, kind) {
            let what = super::namespaces::name(kind);
            Err(anyhow::anyhow!(
                "is not allowed without a private {what} namespace: it would change the host's"
            ))
            .at(&place)?;
        }
        plan.push(Sysctl { path, value: value.clone(), place });
    }
    Ok(plan)
}

/// The namespace to join is brig's own, e.g. when an engine passes /proc/1/ns/net.
fn is_own(namespaces: &Namespaces, kind: libc::c_int) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let Some(join) = namespaces.joined(kind) else { return false };
    // One that cannot be inspected cannot be joined either.
    let own = Path::new("/proc/self/ns").join(super::namespaces::file(kind));
    inode(&join.path).is_some_and(|theirs| Some(theirs) == inode(&own))
}

/// sysctl(8)'s two notations: the first of `.` and `/` is the separator, the other is literal.
fn path(name: &str) -> Result<String> {
    let dots_separate = name.find(['.', '/']).is_none_or(|i| name.as_bytes()[i] == b'.');
    let path: String = match dots_separate {
        true => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        false => name.to_owned(),
    };
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    ensure!(path.split('/').all(sound), "is not the name of a kernel parameter");
    Ok(path)
}

/// The namespace that a parameter belongs to.
fn namespace_of(path: &str, value: &str, spec: &Spec) -> Result<libc::c_int> {
    let kernel = path.strip_prefix("kernel/");
    Ok(match kernel {
        Some(name) if IPC.contains(&name) => libc::CLONE_NEWIPC,
        Some("domainname") => libc::CLONE_NEWUTS,
        Some("hostname") => {
            let same = spec.hostname.as_deref() == Some(value);
            ensure!(same, "must be set with the field hostname, not as a sysctl");
            libc::CLONE_NEWUTS
        }
        _ if path.starts_with("user/") => libc::CLONE_NEWUSER,
        _ if path.starts_with("fs/mqueue/") => libc::CLONE_NEWIPC,
        _ if path.starts_with("net/") => libc::CLONE_NEWNET,
        _ => bail!("is not a kernel parameter of a namespace: it would change the host"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_separates() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(
            path("net/ipv4/conf/eth0.100/rp_filter").unwrap(),
            "net/ipv4/conf/eth0.100/rp_filter"
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/100.rp_filter").unwrap(),
            "net/ipv4/conf/eth0.100/rp_filter"
        );
        for bad in ["", "net..x", "net/../kernel", "/net/x", "../x"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
