//! Converts an image's config to a config.json (image-spec, conversion.md), based on that of `brig spec`.

use crate::bundle::user::User;
use crate::runtime::Annotations;
use crate::source::manifest::ImageConfig;
use crate::tree::view::View;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Settings in addition to the image's.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Replaces the image's Entrypoint and Cmd.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the Cmd of the image.
    pub args: Vec<String>,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The container's host name; None: the template's.
    pub hostname: Option<String>,
    /// brig's own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Annotations that runtimes act on: images must not set them.
const UNSAFE: [&str; 5] =
    ["run.brig.", "run.oci.", "org.systemd.property.", "org.criu.", "io.kubernetes.cri."];

/// Creates the config. `template`: the output of `brig spec`.
///
/// # Errors
///
/// If the template is not a valid config, or the image's variables or volumes are not valid.
pub fn config(
    template: &str,
    image: &ImageConfig,
    user: &User,
    wanted: &Wanted,
    mut warn: impl FnMut(&str),
) -> Result<Value> {
    let mut config: Value = serde_json::from_str(template)?;
    let run = &image.config;
    let config_hostname = config["hostname"].as_str().map(str::to_owned);
    let process = &mut config["process"];
    process["terminal"] = wanted.terminal.into();
    process["user"] = json!({ "uid": user.uid, "gid": user.gid });
    if !user.groups.is_empty() {
        process["user"]["additionalGids"] = json!(user.groups);
    }
    process["args"] = json!(args(image, wanted));
    let hostname = wanted.hostname.as_deref().or(config_hostname.as_deref());
    process["env"] = json!(environment(&run.env, wanted.terminal, hostname, user)?);
    process["cwd"] = directory(&run.working_dir).into();
    config["root"] = json!({ "path": "rootfs", "readonly": false });
    if let Some(hostname) = &wanted.hostname {
        config["hostname"] = hostname.clone().into();
    }
    let mounts = config["mounts"].as_array_mut().context("the template has no mounts")?;
    let own = mounts.len();
    for volume in run.volumes.keys() {
        let volume = volume_mount(volume)?;
        // What every container has there anyway, e.g. in images for systemd, is not hidden by a volume.
        let is_there = |mount: &Value| destination(mount) == destination(&volume);
        if !mounts[..own].iter().any(is_there) {
            mounts.push(volume);
        }
    }
    config["annotations"] = json!(annotations(image, wanted, &mut warn));
    Ok(config)
}

/// conversion.md: Entrypoint followed by Cmd. If the image has neither, a shell.
fn args(image: &ImageConfig, wanted: &Wanted) -> Vec<String> {
    let run = &image.config;
    let (entrypoint, cmd) = match &wanted.entrypoint {
        // Cmd belongs to the image's own entrypoint.
        Some(entrypoint) => (entrypoint, &[][..]),
        None => (&run.entrypoint, &run.cmd[..]),
    };
    // `docker commit` of a container without an entrypoint writes an entrypoint with an empty name.
    let entrypoint = if entrypoint == &[""] { &[][..] } else { &entrypoint[..] };
    let rest = if wanted.args.is_empty() { cmd } else { &wanted.args };
    let args: Vec<String> = entrypoint.iter().chain(rest).cloned().collect();
    if args.is_empty() { vec!["sh".to_owned()] } else { args }
}

/// The image's variables, and those that docker and podman add if the image does not set them.
fn environment(
    image: &[String],
    terminal: bool,
    hostname: Option<&str>,
    user: &User,
) -> Result<Vec<String>> {
    // As in podman, a name without a value is ignored.
    let mut env: Vec<String> = image.iter().filter(|known| known.contains('=')).cloned().collect();
    for variable in &env {
        if variable.contains('\0') || variable.starts_with('=') {
            bail!("the image's config.Env: {variable:?} is not NAME=VALUE");
        }
    }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let defaults = [
        ("PATH=", Some(path)),
        ("HOME=", Some(user.home.as_deref().unwrap_or("/"))),
        ("HOSTNAME=", hostname),
        ("TERM=", terminal.then_some("xterm")),
    ];
    for (name, value) in defaults {
        if let Some(value) = value.filter(|_| !image.iter().any(|known| known.starts_with(name))) {
            env.push(format!("{name}{value}"));
        }
    }
    Ok(env)
}

fn directory(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// The option of volumes: they begin with the image's files.
const COPIED: &str = "tmpcopyup";

/// conversion.md: the contents of a volume are not part of the root filesystem. It starts with the image's
/// files at that place, like docker's volumes.
pub(crate) fn volume_mount(volume: &str) -> Result<Value> {
    let path = directory(volume);
    let names = names(&path);
    if names.is_empty() || names.contains(&"..") || path.contains('\0') {
        bail!("the image's config.Volumes: {volume:?} is not a directory below /");
    }
    Ok(json!({
        "destination": path,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", COPIED]
    }))
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").collect()
}

fn destination(mount: &Value) -> Vec<&str> {
    names(mount["destination"].as_str().unwrap_or_default())
}

/// A volume whose directory does not exist in the image gets the mode of a new directory: that of a new tmpfs
/// would be world-writable.
pub(crate) fn modes_of_new_volumes(
    config: &mut Value,
    image: &ImageConfig,
    view: &View,
) -> Result<()> {
    let mut new = BTreeSet::new();
    for volume in image.config.volumes.keys().map(|volume| directory(volume)) {
        if view.resolve(volume.as_bytes())?.is_none() {
            new.insert(volume);
        }
    }
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        let is_new = mount["destination"].as_str().is_some_and(|path| new.contains(path));
        let options = mount["options"].as_array_mut().filter(|_| is_new);
        // Not the mounts that every container has.
        if let Some(options) = options.filter(|options| options.contains(&COPIED.into())) {
            options.push("mode=755".into());
        }
    }
    Ok(())
}

fn annotations(
    image: &ImageConfig,
    wanted: &Wanted,
    warn: &mut impl FnMut(&str),
) -> BTreeMap<String, String> {
    let run = &image.config;
    let mut annotations = BTreeMap::new();
    let mut implied = |name: &str, value: &str| {
        if !value.is_empty() {
            annotations.insert(format!("org.opencontainers.image.{name}"), value.to_owned());
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    implied("os", &image.os);
    implied("architecture", &image.architecture);
    implied("variant", &text(&image.variant));
    implied("os.version", &text(&image.os_version));
    implied("os.features", &image.os_features.join(","));
    implied("author", &text(&image.author));
    implied("created", &text(&image.created));
    implied("stopSignal", &run.stop_signal);
    let ports: Vec<&str> = run.exposed_ports.keys().map(String::as_str).collect();
    implied("exposedPorts", &ports.join(","));
    // An explicit label takes precedence over an implicit annotation.
    // The name of an annotation must not be empty (runtime-spec, config.md, Annotations).
    for (name, value) in run.labels.iter().filter(|(name, _)| !name.is_empty()) {
        if UNSAFE.iter().any(|prefix| name.starts_with(prefix)) {
            warn(&format!(
                "the image's label {name:?} is ignored, because runtimes act on such annotations"
            ));
        } else {
            annotations.insert(name.clone(), value.clone().unwrap_or_default());
        }
    }
    annotations.extend(wanted.annotations.clone());
    annotations
}

/// Formats a list of layers for the annotation.
pub(crate) fn join_layers(layers: &[String]) -> String {
    let escape = |layer: &String| layer.replace('\\', "\\\\").replace(':', "\\:");
    layers.iter().map(escape).collect::<Vec<_>>().join(":")
}

/// The annotations of a bundle that describe its root, under these names.
pub(crate) fn overlay_annotations(
    names: &Annotations,
    layers: &[String],
    upper: Option<(&str, &str)>,
    id_mapped: bool,
) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    annotations.insert(names.layers.to_owned(), join_layers(layers));
    if let Some((upper, work)) = upper {
        annotations.insert(names.upper.to_owned(), upper.to_owned());
        annotations.insert(names.work.to_owned(), work.to_owned());
    }
    if id_mapped {
        annotations.insert(names.idmap.to_owned(), "container".to_owned());
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str =
        r#"{"process": {}, "root": {}, "hostname": "brig", "mounts": [{"destination": "/proc"}]}"#;

    fn converted(image: &str, wanted: &Wanted) -> (Value, Vec<String>) {
        let image = serde_json::from_str(image).unwrap();
        let mut warnings = Vec::new();
        let user = User { uid: 5, gid: 6, groups: vec![7], home: Some("/h".into()) };
        let config =
            config(TEMPLATE, &image, &user, wanted, |text| warnings.push(text.to_owned())).unwrap();
        (config, warnings)
    }

    #[test]
    fn every_field_of_the_image_gets_its_place() {
        let (config, warnings) = converted(
            r#"{"architecture":"amd64","os":"linux","author":"me","created":"2026-01-01T00:00:00Z",
            "config":{"Entrypoint":["/e"],"Cmd":["c","d"],"Env":["A=1","PATH=/bin"],
            "WorkingDir":"/w","Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{},"53":{}},
            "Labels":{"x":"y","org.opencontainers.image.author":"label","run.brig.overlay.layers":"/"},
            "StopSignal":"SIGINT"},"rootfs":{"diff_ids":[]}}"#,
            &Wanted::default(),
        );
        let process = &config["process"];
        assert_eq!(process["args"], json!(["/e", "c", "d"]));
        assert_eq!(process["env"], json!(["A=1", "PATH=/bin", "HOME=/h", "HOSTNAME=brig"]));
        assert_eq!(process["cwd"], "/w");
        assert_eq!(process["user"], json!({"uid": 5, "gid": 6, "additionalGids": [7]}));
        assert_eq!(process["terminal"], false);
        assert_eq!(
            config["annotations"],
            json!({
                "org.opencontainers.image.os": "linux",
                "org.opencontainers.image.architecture": "amd64",
                "org.opencontainers.image.author": "label",
                "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
                "org.opencontainers.image.stopSignal": "SIGINT",
                "org.opencontainers.image.exposedPorts": "53,80/tcp",
                "x": "y",
            })
        );
        let mounts = config["mounts"].as_array().unwrap();
        assert_eq!(mounts.last().unwrap()["destination"], "/data");
        assert!(warnings[0].contains("run.brig.overlay.layers"), "{warnings:?}");
    }

    #[test]
    fn arguments_replace_cmd_and_leave_the_entrypoint() {
        let wanted = Wanted { args: vec!["x".into()], terminal: true, ..Wanted::default() };
        let (config, _) = converted(r#"{"config":{"Entrypoint":["/e"],"Cmd":["c"]}}"#, &wanted);
        assert_eq!(config["process"]["args"], json!(["/e", "x"]));
        let env = config["process"]["env"].as_array().unwrap();
        assert!(env.contains(&json!("TERM=xterm")) && env.len() == 4, "{env:?}");
        assert_eq!(config["process"]["cwd"], "/");
        let (config, _) = converted("{}", &Wanted::default());
        assert_eq!(config["process"]["args"], json!(["sh"]));
    }

    #[test]
    fn what_podman_ignores_in_an_image_is_ignored() {
        let image = r#"{"config":{"Entrypoint":[""],"Cmd":["id"],"Env":["A","B="]}}"#;
        let (config, _) = converted(image, &Wanted::default());
        assert_eq!(config["process"]["args"], json!(["id"]));
        let env = config["process"]["env"].as_array().unwrap();
        assert!(!env.contains(&json!("A")) && env[0] == "B=", "{env:?}");
    }

    #[test]
    fn a_volume_hides_nothing_that_every_container_has() {
        let image = r#"{"os":"linux","config":{"Volumes":{"/proc/":{},"/./proc":{},"/data":{}}}}"#;
        let (config, _) = converted(image, &Wanted::default());
        let mounts = config["mounts"].as_array().unwrap();
        let places: Vec<_> = mounts.iter().map(|mount| &mount["destination"]).collect();
        assert_eq!(places, ["/proc", "/data"]);
    }

    #[test]
    fn volumes_that_lead_elsewhere_are_errors() {
        for volume in ["/", "", "/a/../b", "//."] {
            assert!(volume_mount(volume).is_err(), "{volume}");
        }
        assert_eq!(volume_mount("data").unwrap()["destination"], "/data");
    }

    #[test]
    fn colons_of_layers_names_are_kept() {
        assert_eq!(join_layers(&["/a:b".into(), "c\\d".into()]), "/a\\:b:c\\\\d");
    }
}
