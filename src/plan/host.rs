//! What plan may query about the host. Each query is made once, and only if something in the config depends
//! on the answer: the main line makes no probe that its config does not need.
//!
//! A [`Host`] describes brig before its first clone. Code that acts on a plan reads the plan instead, because
//! a process in another namespace would get other answers.

use super::lsm;
use anyhow::{Context, Result};
use nix::unistd::{getegid, geteuid};
use std::cell::OnceCell;
use sys::cred::{self, CapSets};
use sys::fd::STANDARD_FDS;
use sys::hierarchy::{self, Hierarchies, Version};
use sys::landlock;
use sys::namespace;
use sys::tty::{self, Size};

/// CAP_SYS_ADMIN (linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;

/// The host, and brig's place in it.
#[derive(Debug, Default)]
pub struct Host {
    ids: OnceCell<Ids>,
    capabilities: OnceCell<CapSets>,
    in_first_user_namespace: OnceCell<bool>,
    owns_mount_namespace: OnceCell<bool>,
    hierarchies: OnceCell<Hierarchies>,
    has_apparmor: OnceCell<bool>,
    has_selinux: OnceCell<bool>,
    landlock: OnceCell<Option<u32>>,
    terminal_size: OnceCell<Option<Size>>,
}

/// The user that brig runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// All answers, for a plan that must not depend on the host.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The user that brig runs as.
    pub ids: Ids,
    /// Its capabilities, in its own user namespace.
    pub capabilities: CapSets,
    /// Whether that is the initial user namespace.
    pub in_first_user_namespace: bool,
    /// Whether it owns brig's mount namespace.
    pub owns_mount_namespace: bool,
    /// The cgroup versions in use; nothing is mounted to find out.
    pub cgroups: Version,
    /// Whether AppArmor is enabled.
    pub has_apparmor: bool,
    /// Whether SELinux is enabled.
    pub has_selinux: bool,
    /// The version of the Landlock ABI, if the kernel supports it.
    pub landlock: Option<u32>,
    /// The size of brig's own terminal, if it has one.
    pub terminal_size: Option<Size>,
}

impl Facts {
    /// Root on a host without labelling security modules, whose Landlock supports every right.
    pub const ROOT: Facts = Facts {
        ids: Ids { uid: 0, gid: 0 },
        capabilities: CapSets { effective: u64::MAX, permitted: u64::MAX, inheritable: 0 },
        in_first_user_namespace: true,
        owns_mount_namespace: true,
        cgroups: Version::V2,
        has_apparmor: false,
        has_selinux: false,
        landlock: Some(u32::MAX),
        terminal_size: None,
    };

    /// An unprivileged user there.
    pub const USER: Facts = Facts {
        ids: Ids { uid: 1000, gid: 1000 },
        capabilities: CapSets { effective: 0, permitted: 0, inheritable: 0 },
        owns_mount_namespace: false,
        ..Facts::ROOT
    };
}

impl From<Facts> for Host {
    fn from(facts: Facts) -> Host {
        Host {
            ids: facts.ids.into(),
            capabilities: facts.capabilities.into(),
            in_first_user_namespace: facts.in_first_user_namespace.into(),
            owns_mount_namespace: facts.owns_mount_namespace.into(),
            hierarchies: Hierarchies { version: facts.cgroups, mounted: Vec::new() }.into(),
            has_apparmor: facts.has_apparmor.into(),
            has_selinux: facts.has_selinux.into(),
            landlock: facts.landlock.into(),
            terminal_size: facts.terminal_size.into(),
        }
    }
}

impl Host {
    /// The user that brig runs as.
    pub fn ids(&self) -> Ids {
        *self.ids.get_or_init(|| Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() })
    }

    /// brig's capabilities.
    ///
    /// # Errors
    ///
    /// If a seccomp filter around brig forbids capget(2).
    pub fn capabilities(&self) -> Result<CapSets> {
        answer(&self.capabilities, || Ok(cred::capget()?))
    }

    /// Whether brig has root privileges, possibly only in its own user namespace.
    ///
    /// # Errors
    ///
    /// Those of [`Host::capabilities`].
    pub fn is_privileged(&self) -> Result<bool> {
        Ok(self.capabilities()?.effective & SYS_ADMIN != 0)
    }

    /// Whether brig is in the initial user namespace.
    pub fn in_first_user_namespace(&self) -> bool {
        *self.in_first_user_namespace.get_or_init(cred::in_first_user_namespace)
    }

    /// Whether brig has root privileges on the host, not only in a user namespace around it.
    ///
    /// # Errors
    ///
    /// Those of [`Host::capabilities`].
    pub fn is_root(&self) -> Result<bool> {
        Ok(self.is_privileged()? && self.in_first_user_namespace())
    }

    /// Whether brig's user namespace owns brig's mount namespace: otherwise not even root may mount there
    /// (e.g. after `unshare --user` alone).
    ///
    /// # Errors
    ///
    /// If the kernel does not report the owner.
    pub fn owns_mount_namespace(&self) -> Result<bool> {
        answer(&self.owns_mount_namespace, || Ok(namespace::owns_mount_namespace()?))
    }

    /// The cgroup versions in use.
    ///
    /// # Errors
    ///
    /// If there are no cgroups.
    pub fn cgroup_version(&self) -> Result<Version> {
        match self.hierarchies.get() {
            Some(found) => Ok(found.version),
            None => {
                let found = hierarchy::detect()?;
                Ok(self.hierarchies.get_or_init(|| found).version)
            }
        }
    }

    /// The cgroup hierarchies, to create the container's cgroup with: mountinfo is read once.
    ///
    /// # Errors
    ///
    /// If there are no cgroups.
    pub fn into_hierarchies(self) -> Result<Hierarchies> {
        self.hierarchies.into_inner().map_or_else(hierarchy::detect, Ok)
    }

    /// Whether AppArmor is enabled.
    pub fn has_apparmor(&self) -> bool {
        *self.has_apparmor.get_or_init(lsm::has_apparmor)
    }

    /// Whether SELinux is enabled.
    pub fn has_selinux(&self) -> bool {
        *self.has_selinux.get_or_init(lsm::has_selinux)
    }

    /// The version of the Landlock ABI.
    ///
    /// # Errors
    ///
    /// If the kernel does not support Landlock.
    pub fn landlock_abi(&self) -> Result<u32> {
        let abi = self.landlock.get_or_init(|| landlock::abi().ok());
        abi.context("this kernel has no Landlock, or it is not in the list of its lsm= parameter")
    }

    /// The size of the terminal, if one of brig's standard streams is one.
    pub fn terminal_size(&self) -> Option<Size> {
        let ask = || STANDARD_FDS.into_iter().find_map(|fd| tty::size(fd).ok());
        *self.terminal_size.get_or_init(ask)
    }
}

/// Returns the known answer, or queries it now.
fn answer<T: Copy>(known: &OnceCell<T>, ask: impl FnOnce() -> Result<T>) -> Result<T> {
    match known.get() {
        Some(answer) => Ok(*answer),
        None => ask().map(|answer| *known.get_or_init(|| answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_not_asked() {
        let user = Host::from(Facts::USER);
        assert_eq!((user.ids().uid, user.is_privileged().unwrap()), (1000, false));
        let confined = Facts { in_first_user_namespace: false, ..Facts::ROOT };
        let confined = Host::from(confined);
        assert_eq!((confined.is_privileged().unwrap(), confined.is_root().unwrap()), (true, false));
    }

    #[test]
    fn a_question_is_asked_once_and_a_failure_is_no_answer() {
        let cell = OnceCell::new();
        assert!(answer(&cell, || anyhow::bail!("no")).is_err());
        assert_eq!(answer(&cell, || Ok(1)).unwrap(), 1);
        assert_eq!(answer(&cell, || unreachable!()).unwrap(), 1);
    }
}
