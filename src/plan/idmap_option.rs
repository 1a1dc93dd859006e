//! crun's `idmap=uids=0-1000-1;gids=0-1000-1`: the mappings of an id-mapped mount in its option.

use super::idmap::{check, read};
use crate::spec::Linux;
use anyhow::{Context, Result, bail, ensure};
use sys::idmap::{IdMap, IdMaps};

/// Maps every id to itself.
const IDENTITY: IdMap = IdMap { container: 0, host: 0, size: u32::MAX };

/// Parses the value of `idmap=`. A kind of ids that is missing is not mapped.
pub(super) fn parse(text: &str, linux: &Linux) -> Result<IdMaps> {
    let mut maps = IdMaps::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (kind, ranges) = part.split_once('=').unwrap_or((part, ""));
        let (maps, users, field) = match kind {
            "uids" => (&mut maps.uids, &linux.uid_mappings, "linux.uidMappings"),
            "gids" => (&mut maps.gids, &linux.gid_mappings, "linux.gidMappings"),
            _ => bail!("{kind:?} is neither uids nor gids"),
        };
        ensure!(maps.is_empty(), "contains {kind} twice");
        ensure!(!ranges.is_empty(), "{kind} has no mapping");
        let users = || read(users.as_deref().unwrap_or_default(), field);
        for range in ranges.split('#') {
            add(maps, range, &users).with_context(|| format!("{kind}={range}"))?;
        }
    }
    ensure!(!maps.uids.is_empty() || !maps.gids.is_empty(), "has no mapping");
    for maps in [&mut maps.uids, &mut maps.gids] {
        if maps.is_empty() {
            maps.push(IDENTITY);
        }
    }
    Ok(maps)
}

/// Adds one range; with `@` the second id is one of the container.
fn add(maps: &mut Vec<IdMap>, range: &str, users: &dyn Fn() -> Result<Vec<IdMap>>) -> Result<()> {
    let ranges = match range.strip_prefix('@') {
        Some(relative) => resolve(triplet(relative)?, &users()?)?,
        None => vec![triplet(range)?],
    };
    for map in ranges {
        check(map, maps)?;
        maps.push(map);
    }
    Ok(())
}

/// `FILESYSTEM-HOST-SIZE`.
fn triplet(text: &str) -> Result<IdMap> {
    let wrong = || "is not ID-ID-SIZE (filesystem id, host id, number of ids)";
    let mut numbers = text.split('-').map(|number| number.parse::<u32>());
    let mut next = || numbers.next().and_then(Result::ok).with_context(wrong);
    let map = IdMap { container: next()?, host: next()?, size: next()? };
    ensure!(numbers.next().is_none(), wrong());
    Ok(map)
}

/// Translates container ids to host ids, which can take several ranges.
fn resolve(map: IdMap, users: &[IdMap]) -> Result<Vec<IdMap>> {
    ensure!(!users.is_empty(), "@ needs the mappings of a user namespace in linux");
    let mut ranges = Vec::new();
    let mut done = 0;
    while done < map.size {
        let id = map.host.checked_add(done).context("reaches beyond the last id")?;
        let holds = |user: &&IdMap| id >= user.container && id - user.container < user.size;
        let Some(user) = users.iter().find(holds) else {
            bail!("{id} is not mapped in the user namespace")
        };
        let offset = id - user.container;
        let size = (user.size - offset).min(map.size - done);
        let container = map.container.checked_add(done).context("reaches beyond the last id")?;
        ranges.push(IdMap { container, host: user.host + offset, size });
        done += size;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<IdMaps> {
        let linux = r#"{"uidMappings":[{"containerID":0,"hostID":7,"size":1},
            {"containerID":1,"hostID":2000,"size":1000}]}"#;
        parse(text, &serde_json::from_str(linux).unwrap())
    }

    fn map(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    #[test]
    fn ranges_are_those_of_the_option() {
        let maps = parsed("uids=0-1-10#10-11-10;gids=0-100-10").unwrap();
        assert_eq!(maps.uids, [map(0, 1, 10), map(10, 11, 10)]);
        assert_eq!(maps.gids, [map(0, 100, 10)]);
    }

    #[test]
    fn ids_of_a_kind_that_is_not_named_stay() {
        assert_eq!(parsed("uids=0-1-1").unwrap().gids, [IDENTITY]);
        assert_eq!(parsed("gids=0-1-1").unwrap().uids, [IDENTITY]);
    }

    #[test]
    fn relative_ranges_are_split_as_the_user_namespace_is() {
        assert_eq!(parsed("uids=@1-3-10").unwrap().uids, [map(1, 2002, 10)]);
        let both = [map(5, 7, 1), map(6, 2000, 2), map(0, 1, 1)];
        assert_eq!(parsed("uids=@5-0-3#0-1-1").unwrap().uids, both);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("", "has no mapping"),
            ("uids=", "uids has no mapping"),
            ("users=0-1-1", "\"users\" is neither uids nor gids"),
            ("uids=0-1-1;uids=1-2-1", "contains uids twice"),
            ("uids=0-1", "uids=0-1: is not ID-ID-SIZE"),
            ("uids=0-1-1-1", "uids=0-1-1-1: is not ID-ID-SIZE"),
            ("uids=0-1-1#", "uids=: is not ID-ID-SIZE"),
            ("uids=0:1:1", "uids=0:1:1: is not ID-ID-SIZE"),
            ("uids=0-1-0", "uids=0-1-0: has size 0"),
            ("uids=0-1-2#1-9-1", "uids=1-9-1: overlaps the container ids of an earlier entry"),
            ("uids=@0-1000-9", "uids=@0-1000-9: 1001 is not mapped"),
            ("gids=@0-0-1", "gids=@0-0-1: @ needs the mappings of a user namespace"),
        ] {
            let error = format!("{:#}", parsed(text).unwrap_err());
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
