//! Namespaces, id maps, and the kernel filesystems that depend on them.

use super::attempt::{Refused, attempt, keep_mounts};
use super::probes::Wanted;
use super::{Answer, Subject, Trouble, user_name};
use crate::launch::prepare::hints::{self, sysctl};
use crate::plan::mounts::Kind;
use crate::plan::namespaces::{file, name};
use crate::process::subids;
use anyhow::Result;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::ffi::CStr;
use std::path::Path;
use sys::Errno;
use sys::idmap::{IdMap, IdMaps};
use sys::mount::mount;
use sys::{hierarchy, mountinfo};

/// The namespaces of `brig spec`, except those that depend on the host.
const USUAL: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

pub(super) fn wanted(kind: libc::c_int, subject: &Subject<'_>) -> Wanted {
    match subject.new_namespaces() {
        Some(new) if new & kind == 0 => Wanted::No,
        Some(_) => Wanted::Yes,
        None if USUAL & kind != 0 => Wanted::Yes,
        None if kind == libc::CLONE_NEWUSER && !subject.privileged => Wanted::Yes,
        None => Wanted::Sometimes,
    }
}

pub(super) fn ask(kind: libc::c_int, subject: &Subject<'_>) -> Answer {
    let (inside, maps) = subject.inside();
    let own = IdMap { container: 0, host: geteuid().as_raw(), size: 1 };
    let gid = IdMap { host: getegid().as_raw(), ..own };
    let own = IdMaps { uids: vec![own], gids: vec![gid] };
    let tried = match kind {
        // Its root must have capabilities: AppArmor may let everyone create one without any.
        libc::CLONE_NEWUSER => attempt(kind, Some(&own), None, |_| useful()),
        // As brig creates them: by the process itself, with unshare(2).
        libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME => attempt(inside, maps.as_ref(), None, |_| {
            unshare(CloneFlags::from_bits_retain(kind))?;
            Ok(String::new())
        }),
        _ => attempt(inside | kind, maps.as_ref(), None, |_| Ok(String::new())),
    };
    match tried {
        Ok(_) => Answer::Works(format!("{} namespace made", name(kind))),
        Err(refused) => Answer::Lacks(explained(kind, &refused)),
    }
}

fn useful() -> Result<String> {
    match unshare(CloneFlags::CLONE_NEWUTS) {
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => Err(errno.into()),
        _ => Ok(String::new()),
    }
}

fn explained(kind: libc::c_int, refused: &Refused) -> Trouble {
    let (kind_name, file) = (name(kind), file(kind));
    if !Path::new("/proc/self/ns").join(file).exists() {
        return Trouble::new(format!("the kernel is built without {kind_name} namespaces"));
    }
    let limit = format!("user.max_{file}_namespaces");
    let why = &refused.why;
    match refused.errno {
        Some(Errno::ENOSPC | Errno::EUSERS) => {
            let value = sysctl(&limit.replacen('.', "/", 1));
            let value = value.map_or("unknown".to_owned(), |value| value.to_string());
            let why = format!("the limit is reached: sysctl {limit} is {value}: {why}");
            Trouble::mend(why, format!("sysctl -w {limit}=65536"))
        }
        Some(errno) if kind == libc::CLONE_NEWUSER => {
            let hint = hints::no_user_namespace(errno).map(|hint| format!(": {hint}"));
            let why = format!("{why}{}", hint.unwrap_or_default());
            let switches = [
                ("kernel/unprivileged_userns_clone", 0, "kernel.unprivileged_userns_clone=1"),
                (
                    "kernel/apparmor_restrict_unprivileged_userns",
                    1,
                    "kernel.apparmor_restrict_unprivileged_userns=0",
                ),
            ];
            let off = switches.iter().find(|(file, off, _)| sysctl(file) == Some(*off));
            off.map_or(Trouble::new(why.clone()), |(.., on)| {
                Trouble::mend(why, format!("sysctl -w {on}"))
            })
        }
        _ => Trouble::new(format!("no {kind_name} namespace: {why}")),
    }
}

pub(super) fn wants_maps(subject: &Subject<'_>) -> Wanted {
    match subject.new_namespaces() {
        Some(new) if new & libc::CLONE_NEWUSER == 0 => Wanted::No,
        Some(_) => Wanted::Yes,
        None => Wanted::Sometimes,
    }
}

/// The maps of the bundle; otherwise those for containers of images: many ids.
pub(super) fn id_maps(subject: &Subject<'_>) -> Answer {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let maps = match &subject.bundle {
        Some(bundle) => bundle.plan.id_maps.clone(),
        None if subject.privileged => {
            let many = vec![IdMap { container: 0, host: 100_000, size: 65536 }];
            IdMaps { uids: many.clone(), gids: many }
        }
        None => {
            let [uids, gids] =
                ["/etc/subuid", "/etc/subgid"].map(|path| subids::granted(path, uid));
            if uids.is_empty() || gids.is_empty() {
                let name = user_name();
                let why = format!(
                    "/etc/subuid and /etc/subgid do not both grant {name} ids: containers have one user"
                );
                return Answer::Worse(Trouble::mend(why, grant(&name)));
            }
            IdMaps { uids: subids::id_maps(uid, &uids), gids: subids::id_maps(gid, &gids) }
        }
    };
    let count = |maps: &[IdMap]| maps.iter().map(|map| u64::from(map.size)).sum::<u64>();
    let (uids, gids) = (count(&maps.uids), count(&maps.gids));
    match attempt(libc::CLONE_NEWUSER, Some(&maps), None, |_| Ok(String::new())) {
        Ok(_) => Answer::Works(format!("{uids} user ids and {gids} group ids mapped")),
        Err(refused) => Answer::Lacks(Trouble { mend: mend_maps(&refused), why: refused.why }),
    }
}

fn grant(name: &str) -> String {
    format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}")
}

fn mend_maps(refused: &Refused) -> Option<String> {
    let helpers = ["newuidmap", "newgidmap"].map(subids::helper);
    match helpers {
        _ if !refused.why.contains("newuidmap") && !refused.why.contains("newgidmap") => None,
        [Some(_), Some(_)] if hints::no_new_privileges() => None,
        [Some(uids), Some(gids)] if refused.why.contains("setuid root") => {
            Some(format!("chmod u+s {} {}", uids.display(), gids.display()))
        }
        [Some(_), Some(_)] => Some(grant(&user_name())),
        _ => Some("apt-get install uidmap".into()),
    }
}

/// A kernel filesystem that most containers mount.
pub(super) struct HostFilesystem {
    fstype: &'static CStr,
    /// The namespace that it shows: in a user namespace it can only be mounted with a new one.
    of: libc::c_int,
    flags: u64,
    options: Option<&'static CStr>,
}

impl HostFilesystem {
    const fn new(fstype: &'static CStr, of: libc::c_int) -> HostFilesystem {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        HostFilesystem { fstype, of, flags, options: None }
    }

    pub(super) fn wanted(&self, subject: &Subject<'_>) -> Wanted {
        let Some(bundle) = &subject.bundle else { return Wanted::Yes };
        let plan = &bundle.plan;
        let is = |kind: &Kind| matches!(kind, Kind::Filesystem(new) if *new.fstype == *self.fstype);
        let mounted = plan.rootfs.mounts.iter().any(|mount| is(&mount.kind));
        // Without a new one, brig shows the host's, or the plan refuses it.
        let shared = plan.namespaces.new & self.of == 0 && subject.inside().0 != 0 && self.of != 0;
        if mounted && !shared { Wanted::Yes } else { Wanted::No }
    }

    pub(super) fn ask(&self, subject: &Subject<'_>) -> Answer {
        let (inside, maps) = subject.inside();
        let flags = inside | libc::CLONE_NEWNS | self.of;
        let tried = attempt(flags, maps.as_ref(), None, |_| {
            keep_mounts()?;
            // Mounted over a directory that every host has, invisible for others.
            mount(Some(self.fstype), c"/proc", Some(self.fstype), self.flags, self.options)?;
            Ok(String::new())
        });
        let name = self.fstype.to_string_lossy();
        match tried {
            Ok(_) => Answer::Works(format!("{name} mounted")),
            Err(refused) => Answer::Lacks(self.explained(&refused)),
        }
    }

    fn explained(&self, refused: &Refused) -> Trouble {
        let why = &refused.why;
        let below = match self.fstype.to_bytes() {
            b"proc" => "/proc/",
            b"sysfs" => "/sys/",
            _ => return Trouble::new(why.clone()),
        };
        let hidden = hidden(below);
        if !refused.is(&[Errno::EPERM]) || hidden.is_empty() {
            return Trouble::new(why.clone());
        }
        let parent = below.trim_end_matches('/');
        let why = format!(
            "{why}: in a user namespace the kernel mounts none as long as parts of the one that brig sees are hidden: {}",
            hidden.join(", ")
        );
        let umount = format!("umount {}", hidden.join(" "));
        let mend = match parent {
            "/proc" => format!("{umount} (docker run --security-opt systempaths=unconfined …)"),
            _ => umount,
        };
        Trouble::mend(why, mend)
    }
}

/// The mounts that cover parts of this directory.
fn hidden(below: &str) -> Vec<String> {
    const SHOWN: usize = 5;
    let text = hierarchy::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    // The kernel ignores mounts on permanently empty directories, which exist as mount points.
    let made_for_it = |mount: &mountinfo::Mount<'_>| {
        let types = ["cgroup", "cgroup2", "binfmt_misc", "autofs", "fusectl", "configfs", "pstore"];
        let more = ["debugfs", "tracefs", "securityfs", "bpf", "efivarfs"];
        types.iter().chain(&more).any(|fstype| mount.is_type(fstype))
    };
    let points = mountinfo::mounts(&text).filter(|mount| !made_for_it(mount));
    let points = points.map(|mount| mount.point().display().to_string());
    points.filter(|point| point.starts_with(below)).take(SHOWN).collect()
}

pub(super) const PROC: HostFilesystem = HostFilesystem::new(c"proc", libc::CLONE_NEWPID);
pub(super) const SYSFS: HostFilesystem = {
    let sysfs = HostFilesystem::new(c"sysfs", libc::CLONE_NEWNET);
    HostFilesystem { flags: sysfs.flags | libc::MS_RDONLY, ..sysfs }
};
pub(super) const TMPFS: HostFilesystem = HostFilesystem::new(c"tmpfs", 0);
pub(super) const DEVPTS: HostFilesystem = HostFilesystem {
    flags: libc::MS_NOSUID | libc::MS_NOEXEC,
    options: Some(c"newinstance,ptmxmode=0666"),
    ..HostFilesystem::new(c"devpts", 0)
};
pub(super) const MQUEUE: HostFilesystem = HostFilesystem::new(c"mqueue", libc::CLONE_NEWIPC);
