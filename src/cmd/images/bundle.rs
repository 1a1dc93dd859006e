//! bundle: creates a bundle from an image.

use crate::cmd::spec::template;
use crate::image::flags::Flags;
use crate::image::request::{Request, make};
use crate::log::Log;
use anyhow::{Context, Result};
use brig_layers::store::default_path;
use std::path::{Path, PathBuf};

/// The options of bundle.
#[derive(Debug)]
pub struct BundleOptions {
    /// The image as given on the command line.
    pub image: String,
    /// The directory to create.
    pub bundle: PathBuf,
    /// The platform to choose.
    pub platform: Option<String>,
    /// Replaces the image's Cmd.
    pub args: Vec<String>,
    /// Flags that override the image's configuration.
    pub flags: Flags,
}

/// Creates the bundle.
pub fn bundle(store: Option<&Path>, options: &BundleOptions, log: &mut Log) -> Result<()> {
    let store = store.map_or_else(default_path, |path| Ok(path.to_owned()))?;
    let request = Request {
        image: &options.image,
        platform: options.platform.as_deref(),
        bundle: &options.bundle,
        template: &template(!nix::unistd::geteuid().is_root())?,
        args: &options.args,
        flags: &options.flags,
        word: None,
        terminal: false,
        hostname: None,
        upper: Some(("data/upper", "data/work")),
        container: None,
    };
    make(&store, &request, &mut |text| log.warn(text))
        .with_context(|| format!("bundle {}", options.bundle.display()))
}
