//! The root filesystem: where it is or of which layers it is made, what is mounted in it, what is
//! hidden of it.

use super::mount_options;
use super::mounts::{Mount, c_string, clean};
use super::refuse;
use crate::spec::{Place, Spec};
use anyhow::{Context, Result, anyhow, bail, ensure};
use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What the command line says about the root filesystem.
#[derive(Debug, Default, Clone)]
pub struct RootOptions {
    /// `--layer`, lowest first: instead of the annotation's, if there are any.
    pub layers: Vec<PathBuf>,
    /// `--upper`: instead of the annotation.
    pub upper: Option<String>,
    /// `--no-pivot`: chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
}

/// What the root filesystem depends on of the container's namespaces.
#[derive(Debug, Clone, Copy)]
pub struct Namespaces {
    /// The container gets a new mount namespace.
    pub mount: bool,
    /// The container gets a new cgroup namespace, or joins one.
    pub cgroup: bool,
}

/// The root filesystem.
#[derive(Debug)]
pub struct Rootfs {
    /// `root.path`, absolute: the root filesystem, or where its layers get mounted.
    pub path: PathBuf,
    /// The root is read-only.
    pub readonly: bool,
    /// How to make it the root.
    pub jail: Jail,
    /// How mounts spread between host, root and container.
    pub propagation: Propagation,
    /// The layers, if it is made of layers.
    pub overlay: Option<Overlay>,
    /// What is mounted in it, in order.
    pub mounts: Vec<Mount>,
    /// The container has another cgroup namespace than the runtime.
    pub cgroup_namespace: bool,
    /// The default devices and links belong into /dev: it is not the host's.
    pub default_devices: bool,
    /// Paths nobody can read.
    pub masked: Vec<CString>,
    /// Paths nobody can write.
    pub readonly_paths: Vec<CString>,
    /// For the log.
    pub warnings: Vec<String>,
}

/// How the root filesystem becomes the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jail {
    /// pivot_root(2): the host's root is gone.
    Pivot,
    /// Moved over the host's root, then chroot(2): the host's root stays below, unreachable.
    Move,
    /// chroot(2) only: the mount namespace is not the container's own.
    Chroot,
}

/// `linux.rootfsPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// What sources of bind mounts and mounts inside the root filesystem get first, so that nothing
    /// mounted in the container shows on the host; none where that is asked for.
    pub sources: Option<u64>,
    /// The root mount itself, during the set-up.
    pub root: u64,
    /// The root mount at the end: it alone, since the others have what their own options say.
    pub last: Option<u64>,
}

/// A root filesystem made of layers.
#[derive(Debug)]
pub struct Overlay {
    /// Directories, lowest first, absolute.
    pub layers: Vec<CString>,
    /// Where the container's writes go.
    pub upper: Upper,
    /// Who named the layers.
    pub layers_from: Origin,
    /// Who named the upper.
    pub upper_from: Origin,
}

/// Where the container's writes go.
#[derive(Debug)]
pub enum Upper {
    /// Into memory, until the container's end; with a limit of `size` as tmpfs(5) writes it.
    Tmpfs {
        /// None: tmpfs's own default, half of the memory.
        size: Option<CString>,
    },
    /// Into a directory that stays.
    Directory {
        /// The directory.
        upper: CString,
        /// overlayfs's scratch directory on the same filesystem.
        work: CString,
    },
}

/// Where a setting was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This annotation.
    Annotation(&'static str),
    /// This flag of create or run.
    Flag(&'static str),
}

impl Origin {
    /// Adds where it was made to an error about it.
    pub fn blame<T>(self, result: Result<T>) -> Result<T> {
        match self {
            Origin::Annotation(name) => result.at(format!("annotations[{name:?}]")),
            Origin::Flag(name) => result.context(name),
        }
    }
}

/// Annotations that are brig's own start with this.
const PREFIX: &str = "run.brig.";
/// Directories separated by `:` (`\:` is a colon of a name), lowest first.
pub const LAYERS: &str = "run.brig.overlay.layers";
/// A directory, `tmpfs` or `tmpfs:SIZE`.
pub const UPPER: &str = "run.brig.overlay.upper";
/// overlayfs's scratch directory of an upper directory; by default the upper's name with `.work`.
pub const WORK: &str = "run.brig.overlay.work";

/// Every annotation that changes what brig does: for `features`.
pub const ANNOTATIONS: [&str; 3] = [LAYERS, UPPER, WORK];

/// overlayfs's `OVL_MAX_STACK`.
const MOST_LAYERS: usize = 500;

impl Rootfs {
    /// Plans the root filesystem.
    pub fn new(
        spec: &Spec,
        bundle: &Path,
        options: &RootOptions,
        namespaces: Namespaces,
    ) -> Result<Self> {
        let linux = &spec.linux;
        refuse(&[
            ("linux.mountLabel", linux.mount_label.as_ref().is_some_and(|label| !label.is_empty())),
            ("linux.devices", linux.devices.as_ref().is_some_and(|devices| !devices.is_empty())),
        ])?;
        let root = spec.root.as_ref().context("missing").at("root")?;
        ensure_nonempty(&root.path).at("root.path")?;
        let propagation = propagation(linux.rootfs_propagation.as_deref(), options.no_pivot);
        let propagation = propagation.at("linux.rootfsPropagation")?;
        let mut warnings = Vec::new();
        let mounts = spec.mounts.iter().enumerate().map(|(index, mount)| {
            Mount::new(index, mount, bundle, propagation.sources, &mut warnings)
        });
        let mounts = mounts.collect::<Result<Vec<_>>>()?;
        let rootfs = Rootfs {
            path: bundle.join(&root.path),
            readonly: root.readonly,
            jail: jail(namespaces.mount, options.no_pivot),
            propagation,
            overlay: overlay(spec, bundle, options)?,
            default_devices: !mounts.iter().any(Mount::is_bound_dev),
            mounts,
            cgroup_namespace: namespaces.cgroup,
            masked: paths(&linux.masked_paths, "linux.maskedPaths")?,
            readonly_paths: paths(&linux.readonly_paths, "linux.readonlyPaths")?,
            warnings,
        };
        rootfs.check_namespace()?;
        Ok(rootfs)
    }

    /// Without a mount namespace of its own everything mounted would be mounted on the host, or in
    /// another container.
    fn check_namespace(&self) -> Result<()> {
        if self.jail != Jail::Chroot {
            return Ok(());
        }
        let asked = [
            ("mounts", !self.mounts.is_empty()),
            ("root.readonly", self.readonly),
            ("linux.maskedPaths", !self.masked.is_empty()),
            ("linux.readonlyPaths", !self.readonly_paths.is_empty()),
            ("linux.rootfsPropagation", self.propagation != Propagation::DEFAULT),
        ];
        let needs = || anyhow!("needs a new mount namespace in linux.namespaces");
        if let Some((place, _)) = asked.iter().find(|(_, asked)| *asked) {
            return Err(needs()).at(place);
        }
        match &self.overlay {
            Some(overlay) => overlay.layers_from.blame(Err(needs())),
            None => Ok(()),
        }
    }
}

fn jail(mount_namespace: bool, no_pivot: bool) -> Jail {
    match (mount_namespace, no_pivot) {
        (false, _) => Jail::Chroot,
        (true, true) => Jail::Move,
        (true, false) => Jail::Pivot,
    }
}

fn ensure_nonempty(path: &Path) -> Result<()> {
    ensure!(!path.as_os_str().is_empty(), "is empty");
    Ok(())
}

impl Propagation {
    const DEFAULT: Self = Propagation { sources: Some(MS_SLAVE), root: MS_PRIVATE, last: None };
}

fn propagation(name: Option<&str>, no_pivot: bool) -> Result<Propagation> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(Propagation::DEFAULT);
    };
    let Some((kind, recursive)) = mount_options::propagation(name) else {
        bail!("{name:?} is none of shared, slave, private, unbindable (or one of them with r)")
    };
    // Below the new root the host's stays: what the container mounts must not be kept from it.
    ensure!(!(no_pivot && kind == MS_PRIVATE), "{name:?} is not safe together with --no-pivot");
    Ok(match kind {
        MS_SLAVE => Propagation { root: MS_SLAVE, ..Propagation::DEFAULT },
        MS_PRIVATE if recursive => {
            Propagation { sources: Some(MS_PRIVATE), ..Propagation::DEFAULT }
        }
        MS_PRIVATE => Propagation::DEFAULT,
        MS_SHARED => Propagation { sources: None, root: MS_PRIVATE, last: Some(kind) },
        // An unbindable mount could not even be made the root: only at the end.
        _ => Propagation { last: Some(kind), ..Propagation::DEFAULT },
    })
}

fn paths(paths: &[PathBuf], place: &str) -> Result<Vec<CString>> {
    let one = |path: &PathBuf| -> Result<CString> {
        ensure!(path.is_absolute(), "{} is not an absolute path", path.display());
        c_string(&clean(path.as_os_str().as_bytes()))
    };
    let located = |(index, path)| one(path).at(format!("{place}[{index}]"));
    paths.iter().enumerate().map(located).collect()
}

fn overlay(spec: &Spec, bundle: &Path, options: &RootOptions) -> Result<Option<Overlay>> {
    let annotations = &spec.annotations;
    for name in annotations.keys().filter(|name| name.starts_with(PREFIX)) {
        if !ANNOTATIONS.contains(&name.as_str()) {
            let unknown = anyhow!("unknown: brig knows {}", ANNOTATIONS.join(", "));
            Err(unknown).at(format!("annotations[{name:?}]"))?;
        }
    }
    let (layers, layers_from) = match annotations.get(LAYERS) {
        _ if !options.layers.is_empty() => (options.layers.clone(), Origin::Flag("--layer")),
        Some(list) => (split_layers(list), Origin::Annotation(LAYERS)),
        None => (Vec::new(), Origin::Annotation(LAYERS)),
    };
    let (upper, upper_from) = match (&options.upper, annotations.get(UPPER)) {
        (Some(upper), _) => (Some(upper), Origin::Flag("--upper")),
        (None, upper) => (upper, Origin::Annotation(UPPER)),
    };
    let work = annotations.get(WORK);
    if layers.is_empty() {
        let pointless = || anyhow!("has no use without layers ({LAYERS} or --layer)");
        return match (upper, work) {
            _ if annotations.contains_key(LAYERS) => layers_from.blame(Err(anyhow!("is empty"))),
            (Some(_), _) => upper_from.blame(Err(pointless())),
            (None, Some(_)) => Origin::Annotation(WORK).blame(Err(pointless())),
            (None, None) => Ok(None),
        };
    }
    let layers = layers_from.blame(absolute(&layers, bundle, layers_from))?;
    let upper = plan_upper(upper.map_or("tmpfs", String::as_str), work, bundle, upper_from)?;
    upper_from.blame(check_apart(&upper, &layers))?;
    Ok(Some(Overlay { layers, upper, layers_from, upper_from }))
}

/// `a:b\:c` is `a` and `b:c`.
fn split_layers(list: &str) -> Vec<PathBuf> {
    let mut layers = vec![String::new()];
    let mut rest = list.chars();
    while let Some(next) = rest.next() {
        let next = match next {
            ':' => {
                layers.push(String::new());
                continue;
            }
            '\\' => rest.next().unwrap_or('\\'),
            next => next,
        };
        if let Some(layer) = layers.last_mut() {
            layer.push(next);
        }
    }
    if list.is_empty() { Vec::new() } else { layers.into_iter().map(PathBuf::from).collect() }
}

fn absolute(layers: &[PathBuf], bundle: &Path, from: Origin) -> Result<Vec<CString>> {
    ensure!(layers.len() <= MOST_LAYERS, "{} layers: overlayfs takes {MOST_LAYERS}", layers.len());
    let one = |layer: &PathBuf| -> Result<CString> {
        ensure!(!layer.as_os_str().is_empty(), "a layer without a name");
        host_path(layer, bundle, from)
    };
    layers.iter().map(one).collect()
}

/// A path of the config is relative to the bundle, one of the command line to where brig is called.
fn host_path(path: &Path, bundle: &Path, from: Origin) -> Result<CString> {
    let path = match from {
        Origin::Annotation(_) => bundle.join(path),
        Origin::Flag(_) => std::path::absolute(path)?,
    };
    c_string(path.as_os_str().as_bytes())
}

fn plan_upper(upper: &str, work: Option<&String>, bundle: &Path, from: Origin) -> Result<Upper> {
    let in_memory = match upper.split_once(':') {
        Some(("tmpfs", size)) => Some(Some(size)),
        _ if upper == "tmpfs" => Some(None),
        _ => None,
    };
    if let Some(size) = in_memory {
        if work.is_some() {
            let pointless = anyhow!("has no use with an upper in memory");
            Origin::Annotation(WORK).blame(Err(pointless))?;
        }
        let size = size.map(|size| check_size(size).and_then(|()| c_string(size.as_bytes())));
        return Ok(Upper::Tmpfs { size: from.blame(size.transpose())? });
    }
    let not_empty = ensure_nonempty(Path::new(upper));
    let directory =
        from.blame(not_empty.and_then(|()| host_path(Path::new(upper), bundle, from)))?;
    let work = match work {
        Some(work) => {
            let from = Origin::Annotation(WORK);
            let not_empty = ensure_nonempty(Path::new(work));
            from.blame(not_empty.and_then(|()| host_path(Path::new(work), bundle, from)))?
        }
        None => {
            let mut work = directory.as_bytes().to_vec();
            while work.len() > 1 && work.last() == Some(&b'/') {
                work.pop();
            }
            work.extend_from_slice(b".work");
            c_string(&work)?
        }
    };
    Ok(Upper::Directory { upper: directory, work })
}

/// Writes must not change a layer. As far as names tell: links are for who makes them to watch.
fn check_apart(upper: &Upper, layers: &[CString]) -> Result<()> {
    let Upper::Directory { upper, work } = upper else { return Ok(()) };
    let path = |name: &CString| PathBuf::from(OsString::from_vec(clean(name.as_bytes())));
    for layer in layers.iter().map(path) {
        for dir in [path(upper), path(work)] {
            ensure!(
                !dir.starts_with(&layer) && !layer.starts_with(&dir),
                "{} and the layer {} are not apart",
                dir.display(),
                layer.display()
            );
        }
    }
    Ok(())
}

/// A size as tmpfs takes it: bytes, with k, m or g, or percent of the memory.
fn check_size(size: &str) -> Result<()> {
    let number = size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
    let right = size.len() - number.len() <= 1 && number.parse::<u64>().is_ok_and(|size| size > 0);
    ensure!(right, "tmpfs:{size}: the size is not a number, one with k, m or g, or a percentage");
    Ok(())
}
