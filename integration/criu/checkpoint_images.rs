//! Containers of an image: a restore needs their bundle, which is usually removed with them.

use super::with::{Piped, brig, criu_only, images};
use crate::images::{Images, base};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// Checkpoints a container of an image; returns its bundle.
fn checkpointed(made: &Images) -> PathBuf {
    let mut layout = made.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let (sandbox, store) = (&made.sandbox, made.store());
    let id = sandbox.id.as_str();
    let store = store.to_str().unwrap();
    let run = ["--store", store, "run", "--detach", "--image", &image, id, "--", "sigloop", "1"];
    let (mut piped, _) = Piped::run(sandbox, &run);
    piped.wait_for("ready\n");
    let bundle = PathBuf::from(sandbox.state()["bundle"].as_str().unwrap());
    brig(sandbox, &["checkpoint", "--image-path", &images(sandbox), id]).ok();
    bundle
}

#[test]
fn the_bundle_of_a_container_of_an_image_stays_as_long_as_the_checkpoint() {
    criu_only!();
    let made = Images::new();
    let bundle = checkpointed(&made);
    made.brig(&["gc"]).ok();
    assert!(bundle.join("config.json").exists());
    let (sandbox, store) = (&made.sandbox, made.store());
    let (id, store, checkpoint) = (sandbox.id.as_str(), store.to_str().unwrap(), images(sandbox));
    let restore = ["--store", store, "restore", "--detach", "--image-path", &checkpoint, id];
    let (mut piped, status) = Piped::run(sandbox, &restore);
    assert!(status.success(), "{}", piped.text());
    assert_eq!(sandbox.status(), "running");
    brig(sandbox, &["kill", id, "TERM"]).ok();
    piped.wait_for("signal SIGTERM\n");
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    assert!(!bundle.exists());
}

#[test]
fn gc_takes_the_bundle_when_the_checkpoint_is_gone() {
    criu_only!();
    let made = Images::new();
    let bundle = checkpointed(&made);
    let checkpoint = images(&made.sandbox);
    fs::rename(&checkpoint, format!("{checkpoint}-elsewhere")).unwrap();
    made.brig(&["gc"]).ok();
    assert!(!bundle.exists());
}
