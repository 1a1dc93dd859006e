//! Explains common obstacles of unprivileged users and what to do about them. Nothing is decided here: the
//! kernel has refused something already.

use crate::fault;
use crate::process::{passwd, subids};
use anyhow::Error;
use nix::unistd::geteuid;
use std::borrow::Cow;
use std::fmt;
use sys::Errno;
use sys::idmap::IdMap;

/// The likely cause of an error, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct Hint(Cow<'static, str>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why no user namespace can be created.
pub fn no_user_namespace(errno: Errno) -> Option<Hint> {
    let why = match errno {
        Errno::ENOSPC | Errno::EUSERS => Some(match sysctl("user/max_user_namespaces") {
            Some(0) => {
                "user namespaces are disabled: sysctl user.max_user_namespaces is 0".into()
            }
            limit => format!(
                "the limit on user namespaces is reached: sysctl user.max_user_namespaces is {}, and there \
                 are others in user.max_*_namespaces; or they are nested 32 deep",
                limit.map_or("unknown".into(), |limit| limit.to_string())
            )
            .into(),
        }),
        Errno::EPERM if sysctl("kernel/unprivileged_userns_clone") == Some(0) => Some(
            "only root may create user namespaces here: sysctl kernel.unprivileged_userns_clone is 0"
                .into(),
        ),
        Errno::EPERM => Some(restricted_by_app_armor().map_or_else(
            || "user namespaces are not permitted here: brig runs under a seccomp filter or in a chroot".into(),
            Into::into,
        )),
        _ => None,
    };
    why.map(Hint)
}

/// The likely cause of an error that an unprivileged user gets.
pub fn explained(error: Error, privileged: bool) -> Error {
    if privileged {
        return error;
    }
    let hint = || restricted_by_app_armor().map(|why| Hint(why.into()));
    match fault::is_refused(&error).then(hint).flatten() {
        Some(hint) if error.downcast_ref() != Some(&hint) => error.context(hint),
        _ => error,
    }
}

/// Ubuntu's AppArmor lets programs without a profile of their own create user namespaces, but without any
/// capabilities in them.
fn restricted_by_app_armor() -> Option<&'static str> {
    let restricted = sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    restricted.then_some(
        "AppArmor restricts user namespaces here: brig needs a profile that allows `userns`, or \
         sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    )
}

/// A number in /proc/sys.
pub fn sysctl(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// Why newuidmap(1) or newgidmap(1) refuses these maps. `own` is the caller's id.
pub fn refused_ids(helper: &str, maps: &[IdMap], own: u32) -> String {
    let kind = if helper == "newuidmap" { "uid" } else { "gid" };
    let uid = geteuid().as_raw();
    let granted = subids::granted(&format!("/etc/sub{kind}"), uid);
    let name = passwd::name_of(uid).unwrap_or_else(|| uid.to_string());
    match first_not_granted(maps, own, &granted) {
        Some(_) if granted.is_empty() => format!(
            "/etc/sub{kind} grants {name} no ids: as root, run `usermod --add-sub{kind}s \
             100000-165535 {name}`"
        ),
        Some(IdMap { host, size, .. }) => format!(
            "/etc/sub{kind} does not grant {name} {host} to {}, only {}",
            u64::from(*host) + u64::from(*size) - 1,
            shown(&granted)
        ),
        None if no_new_privileges() => {
            format!("brig runs with no_new_privs, so setuid {helper} gets no privileges")
        }
        None => format!("{helper} must be setuid root, or have the file capability cap_set{kind}"),
    }
}

/// The first range that is not granted.
fn first_not_granted<'a>(maps: &'a [IdMap], own: u32, granted: &[(u32, u32)]) -> Option<&'a IdMap> {
    let end = |first: u32, count: u32| u64::from(first) + u64::from(count);
    let inside = |map: &IdMap, (first, count): (u32, u32)| {
        map.host >= first && end(map.host, map.size) <= end(first, count)
    };
    let is_granted = |map: &&IdMap| {
        map.host == own && map.size == 1 || granted.iter().any(|range| inside(map, *range))
    };
    maps.iter().find(|map| !is_granted(map))
}

fn shown(granted: &[(u32, u32)]) -> String {
    let range = |&(first, count): &(u32, u32)| {
        format!("{first} to {}", u64::from(first) + u64::from(count) - 1)
    };
    granted.iter().map(range).collect::<Vec<_>>().join(", ")
}

/// Whether brig itself runs with no_new_privs.
pub fn no_new_privileges() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line == "NoNewPrivs:\t1")
}

/// Limits need a cgroup.
pub const NO_CGROUP: &str = "its limits need a cgroup, and you are not permitted to create one: on cgroup v2 run brig by \
     `systemd-run --user --scope --property=Delegate=yes`, on v1 only root may";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_id_and_granted_ranges_are_not_too_much() {
        let map = |host, size| IdMap { container: 0, host, size };
        let granted = [(100_000, 65536), (u32::MAX - 1, 2)];
        let fine = [map(1000, 1), map(100_000, 65536), map(100_010, 5), map(u32::MAX - 1, 2)];
        assert_eq!(first_not_granted(&fine, 1000, &granted), None);
        for bad in [map(1000, 2), map(1001, 1), map(100_001, 65536), map(0, 1)] {
            assert_eq!(first_not_granted(&[bad], 1000, &granted), Some(&bad));
        }
        assert_eq!(shown(&granted[..1]), "100000 to 165535");
    }
}
