//! `run.brig.landlock`: rights to files and ports that the container's processes give up (landlock(7)). The
//! JSON in the annotation uses the names of the proposal for runtime-spec (runtime-spec#1241), as far as that
//! goes.

use super::Host;
use crate::spec::Place;
use crate::suggest;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::CString;

/// The annotation.
pub const ANNOTATION: &str = "run.brig.landlock";
/// Its place in config.json.
pub const PLACE: &str = "annotations[\"run.brig.landlock\"]";

/// Rights by name, from bit 0 on (linux/landlock.h), each with the first ABI version that supports it.
type Rights = [(&'static str, u32)];

const FILES: &Rights = &[
    ("execute", 1),
    ("write_file", 1),
    ("read_file", 1),
    ("read_dir", 1),
    ("remove_dir", 1),
    ("remove_file", 1),
    ("make_char", 1),
    ("make_dir", 1),
    ("make_reg", 1),
    ("make_sock", 1),
    ("make_fifo", 1),
    ("make_block", 1),
    ("make_sym", 1),
    ("refer", 2),
    ("truncate", 3),
    ("ioctl_dev", 5),
];
const PORTS: &Rights = &[("bind_tcp", 4), ("connect_tcp", 4)];
const SCOPES: &Rights = &[("abstract_unix_socket", 6), ("signal", 6)];

/// The rights that apply to files other than directories: execute, write_file, read_file, truncate,
/// ioctl_dev.
pub const OF_FILES: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;

const KEYS: [&str; 5] = ["handledAccessFs", "handledAccessNet", "scoped", "pathBeneath", "netPort"];

/// The validated rules.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Landlock {
    /// File rights that are denied unless a rule allows them.
    pub files: u64,
    /// Port rights that are denied unless a rule allows them.
    pub ports: u64,
    /// Operations that cannot leave the container's domain.
    pub scoped: u64,
    /// Rules for a file, or for a directory and everything below it.
    pub beneath: Vec<Beneath>,
    /// Rules for a port: its number and rights.
    pub port_rules: Vec<(u16, u64)>,
}

/// One of `pathBeneath`, for one path.
#[derive(Debug, PartialEq, Eq)]
pub struct Beneath {
    /// Absolute, in the container.
    pub path: CString,
    /// What is allowed.
    pub rights: u64,
    /// The place of the path in the annotation.
    pub place: String,
}

/// Parses the rules of the annotation.
///
/// # Errors
///
/// If the JSON is not valid, or a right is not supported by the kernel.
pub fn of(annotations: &BTreeMap<String, String>, host: &Host) -> Result<Option<Landlock>> {
    let Some(text) = annotations.get(ANNOTATION) else { return Ok(None) };
    let read = || {
        let value = serde_json::from_str(text).context("is not JSON")?;
        let landlock = Landlock::read(&value)?;
        landlock.ensure_supported(host)?;
        Ok::<_, anyhow::Error>(landlock)
    };
    read().at(PLACE).map(Some)
}

impl Landlock {
    fn read(value: &Value) -> Result<Landlock> {
        let fields = object(value, "", &KEYS)?;
        let refused = |key: &str, known| {
            fields.get(key).map_or(Ok(0), |value| rights(value, key, known, u64::MAX))
        };
        let mut landlock = Landlock {
            files: refused("handledAccessFs", FILES)?,
            ports: refused("handledAccessNet", PORTS)?,
            scoped: refused("scoped", SCOPES)?,
            ..Landlock::default()
        };
        let (files, ports) = (landlock.files, landlock.ports);
        ensure!(
            files | ports | landlock.scoped != 0,
            "restricts nothing: give handledAccessFs, handledAccessNet or scoped"
        );
        for (place, rule) in rules(fields, "pathBeneath")? {
            let rule = object(rule, &place, &["paths", "allowedAccess"])?;
            let allowed = allowed(rule, &place, FILES, files)?;
            for (place, path) in list(rule, &place, "paths")? {
                let path = path.as_str().filter(|path| path.starts_with('/'));
                let path = path.and_then(|path| CString::new(path).ok());
                let path = path.with_context(|| format!("{place}: is not an absolute path"))?;
                landlock.beneath.push(Beneath { path, rights: allowed, place });
            }
        }
        for (place, rule) in rules(fields, "netPort")? {
            let rule = object(rule, &place, &["ports", "allowedAccess"])?;
            let allowed = allowed(rule, &place, PORTS, ports)?;
            for (place, port) in list(rule, &place, "ports")? {
                let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
                let port = port.with_context(|| format!("{place}: is not a port, 0 to 65535"))?;
                landlock.port_rules.push((port, allowed));
            }
        }
        Ok(landlock)
    }

    /// A right that the kernel does not support would not be denied, so it is an error and never skipped.
    fn ensure_supported(&self, host: &Host) -> Result<()> {
        let abi = host.landlock_abi().map_err(|error| anyhow!("not available: {error}"))?;
        for (key, refused, known) in [
            ("handledAccessFs", self.files, FILES),
            ("handledAccessNet", self.ports, PORTS),
            ("scoped", self.scoped, SCOPES),
        ] {
            let newer = known
                .iter()
                .enumerate()
                .find(|(bit, right)| refused >> bit & 1 != 0 && right.1 > abi);
            if let Some((_, (name, needed))) = newer {
                bail!(
                    "{key}: {name} needs version {needed} of Landlock's ABI, and this kernel has {abi}"
                );
            }
        }
        Ok(())
    }
}

/// The object at `place`, which may only have these keys.
fn object<'a>(value: &'a Value, place: &str, keys: &[&str]) -> Result<&'a Map<String, Value>> {
    let dot = if place.is_empty() { "" } else { "." };
    let Some(fields) = value.as_object() else { bail!("{place}{}is not an object", colon(place)) };
    if let Some(key) = fields.keys().find(|key| !keys.contains(&key.as_str())) {
        bail!("{place}{dot}{key}: unknown key{}", suggest::hint(key, keys.iter().copied()));
    }
    Ok(fields)
}

fn colon(place: &str) -> &'static str {
    if place.is_empty() { "" } else { ": " }
}

/// The elements of the array `key`, each with its place; empty if the array is missing.
fn rules<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<Vec<(String, &'a Value)>> {
    if fields.contains_key(key) { list(fields, "", key) } else { Ok(Vec::new()) }
}

/// Like [`rules`], but the array is required.
fn list<'a>(
    fields: &'a Map<String, Value>,
    place: &str,
    key: &str,
) -> Result<Vec<(String, &'a Value)>> {
    let place = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    let array = fields.get(key).and_then(Value::as_array);
    let array = array.with_context(|| format!("{place}: an array is required"))?;
    let named = array.iter().enumerate();
    Ok(named.map(|(index, value)| (format!("{place}[{index}]"), value)).collect())
}

/// The denied rights that a rule allows.
fn allowed(rule: &Map<String, Value>, place: &str, known: &Rights, refused: u64) -> Result<u64> {
    let place = format!("{place}.allowedAccess");
    let value = rule.get("allowedAccess").with_context(|| format!("{place}: missing"))?;
    rights(value, &place, known, refused)
}

/// Parses rights: a number used as a bit mask, or names. `among`: the rights that are valid here.
fn rights(value: &Value, place: &str, known: &Rights, among: u64) -> Result<u64> {
    let all = (1 << known.len()) - 1;
    let mut bits = 0;
    if let Some(number) = value.as_u64() {
        ensure!(
            number & !all == 0,
            "{place}: {:#x} are rights that brig does not know",
            number & !all
        );
        bits = number;
    } else {
        let names = value
            .as_array()
            .with_context(|| format!("{place}: give a number, or an array of names"))?;
        for (index, name) in names.iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let bit = known.iter().position(|(right, _)| *right == name);
            let Some(bit) = bit else {
                let hint = suggest::hint(name, known.iter().map(|(right, _)| *right));
                bail!("{place}[{index}]: unknown right {name:?}{hint}");
            };
            bits |= 1 << bit;
        }
    }
    ensure!(bits != 0, "{place}: at least one right is required");
    let extra = (0..known.len()).find(|bit| bits & !among & 1 << bit != 0);
    if let Some(bit) = extra {
        bail!(
            "{place}: {} is not refused, so that no rule can allow it: add it to what is handled",
            known[bit].0
        );
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;

    fn read(text: &str, abi: Option<u32>) -> Result<Landlock> {
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), text.to_owned())]);
        let host = Host::from(Facts { landlock: abi, ..Facts::ROOT });
        Ok(of(&annotations, &host)?.unwrap())
    }

    fn error(text: &str) -> String {
        let error = format!("{:#}", read(text, Some(7)).unwrap_err());
        error.strip_prefix(&format!("{PLACE}: ")).unwrap_or(&error).to_owned()
    }

    #[test]
    fn rights_are_names_or_numbers() {
        let names = r#"{"handledAccessFs": ["write_file", "make_reg"], "scoped": ["signal"], "handledAccessNet": ["bind_tcp"],
            "pathBeneath": [{"paths": ["/tmp", "/dev/null"], "allowedAccess": ["write_file"]}],
            "netPort": [{"ports": [80], "allowedAccess": ["bind_tcp"]}]}"#;
        let numbers = r#"{"handledAccessFs": 258, "scoped": 2, "handledAccessNet": 1,
            "pathBeneath": [{"paths": ["/tmp", "/dev/null"], "allowedAccess": 2}],
            "netPort": [{"ports": [80], "allowedAccess": 1}]}"#;
        let landlock = read(names, Some(6)).unwrap();
        assert_eq!(landlock, read(numbers, Some(6)).unwrap());
        assert_eq!((landlock.files, landlock.ports, landlock.scoped), (0x102, 1, 2));
        assert_eq!((landlock.beneath.len(), &landlock.port_rules), (2, &vec![(80, 1)]));
        assert!(of(&BTreeMap::new(), &Host::default()).unwrap().is_none());
    }

    #[test]
    fn every_mistake_is_an_error_with_its_place() {
        for (text, said) in [
            ("{", "is not JSON: "),
            ("[]", "is not an object"),
            ("{}", "restricts nothing: "),
            (
                r#"{"handledAccesFs": 1}"#,
                "handledAccesFs: unknown key: did you mean handledAccessFs?",
            ),
            (
                r#"{"handledAccessFs": ["readfile"]}"#,
                "handledAccessFs[0]: unknown right \"readfile\": did you mean read_file?",
            ),
            (
                r#"{"handledAccessFs": 65536}"#,
                "handledAccessFs: 0x10000 are rights that brig does not know",
            ),
            (r#"{"handledAccessFs": []}"#, "handledAccessFs: at least one right"),
            (r#"{"handledAccessFs": "execute"}"#, "handledAccessFs: give a number, or an array"),
            (r#"{"scoped": 1, "pathBeneath": {}}"#, "pathBeneath: an array is required"),
            (r#"{"scoped": 1, "pathBeneath": [7]}"#, "pathBeneath[0]: is not an object"),
            (
                r#"{"handledAccessFs": 1, "pathBeneath": [{"paths": ["/"]}]}"#,
                "pathBeneath[0].allowedAccess: missing",
            ),
            (
                r#"{"handledAccessFs": 1, "pathBeneath": [{"allowedAccess": 1}]}"#,
                "pathBeneath[0].paths: an array is required",
            ),
            (
                r#"{"handledAccessFs": 1, "pathBeneath": [{"paths": ["/", "tmp"], "allowedAccess": 1}]}"#,
                "pathBeneath[0].paths[1]: is not an absolute path",
            ),
            (
                r#"{"handledAccessFs": 1, "pathBeneath": [{"paths": ["/"], "allowedAccess": 3}]}"#,
                "pathBeneath[0].allowedAccess: write_file is not refused",
            ),
            (
                r#"{"handledAccessFs": 1, "pathBeneath": [{"path": "/", "allowedAccess": 1}]}"#,
                "pathBeneath[0].path: unknown key: did you mean paths?",
            ),
            (
                r#"{"handledAccessNet": 1, "netPort": [{"ports": [65536], "allowedAccess": 1}]}"#,
                "netPort[0].ports[0]: is not a port",
            ),
        ] {
            assert!(error(text).starts_with(said), "{text}: {}", error(text));
        }
    }

    #[test]
    fn what_the_kernel_does_not_have_is_an_error_that_names_its_abi() {
        let error = |text, abi| format!("{:#}", read(text, abi).unwrap_err());
        let ioctl = r#"{"handledAccessFs": ["execute", "ioctl_dev"]}"#;
        assert!(read(ioctl, Some(5)).is_ok());
        let said = error(ioctl, Some(4));
        assert!(said.ends_with("handledAccessFs: ioctl_dev needs version 5 of Landlock's ABI, and this kernel has 4"), "{said}");
        assert!(error(r#"{"scoped": ["signal"]}"#, Some(5)).contains("needs version 6"));
        assert!(
            error(r#"{"handledAccessNet": 2}"#, Some(3)).contains("connect_tcp needs version 4")
        );
        assert!(error(ioctl, None).contains("not available: "));
    }
}
