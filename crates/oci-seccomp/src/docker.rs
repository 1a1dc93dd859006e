//! Converts profiles in the format of Docker and Podman (`--security-opt seccomp=FILE`) to `linux.seccomp`:
//! resolves `archMap`, `includes` and `excludes` for a container. `linux.seccomp` itself is such a profile,
//! too.
//!
//! ```
//! use oci_seccomp::docker::{Target, read};
//! use oci_seccomp::{Arch, LinuxSeccomp, compile};
//!
//! let text = br#"{
//!     "defaultAction": "SCMP_ACT_ERRNO",
//!     "archMap": [{ "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] }],
//!     "syscalls": [
//!         { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW" },
//!         { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } }
//!     ]
//! }"#;
//! let profile = read(text, &Target::new(&["CAP_CHOWN"], Arch::Aarch64, (6, 1)))?;
//! let profile: LinuxSeccomp = serde_json::from_value(profile)?;
//! assert_eq!(profile.syscalls.as_ref().map(Vec::len), Some(1));
//! compile(&profile, Arch::Aarch64)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::arch::Arch;
use crate::errno;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The target that a profile's `includes` and `excludes` refer to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Target<'a, S> {
    /// The container's bounding set of capabilities, e.g. `CAP_CHOWN`.
    pub bounding: &'a [S],
    /// The machine's native architecture.
    pub native: Arch,
    /// The kernel's version: major and minor.
    pub kernel: (u32, u32),
}

impl<'a, S: AsRef<str>> Target<'a, S> {
    /// A container with this bounding set, on a machine with this native architecture and kernel.
    pub fn new(bounding: &'a [S], native: Arch, kernel: (u32, u32)) -> Target<'a, S> {
        Target { bounding, native, kernel }
    }
}

/// The members of such a profile in addition to those of `linux.seccomp`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Family>>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// An architecture and the others whose programs its kernel runs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Conditions for an entry.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Resolves a profile. The result is `linux.seccomp` for [`crate::LinuxSeccomp`]; members that are not part
/// of Docker's format are passed on unchecked.
///
/// # Errors
///
/// If the text is not such a profile, members exclude each other, or the name of an errno is unknown.
pub fn read<S: AsRef<str>>(text: &[u8], target: &Target<'_, S>) -> Result<Value> {
    let profile: Profile = serde_json::from_slice(text)
        .map_err(|error| Error::new("", format_args!("not a seccomp profile: {error}")))?;
    let mut seccomp = profile.rest;
    number(&mut seccomp, "defaultErrnoRet", "defaultErrno")
        .map_err(|error| Error::new("", error))?;
    let architectures = match (profile.architectures, profile.arch_map) {
        (Some(listed), Some(map)) if !listed.is_empty() && !map.is_empty() => {
            return Err(Error::new("", "architectures and archMap: give only one of them"));
        }
        (_, Some(map)) if !map.is_empty() => Some(family(&map, target.native)),
        (listed, _) => listed,
    };
    if let Some(architectures) = architectures {
        seccomp.insert("architectures".to_owned(), architectures.into());
    }
    let entries = profile.syscalls.unwrap_or_default().into_iter().enumerate();
    let entries = entries.map(|(index, entry)| {
        rule(entry, target).map_err(|error| Error::new(format_args!("syscalls[{index}]"), error))
    });
    let entries: Vec<Option<Value>> = entries.collect::<Result<_>>()?;
    seccomp.insert("syscalls".to_owned(), entries.into_iter().flatten().collect());
    Ok(seccomp.into())
}

/// The machine's native architecture, and those that the profile adds to it.
fn family(map: &[Family], native: Arch) -> Vec<String> {
    let mut found = Vec::new();
    for Family { architecture, sub_architectures } in map {
        if architecture == native.spec().as_str() {
            found.push(architecture.clone());
            found.extend(sub_architectures.iter().flatten().cloned());
        }
    }
    found
}

/// The rule for `linux.seccomp`; None if it has no effect for this target. The error is a text.
fn rule<S: AsRef<str>>(
    entry: Entry,
    target: &Target<'_, S>,
) -> std::result::Result<Option<Value>, String> {
    let names = match (entry.name, entry.names) {
        (Some(name), None) if !name.is_empty() => vec![name],
        (name, Some(names)) if name.as_deref().unwrap_or_default().is_empty() => names,
        (Some(_), Some(_)) => return Err("name and names: give only one of them".into()),
        _ => return Err("names: missing".into()),
    };
    let mut rule = entry.rest;
    number(&mut rule, "errnoRet", "errno")?;
    rule.remove("comment");
    if rule.get("args").is_some_and(Value::is_null) {
        rule.remove("args");
    }
    rule.insert("names".to_owned(), names.into());
    let includes = entry.includes.unwrap_or_default();
    let excludes = entry.excludes.unwrap_or_default();
    let has = |name: &String| {
        target.bounding.iter().any(|capability| capability.as_ref().eq_ignore_ascii_case(name))
    };
    let native = |arch: &String| arch == target.native.go_name();
    let newer =
        |filter: &Filter| filter.min_kernel.as_deref().map(|least| at_least(target.kernel, least));
    let (needed, wrong) = (newer(&includes).transpose()?, newer(&excludes).transpose()?);
    let caps = includes.caps.iter().flatten().all(has);
    let arches = includes.arches.unwrap_or_default();
    let included = caps && (arches.is_empty() || arches.iter().any(native));
    let excluded = excludes.caps.iter().flatten().any(has)
        || excludes.arches.iter().flatten().any(native)
        || wrong == Some(true);
    Ok((included && needed != Some(false) && !excluded).then(|| rule.into()))
}

/// Whether the kernel is at least this version, e.g. `4.8`.
fn at_least(kernel: (u32, u32), least: &str) -> std::result::Result<bool, String> {
    let version = least
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    version.map(|version| kernel >= version).ok_or_else(|| format!("minKernel: {least:?}"))
}

/// Podman also writes errors by name, in a separate member that takes precedence over the number.
fn number(
    object: &mut Map<String, Value>,
    number: &str,
    name: &str,
) -> std::result::Result<(), String> {
    let by_name = object.remove(name).filter(|value| !value.is_null() && value != "");
    let by_name = by_name.or_else(|| object.get(number).filter(|value| value.is_string()).cloned());
    if let Some(value) = by_name {
        let text = value.as_str().ok_or_else(|| format!("{name}: {value} is not a name"))?;
        let errno = errno::number(text);
        if errno.is_none() {
            return Err(format!("{name}: {text:?} is not the name of an errno"));
        }
        object.insert(number.to_owned(), errno.into());
    }
    if object.get(number).is_some_and(Value::is_null) {
        object.remove(number);
    }
    // Go writes 0 for an absent value.
    let refuses = |object: &Map<String, Value>| {
        let action = object.get("action").or_else(|| object.get("defaultAction"));
        let action = action.and_then(Value::as_str).unwrap_or_default();
        ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&action)
    };
    if !refuses(object) && object.get(number).is_some_and(|value| value == 0) {
        object.remove(number);
    }
    Ok(())
}
