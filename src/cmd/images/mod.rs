//! What brig does with images: the commands about them and about layers, and `--image` of create and run.

pub mod bundle;
pub mod commit;
mod diff;
mod image;
mod quantity;
pub mod store;

use super::apart;
use super::command::ListFormat;
use super::spec::template;
use crate::cmd::create;
use crate::image::container;
use crate::launch::create::{Created, Options};
use crate::launch::own_bundle;
use crate::log::Log;
use anyhow::Result;
use std::path::{Path, PathBuf};
use store::Listing;

pub use crate::image::container::FromImage;

/// A command about images or layers.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum ImageCommand {
    Bundle(bundle::BundleOptions),
    Diff { id: String, format: ListFormat },
    Commit(commit::CommitOptions),
    Export { id: String, output: Option<PathBuf> },
    Images(Listing),
    Inspect { image: String },
    Rmi { images: Vec<String> },
    Tag { image: String, name: String },
    Layers(Listing),
    Gc { all: bool, dry_run: bool },
}

impl ImageCommand {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            ImageCommand::Bundle(_) => "bundle",
            ImageCommand::Diff { .. } => "diff",
            ImageCommand::Commit(_) => "commit",
            ImageCommand::Export { .. } => "export",
            ImageCommand::Images(_) | ImageCommand::Inspect { .. } => "images",
            ImageCommand::Rmi { .. } => "rmi",
            ImageCommand::Tag { .. } => "tag",
            ImageCommand::Layers(_) => "layers",
            ImageCommand::Gc { .. } => "gc",
        }
    }

    /// The id of the container, if it concerns exactly one.
    pub fn container(&self) -> Option<&str> {
        match self {
            ImageCommand::Commit(options) => Some(&options.id),
            ImageCommand::Diff { id, .. } | ImageCommand::Export { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// Runs a command.
pub fn run(root: &Path, store: Option<&Path>, command: &ImageCommand, log: &mut Log) -> Result<()> {
    match command {
        ImageCommand::Bundle(options) => apart(|| bundle::bundle(store, options, log)),
        ImageCommand::Diff { id, format } => apart(|| diff::diff(root, id, *format)),
        ImageCommand::Commit(options) => apart(|| commit::commit(root, store, options, log)),
        ImageCommand::Export { id, output } => {
            apart(|| commit::export(root, id, output.as_ref(), log))
        }
        ImageCommand::Images(listing) => apart(|| store::images(store, *listing)),
        ImageCommand::Inspect { image } => apart(|| image::inspect(store, image)),
        ImageCommand::Rmi { images } => apart(|| image::remove(store, images)),
        ImageCommand::Tag { image, name } => apart(|| image::tag(store, image, name)),
        ImageCommand::Layers(listing) => apart(|| store::layers(store, *listing)),
        ImageCommand::Gc { all, dry_run } => apart(|| store::gc(store, *all, *dry_run)),
    }
}

/// Creates a container from an image.
pub fn create(from: &FromImage, options: &Options, log: &mut Log) -> Result<Created> {
    let template = template(!nix::unistd::geteuid().is_root())?;
    let own = container::prepare(from, options, &template, &mut |text| log.warn(text))?;
    let options = Options { bundle: own.bundle.clone(), own_bundle: true, ..options.clone() };
    let created = create::of_bundle(&options, log);
    created.map_err(|error| {
        // The first error is the one to report.
        let _ = own_bundle::remove(&own.bundle);
        from.with_suggestion(error, &options.id)
    })
}

/// Whether the container's id was generated or given by `--name`: engines expect it to be printed then.
pub fn prints_id(from: &FromImage) -> bool {
    !from.id_is_word
}
