//! bundle: from an image to a bundle.

use crate::cmd::spec::template;
use crate::image::flags::Flags;
use crate::image::request::{Request, make};
use crate::log::Log;
use anyhow::{Context, Result};
use brig_layers::store::default_path;
use std::path::{Path, PathBuf};

/// What bundle is told on the command line.
#[derive(Debug)]
pub struct BundleOptions {
    /// As a person names it.
    pub image: String,
    /// Where the bundle is made.
    pub bundle: PathBuf,
    /// Which of the image's platforms.
    pub platform: Option<String>,
    /// Instead of the image's Cmd.
    pub args: Vec<String>,
    /// What the command line changes.
    pub flags: Flags,
}

/// Makes it.
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
