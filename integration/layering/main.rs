//! Rules that the compiler does not check, verified on the sources: imports point downward, no cycles between
//! modules, crates export nothing that is unused, files and functions stay short, and the routes of
//! docs/design.md match the code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod floors;
mod functions;
mod imports;
mod planted;
mod source;
mod unnamed;

use source::{Files, Source};
use std::fs;
use std::path::Path;

/// Crates whose `pub` items are only for others of this workspace.
const OWN_CRATES: &[&str] = &["sys", "brig_layers"];

/// The repository's sources, and other files to check.
fn repository() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Files::new();
    for name in ["src", "crates", "integration", "benches", "fuzz", "docs", "Cargo.toml"] {
        collect(root, &root.join(name), &mut files);
    }
    files
}

fn collect(root: &Path, path: &Path, files: &mut Files) {
    let name = path.file_name().unwrap().to_str().unwrap();
    if path.is_dir() && !["target", "corpus"].contains(&name) {
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| collect(root, &entry.unwrap().path(), files));
    } else if [".rs", ".toml", ".md"].iter().any(|end| name.ends_with(end)) {
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        files.insert(relative, fs::read_to_string(path).unwrap());
    }
}

/// Fails if there are findings.
fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn sources() -> Vec<Source> {
    source::sources(&repository())
}

#[test]
fn imports_point_downward() {
    none(&floors::climbing(&imports::imports(&sources()), "brig"));
}

#[test]
fn there_is_no_circle_between_rooms() {
    let sources = sources();
    none(&floors::circles(&sources, &imports::imports(&sources)));
}

#[test]
fn what_crates_show_is_used() {
    let sources = sources();
    OWN_CRATES.iter().for_each(|package| none(&unnamed::unnamed(&sources, package)));
}

#[test]
fn files_and_functions_are_short() {
    none(&functions::too_long(&sources()));
}

#[test]
fn the_routes_of_the_design_are_those_of_the_code() {
    let files = repository();
    none(&functions::routes(&files, &source::sources(&files)));
    let (_, parent) = files["docs/design.md"].split_once("\n```route parent\n").unwrap();
    let (parent, _) = parent.split_once("\n```").unwrap();
    assert!(parent.contains("src/plan/mod.rs: Plan::new"), "the parent does not plan: {parent}");
}
