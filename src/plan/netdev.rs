//! `linux.netDevices`: host network devices for the container, and their names.

use super::namespaces::Namespaces;
use crate::spec::{self, Place};
use anyhow::{Result, anyhow, ensure};

/// A network device to move.
#[derive(Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; `%d` is replaced with the first number that makes it unique.
    pub name: String,
    /// Its place in config.json.
    pub place: String,
}

impl NetDevice {
    /// Whether the kernel chooses the number in its name.
    pub fn is_template(&self) -> bool {
        self.name.contains('%')
    }
}

/// Reads `linux.netDevices`.
///
/// # Errors
///
/// If a name is not valid, or there is no network namespace to move it to.
pub fn plan(linux: &spec::Linux, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let mut devices: Vec<NetDevice> = Vec::with_capacity(linux.net_devices.len());
    if !linux.net_devices.is_empty() && !namespaces.has(libc::CLONE_NEWNET) {
        Err(anyhow!("needs a network namespace in linux.namespaces")).at("linux.netDevices")?;
    }
    for (host, device) in &linux.net_devices {
        let place = format!("linux.netDevices[\"{host}\"]");
        check(host).at(&place)?;
        ensure_at(!host.contains('%'), "is a host device, so %d is not allowed", &place)?;
        let named =
            device.as_ref().and_then(|device| device.name.as_ref()).filter(|name| !name.is_empty());
        let inside = named.map_or(place.clone(), |_| format!("{place}.name"));
        let name = named.unwrap_or(host).clone();
        check(&name).at(&inside)?;
        let device = NetDevice { host: host.clone(), name, place };
        let twice = devices.iter().any(|other| other.name == device.name);
        ensure_at(!twice || device.is_template(), "a second device of this name", &inside)?;
        devices.push(device);
    }
    Ok(devices)
}

fn ensure_at(condition: bool, text: &'static str, place: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(anyhow!(text)).at(place) }
}

/// The names that the kernel accepts (net/core/dev.c, dev_valid_name and dev_prep_valid_name).
fn check(name: &str) -> Result<()> {
    let sound = |c: char| !c.is_whitespace() && !['/', ':', '\0'].contains(&c);
    let named = !name.is_empty() && name != "." && name != ".." && name.chars().all(sound);
    ensure!(named, "{name:?} is not a valid name of a network device");
    ensure!(name.len() <= 15, "{name:?} has {} bytes, the maximum is 15", name.len());
    let templates = (name.matches('%').count(), name.matches("%d").count());
    ensure!(
        [(0, 0), (1, 1)].contains(&templates),
        "{name:?}: the only placeholder is %d, and only once"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str) -> Result<Vec<NetDevice>> {
        let namespaces = Namespaces { new: libc::CLONE_NEWNET, ..Namespaces::default() };
        plan(&serde_json::from_str(&format!(r#"{{"netDevices":{json}}}"#)).unwrap(), &namespaces)
    }

    #[test]
    fn without_a_name_it_keeps_its_own() {
        let names = |json: &str| {
            let devices = devices(json).unwrap();
            devices.into_iter().map(|device| device.name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(r#"{"eth0":{},"eth1":{"name":""},"eth2":null}"#),
            ["eth0", "eth1", "eth2"]
        );
        assert_eq!(names(r#"{"a":{"name":"net%d"},"b":{"name":"net%d"}}"#), ["net%d", "net%d"]);
    }

    #[test]
    fn names_that_the_kernel_would_refuse_are_named() {
        for (json, text) in [
            (r#"{"":{}}"#, r#"linux.netDevices[""]: "" is not a valid name of a network device"#),
            (r#"{"a b":{}}"#, r#"linux.netDevices["a b"]: "a b" is not a valid name"#),
            (r#"{"a%d":{}}"#, r#"linux.netDevices["a%d"]: is a host device, so %d is not allowed"#),
            (r#"{"a":{"name":"0123456789abcdef"}}"#, r#"linux.netDevices["a"].name: "01234"#),
            (
                r#"{"a":{"name":"x%d%d"}}"#,
                r#"linux.netDevices["a"].name: "x%d%d": the only placeholder is %d"#,
            ),
            (
                r#"{"a":{"name":"x%s"}}"#,
                r#"linux.netDevices["a"].name: "x%s": the only placeholder is %d"#,
            ),
            (
                r#"{"a":{"name":"x"},"b":{"name":"x"}}"#,
                r#"linux.netDevices["b"].name: a second device of this name"#,
            ),
            (r#"{"a":{"name":"b"},"b":{}}"#, r#"linux.netDevices["b"]: a second device"#),
        ] {
            let error = format!("{:#}", devices(json).unwrap_err());
            assert!(error.starts_with(text), "{error}");
        }
    }
}
