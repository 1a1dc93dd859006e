//! The root filesystem: its path or layers, mounts, masked paths.

use super::devices::{self, Device};
use super::lsm::MountLabel;
use super::mount_options::{self, Step};
use super::mounts::{Kind, Mount, Setting, c_string, clean};
use super::namespaces::Namespaces;
use super::overlay::{self, Overlay};
use super::{Host, Request};
use crate::spec::{self, Place, Spec};
use anyhow::{Context, Result, anyhow, bail, ensure};
use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use sys::mount::Attr;

/// The command line's settings of the root filesystem.
#[derive(Debug, Default, Clone)]
pub struct RootOptions {
    /// `--layer`, lowest first: overrides the annotation.
    pub layers: Vec<PathBuf>,
    /// `--upper`: overrides the annotation.
    pub upper: Option<String>,
    /// `--no-pivot`: chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
}

/// The root filesystem.
#[derive(Debug)]
pub struct Rootfs {
    /// `root.path`, absolute: the root filesystem, or the mount point of its layers.
    pub path: PathBuf,
    /// Whether the root is read-only.
    pub readonly: bool,
    /// How to make it the root.
    pub jail: Jail,
    /// Mount propagation between host, root and container.
    pub propagation: Propagation,
    /// The layers, if any.
    pub overlay: Option<Overlay>,
    /// The mounts, in order.
    pub mounts: Vec<Mount>,
    /// The container has another cgroup namespace than the runtime.
    pub cgroup_namespace: bool,
    /// The container has its own /dev: the default devices and links are created in it.
    pub own_dev: bool,
    /// Devices to make.
    pub devices: Vec<Device>,
    /// Masked paths.
    pub masked: Vec<CString>,
    /// The SELinux label of new filesystems.
    pub label: Option<MountLabel>,
    /// Read-only paths.
    pub readonly_paths: Vec<CString>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// How to change the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jail {
    /// pivot_root(2): the host's root is unmounted.
    Pivot,
    /// Move the root over the host's, then chroot(2): the host's root remains below it, unreachable.
    Move,
    /// chroot(2) only: the mount namespace is not the container's own.
    Chroot,
    /// chroot(2) into detached mounts: the mount namespace is shared, so mounts must not be visible in it,
    /// nor outlive the container.
    Detached,
}

/// `linux.rootfsPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// The first propagation of bind mount sources and of mounts inside the root filesystem, so that mounts
    /// of the container are not visible on the host; None if that is requested.
    pub sources: Option<u64>,
    /// The propagation of the root mount during the set-up.
    pub root: u64,
    /// The propagation of the root mount at the end: only of that one, because all others have their own
    /// options.
    pub last: Option<u64>,
}

impl Rootfs {
    /// Plans the root filesystem.
    ///
    /// # Errors
    ///
    /// If the config is not valid, or not with these namespaces.
    pub fn new(
        spec: &Spec,
        request: &Request<'_>,
        readiness: Option<&spec::Mount>,
        namespaces: &Namespaces,
        host: &Host,
    ) -> Result<Self> {
        let (bundle, options) = (request.bundle, request.rootfs);
        let has_user = namespaces.has(libc::CLONE_NEWUSER);
        // In a joined mount namespace, pivot_root(2) would change the root of other processes.
        let new_mount = namespaces.new & libc::CLONE_NEWNS != 0;
        let linux = &spec.linux;
        let mut warnings = Vec::new();
        let label = linux.mount_label.as_deref();
        let label = MountLabel::new(label, &spec.annotations, host, &mut warnings)?;
        let root = spec.root.as_ref().context("missing").at("root")?;
        if root.path.as_os_str().is_empty() {
            Err(anyhow!("is empty")).at("root.path")?;
        }
        let propagation = propagation(linux.rootfs_propagation.as_deref(), options.no_pivot);
        let propagation = propagation.at("linux.rootfsPropagation")?;
        let setting = Setting::new(spec, bundle, propagation.sources, has_user);
        let mounts = spec
            .mounts
            .iter()
            .chain(readiness)
            .enumerate()
            .map(|(index, mount)| Mount::new(index, mount, &setting, &mut warnings));
        let mut mounts = mounts.collect::<Result<Vec<_>>>()?;
        if let Some(label) = &label {
            mounts.iter_mut().for_each(|mount| mount.label(label));
        }
        let own_dev = !mounts.iter().any(Mount::is_bound_dev);
        let mut devices = devices::plan(linux.devices.as_deref().unwrap_or_default(), own_dev)?;
        // A mount takes the place of a default device, e.g. /dev/urandom on /dev/random.
        let is_mounted = |device: &Device| mounts.iter().any(|mount| mount.target == device.path);
        devices.retain(|device| device.place.is_some() || !is_mounted(device));
        let mut rootfs = Rootfs {
            // Normalised, as runc shows it.
            path: OsString::from_vec(clean(bundle.join(&root.path).as_os_str().as_bytes())).into(),
            readonly: root.readonly,
            jail: jail(new_mount, options.no_pivot),
            propagation,
            overlay: overlay::plan(spec, bundle, options, has_user, host)?,
            own_dev,
            devices,
            mounts,
            cgroup_namespace: namespaces.has(libc::CLONE_NEWCGROUP),
            masked: paths(&linux.masked_paths, "linux.maskedPaths")?,
            readonly_paths: paths(&linux.readonly_paths, "linux.readonlyPaths")?,
            label,
            warnings,
        };
        if rootfs.jail == Jail::Chroot && rootfs.mounts_anything() {
            rootfs.jail = Jail::Detached;
        }
        rootfs.check_namespace(&spec.mounts)?;
        Ok(rootfs)
    }

    /// Without a mount namespace of its own the container's mounts are detached, which only works for mounts
    /// that never change.
    fn check_namespace(&self, mounts: &[spec::Mount]) -> Result<()> {
        if matches!(self.jail, Jail::Pivot | Jail::Move) {
            return Ok(());
        }
        let needs = || anyhow!("needs a new mount namespace in linux.namespaces");
        for (mount, asked) in self.mounts.iter().zip(mounts) {
            let shared = asked.options.iter().any(|option| option.ends_with("shared"));
            let goes = match &mount.kind {
                Kind::Bind { .. } => true,
                Kind::Filesystem(fs) => !fs.by_mount_2 && !fs.late_read_only,
                Kind::Cgroup(_) | Kind::Remount { .. } => false,
            };
            if shared || !goes {
                return Err(needs()).at(mount.place());
            }
        }
        if self.propagation != Propagation::DEFAULT {
            return Err(needs()).at("linux.rootfsPropagation");
        }
        match &self.overlay {
            Some(overlay) => overlay.layers_from.with_origin(Err(needs())),
            None => Ok(()),
        }
    }

    /// Paths are masked by mounting over them: never in the runtime's own mount namespace.
    pub fn check_hidden_paths(&self, mount_namespace: bool) -> Result<()> {
        let needs = || Err(anyhow!("needs a mount namespace in linux.namespaces"));
        match self {
            _ if mount_namespace => Ok(()),
            _ if !self.masked.is_empty() => needs().at("linux.maskedPaths"),
            _ if !self.readonly_paths.is_empty() => needs().at("linux.readonlyPaths"),
            _ => Ok(()),
        }
    }

    /// Whether anything has to be mounted, possibly only over itself.
    fn mounts_anything(&self) -> bool {
        self.readonly
            || !self.mounts.is_empty()
            || !self.masked.is_empty()
            || !self.readonly_paths.is_empty()
    }
}

fn jail(mount_namespace: bool, no_pivot: bool) -> Jail {
    match (mount_namespace, no_pivot) {
        (false, _) => Jail::Chroot,
        (true, true) => Jail::Move,
        (true, false) => Jail::Pivot,
    }
}

impl Propagation {
    /// Parses the propagation of the root filesystem's mounts.
    pub fn steps(&self) -> Vec<Step> {
        let step = |recursive, propagation| Step {
            recursive,
            attr: Attr { propagation, ..Attr::default() },
        };
        let sources = self.sources.map(|propagation| step(true, propagation));
        sources.into_iter().chain([step(false, self.root)]).collect()
    }

    const DEFAULT: Self = Propagation { sources: Some(MS_SLAVE), root: MS_PRIVATE, last: None };
}

pub(super) fn propagation(name: Option<&str>, no_pivot: bool) -> Result<Propagation> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(Propagation::DEFAULT);
    };
    let Some((kind, recursive)) = mount_options::propagation(name) else {
        bail!(
            "{name:?} is not one of shared, slave, private, unbindable (or these with a leading r)"
        )
    };
    // The host's root remains below the new one: mounts of the container must propagate to it.
    ensure!(!(no_pivot && kind == MS_PRIVATE), "{name:?} is not safe with --no-pivot");
    Ok(match kind {
        MS_SLAVE => Propagation { root: MS_SLAVE, ..Propagation::DEFAULT },
        MS_PRIVATE if recursive => {
            Propagation { sources: Some(MS_PRIVATE), ..Propagation::DEFAULT }
        }
        MS_PRIVATE => Propagation::DEFAULT,
        MS_SHARED => Propagation { sources: None, root: MS_PRIVATE, last: Some(kind) },
        // An unbindable mount could not become the root: only at the end.
        _ => Propagation { last: Some(kind), ..Propagation::DEFAULT },
    })
}

fn paths(paths: &[PathBuf], place: &str) -> Result<Vec<CString>> {
    let one = |path: &PathBuf| -> Result<CString> {
        ensure!(path.is_absolute(), "{path:?} is not an absolute path");
        c_string(&clean(path.as_os_str().as_bytes()))
    };
    let located = |(index, path)| one(path).at(format!("{place}[{index}]"));
    paths.iter().enumerate().map(located).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;
    use std::path::Path;

    const NEW: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    const NONE: libc::c_int = 0;

    fn plan(rest: &str, new: libc::c_int, no_pivot: bool) -> Result<Rootfs> {
        let spec = format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}}{rest}}}"#);
        let options = RootOptions { no_pivot, ..RootOptions::default() };
        let (spec, host) = (serde_json::from_str(&spec).unwrap(), Host::from(Facts::ROOT));
        let request = Request { rootfs: &options, ..Request::of_bundle(Path::new("/b")) };
        Rootfs::new(&spec, &request, None, &Namespaces { new, ..Namespaces::default() }, &host)
    }

    fn error(rest: &str, new: libc::c_int, no_pivot: bool) -> String {
        format!("{:#}", plan(rest, new, no_pivot).unwrap_err())
    }

    #[test]
    fn the_jail_depends_on_the_mount_namespace() {
        let jail = |new, no_pivot| plan("", new, no_pivot).unwrap().jail;
        assert_eq!(jail(NEW, false), Jail::Pivot);
        assert_eq!(jail(NEW, true), Jail::Move);
        assert_eq!(jail(NONE, false), Jail::Chroot);
        assert_eq!(jail(NONE, true), Jail::Chroot);
    }

    #[test]
    fn nothing_is_attached_to_somebody_elses_mount_namespace() {
        let jail = |rest| plan(rest, NONE, false).unwrap().jail;
        for rest in [
            r#","mounts":[{"destination":"/p","type":"proc"}]"#,
            r#","linux":{"maskedPaths":["/x"]}"#,
            r#","linux":{"readonlyPaths":["/x"]}"#,
        ] {
            assert_eq!(jail(rest), Jail::Detached, "{rest}");
        }
        for (rest, place) in [
            (r#","mounts":[{"destination":"/p","options":["remount"]}]"#, "mounts[0]"),
            (r#","mounts":[{"destination":"/p","type":"cgroup"}]"#, "mounts[0]"),
            (r#","mounts":[{"destination":"/p","type":"tmpfs","options":["ro"]}]"#, "mounts[0]"),
            (r#","linux":{"rootfsPropagation":"shared"}"#, "linux.rootfsPropagation"),
            (
                r#","annotations":{"run.brig.overlay.layers":"l"}"#,
                r#"annotations["run.brig.overlay.layers"]"#,
            ),
        ] {
            let text = format!("{place}: needs a new mount namespace in linux.namespaces");
            assert_eq!(error(rest, NONE, false), text);
        }
    }

    #[test]
    fn propagation_never_starts_wider_than_asked() {
        let of = |name: &str| {
            let rest = format!(r#","linux":{{"rootfsPropagation":{name:?}}}"#);
            let Propagation { sources, root, last } = plan(&rest, NEW, false).unwrap().propagation;
            (sources, root, last)
        };
        for name in ["", "private", "slave", "rslave", "unbindable", "runbindable"] {
            assert_eq!(of(name).0, Some(MS_SLAVE), "{name}");
        }
        assert_eq!(of("rprivate"), (Some(MS_PRIVATE), MS_PRIVATE, None));
        assert_eq!(of("slave").1, MS_SLAVE);
        assert_eq!(of("shared"), (None, MS_PRIVATE, Some(MS_SHARED)));
        assert_eq!(of("unbindable").2, Some(libc::MS_UNBINDABLE));
    }

    #[test]
    fn bad_values_are_named() {
        let propagation = r#","linux":{"rootfsPropagation":"share"}"#;
        let text = error(propagation, NEW, false);
        assert!(text.starts_with(r#"linux.rootfsPropagation: "share" is not one of"#), "{text}");
        let private = r#","linux":{"rootfsPropagation":"private"}"#;
        assert!(plan(private, NEW, false).is_ok());
        assert!(error(private, NEW, true).ends_with("is not safe with --no-pivot"));
        let relative = error(r#","linux":{"maskedPaths":["/a","b"]}"#, NEW, false);
        assert_eq!(relative, "linux.maskedPaths[1]: \"b\" is not an absolute path");
    }

    #[test]
    fn a_bound_dev_gets_no_devices() {
        let bound = r#","mounts":[{"destination":"/dev/","source":"/dev","options":["rbind"]}]"#;
        let plan = plan(bound, NEW, false).unwrap();
        assert_eq!((plan.own_dev, plan.devices.len()), (false, 0));
    }
}
