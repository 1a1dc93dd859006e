//! Mounts of an existing container: what `mounts add` and `mounts remove` request.

use super::Host;
use super::destination::target;
use super::mounts::{Kind, Mount, Setting};
use super::rootfs::propagation;
use crate::spec::{self, Place, Spec};
use anyhow::{Result, anyhow};
use oci_spec::runtime::LinuxNamespaceType;
use std::ffi::CString;
use std::path::Path;

/// Plans `mounts` for the container with this config. Relative sources are relative to its bundle.
///
/// # Errors
///
/// If a mount cannot be added to an existing container.
pub fn add(
    mounts: &[spec::Mount],
    config: &Spec,
    bundle: &Path,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Vec<Mount>> {
    let linux = &config.linux;
    let base = propagation(linux.rootfs_propagation.as_deref(), false)?.sources;
    let label = linux.mount_label.as_deref();
    let label = super::lsm::MountLabel::new(label, &config.annotations, host, &mut Vec::new())?;
    let mut namespaces = linux.namespaces.iter();
    let user = namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let setting = Setting::new(config, bundle, base, user);
    let mut planned = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let mut mount = Mount::new(index, mount, &setting, warnings)?;
        check(&mount.kind).at(mount.place())?;
        if let Some(label) = &label {
            mount.label(label);
        }
        planned.push(mount);
    }
    Ok(planned)
}

/// Other filesystems depend on namespaces, and brig does not join all of the container's.
fn check(kind: &Kind) -> Result<()> {
    match kind {
        Kind::Bind { .. } => Ok(()),
        Kind::Filesystem(fs) if *fs.fstype == *c"tmpfs" && !fs.by_mount_2 => Ok(()),
        _ => Err(anyhow!("only bind mounts and tmpfs can be added to a container")),
    }
}

/// The destinations of `mounts` in the container with this config; their other fields are ignored.
///
/// # Errors
///
/// If a destination is not valid.
pub fn remove(mounts: &[spec::Mount], config: &Spec, bundle: &Path) -> Result<Vec<CString>> {
    let setting = Setting::new(config, bundle, None, false);
    let path = |(index, mount): (usize, &spec::Mount)| {
        target(&mount.destination, &setting.root).at(format!("mounts[{index}].destination"))
    };
    mounts.iter().enumerate().map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;

    const CONFIG: &str = r#"{"ociVersion":"1.3.0","root":{"path":"r"}}"#;

    fn planned(mount: &str) -> Result<Vec<Mount>> {
        let mount = serde_json::from_str(mount).unwrap();
        let (config, host) = (serde_json::from_str(CONFIG).unwrap(), Host::from(Facts::ROOT));
        add(&[mount], &config, Path::new("/b"), &host, &mut Vec::new())
    }

    #[test]
    fn only_what_depends_on_no_namespace_can_be_added() {
        let bind = planned(r#"{"destination":"/x","source":"s","options":["rbind","ro"]}"#);
        let Kind::Bind { source, recursive, .. } = &bind.unwrap()[0].kind else { panic!() };
        assert_eq!((source.as_c_str(), *recursive), (c"/b/s", true));
        assert!(planned(r#"{"destination":"/x","type":"tmpfs","options":["size=1m"]}"#).is_ok());
        for bad in [
            r#"{"destination":"/x","type":"proc"}"#,
            r#"{"destination":"/x","type":"sysfs"}"#,
            r#"{"destination":"/x","type":"cgroup"}"#,
            r#"{"destination":"/x","type":"overlay","options":["lowerdir=/a,b"]}"#,
            r#"{"destination":"/x","options":["remount"]}"#,
        ] {
            let error = format!("{:#}", planned(bad).unwrap_err());
            assert_eq!(error, "mounts[0]: only bind mounts and tmpfs can be added to a container");
        }
    }

    #[test]
    fn what_is_removed_is_a_clean_path_and_not_the_root() {
        let removed = |destination: &str| {
            let mount = spec::Mount { destination: destination.into(), ..spec::Mount::default() };
            let config = serde_json::from_str(CONFIG).unwrap();
            remove(&[mount], &config, Path::new("/bundle")).map(|paths| paths[0].clone())
        };
        assert_eq!(removed("a/../b//c/").unwrap().as_c_str(), c"/b/c");
        assert_eq!(removed("/bundle/r/x").unwrap().as_c_str(), c"/x");
        for root in ["/", "/..", "", "a/..", "/bundle/r"] {
            assert!(removed(root).is_err(), "{root}");
        }
    }
}
