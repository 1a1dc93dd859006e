//! Determines the mounts of a container that CRIU must not dump because they come from outside. Uses the
//! actual mounts, not the config: a volume can have mounts below it, and in a user namespace devices and
//! masks of files are mounts as well.
//!
//! External mounts have the names that runc gives them, so that checkpoints can be exchanged between
//! runtimes: the mount point, or `/dev/null` for a masked file.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::mountinfo::{Mount, mounts};

use crate::plan::devices;
use crate::plan::mounts::{Kind, Mount as Planned};
use crate::plan::readiness;
use crate::rootfs::extra_mounts::path_below;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use sys::path::{Links, open_in};

/// The name of the mask of a file.
pub(super) const NULL: &str = "/dev/null";

/// An external mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct External {
    /// The mount point in the container.
    pub(super) point: PathBuf,
    /// Its name in the image.
    pub(super) name: String,
    /// Its origin.
    pub(super) origin: Origin,
}

/// The origin of an external mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// The config's bind mount with this destination, or a mount below it at this relative path.
    Bind(PathBuf, PathBuf),
    /// A device of the host.
    Device,
    /// The mask of a file.
    Mask,
    /// The container's own cgroup, in the hierarchy of this name.
    Cgroup,
}

/// The parts of the config that concern mounts.
pub(super) struct Configured<'a> {
    /// The mounts of the config.
    pub(super) mounts: &'a [Planned],
    /// Masked paths.
    pub(super) masked: &'a [PathBuf],
    /// Devices in addition to those of every container.
    pub(super) devices: &'a [PathBuf],
    /// Whether the container has its own cgroup namespace.
    pub(super) cgroup_namespace: bool,
    /// The mount ids of mounts made by `brig mounts add`.
    pub(super) added: &'a [u64],
}

/// The external mounts of the container with init `pid`.
pub(super) fn of_container(pid: i32, configured: &Configured<'_>) -> Result<Vec<External>> {
    let read = |path: String| std::fs::read(&path).with_context(|| path);
    let (theirs, own) =
        (read(format!("/proc/{pid}/mountinfo"))?, read("/proc/self/mountinfo".into())?);
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(path.as_str(), flags, Mode::empty()).context(path)?;
    let mut targets = Vec::new();
    for mount in configured.mounts {
        // A remount does not create a mount.
        if matches!(mount.kind, Kind::Remount { .. }) {
            continue;
        }
        // Symbolic links of an image may lead to another place than the config's path.
        let Ok(target) = open_in(root.as_fd(), &mount.target, OFlag::O_PATH, Links::Follow) else {
            continue;
        };
        let path = path_below(root.as_fd(), target.as_fd())?;
        targets.push((Path::new("/").join(path), mount));
    }
    decide(&theirs, &own, &targets, configured)
}

fn decide(
    theirs: &[u8],
    own: &[u8],
    targets: &[(PathBuf, &Planned)],
    configured: &Configured<'_>,
) -> Result<Vec<External>> {
    let mut found = Vec::new();
    for mount in mounts(theirs).filter(|mount| mount.point() != Path::new("/")) {
        let point = mount.point();
        let owner = targets
            .iter()
            .filter(|(target, _)| point.starts_with(target))
            .max_by_key(|(target, _)| target.components().count());
        let origin = match owner {
            Some((target, planned))
                if matches!(planned.kind, Kind::Bind { .. })
                    && !mount.id().is_some_and(|id| configured.added.contains(&id))
                    && is_the_hosts(&mount, below(&point, target), theirs, own) =>
            {
                let rest = below(&point, target).to_owned();
                let target = PathBuf::from(std::ffi::OsStr::from_bytes(planned.target.to_bytes()));
                Some(Origin::Bind(target, rest))
            }
            Some((_, planned)) if matches!(planned.kind, Kind::Cgroup(_)) => {
                let is_cgroup = mount.is_type("cgroup") || mount.is_type("cgroup2");
                (is_cgroup && !configured.cgroup_namespace).then_some(Origin::Cgroup)
            }
            _ if is_part_of_another(&mount, theirs) => None,
            _ => Some(outside(&point, configured)?),
        };
        if let Some(origin) = origin {
            let name = match origin {
                Origin::Mask => NULL.to_owned(),
                _ => point.to_str().context("a mount point is not UTF-8")?.to_owned(),
            };
            found.push(External { point, name, origin });
        }
    }
    Ok(found)
}

/// The path of a mount below a bind mount; empty for the bind mount itself.
fn below<'a>(point: &'a Path, target: &Path) -> &'a Path {
    point.strip_prefix(target).unwrap_or(Path::new(""))
}

/// Whether it is the bind mount itself, or a mount that the host has below its source as well. A mount made
/// only in the container would not be found below the source on restore.
fn is_the_hosts(mount: &Mount<'_>, rest: &Path, theirs: &[u8], own: &[u8]) -> bool {
    let here = |other: &Mount<'_>| other.device() == mount.device();
    if !rest.as_os_str().is_empty() {
        return mounts(own).any(|other| {
            here(&other) && other.root() == mount.root() && other.point().ends_with(rest)
        });
    }
    let is_below = |other: &Mount<'_>| other.id() == mount.parent();
    let stacked = mounts(theirs).any(|other| is_below(&other) && other.point() == mount.point());
    !stacked || mounts(own).any(|other| here(&other))
}

/// Whether CRIU can mount it from another mount of the same filesystem that includes its root.
fn is_part_of_another(mount: &Mount<'_>, all: &[u8]) -> bool {
    let root = mount.root();
    root == Path::new("/")
        || mounts(all).any(|other| {
            other.id() != mount.id()
                && other.device() == mount.device()
                && root.starts_with(other.root())
                && (root != other.root() || other.point() == Path::new("/"))
        })
}

fn outside(point: &Path, configured: &Configured<'_>) -> Result<Origin> {
    let device = |path: &PathBuf| path == point;
    if configured.masked.iter().any(device) {
        return Ok(Origin::Mask);
    }
    if devices::is_default(point) || configured.devices.iter().any(device) {
        return Ok(Origin::Device);
    }
    ensure!(
        point != Path::new(readiness::TARGET),
        "{} has the socket by which the container tells brig that it is ready (NOTIFY_SOCKET), and a restore makes none: \
         run it without",
        point.display()
    );
    bail!(
        "{} is mounted from outside, and not by config.json: a restore could not know its source (unmount it, \
         or `brig mounts remove`)",
        point.display()
    )
}

/// A path as a string of CRIU's requests.
pub(super) fn text(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::Setting;
    use crate::spec;

    fn planned(index: usize, json: &str) -> Planned {
        let mount: spec::Mount = serde_json::from_str(json).unwrap();
        let linux = spec::Linux::default();
        let bundle = Path::new("/b");
        let setting =
            Setting { bundle, root: b"/b/r".to_vec(), base: None, user: false, linux: &linux };
        Planned::new(index, &mount, &setting, &mut Vec::new()).unwrap()
    }

    fn of(theirs: &str, own: &str) -> Result<Vec<(String, Origin)>> {
        let mounts = [
            planned(0, r#"{"destination":"/proc","type":"proc"}"#),
            planned(1, r#"{"destination":"/dev","type":"tmpfs"}"#),
            planned(2, r#"{"destination":"/v","source":"/srv","options":["rbind"]}"#),
            planned(3, r#"{"destination":"/v/t","type":"tmpfs"}"#),
            planned(4, r#"{"destination":"/sys/fs/cgroup","type":"cgroup"}"#),
        ];
        let targets: Vec<_> = mounts
            .iter()
            .map(|mount| (PathBuf::from(mount.target.to_str().unwrap()), mount))
            .collect();
        let masked = ["/proc/keys".into(), "/proc/timer_list".into()];
        let configured = Configured {
            mounts: &mounts,
            masked: &masked,
            devices: &["/dev/fuse".into()],
            cgroup_namespace: false,
            added: &[],
        };
        let found = decide(theirs.as_bytes(), own.as_bytes(), &targets, &configured)?;
        Ok(found.into_iter().map(|external| (external.name, external.origin)).collect())
    }

    #[test]
    fn what_is_external_is_told_by_what_is_mounted() {
        let theirs = "\
            1 0 8:1 /b/r / rw - ext4 /dev/root rw\n\
            2 1 0:5 / /proc rw - proc proc rw\n\
            3 1 0:6 / /dev rw - tmpfs tmpfs rw\n\
            4 2 0:6 /null /proc/keys ro - tmpfs tmpfs rw\n\
            5 2 0:7 /null /proc/timer_list ro - devtmpfs devtmpfs rw\n\
            6 3 0:7 /fuse /dev/fuse rw - devtmpfs devtmpfs rw\n\
            7 1 8:1 /srv /v rw - ext4 /dev/root rw\n\
            8 7 0:9 / /v/sub rw - tmpfs tmpfs rw\n\
            9 7 0:10 / /v/t rw - tmpfs tmpfs rw\n\
            10 7 0:11 / /v/own rw - tmpfs tmpfs rw\n\
            11 1 8:1 /b/r/etc /etc ro - ext4 /dev/root rw\n\
            12 1 0:12 /c /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
            13 2 0:5 /sys /proc/sys ro - proc proc rw\n";
        let bind = |rest: &str| Origin::Bind("/v".into(), rest.into());
        assert_eq!(
            of(theirs, "20 1 0:9 / /srv/sub rw - tmpfs tmpfs rw\n").unwrap(),
            [
                (NULL.to_owned(), Origin::Mask),
                ("/dev/fuse".to_owned(), Origin::Device),
                ("/v".to_owned(), bind("")),
                ("/v/sub".to_owned(), bind("sub")),
                ("/sys/fs/cgroup".to_owned(), Origin::Cgroup),
            ]
        );
    }

    #[test]
    fn what_the_config_does_not_know_is_refused() {
        let theirs =
            "1 0 8:1 /b/r / rw - ext4 /dev/root rw\n2 1 8:1 /srv /mnt rw - ext4 /dev/root rw\n";
        let error = of(theirs, "").unwrap_err().to_string();
        assert!(error.starts_with("/mnt is mounted from outside"), "{error}");
    }
}
