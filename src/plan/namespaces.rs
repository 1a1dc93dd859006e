//! Which namespaces the container gets: new, joined by path, or the runtime's own.

use crate::spec::{Linux, Place, Spec};
use anyhow::{Result, ensure};
use oci_spec::runtime::LinuxNamespaceType as Type;
use std::path::PathBuf;

/// The namespaces to create and to join; all others are the runtime's own.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` bits of the new ones.
    pub new: libc::c_int,
    /// Existing ones.
    pub join: Vec<Join>,
}

/// A namespace to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Its `CLONE_NEW*` bit.
    pub kind: libc::c_int,
    /// Its file, as `/proc/PID/ns/net` or a bind mount of one.
    pub path: PathBuf,
    /// Where config.json says so.
    pub place: String,
}

impl Namespaces {
    /// Reads `linux.namespaces`.
    pub fn new(linux: &Linux) -> Result<Self> {
        let mut plan = Namespaces::default();
        for (i, namespace) in linux.namespaces.iter().enumerate() {
            let place = format!("linux.namespaces[{i}]");
            let kind = flag(namespace.typ());
            let name = name(kind);
            // config-linux.md, Namespaces: duplicates MUST be an error.
            if plan.has(kind) {
                Err(anyhow::anyhow!("a second {name} namespace")).at(format!("{place}.type"))?;
            }
            match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => {
                    let place = format!("{place}.path");
                    absolute(path).at(&place)?;
                    plan.join.push(Join { kind, path: path.clone(), place });
                }
                _ => plan.new |= kind,
            }
        }
        Ok(plan)
    }

    /// The container does not share this kind with the runtime, as far as the config tells.
    pub fn has(&self, kind: libc::c_int) -> bool {
        self.new & kind != 0 || self.join.iter().any(|join| join.kind == kind)
    }

    /// `CLONE_NEW*` bits of the new and the joined ones.
    pub fn all(&self) -> libc::c_int {
        self.join.iter().fold(self.new, |all, join| all | join.kind)
    }

    /// The one to join of this kind.
    pub fn joined(&self, kind: libc::c_int) -> Option<&Join> {
        self.join.iter().find(|join| join.kind == kind)
    }

    /// Checks that names are only set where they stay the container's.
    pub fn check_names(&self, spec: &Spec) -> Result<()> {
        let uts = self.has(libc::CLONE_NEWUTS);
        for (field, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
            let Some(value) = value else { continue };
            private_name(value, uts).at(field)?;
        }
        Ok(())
    }
}

fn private_name(value: &str, uts: bool) -> Result<()> {
    ensure!(
        uts || value.is_empty(),
        "cannot be set without a private UTS namespace: add {{\"type\": \"uts\"}} to linux.namespaces"
    );
    ensure!(value.len() <= 64, "is {} bytes long, the kernel takes 64", value.len());
    Ok(())
}

fn absolute(path: &std::path::Path) -> Result<()> {
    ensure!(path.is_absolute(), "{path:?} is not an absolute path");
    Ok(())
}

fn flag(kind: Type) -> libc::c_int {
    match kind {
        Type::Mount => libc::CLONE_NEWNS,
        Type::Cgroup => libc::CLONE_NEWCGROUP,
        Type::Uts => libc::CLONE_NEWUTS,
        Type::Ipc => libc::CLONE_NEWIPC,
        Type::Pid => libc::CLONE_NEWPID,
        Type::Network => libc::CLONE_NEWNET,
        Type::User => libc::CLONE_NEWUSER,
        Type::Time => libc::CLONE_NEWTIME,
    }
}

/// The spec's name of a `CLONE_NEW*` bit.
pub fn name(kind: libc::c_int) -> &'static str {
    match kind {
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWUTS => "uts",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWPID => "pid",
        libc::CLONE_NEWNET => "network",
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWTIME => "time",
        _ => "unknown",
    }
}

/// Its name in /proc/PID/ns.
pub fn file(kind: libc::c_int) -> &'static str {
    match kind {
        libc::CLONE_NEWNS => "mnt",
        libc::CLONE_NEWNET => "net",
        _ => name(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Namespaces> {
        Namespaces::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_duplicate_is_an_error_with_its_place() {
        let error =
            plan(r#"{"namespaces":[{"type":"pid"},{"type":"pid","path":"/proc/1/ns/pid"}]}"#);
        let text = format!("{:#}", error.unwrap_err());
        assert_eq!(text, "linux.namespaces[1].type: a second pid namespace");
    }

    #[test]
    fn an_empty_path_is_a_new_namespace() {
        let plan = plan(r#"{"namespaces":[{"type":"network","path":""}]}"#).unwrap();
        assert_eq!((plan.new, plan.join.len()), (libc::CLONE_NEWNET, 0));
    }
}
