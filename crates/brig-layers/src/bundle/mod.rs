//! From an image to a bundle: its layers in the store, a config.json that names them, an init layer.

pub mod convert;
pub mod init_layer;
pub mod patch;
pub mod user;

use crate::runtime::Runtime;
use crate::source::reference;
use crate::source::resolve::{self, Image};
use crate::store::{ImageRecord, Store, UseRecord, write_record};
use crate::tree;
use crate::tree::view::View;
use crate::unpack::Rights;
use crate::unpack::layers;
use crate::worker;
use anyhow::{Context, Result, bail};
use convert::Wanted;
use init_layer::NetworkFiles;
use nix::sys::stat::Mode;
use patch::Chain;
use std::path::{Path, PathBuf};
use sys::file::write_atomically;
use sys::idmap::UserNamespace;
use sys::{cred, random};

/// A bundle to be made.
pub struct Request<'a> {
    /// Who is going to run it.
    pub runtime: &'a Runtime,
    /// The image reference, as given.
    pub image: &'a str,
    /// Which of an image's platforms: `OS/ARCH[/VARIANT]`; none: this machine's.
    pub platform: Option<&'a str>,
    /// Where the bundle is made; the directory is there or not, but has no config.json.
    pub bundle: &'a Path,
    /// The config.json that the image's values are written into.
    pub template: &'a str,
    /// Instead of the image's user.
    pub user: Option<&'a str>,
    /// Instead of the image's Entrypoint and Cmd.
    pub entrypoint: Option<&'a [String]>,
    /// Instead of the image's Cmd.
    pub args: &'a [String],
    /// The process gets a terminal.
    pub terminal: bool,
    /// The host name; none: the template's.
    pub hostname: Option<&'a str>,
    /// What is changed at the end.
    pub change: &'a Change<'a>,
    /// Where the container's changes go, in the bundle: upper and work directory. None: it is said
    /// when the container is made.
    pub upper: Option<(&'a str, &'a str)>,
    /// The container that the bundle is for alone: its state root and id.
    pub container: Option<(&'a Path, &'a str)>,
}

/// Changes a config, which has the image's values, into the one that is asked for, with a look at the
/// image's files; the last argument takes warnings.
pub type Change<'a> =
    dyn Fn(&mut serde_json::Value, &View, &mut dyn FnMut(&str)) -> Result<NetworkFiles> + 'a;

/// Makes a bundle: right here, or in a user namespace if one is given.
pub fn make(
    store: &Path,
    request: &Request<'_>,
    user: Option<&UserNamespace>,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let Some(user) = user else {
        return make_here(store, request, warn);
    };
    let worker = worker::spawn(Some(user), |reporter| {
        let mut said = Ok(());
        make_here(store, request, &mut |text| {
            if let Err(error) = reporter.warn(text) {
                said = Err(error);
            }
        })?;
        said.map(|()| Vec::new())
    });
    worker?.wait(warn).map(drop)
}

fn make_here(store: &Path, request: &Request<'_>, warn: &mut dyn FnMut(&str)) -> Result<()> {
    let reference = reference::parse(request.image)?;
    let bundle = std::path::absolute(request.bundle)?;
    if bundle.join("config.json").exists() {
        bail!("{} is a bundle already: it contains config.json", bundle.display());
    }
    let store = Store::open(Some(store))?;
    // Nothing is removed that this bundle is about to name.
    let _lock = store.lock_shared()?;
    let image = resolve::resolve(&reference, request.platform)?;
    let own_ids = only_own_id();
    let rights = Rights::of_process(own_ids)?;
    let records = layers::ensure(&store, &image, rights, &mut *warn)
        .with_context(|| format!("image {}", request.image))?;
    let chain = patch::chain(&store, &image, &records, rights, own_ids, &mut *warn)
        .with_context(|| format!("image {}", request.image))?;
    record_image(&store, &image)?;
    let made = Made::begin(&bundle)?;
    match fill(&store, request, &bundle, &image, &chain, own_ids, warn) {
        Ok(()) => Ok(()),
        Err(error) => {
            made.undo();
            Err(error)
        }
    }
}

/// This process's user namespace has no other id than its own.
fn only_own_id() -> bool {
    if cred::in_first_user_namespace() {
        return !nix::unistd::geteuid().is_root();
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let size =
        |line: &str| line.split_whitespace().nth(2).and_then(|size| size.parse::<u64>().ok());
    map.lines().filter_map(size).sum::<u64>() <= 1
}

/// Puts an image on record.
pub fn record_image(store: &Store, image: &Image) -> Result<()> {
    let path = image.source.path();
    let name = match &image.name {
        Some(name) => format!("{}:{name}", path.display()),
        None => path.display().to_string(),
    };
    store.add_image(ImageRecord {
        id: image.id.clone(),
        manifest: image.manifest.clone(),
        names: vec![name],
        source: path.to_owned(),
        config: String::from_utf8_lossy(&image.config_text).into_owned(),
        layers: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        blobs: image.layers.iter().filter_map(|layer| layer.descriptor.clone()).collect(),
        created: image.config.created.clone(),
    })
}

/// What this brig has made of a bundle, to be taken back.
struct Made {
    bundle: PathBuf,
    directory: bool,
    /// What was there before, empty.
    before: Vec<&'static str>,
}

/// What a bundle has beside config.json.
const PARTS: [&str; 3] = ["init", "rootfs", "data"];

impl Made {
    fn begin(bundle: &Path) -> Result<Made> {
        let directory = match nix::unistd::mkdir(bundle, Mode::from_bits_truncate(0o711)) {
            Ok(()) => true,
            Err(nix::errno::Errno::EEXIST) => false,
            Err(errno) => return Err(errno).with_context(|| format!("mkdir {}", bundle.display())),
        };
        let mut before = Vec::new();
        for name in PARTS {
            let path = bundle.join(name);
            match std::fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Ok(true) => before.push(name),
                _ => bail!("{} already exists: a bundle needs a new directory", path.display()),
            }
        }
        Ok(Made { bundle: bundle.to_owned(), directory, before })
    }

    fn undo(self) {
        // The error that matters is the one before.
        for name in PARTS.into_iter().filter(|name| !self.before.contains(name)) {
            let _ = tree::remove_path(&self.bundle.join(name));
        }
        let _ = std::fs::remove_file(self.bundle.join("config.json"));
        if self.directory {
            let _ = std::fs::remove_dir(&self.bundle);
        }
    }
}

fn fill(
    store: &Store,
    request: &Request<'_>,
    bundle: &Path,
    image: &Image,
    chain: &Chain,
    own_ids: bool,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut user = match request.user {
        Some(text) => user::find(text, &chain.view).with_context(|| format!("--user {text}")),
        None => user::find(&image.config.config.user, &chain.view),
    }?;
    if own_ids {
        // The kernel lets nobody set groups there, and the process keeps its own in any case.
        user.groups.retain(|&group| group != user.gid);
    }
    let mut layers = chain.paths.iter().map(|path| utf8(path)).collect::<Result<Vec<_>>>()?;
    layers.push("init".to_owned());
    let id_mapped = nix::unistd::geteuid().is_root() && cred::in_first_user_namespace();
    let names = &request.runtime.annotations;
    let mut annotations = convert::overlay_annotations(names, &layers, request.upper, id_mapped);
    annotations.insert(names.image.to_owned(), image.id.to_string());
    let wanted = Wanted {
        entrypoint: request.entrypoint.map(<[String]>::to_vec),
        args: request.args.to_vec(),
        terminal: request.terminal,
        hostname: request.hostname.map(str::to_owned),
        annotations,
    };
    let mut config = convert::config(request.template, &image.config, &user, &wanted, &mut *warn)?;
    convert::modes_of_new_volumes(&mut config, &image.config, &chain.view)?;
    let beside = (request.change)(&mut config, &chain.view, warn)?;
    let hostname = config["hostname"].as_str().unwrap_or("localhost").to_owned();
    make_directories(request, bundle)?;
    init_layer::make(&bundle.join("init"), &chain.view, &hostname, &beside, own_ids)?;
    // On record before it can be run.
    let container = request.container.map(|(root, id)| (root.to_owned(), id.to_owned()));
    let record = UseRecord {
        bundle: bundle.to_owned(),
        image: image.id.clone(),
        layers: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        container,
    };
    let path = match record.container {
        Some(_) => bundle.join("use.json"),
        None => store.bundle_path(bundle),
    };
    write_record(&path, &record)?;
    write_atomically(&bundle.join("config.json"), &shown(config)?)
}

/// The config for people to read; the filter, hundreds of names, is one line.
fn shown(mut config: serde_json::Value) -> Result<Vec<u8>> {
    // Random, so that no text of an image is this one.
    let place = random::random_name();
    let filter = config["linux"]["seccomp"].take();
    if filter.is_null() {
        config["linux"].as_object_mut().map(|linux| linux.remove("seccomp"));
    } else {
        config["linux"]["seccomp"] = place.clone().into();
    }
    let place = format!("\"{place}\"");
    let text = serde_json::to_string_pretty(&config)? + "\n";
    Ok(text.replacen(&place, &serde_json::to_string(&filter)?, 1).into_bytes())
}

fn make_directories(request: &Request<'_>, bundle: &Path) -> Result<()> {
    let make = |name: &str, mode: u32| -> Result<()> {
        match nix::unistd::mkdir(&bundle.join(name), Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno).with_context(|| bundle.join(name).display().to_string()),
        }
    };
    make("rootfs", 0o755)?;
    if request.upper.is_some() {
        // What containers write is for nobody on the host.
        make("data", 0o700)?;
    }
    match std::fs::remove_dir(bundle.join("init")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| {
        format!("store {}: the path is not UTF-8, and config.json must be", path.display())
    })
}
