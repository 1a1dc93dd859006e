//! rmi, tag, images --inspect: one image of the store, given by a name it was found by, or by its id.

use super::store::with_store;
use crate::image::RUNTIME;
use crate::log;
use anyhow::{Context, Result, bail, ensure};
use brig_layers::bundle::record_image;
use brig_layers::commit::guard::Guard;
use brig_layers::commit::layout::{self, Layout};
use brig_layers::source::digest::{Digest, Prefix};
use brig_layers::source::reference;
use brig_layers::source::resolve;
use brig_layers::store::usage::{self, Contents};
use brig_layers::store::{ImageRecord, Store, write_record};
use serde_json::{Value, json};
use std::path::Path;

/// Every way to write a name under which an image can be recorded: with a prefix as for `--image`, relative,
/// without the tag "latest".
fn spellings(text: &str) -> Vec<String> {
    let prefixes = ["oci:", "oci-archive:", "docker-archive:"];
    let bare = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let absolute = std::path::absolute(bare).unwrap_or_default().display().to_string();
    let latest = format!("{absolute}:latest");
    vec![text.to_owned(), absolute, latest]
}

/// Finds an image by name, by id or digest, or by a prefix of one.
fn find<'a>(contents: &'a Contents, text: &str) -> Result<&'a ImageRecord> {
    let images = || contents.images.iter();
    let spellings = spellings(text);
    let named = |image: &&ImageRecord| image.names.iter().any(|name| spellings.contains(name));
    if let Some(image) = images().find(named) {
        return Ok(image);
    }
    // In PATH@DIGEST, the digest is unique.
    let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
    let found = match Prefix::parse(digest) {
        Ok(digest) => match digest.only(images(), |image| &image.id)? {
            None => {
                let manifests =
                    images().filter_map(|image| Some((image.manifest.as_ref()?, image)));
                digest.only(manifests, |(manifest, _)| manifest)?.map(|(_, image)| image)
            }
            found => found,
        },
        Err(_) => None,
    };
    found.with_context(|| format!("{text}: no such image in the store: see `brig images`"))
}

/// Removes names of images, an image with its last name, and then everything unused. The image layout or
/// archive on disk is not changed.
pub fn remove(store: Option<&Path>, images: &[String]) -> Result<()> {
    with_store(store, |store| {
        let (mut said, mut failed) = (String::new(), Vec::new());
        {
            let _lock = store.lock_exclusive()?;
            for text in images {
                match remove_one(store, text) {
                    Ok(line) => said.push_str(&line),
                    Err(error) => failed.push(sys::describe(&error)),
                }
            }
        }
        usage::collect(store, false, &RUNTIME)?;
        log::out(said.as_bytes())?;
        ensure!(failed.is_empty(), "{}", failed.join("; "));
        Ok(())
    })
    .context("rmi")
}

fn remove_one(store: &Store, text: &str) -> Result<String> {
    let contents = Contents::read(store, false, &RUNTIME)?;
    let mut image = find(&contents, text)?.clone();
    let before = image.names.len();
    let spellings = spellings(text);
    image.names.retain(|name| !spellings.contains(name));
    if image.names.len() < before && !image.names.is_empty() {
        write_record(&store.image_path(&image.id), &image)?;
        return Ok(format!("untagged {}\n", log::one_line(text)));
    }
    let user = contents.uses.iter().find(|used| used.image == image.id);
    if let Some(used) = user {
        match &used.container {
            Some((_, id)) => bail!("{text}: container {id} uses it: `brig delete {id}` first"),
            None => bail!("{text}: the bundle {} uses it", used.bundle.display()),
        }
    }
    let path = store.image_path(&image.id);
    std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
    Ok(format!("removed {}\n", image.id))
}

/// Adds a tag to an image in its layout.
pub fn tag(store: Option<&Path>, image: &str, new: &str) -> Result<()> {
    let go = |store: &Store| -> Result<()> {
        let found = resolve::resolve(&reference::parse(image)?, None, &RUNTIME.documents)?;
        let here = found.source.path().to_owned();
        let (path, name) = match new.contains(['/', ':']) {
            true => layout::parse(new)?,
            false => {
                layout::check_tag(new)?;
                (here.clone(), new.to_owned())
            }
        };
        ensure!(
            here.is_dir(),
            "{}: is an archive: tags can be added to an OCI image layout only",
            here.display()
        );
        ensure!(
            path.canonicalize().ok() == here.canonicalize().ok(),
            "{new}: a tag must be in the layout of the image, {}: use `skopeo copy` to copy it to another one",
            here.display()
        );
        let manifest = found.manifest.clone().context("the image has no manifest")?;
        let text = found.source.blob(&manifest)?.all(1 << 22)?;
        let media_type: Value = serde_json::from_slice(&text)?;
        let media_type = media_type["mediaType"].as_str();
        let media_type = media_type.unwrap_or("application/vnd.oci.image.manifest.v1+json");
        let descriptor = Layout::descriptor(media_type, manifest, text.len() as u64);
        Layout::open(&here, Guard::spawn(|| Ok(()))?)?.name(&name, &descriptor)?;
        if store.image_record(&found.id)?.is_some() {
            let named = format!("{}:{name}", here.display());
            let named = resolve::resolve(&reference::parse(&named)?, None, &RUNTIME.documents)?;
            record_image(store, &named)?;
        }
        Ok(())
    };
    with_store(store, |store| {
        let _lock = store.lock_shared()?;
        go(store)
    })
    .with_context(|| format!("tag {image}"))
}

/// Prints everything known about an image: its config, its layers and their sizes, its history.
pub fn inspect(store: Option<&Path>, text: &str) -> Result<()> {
    with_store(store, |store| {
        let contents = Contents::read(store, false, &RUNTIME)?;
        let image = find(&contents, text)?;
        let config: Value =
            serde_json::from_str(&image.config).context("parse the image's config")?;
        let bytes = |id: &Digest| {
            contents.layers.iter().find(|layer| layer.diff_id == *id).map(|layer| layer.bytes)
        };
        let layers: Vec<Value> = image
            .layers
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let blob = image.blobs.get(index);
                json!({
                    "id": id, "bytes": bytes(id),
                    "blob": blob.map(|blob| &blob.digest), "compressed": blob.map(|blob| blob.size),
                })
            })
            .collect();
        let all = json!({
            "id": image.id, "manifest": image.manifest, "names": image.names,
            "source": image.source, "created": image.created,
            "architecture": config["architecture"], "os": config["os"],
            "config": config["config"], "layers": layers,
            "bytes": image.layers.iter().filter_map(bytes).sum::<u64>(),
            "history": history(&config, &image.layers, &bytes),
        });
        log::out((serde_json::to_string_pretty(&all)? + "\n").as_bytes())
    })
}

/// Newest first, like `docker history`: each step, and the size of its layer.
fn history(
    config: &Value,
    layers: &[Digest],
    bytes: &impl Fn(&Digest) -> Option<u64>,
) -> Vec<Value> {
    let mut layers = layers.iter();
    let steps = config["history"].as_array().into_iter().flatten();
    let mut shown: Vec<Value> = steps
        .map(|step| {
            let layer = if step["empty_layer"] == true { None } else { layers.next() };
            json!({
                "created": step["created"], "createdBy": step["created_by"],
                "comment": step["comment"], "layer": layer,
                "bytes": layer.map_or(Some(0), bytes),
            })
        })
        .collect();
    shown.reverse();
    shown
}
