//! images, layers, gc: lists the contents of the layer store, and removes what is unused.

use super::quantity;
use crate::cmd::command::ListFormat;
use crate::cmd::table;
use crate::image::RUNTIME;
use crate::launch::own_bundle::user_namespace;
use crate::log;
use anyhow::{Context, Result};
use brig_layers::source::digest::Digest;
use brig_layers::store::usage::{self, Contents};
use brig_layers::store::{Store, default_path};
use brig_layers::worker;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// The output options of `images` and `layers`.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// As a table or as JSON.
    pub format: ListFormat,
    /// Print ids only.
    pub quiet: bool,
    /// Do not shorten digests in the table.
    pub no_trunc: bool,
}

/// Lists the images, the newest first.
pub fn images(store: Option<&Path>, listing: Listing) -> Result<()> {
    with_store(store, |store| {
        let contents = Contents::read(store, false, &RUNTIME)?;
        let bytes = |image: &brig_layers::store::ImageRecord| -> u64 {
            let own = contents.layers.iter().filter(|layer| image.layers.contains(&layer.diff_id));
            own.map(|layer| layer.bytes).sum()
        };
        let users = |id: &Digest| contents.uses.iter().filter(|used| used.image == *id).count();
        let rows = contents.images.iter().flat_map(|image| {
            let row = json!({
                "name": null, "id": image.id, "layers": image.layers.len(),
                "bytes": bytes(image), "users": users(&image.id), "created": image.created,
            });
            // Like docker and podman: one line for each name.
            let named = |name: &String| {
                let mut row = row.clone();
                row["name"] = name.clone().into();
                row
            };
            match image.names.is_empty() {
                true => vec![row],
                false => image.names.iter().map(named).collect(),
            }
        });
        print(listing, &["name", "id", "layers", "bytes", "users", "created"], rows.collect())
    })
}

/// Lists the layers, the newest first.
pub fn layers(store: Option<&Path>, listing: Listing) -> Result<()> {
    with_store(store, |store| {
        let contents = Contents::read(store, false, &RUNTIME)?;
        let users = contents.users();
        let rows = contents.layers.iter().map(|layer| {
            let images =
                contents.images.iter().filter(|image| image.layers.contains(&layer.diff_id));
            json!({
                "id": layer.diff_id, "bytes": layer.bytes, "entries": layer.entries,
                "images": images.count(),
                "users": users.get(&layer.diff_id).cloned().unwrap_or_default(),
                "unpacked": layer.unpacked,
            })
        });
        let columns = ["id", "bytes", "entries", "images", "users", "unpacked"];
        print(listing, &columns, rows.collect())
    })
}

/// Removes everything unused, or with `dry_run` only lists it.
pub fn gc(store: Option<&Path>, all: bool, dry_run: bool) -> Result<()> {
    with_store(store, |store| {
        let unused = match dry_run {
            true => Contents::read(store, all, &RUNTIME)?.unused,
            false => usage::collect(store, all, &RUNTIME)?,
        };
        let mut text: String = unused
            .iter()
            .map(|unused| {
                format!("{} {} {}\n", unused.what, log::one_line(&unused.name), unused.bytes)
            })
            .collect();
        let bytes: u64 = unused.iter().map(|unused| unused.bytes).sum();
        let verb = if dry_run { "would be removed" } else { "removed" };
        text.push_str(&format!("{} {verb}, {bytes} bytes of layers\n", unused.len()));
        log::out(text.as_bytes())
    })
}

/// Opens the store with the ids that own its files.
pub(super) fn with_store(path: Option<&Path>, go: impl FnOnce(&Store) -> Result<()>) -> Result<()> {
    let path: PathBuf = path.map_or_else(default_path, |path| Ok(path.to_owned()))?;
    let go = || Store::open(Some(&path)).and_then(|store| go(&store));
    let done = match user_namespace() {
        None => go(),
        Some(user) => worker::spawn(Some(&user), |_| go().map(|()| Vec::new()))
            .and_then(|worker| worker.wait(|_| ()).map(drop)),
    };
    done.with_context(|| format!("store {}", path.display()))
}

/// Prints the rows, newest first. Each has an `id`, and its age in the last column.
fn print(listing: Listing, columns: &[&str], mut rows: Vec<Value>) -> Result<()> {
    let last = columns.last().copied().unwrap_or_default();
    let made = |row: &Value| row[last].as_str().and_then(sys::time::seconds);
    // Within the same second, the rest of the timestamp decides.
    rows.sort_by_key(|row| Reverse((made(row), row[last].as_str().map(str::to_owned))));
    let id = |row: &Value| -> String {
        let text = row["id"].as_str().unwrap_or_default();
        match Digest::parse(text) {
            Ok(digest) if !listing.no_trunc => digest.short().to_owned(),
            _ => text.to_owned(),
        }
    };
    if listing.quiet {
        let mut ids: Vec<String> = rows.iter().map(|row| id(row) + "\n").collect();
        // An image with several names only once.
        ids.dedup();
        return log::out(ids.concat().as_bytes());
    }
    if listing.format == ListFormat::Json {
        let text = serde_json::to_string_pretty(&rows)?;
        return log::out(format!("{}\n", log::printable_json(&text)).as_bytes());
    }
    let head =
        |column: &&str| if *column == "bytes" { "SIZE".into() } else { column.to_uppercase() };
    let cell = |row: &Value, column: &str| match &row[column] {
        _ if column == "id" => id(row),
        Value::Number(bytes) if column == "bytes" => {
            quantity::size(bytes.as_u64().unwrap_or_default())
        }
        Value::String(time) if column == last => quantity::age(time),
        Value::String(text) => log::one_line(text),
        Value::Array(list) if list.is_empty() => "-".into(),
        Value::Array(list) => {
            log::one_line(&list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
        }
        Value::Null => "-".into(),
        other => other.to_string(),
    };
    let cells = rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect());
    let table: Vec<Vec<String>> =
        std::iter::once(columns.iter().map(head).collect()).chain(cells).collect();
    log::out(table::table(&table, 2, 0).as_bytes())
}
