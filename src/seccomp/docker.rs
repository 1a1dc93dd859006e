//! Profiles as docker and podman write them become `linux.seccomp`: for a container's bounding set of
//! capabilities, a machine's architecture, a kernel. `linux.seccomp` itself is taken as it is.

use super::arch::Arch;
use super::errno;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a profile's conditions are about.
#[derive(Debug)]
pub struct Host<'a> {
    /// The container's bounding set.
    pub bounding: &'a [String],
    /// The machine's own architecture.
    pub native: Arch,
    /// The kernel's version: major, minor.
    pub kernel: (u32, u32),
}

/// What such a profile has beside `linux.seccomp`'s members.
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

/// An architecture and those whose programs its kernel runs, too.
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

/// When an entry counts, or does not.
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

/// Reads a profile.
pub fn read(text: &[u8], host: &Host<'_>) -> Result<Value> {
    let profile: Profile = serde_json::from_slice(text).context("no seccomp profile")?;
    let mut seccomp = profile.rest;
    number(&mut seccomp, "defaultErrnoRet", "defaultErrno")?;
    let architectures = match (profile.architectures, profile.arch_map) {
        (Some(listed), Some(map)) if !listed.is_empty() && !map.is_empty() => {
            bail!("architectures and archMap: only one of them may be given")
        }
        (_, Some(map)) if !map.is_empty() => Some(family(&map, host.native)),
        (listed, _) => listed,
    };
    if let Some(architectures) = architectures {
        seccomp.insert("architectures".to_owned(), architectures.into());
    }
    let entries = profile.syscalls.unwrap_or_default().into_iter().enumerate();
    let entries = entries
        .map(|(index, entry)| entry_of(entry, host).with_context(|| format!("syscalls[{index}]")));
    let entries: Vec<Option<Value>> = entries.collect::<Result<_>>()?;
    seccomp.insert("syscalls".to_owned(), entries.into_iter().flatten().collect());
    Ok(seccomp.into())
}

/// The one of this machine, and what belongs to it.
fn family(map: &[Family], native: Arch) -> Vec<String> {
    let mut found = Vec::new();
    for Family { architecture, sub_architectures } in map {
        if architecture == native.spec_name() {
            found.push(architecture.clone());
            found.extend(sub_architectures.iter().flatten().cloned());
        }
    }
    found
}

/// None if it does not count here.
fn entry_of(entry: Entry, host: &Host<'_>) -> Result<Option<Value>> {
    let names = match (entry.name, entry.names) {
        (Some(name), None) if !name.is_empty() => vec![name],
        (name, Some(names)) if name.as_deref().unwrap_or_default().is_empty() => names,
        (Some(_), Some(_)) => bail!("name and names: only one of them may be given"),
        _ => bail!("names: missing"),
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
        host.bounding.iter().any(|capability| capability.eq_ignore_ascii_case(name))
    };
    let native = |arch: &String| arch == host.native.go_name();
    let newer = |filter: &Filter| filter.min_kernel.as_deref().map(|least| at_least(host, least));
    let (needed, wrong) = (newer(&includes).transpose()?, newer(&excludes).transpose()?);
    let caps = includes.caps.iter().flatten().all(has);
    let arches = includes.arches.unwrap_or_default();
    let included = caps && (arches.is_empty() || arches.iter().any(native));
    let excluded = excludes.caps.iter().flatten().any(has)
        || excludes.arches.iter().flatten().any(native)
        || wrong == Some(true);
    Ok((included && needed != Some(false) && !excluded).then(|| rule.into()))
}

/// `4.8`: the kernel is not older.
fn at_least(host: &Host<'_>, least: &str) -> Result<bool> {
    let (major, minor) = least.split_once('.').with_context(|| format!("minKernel: {least:?}"))?;
    let read = |text: &str| text.parse::<u32>().map_err(|_| anyhow!("minKernel: {least:?}"));
    Ok(host.kernel >= (read(major)?, read(minor)?))
}

/// podman has errors by name, too: in a member of their own, which goes before the number.
fn number(object: &mut Map<String, Value>, number: &str, name: &str) -> Result<()> {
    let by_name = object.remove(name).filter(|value| !value.is_null() && value != "");
    let by_name = by_name.or_else(|| object.get(number).filter(|value| value.is_string()).cloned());
    if let Some(value) = by_name {
        let text = value.as_str().with_context(|| format!("{name}: {value} is not a name"))?;
        let errno = errno::number(text);
        ensure!(errno.is_some(), "{name}: {text:?} is not the name of an error");
        object.insert(number.to_owned(), errno.into());
    }
    if object.get(number).is_some_and(Value::is_null) {
        object.remove(number);
    }
    // Zero, as Go writes what is not there.
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
