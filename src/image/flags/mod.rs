//! The flags of `run --image`, `create --image` and `bundle`, with podman's names and meanings: one table,
//! from which the command line and the man pages are generated, and against which docs/images.md is tested.

mod file;
mod limits;
mod mounts;
mod network;
mod process;
mod security;
#[cfg(test)]
mod tests;

use super::capabilities::{self, Sets};
use super::defaults;
use crate::plan::resources::Optional;
use crate::seccomp::NATIVE;
use anyhow::{Context, Result, bail};
use brig_layers::bundle::init_layer::NetworkFiles;
use brig_layers::tree::view::View;
use security::Filter;
use serde_json::{Value, json};
use std::path::Path;
use sys::cred;

pub use network::no_ports;
pub use process::split_entrypoint;

/// A flag.
pub struct Flag {
    /// The name without dashes.
    pub name: &'static str,
    /// The letter for a single dash.
    pub short: Option<char>,
    /// The name of its value; empty: it has none.
    pub value: &'static str,
    /// The help text.
    pub help: &'static str,
    /// What it changes in config.json; a test compares it with docs/images.md.
    #[cfg_attr(not(test), expect(dead_code))]
    pub change: &'static str,
    apply: fn(&mut Change<'_>, &str) -> Result<()>,
}

const fn flag(
    name: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
    change: &'static str,
    apply: fn(&mut Change<'_>, &str) -> Result<()>,
) -> Flag {
    Flag { name, short, value, help, change, apply }
}

/// All flags, in the order in which they are applied. If several set the same value, the last one given
/// counts.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    flag("network", None, "none|host|ns:PATH|container:ID", "Network namespace [default: none]", "linux.namespaces", network::network),
    flag("hostname", None, "NAME", "Host name [default: the id]", "hostname", network::hostname),
    flag("add-host", None, "NAME:IP", "Add a line to /etc/hosts", "the bundle's init layer", network::add_host),
    flag("entrypoint", None, "PROGRAM|JSON", "Program instead of the image's Entrypoint and Cmd", "process.args", elsewhere),
    flag("init", None, "", "Run the host's catatonit as init, which reaps processes", "process.args, mounts", process::init),
    flag("env-file", None, "FILE", "File of environment variables, NAME=VALUE per line", "process.env", process::env_file),
    flag("env", Some('e'), "NAME[=VALUE]", "Set an environment variable; without a value the caller's", "process.env", process::env),
    flag("user", Some('u'), "USER[:GROUP]", "User to run as, by name or number", "process.user", elsewhere),
    flag("group-add", None, "GROUP", "Add a supplementary group; keep-groups: the caller's", "process.user.additionalGids", process::group_add),
    flag("workdir", Some('w'), "DIR", "Working directory", "process.cwd", process::workdir),
    flag("tty", Some('t'), "", "Allocate a terminal", "process.terminal", process::tty),
    flag("interactive", Some('i'), "", "Keep stdin open (the default)", "nothing", elsewhere),
    flag("volume", Some('v'), "SOURCE:DIR[:OPTIONS]", "Bind mount a file or directory of the host", "mounts", mounts::volume),
    flag("mount", None, "type=TYPE,...", "Add a mount of type bind or tmpfs", "mounts", mounts::mount),
    flag("tmpfs", None, "DIR[:OPTIONS]", "Mount a tmpfs", "mounts", mounts::tmpfs),
    flag("shm-size", None, "BYTES", "Size of /dev/shm [default: 64m]", "mounts", mounts::shm_size),
    flag("read-only", None, "", "Read-only root filesystem; tmpfs on /tmp, /run, /var/tmp", "root.readonly, mounts", mounts::read_only),
    flag("read-only-tmpfs", None, "true|false", "Mount the tmpfs of --read-only [default: true]", "mounts", elsewhere),
    flag("device", None, "HOST[:CONTAINER][:rwm]", "Add a device of the host, or all devices of a directory", "linux.devices, linux.resources.devices", limits::device),
    flag("memory", Some('m'), "BYTES", "Memory limit, e.g. 64m", "linux.resources.memory.limit, .swap", limits::memory),
    flag("memory-swap", None, "BYTES", "Memory and swap together; -1 is unlimited [default: twice --memory]", "linux.resources.memory.swap", limits::memory_swap),
    flag("cpus", None, "NUMBER", "CPU limit, e.g. 1.5; 0 is unlimited", "linux.resources.cpu", limits::cpus),
    flag("pids-limit", None, "TASKS", "Maximum number of tasks; -1 is unlimited [default: 2048]", "linux.resources.pids", limits::pids),
    flag("ulimit", None, "NAME=SOFT[:HARD]|host", "Resource limit; -1 is unlimited; host: those of the caller", "process.rlimits", limits::ulimit),
    flag("sysctl", None, "NAME=VALUE", "Set a kernel parameter of the container's namespaces", "linux.sysctl", limits::sysctl),
    flag("cap-add", None, "CAPABILITY", "Add a capability, or ALL", "process.capabilities", elsewhere),
    flag("cap-drop", None, "CAPABILITY", "Drop a capability, or ALL", "process.capabilities", elsewhere),
    flag("security-opt", None, "OPTION", "seccomp=, apparmor=, no-new-privileges, mask=, unmask=", "linux.seccomp, process, linux.maskedPaths, linux.readonlyPaths", security::option),
    flag("no-new-privs", None, "", "Set no_new_privs", "process.noNewPrivileges", security::no_new_privileges),
    flag("label", Some('l'), "NAME=VALUE", "Add an annotation", "annotations", process::annotation),
    flag("annotation", None, "NAME=VALUE", "Add an annotation", "annotations", process::annotation),
    flag("stop-signal", None, "SIGNAL", "Signal that stops the container", "annotations", process::stop_signal),
    flag("pull", None, "never|missing", "Images are on disk: nothing is ever pulled", "nothing", process::pull),
];

/// The given flags: names and values, in the order of the command line.
#[derive(Debug, Default, Clone)]
pub struct Flags {
    /// A flag without value has an empty one.
    pub given: Vec<(&'static str, String)>,
}

impl Flags {
    /// All values of a flag.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        let of = move |(known, value): &'a (&'static str, String)| {
            (*known == name).then_some(value.as_str())
        };
        self.given.iter().filter_map(of)
    }

    /// The effective value of a flag that sets one thing.
    pub fn last<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next_back()
    }
}

/// A config that is being changed.
struct Change<'a> {
    flags: &'a Flags,
    config: &'a mut Value,
    view: &'a View,
    /// Whether the container has a user namespace other than brig's.
    in_user_namespace: bool,
    /// The state root, to find a container whose network is shared.
    root: Option<&'a Path>,
    mounts: Vec<Value>,
    filter: Filter,
    beside: NetworkFiles,
}

/// For a flag that is applied elsewhere.
fn elsewhere(_: &mut Change<'_>, _: &str) -> Result<()> {
    Ok(())
}

impl Change<'_> {
    /// Removes this limit from the annotation of optional defaults, because it was requested.
    fn make_required(&mut self, limit: &str) {
        let listed = &mut self.config["annotations"][Optional::ANNOTATION];
        let text = listed.as_str().unwrap_or_default();
        let rest: Vec<&str> = text.split(',').filter(|name| *name != limit).collect();
        *listed = rest.join(",").into();
    }

    fn is_default(&mut self, limit: &str) {
        self.make_required(limit);
        let listed = &mut self.config["annotations"][Optional::ANNOTATION];
        let text = listed.as_str().filter(|text| !text.is_empty());
        *listed = text.map_or(limit.to_owned(), |text| format!("{text},{limit}")).into();
    }
}

/// Applies flags to a config that contains the image's values. `root`: the state root, if the container is
/// created now.
pub fn apply(
    config: &mut Value,
    flags: &Flags,
    view: &View,
    root: Option<&Path>,
) -> Result<NetworkFiles> {
    let namespaces = config["linux"]["namespaces"].as_array();
    let in_user_namespace =
        namespaces.into_iter().flatten().any(|namespace| namespace["type"] == "user");
    defaults::write(config);
    let (mounts, filter, beside) = (Vec::new(), Filter::Default, NetworkFiles::default());
    let mut change =
        Change { flags, config, view, in_user_namespace, root, mounts, filter, beside };
    if flags.last("network").is_none() {
        network::network(&mut change, "none")?;
    }
    for flag in FLAGS {
        let values: Vec<&str> = flags.all(flag.name).collect();
        for value in values {
            (flag.apply)(&mut change, value).with_context(|| match flag.value {
                "" => format!("--{}", flag.name),
                _ => format!("--{} {value}", flag.name),
            })?;
        }
    }
    let Change { mounts, filter, beside, .. } = change;
    mounts::merge(config, mounts)?;
    confine(config, flags, &filter, in_user_namespace)?;
    if config["annotations"][Optional::ANNOTATION] == ""
        && let Some(annotations) = config["annotations"].as_object_mut()
    {
        annotations.remove(Optional::ANNOTATION);
    }
    Ok(beside)
}

/// Sets capabilities and the seccomp filter.
fn confine(config: &mut Value, flags: &Flags, filter: &Filter, user_namespace: bool) -> Result<()> {
    let own = if user_namespace { u64::MAX } else { cred::capget()?.permitted };
    let given = |name| flags.all(name).collect::<Vec<_>>();
    let sets = capabilities::sets(&given("cap-add"), &given("cap-drop"), own)?;
    let root = config["process"]["user"]["uid"] == 0;
    config["process"]["capabilities"] = sets_of(&sets, root);
    match filter {
        Filter::Default => {
            let profile = oci_seccomp::default_profile(&sets.bounding, NATIVE);
            config["linux"]["seccomp"] = serde_json::to_value(profile)?;
        }
        Filter::Unconfined => {}
        Filter::File(path) => {
            config["linux"]["seccomp"] = security::profile(path, &sets.bounding)
                .with_context(|| format!("--security-opt seccomp={}", path.display()))?;
        }
    }
    Ok(())
}

/// Root gets the whole bounding set; another user only the capabilities added by name, which are then also
/// preserved over execve.
fn sets_of(sets: &Sets, root: bool) -> Value {
    if root {
        let all = &sets.bounding;
        return json!({ "bounding": all, "effective": all, "permitted": all });
    }
    let mut value = json!({ "bounding": sets.bounding });
    if !sets.added.is_empty() {
        for set in ["effective", "permitted", "inheritable", "ambient"] {
            value[set] = json!(sets.added);
        }
    }
    value
}

/// Splits `NAME=VALUE`.
fn pair(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => bail!("not NAME=VALUE"),
    }
}

/// The host name set by the flags; the host's own in the host's network.
pub fn hostname(flags: &Flags) -> Result<Option<String>> {
    if let Some(name) = flags.last("hostname") {
        return Ok(Some(name.to_owned()));
    }
    if flags.last("network") != Some("host") {
        return Ok(None);
    }
    let name = nix::unistd::gethostname()?;
    Ok(Some(name.to_str().context("the host's name is not UTF-8")?.to_owned()))
}
