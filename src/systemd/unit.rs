//! The container's unit: its name and its lifecycle.

use super::bus::{Bus, BusError, Instance};
use super::variant;
use super::wire::Value;
use crate::spec::Place;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A systemd scope with the container's cgroup. Stored before it is requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// E.g. `brig-x.scope`.
    pub name: String,
    /// E.g. `system.slice`.
    pub slice: String,
    /// The instance that owns it.
    pub instance: Instance,
    /// The cgroup below the unit's that contains the container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subgroup: String,
}

/// A property and its value.
pub type Property = (String, Value);

/// A request to start the unit.
#[derive(Debug)]
pub struct UnitRequest {
    /// The unit.
    pub unit: Unit,
    /// The properties set by annotations.
    pub properties: Vec<Property>,
}

/// A pending request to start a unit.
#[derive(Debug)]
pub struct Start {
    properties: Vec<Property>,
    /// The properties from this index on are the config's limits: none of them may be omitted.
    ours: usize,
    serial: u32,
    /// systemd has replied.
    taken: bool,
}

const PROPERTY: &str = "org.systemd.property.";
const SUBGROUP: &str = "run.oci.systemd.subgroup";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const READ_ONLY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";
const UNKNOWN: &str = "org.freedesktop.DBus.Error.UnknownProperty";

impl UnitRequest {
    /// Reads `linux.cgroupsPath`, `slice:prefix:name`, and the annotations. Without a path it is
    /// `brig-ID.scope` in system.slice, or for an unprivileged user, in user.slice.
    pub fn new(
        cgroups_path: Option<&str>,
        id: &str,
        annotations: &BTreeMap<String, String>,
        instance: Instance,
    ) -> Result<UnitRequest> {
        let path = cgroups_path.filter(|path| !path.is_empty());
        let default = match instance {
            Instance::System => "system.slice",
            Instance::User => "user.slice",
        };
        let (slice, name) = match path {
            None => (default.to_owned(), format!("brig-{}.scope", escape(id))),
            Some(path) => names(path, default).at("linux.cgroupsPath")?,
        };
        let mut subgroup = String::new();
        let mut properties = Vec::new();
        for (name, value) in annotations {
            let place = || format!("annotations[{name:?}]");
            if let Some(property) = name.strip_prefix(PROPERTY) {
                properties.push(self::property(property, value).at(place())?);
            } else if name == SUBGROUP {
                subgroup = self::subgroup(value).at(place())?;
            }
        }
        Ok(UnitRequest { unit: Unit { name, slice, instance, subgroup }, properties })
    }
}

/// Slice and scope of `slice:prefix:name`.
fn names(path: &str, default: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        bail!("{path:?}: with systemd the form is \"slice:prefix:name\"");
    };
    let slice = if slice.is_empty() { default } else { slice };
    check_slice(slice).with_context(|| format!("{slice:?}"))?;
    ensure!(!name.is_empty(), "{path:?}: has no name");
    // As in runc, for Kubernetes pods; but a slice itself cannot contain processes.
    ensure!(!name.ends_with(".slice"), "{name:?}: a container is a scope, not a slice");
    let scope = format!("{prefix}-{name}.scope");
    check(&scope).with_context(|| format!("{scope:?}"))?;
    Ok((slice.to_owned(), scope))
}

/// systemd's rule for the names of units (systemd.unit(5)).
fn check(name: &str) -> Result<()> {
    let sound = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
    if let Some(bad) = name.chars().find(|&c| !sound(c)) {
        bail!("the name of a unit cannot contain {bad:?}");
    }
    ensure!(name.len() <= 255, "the name of a unit has at most 255 bytes");
    Ok(())
}

/// Dashes make a slice's path (systemd.slice(5)): `a-b.slice` is in `a.slice`.
fn check_slice(slice: &str) -> Result<()> {
    check(slice)?;
    let name =
        slice.strip_suffix(".slice").context("is not a slice: it does not end with .slice")?;
    let sound = name == "-" || !name.is_empty() && name.split('-').all(|part| !part.is_empty());
    ensure!(sound, "is not the name of a slice: one of its dashes is not between two names");
    Ok(())
}

/// An id may contain a plus, the name of a unit may not: escaped as by systemd-escape(1).
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

/// A sub-cgroup, as in crun.
fn subgroup(value: &str) -> Result<String> {
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    ensure!(
        value.is_empty() || value.split('/').all(sound) && !value.contains(['\0', '\n']),
        "{value:?} is not a relative path of a cgroup"
    );
    Ok(value.to_owned())
}

/// `org.systemd.property.NAME`: a name that ends in Sec is a time in seconds, as in unit files.
fn property(name: &str, value: &str) -> Result<Property> {
    let letters = name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    ensure!(letters, "{name:?} is not a property of a unit");
    ensure!(
        !["PIDs", "PIDFDs"].contains(&name),
        "an annotation cannot choose the processes of the unit"
    );
    let value = variant::parse(value).with_context(|| {
        format!("{value:?} is not a value in GLib's text format (e.g. uint64 5, 'text', ['a', 'b'], true)")
    })?;
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            Ok((format!("{stem}USec"), microseconds(&value)?))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is cast is within u64, and microseconds have no fractions"
)]
fn microseconds(value: &Value) -> Result<Value> {
    let whole = match *value {
        Value::Byte(n) => Some(u64::from(n)),
        Value::U16(n) => Some(n.into()),
        Value::U32(n) => Some(n.into()),
        Value::U64(n) => Some(n),
        Value::I16(n) => u64::try_from(n).ok(),
        Value::I32(n) => u64::try_from(n).ok(),
        Value::I64(n) => u64::try_from(n).ok(),
        Value::Double(n) if (0.0..1e13).contains(&n) => {
            return Ok(Value::U64((n * 1e6) as u64));
        }
        _ => None,
    };
    let whole = whole.and_then(|seconds| seconds.checked_mul(1_000_000));
    Ok(Value::U64(whole.context("is not a number of seconds")?))
}

fn is(error: &anyhow::Error, names: &[&str]) -> bool {
    error.downcast_ref::<BusError>().is_some_and(|refused| names.contains(&refused.name.as_str()))
}

fn as_value(properties: &[Property]) -> Value {
    let one = |(name, value): &Property| {
        Value::Struct(vec![name.as_str().into(), Value::Variant(Box::new(value.clone()))])
    };
    Value::Array("(sv)".into(), properties.iter().map(one).collect())
}

impl Unit {
    /// Requests the unit with process `pid` in it and with these limits; does not wait.
    pub fn start(
        &self,
        bus: &mut Bus,
        id: &str,
        pid: u32,
        limits: Vec<Property>,
        more: &[Property],
    ) -> Result<Start> {
        let yes = |name: &str| (name.to_owned(), Value::Bool(true));
        let mut properties = vec![
            ("Description".to_owned(), format!("brig container {id}").as_str().into()),
            ("Slice".to_owned(), self.slice.as_str().into()),
            ("PIDs".to_owned(), Value::Array("u".into(), vec![Value::U32(pid)])),
            yes("Delegate"),
            // Containers are not stopped before everything else at shutdown, and do not wait for targets.
            ("DefaultDependencies".to_owned(), Value::Bool(false)),
            // A failed one, e.g. because of the OOM killer, is also forgotten.
            ("CollectMode".to_owned(), "inactive-or-failed".into()),
        ];
        properties.extend(
            ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"].map(yes),
        );
        properties.extend(limits);
        let ours = properties.len();
        properties.extend_from_slice(more);
        bus.subscribe()?;
        let serial = self.ask(bus, &properties)?;
        Ok(Start { properties, ours, serial, taken: false })
    }

    fn ask(&self, bus: &mut Bus, properties: &[Property]) -> Result<u32> {
        let none = Value::Array("(sa(sv))".into(), Vec::new());
        let name = self.name.as_str();
        bus.ask("StartTransientUnit", &[name.into(), "replace".into(), as_value(properties), none])
    }

    /// Waits until systemd has created the unit and moved the process into it.
    ///
    /// # Errors
    ///
    /// If systemd refuses the unit, or does not start it in time.
    pub fn started(&self, bus: &mut Bus, start: &mut Start) -> Result<()> {
        let mut reset = false;
        let job = loop {
            let error = match bus.answer(start.serial, "StartTransientUnit") {
                Ok(job) => break job,
                Err(error) => error.context(format!("start unit {}", self.name)),
            };
            if is(&error, &[READ_ONLY, UNKNOWN])
                && let Some(at) = start.unknown(&error)
            {
                // An older systemd does not support the property. The limit is written to its file as well.
                start.properties.remove(at);
                start.ours -= 1;
            } else if is(&error, &[UNIT_EXISTS]) && !reset {
                // An earlier unit of this name has failed, and was not reset.
                reset = true;
                bus.call("ResetFailedUnit", &[self.name.as_str().into()]).or_else(unless_gone)?;
            } else if is(&error, &[UNIT_EXISTS]) {
                return Err(error).at("linux.cgroupsPath");
            } else {
                return Err(error);
            }
            start.serial = self.ask(bus, &start.properties)?;
        };
        start.taken = true;
        let result = bus.job(&job, &format!("start unit {}", self.name))?;
        ensure!(
            result == "done",
            "systemd failed to start unit {}: {result} (see systemctl status {})",
            self.name,
            self.name
        );
        Ok(())
    }

    /// Stops the unit, whose processes have exited, in any state: systemd then forgets it.
    pub fn stop(&self) -> Result<()> {
        let mut bus = Bus::connect(self.instance)?;
        bus.subscribe()?;
        match bus.call("StopUnit", &[self.name.as_str().into(), "replace".into()]) {
            Ok(job) => bus.job(&job, &format!("stop unit {}", self.name)).map(drop),
            // systemd has already noticed that it is empty.
            Err(error) => {
                unless_gone(error).map(drop).with_context(|| format!("stop unit {}", self.name))
            }
        }
    }

    /// Moves processes into the unit, if the kernel does not permit brig to do it: into the container's own
    /// cgroup.
    pub fn attach(&self, pid: u32) -> Result<()> {
        let mut bus = Bus::connect(self.instance)?;
        let pids = Value::Array("u".into(), vec![Value::U32(pid)]);
        let below = format!("/{}", self.subgroup);
        bus.call(
            "AttachProcessesToUnit",
            &[self.name.as_str().into(), below.as_str().into(), pids],
        )
        .with_context(|| format!("move process {pid} into unit {}", self.name))?;
        Ok(())
    }

    /// Changes limits of the running unit.
    pub fn set(&self, limits: &[Property]) -> Result<()> {
        if limits.is_empty() {
            return Ok(());
        }
        let mut bus = Bus::connect(self.instance)?;
        let mut limits = limits.to_vec();
        loop {
            let arguments = [self.name.as_str().into(), Value::Bool(true), as_value(&limits)];
            let Err(error) = bus.call("SetUnitProperties", &arguments) else {
                // systemd handles this call only after it has applied the change.
                return bus.call("GetUnit", &arguments[..1]).map(drop);
            };
            let unknown = unknown(&limits, &error).filter(|_| is(&error, &[READ_ONLY, UNKNOWN]));
            let Some(at) = unknown else {
                return Err(error).with_context(|| format!("change unit {}", self.name));
            };
            limits.remove(at);
        }
    }
}

fn unless_gone(error: anyhow::Error) -> Result<String> {
    if is(&error, &[NO_SUCH_UNIT]) { Ok(String::new()) } else { Err(error) }
}

impl Start {
    /// systemd has replied: the unit is brig's.
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// The properties of brig's own that this systemd does not know.
    fn unknown(&self, error: &anyhow::Error) -> Option<usize> {
        unknown(&self.properties[..self.ours], error)
    }
}

fn unknown(properties: &[Property], error: &anyhow::Error) -> Option<usize> {
    let text = error.downcast_ref::<BusError>()?.to_string();
    let named = |(name, _): &Property| {
        text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name)
    };
    properties.iter().position(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, annotations: &[(&str, &str)]) -> Result<UnitRequest> {
        let annotations = annotations.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        UnitRequest::new(Some(path), "a+b", &annotations, Instance::System)
    }

    fn unit(path: &str) -> (String, String) {
        let Unit { name, slice, .. } = asked(path, &[]).unwrap().unit;
        (slice, name)
    }

    #[test]
    fn a_path_is_slice_prefix_name() {
        let pair = |slice: &str, name: &str| (slice.to_owned(), name.to_owned());
        assert_eq!(unit(""), pair("system.slice", "brig-a\\x2bb.scope"));
        assert_eq!(unit("a-b.slice:docker:x"), pair("a-b.slice", "docker-x.scope"));
        assert_eq!(unit(":p:x"), pair("system.slice", "p-x.scope"));
        assert_eq!(unit("-.slice::x"), pair("-.slice", "-x.scope"));
        let none = UnitRequest::new(None, "x", &BTreeMap::new(), Instance::User).unwrap().unit;
        assert_eq!((none.slice.as_str(), none.name.as_str()), ("user.slice", "brig-x.scope"));
    }

    #[test]
    fn what_is_no_such_path_is_refused_by_name() {
        for (path, word) in [
            ("/a/b", "slice:prefix:name"),
            ("a.slice:b", "slice:prefix:name"),
            ("a.slice:b:c:d", "slice:prefix:name"),
            ("a:b:c", ".slice"),
            ("a/b.slice:b:c", "'/'"),
            ("a--b.slice:b:c", "dashes"),
            ("-a.slice:b:c", "dashes"),
            (".slice:b:c", "dashes"),
            ("a.slice:b:", "no name"),
            ("a.slice:b:c.slice", "not a slice"),
            ("a.slice:b:c d", "' '"),
            ("a.slice:b:c\u{e9}", "\u{e9}"),
        ] {
            let message = format!("{:#}", asked(path, &[]).unwrap_err());
            assert!(message.starts_with("linux.cgroupsPath: "), "{message}");
            assert!(message.contains(word), "{path}: {message}");
        }
        assert!(asked(&format!("a.slice:{}:c", "b".repeat(250)), &[]).is_err());
    }

    #[test]
    fn annotations_are_properties() {
        let annotations = [
            ("org.systemd.property.TimeoutStopSec", "uint64 5"),
            ("org.systemd.property.RuntimeMaxSec", "0.5"),
            ("org.systemd.property.CPUQuotaPerSecUSec", "uint64 7"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("run.oci.systemd.subgroup", "a/b"),
            ("org.systemd.else", "x"),
        ];
        let asked = asked("", &annotations).unwrap();
        let expected = [
            ("CPUQuotaPerSecUSec", Value::U64(7)),
            ("CollectMode", "inactive-or-failed".into()),
            ("RuntimeMaxUSec", Value::U64(500_000)),
            ("TimeoutStopUSec", Value::U64(5_000_000)),
        ];
        assert_eq!(asked.properties, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(asked.unit.subgroup, "a/b");
    }

    #[test]
    fn annotations_that_are_no_properties_are_refused_by_name() {
        for (name, value) in [
            ("org.systemd.property.", "true"),
            ("org.systemd.property.Ab", "true"),
            ("org.systemd.property.A1b", "true"),
            ("org.systemd.property.PIDs", "[uint32 1]"),
            ("org.systemd.property.Slice", "system.slice"),
            ("org.systemd.property.TimeoutStopSec", "'5'"),
            ("org.systemd.property.TimeoutStopSec", "-5"),
            ("org.systemd.property.TimeoutStopSec", "uint64 18446744073709551615"),
            ("run.oci.systemd.subgroup", "../x"),
            ("run.oci.systemd.subgroup", "/x"),
        ] {
            let message = format!("{:#}", asked("", &[(name, value)]).unwrap_err());
            assert!(message.starts_with(&format!("annotations[{name:?}]: ")), "{message}");
        }
    }
}
