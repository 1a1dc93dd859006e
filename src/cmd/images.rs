//! images, layers, gc: what the store of layers holds, and the removal of what nobody uses.

use super::command::ListFormat;
use super::table;
use crate::image::RUNTIME;
use crate::launch::own_bundle::user_namespace;
use crate::log;
use anyhow::{Context, Result};
use brig_layers::source::digest::Digest;
use brig_layers::store::usage::{self, Contents};
use brig_layers::store::{Store, default_path};
use brig_layers::worker;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Lists the images.
pub fn images(store: Option<&Path>, format: ListFormat) -> Result<()> {
    with_store(store, |store| {
        let contents = Contents::read(store, false, &RUNTIME)?;
        let bytes = |image: &brig_layers::store::ImageRecord| -> u64 {
            let own = contents.layers.iter().filter(|layer| image.layers.contains(&layer.diff_id));
            own.map(|layer| layer.bytes).sum()
        };
        let users = |id: &Digest| contents.uses.iter().filter(|used| used.image == *id).count();
        let rows = contents.images.iter().map(|image| {
            json!({
                "name": image.names.first(), "id": image.id, "layers": image.layers.len(),
                "bytes": bytes(image), "users": users(&image.id), "created": image.created,
            })
        });
        print(
            format,
            &["name", "id", "layers", "bytes", "users", "created"],
            &rows.collect::<Vec<_>>(),
        )
    })
}

/// Lists the layers.
pub fn layers(store: Option<&Path>, format: ListFormat) -> Result<()> {
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
            })
        });
        print(format, &["id", "bytes", "entries", "images", "users"], &rows.collect::<Vec<_>>())
    })
}

/// Removes what nobody uses, or with `dry_run` only tells what that is.
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

/// Opens the store, with the ids that it is kept with.
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

fn print(format: ListFormat, columns: &[&str], rows: &[Value]) -> Result<()> {
    if format == ListFormat::Json {
        let mut text = log::printable_json(&serde_json::to_string_pretty(rows)?);
        text.push('\n');
        return log::out(text.as_bytes());
    }
    let head = columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>();
    let cell = |value: &Value| match value {
        Value::String(text) => log::one_line(text),
        Value::Array(list) if list.is_empty() => "-".into(),
        Value::Array(list) => {
            log::one_line(&list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
        }
        Value::Null => "-".into(),
        other => other.to_string(),
    };
    let rows = rows.iter().map(|row| columns.iter().map(|column| cell(&row[*column])).collect());
    let table: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    log::out(table::table(&table, 2, 0).as_bytes())
}
