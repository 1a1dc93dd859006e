//! Creates a bundle from an image: its layers in the store, a config.json that names them, and an init layer.

pub mod convert;
pub mod init_layer;
pub(crate) mod parents;
pub mod patch;
pub mod user;

use crate::runtime::Runtime;
use crate::source::reference;
use crate::source::resolve::{self, Image};
use crate::store::containers::BUNDLE;
use crate::store::{ImageRecord, Store, UseRecord, write_record};
use crate::tree;
use crate::tree::view::View;
use crate::unpack::Rights;
use crate::unpack::layers;
use crate::worker;
use anyhow::{Context, Result, bail, ensure};
use convert::Wanted;
use init_layer::NetworkFiles;
use nix::fcntl::open;
use nix::sys::stat::Mode;
use patch::Chain;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::file::write_atomically;
use sys::idmap::UserNamespace;
use sys::path::DIRECTORY;
use sys::{cred, fd, random};

/// A bundle to create.
pub struct Request<'a> {
    /// The runtime that will run it.
    pub runtime: &'a Runtime,
    /// The image as given on the command line.
    pub image: &'a str,
    /// The image's platform to choose: `OS/ARCH[/VARIANT]`; None: this machine's.
    pub platform: Option<&'a str>,
    /// The bundle's directory; it may exist, but without a config.json.
    pub bundle: &'a Path,
    /// The config.json to fill in with the image's values.
    pub template: &'a str,
    /// Replaces the image's user.
    pub user: Option<&'a str>,
    /// Replaces the image's Entrypoint and Cmd.
    pub entrypoint: Option<&'a [String]>,
    /// Replaces the image's Cmd.
    pub args: &'a [String],
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The host name; None: the template's.
    pub hostname: Option<&'a str>,
    /// The last change of the config.
    pub change: &'a Change<'a>,
    /// The upper and work directory in the bundle. None: chosen when the container is created.
    pub upper: Option<(&'a str, &'a str)>,
    /// The state root and id of the only container to use the bundle.
    pub container: Option<(&'a Path, &'a str)>,
}

/// Changes a config that contains the image's values as the caller requests, with access to the image's
/// files; the last argument receives warnings.
pub type Change<'a> =
    dyn Fn(&mut serde_json::Value, &View, &mut dyn FnMut(&str)) -> Result<NetworkFiles> + 'a;

/// Creates a bundle: in this process, or in a user namespace if one is given.
///
/// # Errors
///
/// If the image cannot be resolved, unpacked or configured; everything created until then has been removed
/// again.
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
    check_is_none_yet(&bundle)?;
    let store = Store::open(Some(store))?;
    // Prevents the removal of layers that this bundle is about to use.
    let _lock = store.lock_shared()?;
    let image = resolve::resolve(&reference, request.platform, &request.runtime.documents)?;
    let own_ids = only_own_id();
    let rights = Rights::of_process(own_ids)?;
    let records = layers::ensure(&store, &image, rights, &mut *warn)
        .with_context(|| format!("image {}", request.image))?;
    let chain = patch::chain(&store, &image, &records, rights, own_ids, &mut *warn)
        .with_context(|| format!("image {}", request.image))?;
    record_image(&store, &image)?;
    let made = Made::begin(&bundle, request.container.is_some())?;
    match fill(&store, request, &bundle, &image, &chain, own_ids, warn) {
        Ok(()) => Ok(()),
        Err(error) => {
            made.undo();
            Err(error)
        }
    }
}

fn check_is_none_yet(bundle: &Path) -> Result<()> {
    let exists = bundle.join("config.json").exists();
    ensure!(!exists, "{} is a bundle already: it contains config.json", bundle.display());
    Ok(())
}

/// Whether this process's user namespace maps only its own id.
fn only_own_id() -> bool {
    if cred::in_first_user_namespace() {
        return !nix::unistd::geteuid().is_root();
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let size =
        |line: &str| line.split_whitespace().nth(2).and_then(|size| size.parse::<u64>().ok());
    map.lines().filter_map(size).sum::<u64>() <= 1
}

/// Records an image.
///
/// # Errors
///
/// If the record cannot be written.
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

/// What this brig has created of a bundle, to be undone.
struct Made {
    bundle: PathBuf,
    directory: bool,
    /// Directories that existed before, empty.
    before: Vec<&'static str>,
    /// While it is held, no other brig creates a bundle here, which would be undone as well.
    _lock: Option<OwnedFd>,
}

/// The parts of a bundle in addition to config.json.
const PARTS: [&str; 3] = ["init", "rootfs", "data"];

impl Made {
    /// `reserved`: this brig has created and locked the directory, see [`crate::store::containers`].
    fn begin(bundle: &Path, reserved: bool) -> Result<Made> {
        let directory = match nix::unistd::mkdir(bundle, Mode::from_bits_truncate(0o711)) {
            Ok(()) => true,
            Err(nix::errno::Errno::EEXIST) => false,
            Err(errno) => return Err(errno).with_context(|| format!("mkdir {}", bundle.display())),
        };
        let lock = if reserved { None } else { Some(lock(bundle)?) };
        check_is_none_yet(bundle)?;
        let mut before = Vec::new();
        for name in PARTS {
            let path = bundle.join(name);
            match std::fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(true) => before.push(name),
                _ => bail!("{} already exists: a bundle needs a new directory", path.display()),
            }
        }
        Ok(Made { bundle: bundle.to_owned(), directory, before, _lock: lock })
    }

    fn undo(self) {
        // The earlier error is the one to report.
        for name in PARTS.into_iter().filter(|name| !self.before.contains(name)) {
            let _ = tree::remove_path(&self.bundle.join(name));
        }
        let _ = std::fs::remove_file(self.bundle.join("config.json"));
        if self.directory {
            let _ = std::fs::remove_dir(&self.bundle);
        }
    }
}

/// Locks a directory in which no other brig creates a bundle.
fn lock(bundle: &Path) -> Result<OwnedFd> {
    let fd = open(bundle, DIRECTORY, Mode::empty())
        .with_context(|| format!("open {}", bundle.display()))?;
    // Another brig that has failed removes the directory.
    let free = fd::try_flock(fd.as_fd(), true)? && nix::sys::stat::fstat(&fd)?.st_nlink > 0;
    ensure!(free, "{}: another brig is creating a bundle there", bundle.display());
    Ok(fd)
}

/// setgroups is not permitted if only one id is mapped, and the process keeps its own groups anyway.
fn leave_groups_out(user: &mut user::User, warn: &mut dyn FnMut(&str)) {
    let groups: Vec<String> =
        user.groups.drain(..).filter(|gid| *gid != user.gid).map(|gid| gid.to_string()).collect();
    if !groups.is_empty() {
        let groups = groups.join(", ");
        warn(&format!(
            "the user's groups {groups} are left out, because you have no subordinate ids (see /etc/subuid)"
        ));
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
        leave_groups_out(&mut user, warn);
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
    // Recorded before it can be run.
    record_use(store, request, bundle, image)?;
    write_atomically(&bundle.join("config.json"), &shown(config)?)
}

fn record_use(store: &Store, request: &Request<'_>, bundle: &Path, image: &Image) -> Result<()> {
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
    if record.container.is_none() {
        // A power cut can leave an empty record, but no half a link.
        let link = path.with_extension(BUNDLE);
        std::os::unix::fs::symlink(bundle, &link)
            .or_else(
                |error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) },
            )
            .with_context(|| link.display().to_string())?;
    }
    write_record(&path, &record)
}

/// The config formatted for people; the seccomp filter, with hundreds of names, is on one line.
fn shown(mut config: serde_json::Value) -> Result<Vec<u8>> {
    // Random, so that it does not occur in the image.
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
        // Files of containers must not be accessible to users of the host.
        make("data", 0o700)?;
    }
    match std::fs::remove_dir(bundle.join("init")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| {
        format!("store {}: the path is not UTF-8, and config.json must be", path.display())
    })
}
