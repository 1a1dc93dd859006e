//! What plan may ask of the host, each question once, and not before something in the config depends on
//! the answer: the main line pays for no probe that its config does not need.
//!
//! A [`Host`] is what is true of brig before its first clone. Whoever acts on a plan reads the plan; a
//! process in another namespace would get other answers.

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

/// Whom brig runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// The answers to all questions, for a plan that is to be the same on every host.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whom brig runs as.
    pub ids: Ids,
    /// Its capabilities, in its own user namespace.
    pub capabilities: CapSets,
    /// That is the one that the kernel has started with.
    pub in_first_user_namespace: bool,
    /// That owns the mount namespace that brig is in.
    pub owns_mount_namespace: bool,
    /// Which cgroups there are: the version alone, nothing is mounted.
    pub cgroups: Version,
    /// AppArmor is enabled.
    pub has_apparmor: bool,
    /// SELinux is enabled.
    pub has_selinux: bool,
    /// The version of Landlock's ABI, if the kernel has it.
    pub landlock: Option<u32>,
    /// The size of brig's own terminal, where it has one.
    pub terminal_size: Option<Size>,
}

impl Facts {
    /// Root on a host without security modules that label, whose Landlock is newer than every right.
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
    /// Whom brig runs as.
    pub fn ids(&self) -> Ids {
        *self.ids.get_or_init(|| Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() })
    }

    /// brig's capabilities.
    ///
    /// # Errors
    ///
    /// Where a filter around brig forbids capget(2).
    pub fn capabilities(&self) -> Result<CapSets> {
        answer(&self.capabilities, || Ok(cred::capget()?))
    }

    /// brig has the rights of root, if only in its own user namespace.
    ///
    /// # Errors
    ///
    /// As of [`Host::capabilities`].
    pub fn is_privileged(&self) -> Result<bool> {
        Ok(self.capabilities()?.effective & SYS_ADMIN != 0)
    }

    /// brig is in the user namespace that the kernel has started with.
    pub fn in_first_user_namespace(&self) -> bool {
        *self.in_first_user_namespace.get_or_init(cred::in_first_user_namespace)
    }

    /// brig has the rights of root, and not only in a user namespace around it.
    ///
    /// # Errors
    ///
    /// As of [`Host::capabilities`].
    pub fn is_root(&self) -> Result<bool> {
        Ok(self.is_privileged()? && self.in_first_user_namespace())
    }

    /// brig's user namespace owns the mount namespace that brig is in: without that root may not mount
    /// there (in `unshare --user` alone, say).
    ///
    /// # Errors
    ///
    /// Where the kernel does not tell who owns it.
    pub fn owns_mount_namespace(&self) -> Result<bool> {
        answer(&self.owns_mount_namespace, || Ok(namespace::owns_mount_namespace()?))
    }

    /// Which versions of cgroups there are.
    ///
    /// # Errors
    ///
    /// Where there are none.
    pub fn cgroup_version(&self) -> Result<Version> {
        match self.hierarchies.get() {
            Some(found) => Ok(found.version),
            None => {
                let found = hierarchy::detect()?;
                Ok(self.hierarchies.get_or_init(|| found).version)
            }
        }
    }

    /// The hierarchies of cgroups, for whoever makes the container's: mountinfo is read once.
    ///
    /// # Errors
    ///
    /// Where there are none.
    pub fn into_hierarchies(self) -> Result<Hierarchies> {
        self.hierarchies.into_inner().map_or_else(hierarchy::detect, Ok)
    }

    /// AppArmor is enabled.
    pub fn has_apparmor(&self) -> bool {
        *self.has_apparmor.get_or_init(lsm::has_apparmor)
    }

    /// SELinux is enabled.
    pub fn has_selinux(&self) -> bool {
        *self.has_selinux.get_or_init(lsm::has_selinux)
    }

    /// The version of Landlock's ABI.
    ///
    /// # Errors
    ///
    /// Where the kernel has none.
    pub fn landlock_abi(&self) -> Result<u32> {
        let abi = self.landlock.get_or_init(|| landlock::abi().ok());
        abi.context("this kernel has no Landlock, or it is not in the list of its lsm= parameter")
    }

    /// The size of the terminal that one of brig's standard streams is.
    pub fn terminal_size(&self) -> Option<Size> {
        let ask = || STANDARD_FDS.into_iter().find_map(|fd| tty::size(fd).ok());
        *self.terminal_size.get_or_init(ask)
    }
}

/// The answer that is known, or the one to a question asked now.
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
