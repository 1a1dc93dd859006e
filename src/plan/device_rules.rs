//! Validates `linux.resources.devices`: access to device nodes.

use crate::spec::{self, Place};
use anyhow::{Result, bail};

/// A rule for a set of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// The kind of device.
    pub kind: DeviceKind,
    /// Major number, `None` is all.
    pub major: Option<u32>,
    /// Minor number, `None` is all.
    pub minor: Option<u32>,
    /// The accesses of the rule: [`READ`], [`WRITE`], [`MKNOD`].
    pub access: u8,
    /// Index in `linux.resources.devices`, `None` for one of the spec's default devices.
    pub index: Option<usize>,
}

/// The kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Block and character devices.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// Access by mknod(2). The three have the values of the kernel's `BPF_DEVCG_ACC_*`.
pub const MKNOD: u8 = 1;
/// Access by reading.
pub const READ: u8 = 2;
/// Access by writing.
pub const WRITE: u8 = 4;
/// All three.
pub const ALL_ACCESS: u8 = MKNOD | READ | WRITE;

/// The devices of every container, allowed after the config's rules and therefore in any case, as in
/// runc: creating any node, and using the harmless ones. c 5:1 is the host's console: a container's /dev/console
/// is a pty.
const DEFAULT_DEVICES: [(DeviceKind, Option<u32>, Option<u32>, u8); 10] = [
    (DeviceKind::Char, None, None, MKNOD),
    (DeviceKind::Block, None, None, MKNOD),
    (DeviceKind::Char, Some(1), Some(3), ALL_ACCESS), // null
    (DeviceKind::Char, Some(1), Some(5), ALL_ACCESS), // zero
    (DeviceKind::Char, Some(1), Some(7), ALL_ACCESS), // full
    (DeviceKind::Char, Some(1), Some(8), ALL_ACCESS), // random
    (DeviceKind::Char, Some(1), Some(9), ALL_ACCESS), // urandom
    (DeviceKind::Char, Some(5), Some(0), ALL_ACCESS), // tty
    (DeviceKind::Char, Some(5), Some(2), ALL_ACCESS), // ptmx
    (DeviceKind::Char, Some(136), None, ALL_ACCESS),  // pts/*
];

/// The config's rules, then the default devices.
pub(super) fn rules(rules: &[spec::DeviceRule]) -> Result<Vec<DeviceRule>> {
    let mut devices = Vec::with_capacity(rules.len() + DEFAULT_DEVICES.len());
    for (index, rule) in rules.iter().enumerate() {
        devices
            .push(device_rule(rule, index).at(format_args!("linux.resources.devices[{index}]"))?);
    }
    devices.extend(DEFAULT_DEVICES.iter().map(|&(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        access,
        index: None,
    }));
    Ok(devices)
}

fn device_rule(rule: &spec::DeviceRule, index: usize) -> Result<DeviceRule> {
    let kind = match rule.typ {
        None | Some(spec::DeviceType::A) => DeviceKind::All,
        Some(spec::DeviceType::B) => DeviceKind::Block,
        Some(spec::DeviceType::C) => DeviceKind::Char,
    };
    Ok(DeviceRule {
        allow: rule.allow,
        kind,
        major: device_number(rule.major, "major")?,
        minor: device_number(rule.minor, "minor")?,
        access: match rule.access.as_deref().unwrap_or_default() {
            "" if rule.allow => bail!("access is missing: give one or more of r, w and m"),
            "" => ALL_ACCESS,
            letters => access(letters)?,
        },
        index: Some(index),
    })
}

/// Absent and -1 (as engines write it) mean all.
fn device_number(number: Option<i64>, name: &str) -> Result<Option<u32>> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            // In the kernel's lists of cgroup v1 the largest number means all devices.
            Ok(u32::MAX) | Err(_) => bail!("{name} {number}: not a device number"),
            Ok(number) => Ok(Some(number)),
        },
    }
}

fn access(letters: &str) -> Result<u8> {
    letters.chars().try_fold(0, |access, letter| match letter {
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        'm' => Ok(access | MKNOD),
        other => bail!("access {letters:?}: unknown letter {other:?} (valid are r, w and m)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Vec<DeviceRule> {
        rules(&serde_json::from_str::<Vec<spec::DeviceRule>>(json).unwrap()).unwrap()
    }

    #[test]
    fn every_container_has_the_default_devices() {
        let rules = parse("[]");
        assert_eq!(rules.len(), DEFAULT_DEVICES.len());
        assert!(rules.iter().all(|rule| rule.allow && rule.index.is_none()));
    }

    #[test]
    fn the_configs_rules_stand_before_the_defaults() {
        let rules = parse(
            r#"[{"allow":false},{"allow":true,"type":"c","major":1,"minor":-1,"access":"mr"}]"#,
        );
        let all = DeviceRule {
            allow: false,
            kind: DeviceKind::All,
            major: None,
            minor: None,
            access: ALL_ACCESS,
            index: Some(0),
        };
        let some = DeviceRule {
            allow: true,
            kind: DeviceKind::Char,
            major: Some(1),
            access: MKNOD | READ,
            index: Some(1),
            ..all.clone()
        };
        assert_eq!(rules[..2], [all, some]);
        assert_eq!(rules.len(), 2 + DEFAULT_DEVICES.len());
    }
}
