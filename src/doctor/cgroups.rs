//! Cgroups: creates one where the container's would be, with its limits, and removes it.

use super::attempt::{Refused, attempt, ensure_as_requested};
use super::probes::Wanted;
use super::{Answer, Subject, Trouble};
use crate::cgroup::{Cgroup, Version};
use crate::deadline;
use crate::plan::CgroupManager;
use crate::plan::resources::Resources;
use crate::spec;
use crate::systemd::{Bus, Instance};
use anyhow::{Context, Result};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;
use sys::{Errno, describe, hierarchy};

/// The controllers that engines' limits usually need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn wanted(subject: &Subject<'_>) -> Wanted {
    match subject.question.manager {
        CgroupManager::Cgroupfs => {}
        // systemd creates them.
        CgroupManager::Systemd | CgroupManager::Disabled => return Wanted::No,
    }
    match &subject.bundle {
        Some(bundle) if !bundle.plan.goes_without_cgroup => Wanted::Yes,
        Some(bundle) if !bundle.plan.resources.sets_no_limit() => Wanted::Yes,
        None if subject.root_of_host => Wanted::Yes,
        _ => Wanted::Sometimes,
    }
}

/// A cgroup beside the container's, never its own, because another container may be using that.
fn beside(subject: &Subject<'_>) -> Result<Cgroup> {
    let name = format!("brig-doctor-{}", std::process::id());
    let given = subject.bundle.as_ref().and_then(|bundle| bundle.cgroup.as_deref());
    let given = given.filter(|path| !path.is_empty()).map(Path::new);
    let path = given.map(|path| path.parent().unwrap_or(path).join(&name));
    let path = path.map(|path| path.display().to_string());
    Cgroup::locate(hierarchy::detect()?, path.as_deref(), &name)
}

/// The bundle's limits; otherwise those of every container of root: the device rules.
fn limits(subject: &Subject<'_>) -> Result<Resources> {
    match &subject.bundle {
        Some(bundle) => Ok(bundle.plan.resources.clone()),
        None => Resources::new(&spec::Resources::default(), &mut Vec::new()),
    }
}

/// Creates a cgroup, runs an operation, and removes it.
fn with_cgroup(
    subject: &Subject<'_>,
    limits: &Resources,
    act: impl FnOnce(&Cgroup) -> Result<String, Refused>,
) -> Result<String, Refused> {
    let mut cgroup = beside(subject)?;
    let made = cgroup.create(limits).map_err(Refused::from).and_then(|()| act(&cgroup));
    let removed = cgroup.remove(Instant::now() + deadline::CGROUP);
    let text = made?;
    removed?;
    Ok(text)
}

pub(super) fn made(subject: &Subject<'_>) -> Answer {
    let version = match hierarchy::detect() {
        Ok(found) => found.version,
        Err(error) => {
            let mount = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
            return Answer::Lacks(Trouble::mend(describe(&error), mount));
        }
    };
    let limits = match limits(subject) {
        Ok(limits) => limits,
        Err(error) => return Answer::Lacks(Trouble::new(describe(&error))),
    };
    match with_cgroup(subject, &limits, |cgroup| Ok(controllers(cgroup).join(" "))) {
        Ok(text) => with_controllers(subject, version, &text),
        Err(refused) => refused_cgroup(subject, version, refused),
    }
}

/// The available controllers.
fn controllers(cgroup: &Cgroup) -> Vec<String> {
    let of = |dir: &crate::cgroup::Dir| {
        let listed = match dir.controllers.as_str() {
            "" => hierarchy::read(&dir.path.join("cgroup.controllers")).unwrap_or_default(),
            v1 => v1.replace(',', " ").into_bytes(),
        };
        let listed = String::from_utf8_lossy(&listed).into_owned();
        listed.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all: Vec<String> = cgroup.dirs().iter().flat_map(of).collect();
    all.retain(|name| !name.starts_with("name="));
    all.sort();
    all
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::V1 => "v1",
        Version::Hybrid => "v1 and v2",
        Version::V2 => "v2",
    }
}

fn with_controllers(subject: &Subject<'_>, version: Version, text: &str) -> Answer {
    let has = |name: &&str| text.split(' ').any(|listed| listed == *name);
    let missing: Vec<_> = CONTROLLERS.into_iter().filter(|name| !has(name)).collect();
    let version = version_name(version);
    // Those that the bundle needs have been tested by writing to them.
    if missing.is_empty() || subject.bundle.is_some() {
        return Answer::Works(format!("cgroup {version}, made with controllers {text}"));
    }
    let names = missing.join(" ");
    let why = format!("cgroup {version}, made, but without controllers {names}: no such limits");
    Answer::Worse(match subject.root_of_host {
        true => {
            let enable = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>();
            let file = "/sys/fs/cgroup/cgroup.subtree_control";
            Trouble::mend(why, format!("echo {} >{file}", enable.join(" ")))
        }
        false => Trouble::mend(why, DELEGATE),
    })
}

/// By default systemd does not delegate cpu, cpuset and io to user sessions.
const DELEGATE: &str =
    "systemctl set-property \"user@$UID.service\" \"Delegate=cpu cpuset io memory pids\"";

fn refused_cgroup(subject: &Subject<'_>, version: Version, refused: Refused) -> Answer {
    let forbidden = refused.is(&[Errno::EACCES, Errno::EPERM, Errno::EROFS]);
    let why = refused.why;
    let mend = match (subject.root_of_host, version) {
        _ if !forbidden => None,
        (true, _) => Some("mount -o remount,rw /sys/fs/cgroup".to_owned()),
        (false, Version::V2) => {
            Some("systemd-run --user --scope --property=Delegate=yes brig …".into())
        }
        (false, _) => None,
    };
    let without = match (forbidden, subject.root_of_host) {
        (true, false) => ": containers have no cgroup of their own, and no limits",
        _ => "",
    };
    Answer::Lacks(Trouble { why: format!("{why}{without}"), mend })
}

pub(super) fn wants_birth(subject: &Subject<'_>) -> Wanted {
    let unified = hierarchy::detect().is_ok_and(|found| found.unified().is_some());
    // If none can be created, that has been reported already.
    if unified && subject.root_of_host && wanted(subject) != Wanted::No {
        Wanted::Yes
    } else {
        Wanted::No
    }
}

/// Clones a process into the cgroup, like that of a container.
pub(super) fn birth(subject: &Subject<'_>) -> Answer {
    let born = with_cgroup(subject, &Resources::default(), |cgroup| {
        let entry = cgroup.entry()?;
        let into = entry.into.as_ref().context("no cgroup2")?;
        attempt(0, None, Some(into.as_fd()), |birth| {
            ensure_as_requested(birth)?;
            Ok(String::new())
        })
    });
    match born {
        Ok(_) => Answer::Works("a process was born in a cgroup".into()),
        Err(refused) => Answer::Worse(Trouble::new(format!(
            "{}: brig moves the process into its cgroup instead",
            refused.why
        ))),
    }
}

pub(super) fn wants_systemd(subject: &Subject<'_>) -> Wanted {
    match (subject.question.manager, &subject.bundle) {
        (CgroupManager::Systemd, _) => Wanted::Yes,
        (_, Some(_)) => Wanted::No,
        (_, None) => Wanted::Sometimes,
    }
}

pub(super) fn systemd(subject: &Subject<'_>) -> Answer {
    let (instance, name) = match subject.root_of_host {
        true => (Instance::System, "the system's systemd"),
        false => (Instance::User, "the user's systemd"),
    };
    let error = match Bus::connect(instance) {
        Ok(_) => return Answer::Works(format!("{name} answers")),
        Err(error) => describe(&error),
    };
    if subject.question.manager == CgroupManager::Systemd || instance == Instance::User {
        let mend = (instance == Instance::User).then(|| "loginctl enable-linger".to_owned());
        return Answer::Lacks(Trouble { why: error, mend });
    }
    Answer::Works(format!("not used; --systemd-cgroup would fail: {error}"))
}
