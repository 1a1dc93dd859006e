//! The kernel, seccomp, keyrings, security modules, and programs called by brig.

use super::attempt::attempt;
use super::probes::Wanted;
use super::{Answer, Subject, Trouble};
use crate::criu::ask;
use crate::launch::prepare::hints::sysctl;
use crate::plan::Host;
use crate::process::lsm;
use crate::process::proc::Proc;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use sys::calls::PIDFD_OPEN;
use sys::{Errno, cred, describe, hierarchy, keyring as keys, mountinfo, seccomp};

/// The oldest and the newest kernel that brig is tested with.
const TESTED: [(u32, u32); 2] = [(6, 1), (6, 18)];

/// The only check of a version number.
pub(super) fn kernel(_: &Subject<'_>) -> Answer {
    let name = nix::sys::utsname::uname().map(|name| name.release().to_owned());
    let release = name.unwrap_or_default().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next());
    let [(a, b), (c, d)] = TESTED;
    if version >= TESTED[0] {
        return Answer::Works(format!("Linux {release}"));
    }
    let why =
        format!("Linux {release} is older than those that brig is tested on: {a}.{b} to {c}.{d}");
    Answer::Worse(Trouble::new(why))
}

pub(super) fn pidfd(_: &Subject<'_>) -> Answer {
    match PIDFD_OPEN.answer() {
        errno @ (Errno::ENOSYS | Errno::EPERM) => {
            let since = PIDFD_OPEN.since;
            let why = format!(
                "pidfd_open(2): {}: it needs Linux {since}, and no seccomp filter around brig that refuses it",
                errno.desc()
            );
            let mend = "docker run --security-opt seccomp=unconfined …";
            Answer::Lacks(Trouble::mend(why, mend))
        }
        _ => Answer::Works("pidfd_open(2)".into()),
    }
}

pub(super) fn wants_filter(subject: &Subject<'_>) -> Wanted {
    match &subject.bundle {
        Some(bundle) if bundle.plan.process.filter.is_none() => Wanted::No,
        Some(_) => Wanted::Yes,
        None => Wanted::Sometimes,
    }
}

/// A filter that returns `SECCOMP_RET_ALLOW` for everything.
const ALLOW: [libc::sock_filter; 1] =
    [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];

fn install(flags: u32) -> Answer {
    let tried = attempt(0, None, None, |_| {
        cred::no_new_privileges()?;
        seccomp::install(&ALLOW, flags)?;
        Ok(String::new())
    });
    match tried {
        Ok(_) => Answer::Works("a filter was installed".into()),
        Err(refused) => Answer::Lacks(Trouble::new(refused.why)),
    }
}

pub(super) fn filter(subject: &Subject<'_>) -> Answer {
    let filter = subject.bundle.as_ref().and_then(|bundle| bundle.plan.process.filter.as_ref());
    let notifies = filter.is_some_and(|filter| filter.listener.is_some());
    install(filter.filter(|_| !notifies).map_or(0, |filter| filter.flags))
}

pub(super) fn wants_notify(subject: &Subject<'_>) -> Wanted {
    match &subject.bundle {
        None => Wanted::Sometimes,
        Some(bundle) => match &bundle.plan.process.filter {
            Some(filter) if filter.listener.is_some() => Wanted::Yes,
            _ => Wanted::No,
        },
    }
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`
pub(super) fn notify(_: &Subject<'_>) -> Answer {
    match install(1 << 3) {
        Answer::Works(_) => Answer::Works("a filter with a listener was installed".into()),
        answer => answer,
    }
}

pub(super) fn keyring(_: &Subject<'_>) -> Answer {
    let tried = attempt(0, None, None, |_| {
        keys::join_session_keyring(c"_brig.doctor")?;
        Ok(String::new())
    });
    let refused = match tried {
        Ok(_) => return Answer::Works("a session keyring was made".into()),
        Err(refused) => refused,
    };
    let mend = match refused.errno {
        Some(Errno::EDQUOT) => {
            let most = sysctl("kernel/keys/maxkeys").unwrap_or(200);
            format!("sysctl -w kernel.keys.maxkeys={}", most.saturating_mul(10))
        }
        _ => "brig create --no-new-keyring …".into(),
    };
    Answer::Lacks(Trouble::mend(refused.why, mend))
}

pub(super) fn wants_labels(subject: &Subject<'_>) -> Wanted {
    match &subject.bundle {
        Some(bundle) if bundle.plan.process.labels.is_empty() => Wanted::No,
        Some(_) => Wanted::Yes,
        None => Wanted::Sometimes,
    }
}

/// The available security modules; the bundle's labels are set, for an execve that does not follow.
pub(super) fn labels(subject: &Subject<'_>) -> Answer {
    let Some(bundle) = &subject.bundle else {
        let host = Host::default();
        let modules = [("AppArmor", host.has_apparmor()), ("SELinux", host.has_selinux())];
        let on: Vec<_> = modules.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        return Answer::Works(match on.is_empty() {
            true => "neither AppArmor nor SELinux is enabled".into(),
            false => format!("{} is enabled", on.join(", ")),
        });
    };
    let labels = &bundle.plan.process.labels;
    let tried = attempt(0, None, None, |_| {
        let proc = Proc::open()?;
        lsm::open_all(Some(&proc), labels)?.iter().try_for_each(lsm::Opened::set)?;
        Ok(String::new())
    });
    match tried {
        Ok(_) => Answer::Works("the labels are known".into()),
        Err(refused) => Answer::Lacks(Trouble::new(refused.why)),
    }
}

/// Mount options of /proc that hide processes and files from brig itself.
pub(super) fn proc(subject: &Subject<'_>) -> Answer {
    let text = hierarchy::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let on_proc = |mount: &mountinfo::Mount<'_>| mount.point() == Path::new("/proc");
    let Some(mount) = mountinfo::mounts(&text).filter(on_proc).last() else {
        return Answer::Works("not a mount of its own".into());
    };
    let options = String::from_utf8_lossy(mount.super_options()).into_owned();
    let has = |wanted: &str| options.split(',').any(|option| option == wanted);
    let hides = ["hidepid=1", "hidepid=2", "hidepid=4", "hidepid=noaccess", "hidepid=invisible"];
    let hides = hides.into_iter().chain(["hidepid=ptraceable"]).find(|option| has(option));
    match hides {
        _ if has("subset=pid") => Answer::Lacks(Trouble::mend(
            "/proc is mounted subset=pid: brig cannot read /proc/sys",
            "mount -o remount,subset= /proc",
        )),
        Some(option) if !subject.root_of_host => Answer::Worse(Trouble::mend(
            format!(
                "/proc is mounted {option}: processes with subordinate ids are hidden from brig, so that `ps` and `kill --all` miss them without a cgroup"
            ),
            "mount -o remount,hidepid=0 /proc",
        )),
        _ => Answer::Works("all processes can be seen".into()),
    }
}

pub(super) fn without_bundle(subject: &Subject<'_>) -> Wanted {
    if subject.bundle.is_none() { Wanted::Sometimes } else { Wanted::No }
}

pub(super) fn pressure(_: &Subject<'_>) -> Answer {
    let read = || -> Result<()> {
        let path = "/proc/pressure/memory";
        File::open(path).context(path)?.read_exact(&mut [0]).context(path)
    };
    match read() {
        Ok(()) => Answer::Works("pressure is measured".into()),
        Err(error) => {
            let why = format!("{}: `stats` cannot show who waits", describe(&error));
            Answer::Lacks(Trouble::mend(why, "boot with psi=1 on the kernel's command line"))
        }
    }
}

pub(super) fn criu(subject: &Subject<'_>) -> Answer {
    // In a separate process, because it blocks signals.
    let tried = attempt(0, None, None, |_| {
        let version = ask::version(&subject.question.criu)?;
        Ok(format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100))
    });
    match tried {
        Ok(version) if subject.root_of_host => Answer::Works(format!("criu {version}")),
        Ok(version) => Answer::Works(format!("criu {version}; checkpoint and restore need root")),
        Err(refused) => Answer::Lacks(Trouble::mend(refused.why, "apt-get install criu")),
    }
}
