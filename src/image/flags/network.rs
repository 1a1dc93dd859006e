//! Flags for the network, and its names. docs/images.md shows how to give a container more than a loopback
//! device.

use super::Change;
use crate::state::{Dir, Status};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The documentation of alternatives to what brig does not support.
const PAGE: &str =
    "docs/images.md, Network, shows how to do it with `ip netns` and --network ns:PATH";

/// `--network`.
pub fn network(change: &mut Change<'_>, text: &str) -> Result<()> {
    let path = match text.split_once(':') {
        None if text == "none" => None,
        None if text == "host" => {
            remove(change.config)?;
            change.beside.host_network = true;
            return Ok(());
        }
        Some(("ns", path)) if path.starts_with('/') => {
            std::fs::metadata(path).with_context(|| path.to_owned())?;
            Some(path.to_owned())
        }
        Some(("ns", _)) => bail!("not ns:PATH with an absolute path"),
        Some(("container", id)) => Some(of_container(change, id)?),
        _ => {
            bail!(
                "brig supports none, host, ns:PATH and container:ID, and creates no networks: {PAGE}"
            )
        }
    };
    remove(change.config)?;
    let namespace = match &path {
        Some(path) => json!({ "type": "network", "path": path }),
        None => json!({ "type": "network" }),
    };
    let namespaces = change.config["linux"]["namespaces"].as_array_mut();
    namespaces.context("the config has no namespaces")?.push(namespace);
    if path.is_none() {
        // As in engines: root in the container can ping without a capability.
        change.config["linux"]["sysctl"]["net.ipv4.ping_group_range"] = "0 0".into();
    }
    Ok(())
}

/// The error for `-p`.
pub fn no_ports() -> String {
    format!("brig does not publish ports: {PAGE}")
}

fn remove(config: &mut Value) -> Result<()> {
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    let namespaces = namespaces.context("the config has no namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "network");
    Ok(())
}

fn of_container(change: &Change<'_>, id: &str) -> Result<String> {
    let root = change.root.context(
        "a bundle can outlive the other container: use ns:PATH with its network namespace",
    )?;
    let dir = Dir::open(root, id)?;
    let (state, status) = dir.look().with_context(|| format!("container {id}"))?;
    ensure!(
        [Status::Created, Status::Running, Status::Paused].contains(&status),
        "container {id} is not running"
    );
    Ok(format!("/proc/{}/ns/net", state.pid))
}

/// `--hostname`.
pub fn hostname(change: &mut Change<'_>, name: &str) -> Result<()> {
    ensure!((1..=64).contains(&name.len()), "a host name must have 1 to 64 bytes");
    ensure!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'), "no host name");
    change.config["hostname"] = name.into();
    Ok(())
}

/// `--add-host NAME:IP`.
pub fn add_host(change: &mut Change<'_>, text: &str) -> Result<()> {
    let (name, address) = text.split_once(':').context("not NAME:IP")?;
    ensure!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()), "no host name");
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = address.parse().ok().context("not NAME:IP")?;
    change.beside.hosts.push((address.to_string(), name.to_owned()));
    Ok(())
}
