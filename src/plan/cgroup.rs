//! Which cgroup the container gets: brig's, systemd's, or none; and whether that is possible.

use super::mounts::Kind;
use super::{Host, Plan, delegate};
use crate::spec::{Place, Spec};
use anyhow::{Result, anyhow};
use sys::hierarchy::Version;

/// The cgroup manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// brig creates it (cgroupfs).
    #[default]
    Cgroupfs,
    /// systemd creates it, as a scope.
    Systemd,
    /// None: the container stays in brig's own cgroup.
    Disabled,
}

/// Checks that the cgroup that the rest of the plan depends on is possible. The cgroup version is only
/// queried if something depends on it.
pub(super) fn check(plan: &Plan, host: &Host) -> Result<()> {
    match plan.cgroup_manager {
        CgroupManager::Cgroupfs => {}
        CgroupManager::Systemd => {
            if plan.opens_sources()
                && plan.shows_own_cgroups()
                && host.cgroup_version()? != Version::V2
            {
                let why = "with systemd on cgroup v1 this needs a cgroup namespace";
                Err(anyhow!(why)).at("linux.namespaces")?;
            }
        }
        CgroupManager::Disabled => {
            if !plan.resources.sets_no_limit() {
                let why = "needs a cgroup, which --cgroup-manager=disabled does not create";
                Err(anyhow!(why)).at("linux.resources")?;
            }
        }
    }
    let disabled = plan.cgroup_manager == CgroupManager::Disabled;
    if plan.delegated.is_some() && (disabled || host.cgroup_version()? != Version::V2) {
        Err(anyhow!("needs a cgroup on a host that only has cgroup v2"))
            .at(format_args!("annotations[{:?}]", delegate::ANNOTATION))?;
    }
    Ok(())
}

/// The warning that device rules are not enforced, because that needs a cgroup.
pub(super) fn unenforced_devices(spec: &Spec, manager: CgroupManager) -> Option<String> {
    let rules = spec.linux.resources.devices.as_ref().is_some_and(|rules| !rules.is_empty());
    let why = "has no effect, because there is no cgroup (--cgroup-manager=disabled)";
    let unenforced = rules && manager == CgroupManager::Disabled;
    unenforced.then(|| format!("linux.resources.devices: {why}"))
}

impl Plan {
    /// A cgroup mount without a cgroup namespace shows the container's own cgroups: on v1 it consists of bind
    /// mounts of their directories.
    pub fn shows_own_cgroups(&self) -> bool {
        let mut mounts = self.rootfs.mounts.iter();
        !self.rootfs.cgroup_namespace && mounts.any(|mount| matches!(mount.kind, Kind::Cgroup(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Request;
    use crate::plan::host::Facts;
    use std::path::Path;

    fn refused(rest: &str, cgroup_manager: CgroupManager, cgroups: Version) -> Option<String> {
        let config = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"process":{{"args":["x"],"cwd":"/"}}{rest}}}"#
        );
        let request = Request { cgroup_manager, ..Request::of_bundle(Path::new("/b")) };
        let host = Facts { cgroups, ..Facts::ROOT }.into();
        let plan = Plan::new(&serde_json::from_str(&config).unwrap(), &request, &host);
        plan.err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn a_cgroup_is_delegated_on_v2_alone() {
        let delegates = r#","annotations":{"run.oci.delegate-cgroup":"x"}"#;
        for manager in [CgroupManager::Cgroupfs, CgroupManager::Systemd] {
            assert_eq!(refused(delegates, manager, Version::V2), None);
            let text = refused(delegates, manager, Version::Hybrid).unwrap();
            assert!(text.ends_with("needs a cgroup on a host that only has cgroup v2"), "{text}");
        }
        assert!(refused(delegates, CgroupManager::Disabled, Version::V2).is_some());
    }

    #[test]
    fn nothing_limits_where_there_is_no_cgroup() {
        let limits = r#","linux":{"resources":{"pids":{"limit":5}}}"#;
        assert_eq!(refused(limits, CgroupManager::Cgroupfs, Version::V1), None);
        let text = refused(limits, CgroupManager::Disabled, Version::V1).unwrap();
        assert!(
            text.starts_with("linux.resources: needs a cgroup, which --cgroup-manager=disabled"),
            "{text}"
        );
        assert_eq!(refused("", CgroupManager::Disabled, Version::V1), None);
    }

    #[test]
    fn directories_that_systemd_makes_later_cannot_be_opened_before_the_clone() {
        let shows = r#","mounts":[{"destination":"/c","type":"cgroup"}],"linux":{"namespaces":
            [{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":5,"size":9}],
            "gidMappings":[{"containerID":0,"hostID":5,"size":9}]}"#;
        assert_eq!(refused(shows, CgroupManager::Cgroupfs, Version::V1), None);
        assert_eq!(refused(shows, CgroupManager::Systemd, Version::V2), None);
        let text = refused(shows, CgroupManager::Systemd, Version::V1).unwrap();
        assert_eq!(
            text,
            "linux.namespaces: with systemd on cgroup v1 this needs a cgroup namespace"
        );
    }
}
