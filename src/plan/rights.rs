//! brig's privileges on this host, and what needs more.

use super::Host;
use super::namespaces::{Namespaces, Strategy, name};
use super::netdev::NetDevice;
use super::rootfs::Rootfs;
use crate::spec::Place;
use anyhow::{Result, anyhow, ensure};

/// brig's privileges, as far as the plan depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Whether it has root privileges, possibly only in a user namespace around it: it may open mount
    /// sources, create cgroups, etc.
    pub privileged: bool,
    /// Whether it has them on the host.
    pub root_of_host: bool,
    /// Whether it may mount: root may not after `unshare --user` alone.
    pub may_mount: bool,
}

impl Rights {
    /// Queries the host, and checks that the root filesystem needs no more.
    pub(super) fn new(rootfs: &Rootfs, namespaces: &Namespaces, host: &Host) -> Result<Rights> {
        let has_user = namespaces.has(libc::CLONE_NEWUSER);
        let mut id_maps = rootfs.mounts.iter().filter_map(|mount| mount.id_map.as_ref()).peekable();
        let privileged = host.is_privileged()?;
        let in_question = has_user || id_maps.peek().is_some();
        let may_mount = privileged
            && (!in_question || host.in_first_user_namespace() || host.owns_mount_namespace()?);
        rootfs.check_hidden_paths(namespaces.has(libc::CLONE_NEWNS))?;
        for map in id_maps {
            let check = || {
                ensure!(
                    map.maps.is_some() || has_user,
                    "needs uidMappings and gidMappings, of the mount or of a user namespace"
                );
                ensure!(may_mount, "only root may id-map a mount");
                Ok(())
            };
            check().at(&map.place)?;
        }
        Ok(Rights { privileged, root_of_host: host.is_root()?, may_mount })
    }
}

/// Checks that brig may move host devices.
pub(super) fn check_net_devices(devices: &[NetDevice], host: &Host) -> Result<()> {
    if !devices.is_empty() && !host.is_privileged()? {
        Err(anyhow!("only root may move network devices of the host")).at("linux.netDevices")?;
    }
    Ok(())
}

/// Checks that brig may create and join these namespaces.
pub(super) fn check_namespaces(namespaces: &Namespaces, host: &Host) -> Result<()> {
    let privileged = host.is_privileged()?;
    if !privileged && !namespaces.has(libc::CLONE_NEWUSER) {
        let why = "the container of an unprivileged user needs a user namespace: `brig spec --rootless` \
                   writes such a config";
        Err(anyhow!(why)).at("linux.namespaces")?;
    }
    // setns(2) requires CAP_SYS_ADMIN in the caller's user namespace, too: an unprivileged user has it only
    // after joining one.
    let refused = !privileged && namespaces.joined(libc::CLONE_NEWUSER).is_none();
    if let Some(join) = namespaces.join.first().filter(|_| refused) {
        Err(anyhow!(
            "an unprivileged user can join a {} namespace only together with the user namespace that owns it",
            name(join.kind)
        ))
        .at(&join.place)?;
    }
    let relayed = namespaces.strategy == Strategy::Relay;
    ensure!(
        !relayed || namespaces.new & libc::CLONE_NEWUSER == 0 || host.ids().uid == 0,
        "only uid 0 can create a user namespace and join other namespaces: the process that joins \
         them must be undumpable, and then only uid 0 can write its id maps"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;
    use sys::cred::CapSets;

    fn refused(namespaces: &str, facts: Facts) -> Option<String> {
        let linux = format!(r#"{{"namespaces":[{namespaces}]}}"#);
        let host = Host::from(facts);
        let namespaces = Namespaces::new(&serde_json::from_str(&linux).unwrap(), &host).unwrap();
        check_namespaces(&namespaces, &host).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn an_unprivileged_user_needs_a_user_namespace_and_joins_others_with_its_owner() {
        const USER: &str = r#"{"type":"user"}"#;
        const JOINED: &str = r#"{"type":"user"},{"type":"network","path":"/n"}"#;
        const OWNED: &str = r#"{"type":"user","path":"/u"},{"type":"network","path":"/n"}"#;
        assert_eq!(refused("", Facts::ROOT), None);
        let alone = refused("", Facts::USER).unwrap();
        assert!(
            alone.starts_with("linux.namespaces: the container of an unprivileged user needs"),
            "{alone}"
        );
        assert_eq!(refused(USER, Facts::USER), None);
        let joined = refused(JOINED, Facts::USER).unwrap();
        assert!(
            joined.starts_with("linux.namespaces[1].path: an unprivileged user can join a network")
        );
        assert_eq!((refused(OWNED, Facts::USER), refused(JOINED, Facts::ROOT)), (None, None));
        let capable = Facts {
            capabilities: CapSets { effective: u64::MAX, ..CapSets::default() },
            ..Facts::USER
        };
        assert!(
            refused(JOINED, capable).unwrap().starts_with("only uid 0 can create a user namespace")
        );
    }
}
