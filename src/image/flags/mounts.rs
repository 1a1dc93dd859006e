//! Flags for mounts.

use super::Change;
use crate::plan::mount_options::OPTIONS;
use crate::plan::update::bytes;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Component, Path};

const PROPAGATION: [&str; 8] =
    ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];

/// Exists if SELinux is enabled.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// `--volume SOURCE:DIR[:OPTIONS]`.
pub fn volume(change: &mut Change<'_>, text: &str) -> Result<()> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        [_] => {
            bail!(
                "brig does not support volumes: use --tmpfs DIR, or SOURCE:DIR with a directory of the host"
            )
        }
        _ => bail!("not SOURCE:DIR[:OPTIONS]; for paths with colons use --mount"),
    };
    let options = options.split(',').filter(|option| !option.is_empty());
    let mount = bind(source, destination, options)?;
    change.mounts.push(mount);
    Ok(())
}

/// A bind mount; a relative source is relative to the caller's directory.
fn bind<'a>(
    source: &str,
    destination: &str,
    options: impl Iterator<Item = &'a str>,
) -> Result<Value> {
    let destination = clean(destination)?;
    ensure!(
        source.contains('/') || source.starts_with('.'),
        "brig does not support named volumes: give a directory of the host, e.g. ./{source}"
    );
    let source = std::path::absolute(source)?;
    // Only queried, not opened: opening a fifo could block.
    std::fs::metadata(&source)
        .with_context(|| format!("{}: the source of a volume must exist", source.display()))?;
    let source =
        source.to_str().context("the path of the source is not UTF-8, and config.json must be")?;
    let mut taken = Vec::new();
    for option in options {
        if let Some(option) = bind_option(option, source)? {
            taken.push(option);
        }
    }
    for pair in
        [["ro", "rw"], ["exec", "noexec"], ["suid", "nosuid"], ["dev", "nodev"], ["bind", "rbind"]]
    {
        let both = pair.iter().all(|option| taken.contains(option));
        ensure!(!both, "{} and {} exclude each other", pair[0], pair[1]);
    }
    if !taken.iter().any(|option| ["bind", "rbind"].contains(option)) {
        taken.push("rbind");
    }
    if !taken.iter().any(|option| PROPAGATION.contains(option)) {
        taken.push("rprivate");
    }
    Ok(json!({ "destination": destination, "type": "bind", "source": source, "options": taken }))
}

/// None: it has no effect here.
fn bind_option<'a>(option: &'a str, source: &str) -> Result<Option<&'a str>> {
    match option {
        "z" | "Z" if Path::new(SELINUX).exists() => bail!(
            "{option}: brig does not relabel, and SELinux is enabled: use `chcon -R -t container_file_t {source}`"
        ),
        "z" | "Z" => Ok(None),
        "O" => bail!(
            "O: brig does not support overlay volumes: copy the directory, or mount it with ro"
        ),
        "U" | "chown" => bail!("{option}: brig does not change owners: use `chown -R`"),
        "copy" | "nocopy" | "nocreate" => {
            bail!("{option} is for named volumes, which brig does not support")
        }
        known if is_option(known) => Ok(Some(known)),
        unknown => bail!("unknown option {unknown:?}"),
    }
}

fn is_option(name: &str) -> bool {
    ["bind", "rbind"].contains(&name)
        || PROPAGATION.contains(&name)
        || OPTIONS.iter().any(|(known, ..)| *known == name)
}

/// `--mount type=bind|tmpfs,…`.
pub fn mount(change: &mut Change<'_>, text: &str) -> Result<()> {
    let (mut kind, mut source, mut destination) = ("", None, None);
    let mut options = Vec::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key {
            "type" => kind = value,
            "src" | "source" => source = Some(value),
            "dst" | "destination" | "target" => destination = Some(value),
            "ro" | "readonly" if is_true(value)? => options.push("ro".to_owned()),
            "rw" if is_true(value)? => options.push("rw".to_owned()),
            "ro" | "readonly" | "rw" => {}
            "bind-propagation" => options.push(value.to_owned()),
            "bind-nonrecursive" => options.extend(is_true(value)?.then(|| "bind".to_owned())),
            "tmpfs-size" => options.push(format!("size={value}")),
            "tmpfs-mode" => options.push(format!("mode={value}")),
            "U" | "chown" => options.extend(is_true(value)?.then(|| key.to_owned())),
            "relabel" => options.push(if value == "private" { "Z" } else { "z" }.to_owned()),
            _ if value.is_empty() => options.push(key.to_owned()),
            _ => bail!("unknown key {key:?}"),
        }
    }
    let destination = destination.context("destination: missing")?;
    let mount = match (kind, source) {
        ("bind", Some(source)) => bind(source, destination, options.iter().map(String::as_str))?,
        ("bind", None) => bail!("source: missing"),
        ("tmpfs", None) => memory(destination, options.iter().map(String::as_str))?,
        ("tmpfs", Some(_)) => bail!("source: not valid for a tmpfs"),
        ("" | "volume", _) => bail!("brig does not support volumes: use type=bind or type=tmpfs"),
        (kind, _) => bail!("type {kind:?}: brig supports bind and tmpfs"),
    };
    change.mounts.push(mount);
    Ok(())
}

fn is_true(value: &str) -> Result<bool> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => bail!("{value:?} is neither true nor false"),
    }
}

/// `--tmpfs DIR[:OPTIONS]`.
pub fn tmpfs(change: &mut Change<'_>, text: &str) -> Result<()> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty());
    change.mounts.push(memory(destination, options)?);
    Ok(())
}

/// A tmpfs: by default rw, noexec, nosuid, nodev, and with the image's files at that place copied into it.
fn memory<'a>(destination: &str, options: impl Iterator<Item = &'a str>) -> Result<Value> {
    let destination = clean(destination)?;
    let mut taken: Vec<String> = Vec::new();
    for option in options {
        match option.split_once('=') {
            Some(("size", size)) if !size.ends_with('%') => {
                taken.push(format!("size={}", bytes(size)?))
            }
            Some(_) => taken.push(option.to_owned()),
            None if option == "notmpcopyup" || is_option(option) => taken.push(option.to_owned()),
            None => bail!("unknown option {option:?}"),
        }
    }
    for (default, other) in [
        ("rw", "ro"),
        ("noexec", "exec"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("tmpcopyup", "notmpcopyup"),
    ] {
        if !taken.iter().any(|option| option == default || option == other) {
            taken.push(default.to_owned());
        }
    }
    taken.retain(|option| option != "notmpcopyup");
    Ok(json!({
        "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": taken
    }))
}

/// `--shm-size`.
pub fn shm_size(change: &mut Change<'_>, text: &str) -> Result<()> {
    let size = Value::from(format!("size={}", bytes(text)?));
    let mounts = change.config["mounts"].as_array_mut().context("the config has no mounts")?;
    let shm = mounts.iter_mut().find(|mount| mount["destination"] == "/dev/shm");
    let options = shm.and_then(|shm| shm["options"].as_array_mut()).context("no /dev/shm")?;
    options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("size=")));
    options.push(size);
    Ok(())
}

/// `--read-only`, with --read-only-tmpfs.
pub fn read_only(change: &mut Change<'_>, _: &str) -> Result<()> {
    change.config["root"]["readonly"] = true.into();
    let wanted = change.flags.last("read-only-tmpfs").unwrap_or("true");
    if !is_true(wanted).context("--read-only-tmpfs")? {
        return Ok(());
    }
    for path in ["/tmp", "/run", "/var/tmp"] {
        // A volume given by the user takes precedence; podman's tmpfs allows executables.
        let given = change.mounts.iter().any(|mount| mount["destination"] == path);
        if !given {
            change.mounts.push(memory(path, ["exec"].into_iter())?);
        }
    }
    Ok(())
}

/// Normalises an absolute path: no `.` or double slashes.
fn clean(path: &str) -> Result<String> {
    ensure!(path.starts_with('/') && !path.contains('\0'), "{path:?} is not an absolute path");
    let mut clean = String::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => {
                clean.push('/');
                clean.push_str(name.to_str().unwrap_or_default());
            }
            Component::ParentDir => bail!("{path:?} contains .."),
            _ => {}
        }
    }
    ensure!(!clean.is_empty(), "{path:?} is the container's root");
    Ok(clean)
}

/// Merges the flags' mounts into the config: they replace those at the same destination, and parents come
/// before their descendants.
pub fn merge(config: &mut Value, mut mounts: Vec<Value>) -> Result<()> {
    let place = |mount: &Value| mount["destination"].as_str().unwrap_or_default().to_owned();
    // Scripts may give the same --volume twice.
    let mut seen: Vec<Value> = Vec::new();
    mounts.retain(|mount| {
        let again = mount["type"] == "bind" && seen.contains(mount);
        seen.push(mount.clone());
        !again
    });
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index].iter().any(|other| other["destination"] == mount["destination"]) {
            bail!("{}: two mounts have this destination", place(mount));
        }
    }
    let listed = config["mounts"].as_array_mut().context("the config has no mounts")?;
    listed.retain(|old| {
        let old = clean(&place(old)).unwrap_or_default();
        !mounts.iter().any(|mount| mount["destination"] == old.as_str())
    });
    let volumes = |mount: &Value| {
        let options = mount["options"].as_array();
        options.is_some_and(|options| options.contains(&"tmpcopyup".into()))
    };
    let mut last: Vec<Value> = Vec::new();
    last.extend(listed.extract_if(.., |mount| volumes(mount)));
    last.extend(mounts);
    last.sort_by_key(|mount| place(mount).matches('/').count());
    listed.extend(last);
    Ok(())
}
