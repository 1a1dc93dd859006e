//! The container's namespaces: new, joined by path, or the runtime's own.

use super::Host;
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
    /// How the container's process enters them.
    pub strategy: Strategy,
}

/// How the container's process enters its namespaces.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One clone. The parent joins a pid namespace, because that only affects children; the child joins all
    /// others.
    #[default]
    Direct,
    /// A relay process joins all, clones, and exits: new namespaces inside a joined user namespace need its
    /// capabilities, and joining others must be done without those of a new one. The parent can do neither,
    /// because it could not return. Nor could it return to its pid namespace if it is only root of a user
    /// pid namespace, where it is root of a user namespace only (podman of an unprivileged user).
    Relay,
}

/// A namespace to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Its `CLONE_NEW*` bit.
    pub kind: libc::c_int,
    /// Its file, e.g. `/proc/PID/ns/net` or a bind mount of it.
    pub path: PathBuf,
    /// Its place in config.json.
    pub place: String,
}

impl Namespaces {
    /// Reads `linux.namespaces`.
    ///
    /// # Errors
    ///
    /// If a kind is given twice, or a path is not absolute.
    pub fn new(linux: &Linux, host: &Host) -> Result<Self> {
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
        plan.strategy = plan.simplest_strategy(host);
        Ok(plan)
    }

    /// The simplest strategy that the kernel permits with brig's privileges.
    fn simplest_strategy(&self, host: &Host) -> Strategy {
        let new_user = self.new & libc::CLONE_NEWUSER != 0;
        let joins_user = self.joined(libc::CLONE_NEWUSER).is_some();
        let joins_pid = self.joined(libc::CLONE_NEWPID).is_some();
        if joins_user
            || new_user && !self.join.is_empty()
            || joins_pid && !host.in_first_user_namespace()
        {
            Strategy::Relay
        } else {
            Strategy::Direct
        }
    }

    /// Whether, according to the config, the container does not share this kind with the runtime.
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

    /// Checks that names are only set in a UTS namespace of the container.
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
    ensure!(value.len() <= 64, "is {} bytes long, the maximum is 64", value.len());
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
    use crate::plan::host::Facts;

    fn plan_on(json: &str, facts: Facts) -> Result<Namespaces> {
        Namespaces::new(&serde_json::from_str(json).unwrap(), &facts.into())
    }

    fn plan(json: &str) -> Result<Namespaces> {
        plan_on(json, Facts::ROOT)
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

    #[test]
    fn the_relay_is_only_for_user_namespaces() {
        let strategy = |json: &str| plan(json).unwrap().strategy;
        let joined = r#"{"type":"network","path":"/n"},{"type":"pid","path":"/p"}"#;
        assert_eq!(strategy(&format!(r#"{{"namespaces":[{joined}]}}"#)), Strategy::Direct);
        assert_eq!(
            strategy(r#"{"namespaces":[{"type":"user"},{"type":"pid"}]}"#),
            Strategy::Direct
        );
        let both = format!(r#"{{"namespaces":[{{"type":"user"}},{joined}]}}"#);
        assert_eq!(strategy(&both), Strategy::Relay);
        assert_eq!(strategy(r#"{"namespaces":[{"type":"user","path":"/u"}]}"#), Strategy::Relay);
        let confined = Facts { in_first_user_namespace: false, ..Facts::ROOT };
        let pid = plan_on(&format!(r#"{{"namespaces":[{joined}]}}"#), confined).unwrap();
        assert_eq!(pid.strategy, Strategy::Relay);
    }
}
