//! The owner of the container's cgroup, and the cgroup below it that crun's annotation delegates.

use super::namespaces::Namespaces;
use crate::spec::{Place, Spec};
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::path::Path;
use sys::idmap::{self, IdMaps};

/// The cgroup below the container's that the container is moved into and manages.
pub const ANNOTATION: &str = "run.oci.delegate-cgroup";

/// The annotation's value.
///
/// # Errors
///
/// If it is not a relative path below the container's cgroup.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Option<&str>> {
    let Some(value) = annotations.get(ANNOTATION) else { return Ok(None) };
    let sound = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\0', '\n']);
    match value.split('/').all(sound) {
        true => Ok(Some(value)),
        false => Err(anyhow!("{value:?} is not a relative path of a cgroup"))
            .at(format_args!("annotations[{ANNOTATION:?}]")),
    }
}

/// config-linux.md, Cgroup ownership: the user of the process owns its cgroup if it has a new cgroup
/// namespace and a writable cgroup mount.
pub fn is_writable(spec: &Spec, namespaces: &Namespaces) -> bool {
    let writable = spec.mounts.iter().any(|mount| {
        mount.source.as_deref() == Some(Path::new("cgroup"))
            && mount.destination == Path::new("/sys/fs/cgroup")
            && !mount.options.iter().any(|option| option == "ro")
    });
    writable && namespaces.new & libc::CLONE_NEWCGROUP != 0
}

/// The host's uid of the process's user. The maps of a joined user namespace are not known.
pub fn user(spec: &Spec, namespaces: &Namespaces, id_maps: &IdMaps) -> Option<u32> {
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    if namespaces.new & libc::CLONE_NEWUSER != 0 {
        return idmap::host_id(&id_maps.uids, uid);
    }
    (!namespaces.has(libc::CLONE_NEWUSER)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delegated_is_below() {
        let of = |value: &str| {
            let annotations = BTreeMap::from([(ANNOTATION.to_owned(), value.to_owned())]);
            annotated(&annotations).map(|path| path.map(str::to_owned))
        };
        assert_eq!(of("a").unwrap().as_deref(), Some("a"));
        assert_eq!(of("a/..b").unwrap().as_deref(), Some("a/..b"));
        for bad in ["", "/a", "a/", "..", "a/../..", "./a", "a//b", "a\nb"] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        assert_eq!(annotated(&BTreeMap::new()).unwrap(), None);
    }
}
