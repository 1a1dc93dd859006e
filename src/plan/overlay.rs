//! A root filesystem made of layers: the layers, and the place of the container's changes.

use super::mounts::{c_string, clean};
use super::resources::Optional;
use super::rootfs::RootOptions;
use super::{Host, landlock};
use crate::spec::{Place, Spec};
use crate::suggest;
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A root filesystem made of layers.
#[derive(Debug)]
pub struct Overlay {
    /// Directories, lowest first, absolute.
    pub layers: Vec<CString>,
    /// Where changes are written.
    pub upper: Upper,
    /// overlayfs stores its attributes as `user.overlay.*`: only root of the host may set `trusted.*`.
    pub user_attributes: bool,
    /// Layers, and an upper directory, contain container ids: they are id-mapped with the container's user
    /// namespace.
    pub id_mapped: bool,
    /// Where the layers were configured.
    pub layers_from: Origin,
    /// Where the upper was configured.
    pub upper_from: Origin,
}

/// The directories of a container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Directories, lowest first.
    pub lower: Vec<PathBuf>,
    /// The directory of its changes; None: in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<PathBuf>,
}

impl Overlay {
    /// The host's directories of all of it: for `diff` and `commit`.
    pub fn paths(&self) -> Layers {
        let path = |path: &CString| PathBuf::from(OsString::from_vec(path.to_bytes().to_vec()));
        let upper = match &self.upper {
            Upper::Tmpfs { .. } => None,
            Upper::Directory { upper, .. } => Some(path(upper)),
        };
        Layers { lower: self.layers.iter().map(path).collect(), upper }
    }
}

/// The place of the container's changes.
#[derive(Debug)]
pub enum Upper {
    /// In memory, until the container ends; `size` is the limit, in the format of tmpfs(5).
    Tmpfs {
        /// None: the default of tmpfs, half of the memory.
        size: Option<CString>,
    },
    /// In a directory that is kept.
    Directory {
        /// The directory.
        upper: CString,
        /// overlayfs's scratch directory on the same filesystem.
        work: CString,
    },
}

/// The origin of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An annotation.
    Annotation(&'static str),
    /// A flag of create or run.
    Flag(&'static str),
}

impl Origin {
    /// Adds the origin to an error.
    pub fn with_origin<T>(self, result: Result<T>) -> Result<T> {
        match self {
            Origin::Annotation(name) => result.at(format!("annotations[{name:?}]")),
            Origin::Flag(name) => result.context(name),
        }
    }
}

/// The prefix of brig's own annotations.
const PREFIX: &str = "run.brig.";
/// Directories separated by `:` (`\:` is a colon of a name), lowest first.
pub const LAYERS: &str = "run.brig.overlay.layers";
/// A directory, `tmpfs` or `tmpfs:SIZE`.
pub const UPPER: &str = "run.brig.overlay.upper";
/// overlayfs's scratch directory of an upper directory; by default the upper's name with `.work`.
pub const WORK: &str = "run.brig.overlay.work";

/// `container`: the ids in layers and upper are those of the container, whatever its user namespace.
pub const IDMAP: &str = "run.brig.overlay.idmap";
/// The image of the layers, by the digest of its config: for `commit`.
pub const IMAGE: &str = "run.brig.image";

/// Every annotation that changes brig's behaviour: for `features`.
pub const ANNOTATIONS: [&str; 7] =
    [LAYERS, UPPER, WORK, IDMAP, IMAGE, Optional::ANNOTATION, landlock::ANNOTATION];

/// overlayfs's `OVL_MAX_STACK`.
const MAX_LAYERS: usize = 500;

/// Reads the annotations and the flags, which override them. `user`: the container creates or joins a user
/// namespace.
pub fn plan(
    spec: &Spec,
    bundle: &Path,
    options: &RootOptions,
    user: bool,
    host: &Host,
) -> Result<Option<Overlay>> {
    let annotations = &spec.annotations;
    for name in annotations.keys().filter(|name| name.starts_with(PREFIX)) {
        if !ANNOTATIONS.contains(&name.as_str()) {
            let hint = suggest::hint(name, ANNOTATIONS);
            let unknown = anyhow!("unknown: valid are {}{hint}", ANNOTATIONS.join(", "));
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
        let pointless = || anyhow!("has no effect without layers ({LAYERS} or --layer)");
        return match (upper, work) {
            _ if annotations.contains_key(LAYERS) => {
                layers_from.with_origin(Err(anyhow!("is empty")))
            }
            (Some(_), _) => upper_from.with_origin(Err(pointless())),
            (None, Some(_)) => Origin::Annotation(WORK).with_origin(Err(pointless())),
            (None, None) => Ok(None),
        };
    }
    let layers = layers_from.with_origin(absolute(&layers, bundle, layers_from))?;
    let upper = plan_upper(upper.map_or("tmpfs", String::as_str), work, bundle, upper_from)?;
    upper_from.with_origin(check_apart(&upper, &layers))?;
    let id_mapped = match annotations.get(IDMAP).map(String::as_str) {
        None => false,
        Some("container") => user,
        Some(_) => Origin::Annotation(IDMAP).with_origin(Err(anyhow!("is not \"container\"")))?,
    };
    let user_attributes = user || !host.in_first_user_namespace();
    Ok(Some(Overlay { layers, upper, user_attributes, id_mapped, layers_from, upper_from }))
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
    ensure!(
        layers.len() <= MAX_LAYERS,
        "{} layers: overlayfs supports at most {MAX_LAYERS}",
        layers.len()
    );
    let one = |layer: &PathBuf| -> Result<CString> {
        ensure!(!layer.as_os_str().is_empty(), "has an empty layer");
        host_path(layer, bundle, from)
    };
    layers.iter().map(one).collect()
}

/// Paths of the config are relative to the bundle, those of the command line to the current directory.
fn host_path(path: &Path, bundle: &Path, from: Origin) -> Result<CString> {
    ensure!(!path.as_os_str().is_empty(), "is empty");
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
            let pointless = anyhow!("has no effect with an upper in memory");
            Origin::Annotation(WORK).with_origin(Err(pointless))?;
        }
        let size = size.map(|size| check_size(size).and_then(|()| c_string(size.as_bytes())));
        return Ok(Upper::Tmpfs { size: from.with_origin(size.transpose())? });
    }
    let directory = from.with_origin(host_path(Path::new(upper), bundle, from))?;
    let work = match work {
        Some(work) => {
            let from = Origin::Annotation(WORK);
            from.with_origin(host_path(Path::new(work), bundle, from))?
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

/// Writes must not change a layer. Only names are compared: users must not create links between them.
fn check_apart(upper: &Upper, layers: &[CString]) -> Result<()> {
    let Upper::Directory { upper, work } = upper else { return Ok(()) };
    let path = |name: &CString| PathBuf::from(OsString::from_vec(clean(name.as_bytes())));
    for layer in layers.iter().map(path) {
        for dir in [path(upper), path(work)] {
            ensure!(
                !dir.starts_with(&layer) && !layer.starts_with(&dir),
                "{} and the layer {} contain each other",
                dir.display(),
                layer.display()
            );
        }
    }
    Ok(())
}

/// A size as tmpfs accepts it: bytes, with k, m or g, or a percentage of the memory.
fn check_size(size: &str) -> Result<()> {
    let number = size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
    let right = size.len() - number.len() <= 1 && number.parse::<u64>().is_ok_and(|size| size > 0);
    ensure!(
        right,
        "tmpfs:{size}: the size is not a number with an optional k, m or g, or a percentage"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;

    fn overlay(annotations: &str, options: &RootOptions) -> Result<Option<Overlay>> {
        let spec = format!(r#"{{"ociVersion":"1.3.0","annotations":{annotations}}}"#);
        plan(
            &serde_json::from_str(&spec).unwrap(),
            Path::new("/bundle"),
            options,
            false,
            &Host::from(Facts::ROOT),
        )
    }

    fn error(annotations: &str) -> String {
        format!("{:#}", overlay(annotations, &RootOptions::default()).unwrap_err())
    }

    #[test]
    fn layers_are_of_the_bundle_and_the_upper_is_in_memory_unless_said() {
        let annotations = r#"{"run.brig.overlay.layers":"a:/b\\:c:d\\\\","x":"y"}"#;
        let overlay = overlay(annotations, &RootOptions::default()).unwrap().unwrap();
        let layers: Vec<&str> = overlay.layers.iter().map(|l| l.to_str().unwrap()).collect();
        assert_eq!(layers, ["/bundle/a", "/b:c", "/bundle/d\\"]);
        assert!(matches!(overlay.upper, Upper::Tmpfs { size: None }));
    }

    #[test]
    fn flags_go_before_annotations() {
        let annotations = r#"{"run.brig.overlay.layers":"a","run.brig.overlay.upper":"tmpfs:1m"}"#;
        let options = RootOptions { layers: vec!["/x".into()], ..RootOptions::default() };
        let layered = overlay(annotations, &options).unwrap().unwrap();
        assert_eq!(layered.layers, [c"/x".to_owned()]);
        assert_eq!(layered.layers_from, Origin::Flag("--layer"));
        let Upper::Tmpfs { size } = layered.upper else { panic!() };
        assert_eq!(size.unwrap().as_c_str(), c"1m");
        let options = RootOptions { upper: Some("/up/".into()), ..RootOptions::default() };
        let Upper::Directory { upper, work } =
            overlay(annotations, &options).unwrap().unwrap().upper
        else {
            panic!()
        };
        assert_eq!((upper.as_c_str(), work.as_c_str()), (c"/up/", c"/up.work"));
    }

    #[test]
    fn without_layers_there_is_no_overlay() {
        assert!(overlay("{}", &RootOptions::default()).unwrap().is_none());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let layers = |rest: &str| format!(r#"{{"run.brig.overlay.layers":"a"{rest}}}"#);
        let upper = |value: &str| layers(&format!(r#","run.brig.overlay.upper":{value:?}"#));
        let place =
            |name: &str, text: &str| format!("annotations[\"run.brig.overlay.{name}\"]: {text}");
        let pointless = "has no effect without layers (run.brig.overlay.layers or --layer)";
        for (annotations, text) in [
            (r#"{"run.brig.overlay.layers":""}"#.into(), place("layers", "is empty")),
            (r#"{"run.brig.overlay.layers":"a::b"}"#.into(), place("layers", "has an empty layer")),
            (r#"{"run.brig.overlay.upper":"tmpfs"}"#.into(), place("upper", pointless)),
            (r#"{"run.brig.overlay.work":"w"}"#.into(), place("work", pointless)),
            (upper(""), place("upper", "is empty")),
            (
                upper("a/up"),
                place("upper", "/bundle/a/up and the layer /bundle/a contain each other"),
            ),
            (upper("."), place("upper", "/bundle and the layer /bundle/a contain each other")),
            (
                layers(r#","run.brig.overlay.work":"w""#),
                place("work", "has no effect with an upper in memory"),
            ),
        ] {
            assert_eq!(error(&annotations), text);
        }
        for size in ["", "0", "1q", "-1", "k", "1mm", "1.5g"] {
            let text = error(&upper(&format!("tmpfs:{size}")));
            assert!(text.contains(&format!("tmpfs:{size}: the size is not a number")), "{text}");
        }
        let unknown = error(r#"{"run.brig.overlay.layer":"a"}"#);
        assert!(
            unknown.starts_with(r#"annotations["run.brig.overlay.layer"]: unknown: "#),
            "{unknown}"
        );
        let many = error(&format!(r#"{{"run.brig.overlay.layers":"{}a"}}"#, "a:".repeat(500)));
        assert!(many.ends_with("501 layers: overlayfs supports at most 500"), "{many}");
    }
}
