//! The capabilities of a container of an image: podman's default, changed by --cap-add and --cap-drop.

use crate::plan::process::{CAPABILITIES, capability};
use anyhow::{Context, Result, bail};

/// The capabilities that processes of images expect, as in podman: to change owners and users, to bind low
/// ports. None that affects the host.
pub const DEFAULT: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// `ALL` in --cap-add and --cap-drop.
const EVERYTHING: &str = "ALL";

/// The bounding set, in the kernel's order, and the capabilities added by name: a user other than root has
/// only the latter in effect.
#[derive(Debug, Default)]
pub struct Sets {
    /// The bounding set: an upper bound for any program in the container.
    pub bounding: Vec<String>,
    /// The capabilities named by `--cap-add`.
    pub added: Vec<String>,
}

/// Applies `--cap-add` and `--cap-drop`. `possible`: a bit mask of the capabilities that brig can grant.
///
/// # Errors
///
/// If a name is unknown, or given to both flags.
pub fn sets(add: &[&str], drop: &[&str], possible: u64) -> Result<Sets> {
    let (add, drop) = (names("cap-add", add)?, names("cap-drop", drop)?);
    if let Some(both) = add.iter().find(|name| drop.contains(name)) {
        bail!("--cap-add {both}: --cap-drop removes it: give only one of them");
    }
    let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
    let (add_all, drop_all) = (has(&add, EVERYTHING), has(&drop, EVERYTHING));
    let is_possible = |index: usize| possible & 1 << index != 0;
    let known = CAPABILITIES.iter().enumerate();
    let bounding = known.filter(|(index, name)| {
        let default = match add_all {
            true => is_possible(*index),
            false => !drop_all && DEFAULT.contains(name),
        };
        has(&add, name) || default && !has(&drop, name)
    });
    let bounding: Vec<String> = bounding.map(|(_, name)| (*name).to_owned()).collect();
    let added = if add_all {
        bounding.clone()
    } else {
        bounding.iter().filter(|name| has(&add, name)).cloned().collect()
    };
    Ok(Sets { bounding, added })
}

/// Parses names in any letter case, with or without `CAP_`, separated by commas.
fn names(flag: &str, given: &[&str]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for text in given.iter().flat_map(|text| text.split(',')) {
        let full = match text.trim().eq_ignore_ascii_case(EVERYTHING) {
            true => EVERYTHING.to_owned(),
            false => capability(text).with_context(|| format!("--{flag} {text:?}"))?,
        };
        names.push(full);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounding(add: &[&str], drop: &[&str]) -> Vec<String> {
        sets(add, drop, u64::MAX).unwrap().bounding
    }

    #[test]
    fn names_are_taken_in_any_spelling() {
        assert_eq!(bounding(&[], &[]).len(), 11);
        assert_eq!(bounding(&["net_raw", "CAP_SYS_ADMIN"], &["chown", "Cap_Kill"]).len(), 11);
        assert_eq!(bounding(&["NET_RAW"], &["all"]), ["CAP_NET_RAW"]);
        assert_eq!(bounding(&["ALL"], &["sys_admin"]).len(), 40);
        assert_eq!(bounding(&[], &["ALL"]), Vec::<String>::new());
        assert_eq!(sets(&["ALL"], &[], 0b11).unwrap().bounding, ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
        assert_eq!(sets(&["kill"], &["all"], 0).unwrap().added, ["CAP_KILL"]);
        assert!(sets(&["x"], &[], 0).is_err() && sets(&["kill"], &["CAP_KILL"], 0).is_err());
    }
}
