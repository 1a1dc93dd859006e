//! Id maps: the host user and group ids of a user namespace, and their ids in it.

use super::namespaces::Namespaces;
use super::process::Process;
use super::{Host, idmap_option, mount_options};
use crate::spec::{Linux, Mount, Place, Spec};
use anyhow::{Result, anyhow, ensure};
use oci_spec::runtime::LinuxIdMapping;
use sys::idmap::{IdMap, IdMaps, to_text};

/// user_namespaces(7): since Linux 4.15.
const MAX_LINES: usize = 340;
/// One write(2) of less than a page sets the whole map.
const MAX_BYTES: usize = 4095;

/// Reads `linux.uidMappings` and `linux.gidMappings`. A joined user namespace has maps already. Without a map
/// (both are OPTIONAL) a new one has a single id, that of brig's caller.
///
/// # Errors
///
/// If the kernel would refuse the maps.
pub fn of_namespace(spec: &Spec, namespaces: &Namespaces, host: &Host) -> Result<IdMaps> {
    // Empty maps have no effect, as in runc and crun.
    if !namespaces.has(libc::CLONE_NEWUSER) {
        return Ok(IdMaps::default());
    }
    let is_new = namespaces.new & libc::CLONE_NEWUSER != 0;
    let read = |field: &str, maps: &Option<Vec<LinuxIdMapping>>, container, own| {
        let maps = read(maps.as_deref().unwrap_or_default(), &format!("linux.{field}"))?;
        match maps.is_empty() && is_new {
            true => Ok(vec![IdMap { container, host: own, size: 1 }]),
            false => Ok::<_, anyhow::Error>(maps),
        }
    };
    let user = spec.process.as_ref().map(|process| &process.user);
    let (uid, gid) = user.map_or((0, 0), |user| (user.uid, user.gid));
    let own = host.ids();
    Ok(IdMaps {
        uids: read("uidMappings", &spec.linux.uid_mappings, uid, own.uid)?,
        gids: read("gidMappings", &spec.linux.gid_mappings, gid, own.gid)?,
    })
}

/// The id map of an id-mapped mount: files with the container id on disk appear with the host id.
#[derive(Debug, PartialEq, Eq)]
pub struct MountMap {
    /// None: the maps of the container's user namespace.
    pub maps: Option<IdMaps>,
    /// Also applies to the mounts below it.
    pub recursive: bool,
    /// Its place in config.json.
    pub place: String,
}

impl MountMap {
    /// Reads the mappings of a mount and its option `idmap` or `ridmap`.
    pub fn new(
        mount: &Mount,
        option: Option<mount_options::IdMap<'_>>,
        linux: &Linux,
        place: &str,
    ) -> Result<Option<MountMap>> {
        let read = |field, maps: &Option<Vec<_>>| {
            read(maps.as_deref().unwrap_or_default(), &format!("{place}.{field}"))
        };
        let uids = read("uidMappings", &mount.uid_mappings)?;
        let gids = read("gidMappings", &mount.gid_mappings)?;
        // config.md, Mounts: either MUST be specified along with the other.
        let missing = "missing: a mount needs both uidMappings and gidMappings, or neither";
        ensure_at(gids.is_empty() || !uids.is_empty(), missing, &format!("{place}.uidMappings"))?;
        ensure_at(uids.is_empty() || !gids.is_empty(), missing, &format!("{place}.gidMappings"))?;
        let mut maps = (!uids.is_empty()).then_some(IdMaps { uids, gids });
        let place = match option {
            Some(option) => format!("{place}.options[{}]", option.option),
            None if maps.is_some() => format!("{place}.uidMappings"),
            None => return Ok(None),
        };
        if let Some(text) = option.and_then(|option| option.mappings) {
            let twice = "has mappings, although the mount has uidMappings and gidMappings: give only one of the two";
            ensure_at(maps.is_none(), twice, &place)?;
            maps = Some(idmap_option::parse(text, linux).at(&place)?);
        }
        let recursive = option.is_some_and(|option| option.recursive);
        Ok(Some(MountMap { maps, recursive, place }))
    }
}

/// Checks that the ids of the process are mapped.
pub fn check_user(id_maps: &IdMaps, process: &Process) -> Result<()> {
    let mapped = |maps: &[IdMap], id: u32| {
        maps.iter().any(|map| id >= map.container && id - map.container < map.size)
    };
    let check = |maps: &[IdMap], id: u32, field: &str| {
        let text = || anyhow!("{id} is not mapped in the user namespace");
        if mapped(maps, id) { Ok(()) } else { Err(text()).at(format!("process.user.{field}")) }
    };
    check(&id_maps.uids, process.uid, "uid")?;
    check(&id_maps.gids, process.gid, "gid")?;
    let groups = process.groups.iter().enumerate();
    groups
        .into_iter()
        .try_for_each(|(i, gid)| check(&id_maps.gids, *gid, &format!("additionalGids[{i}]")))
}

fn ensure_at(condition: bool, text: &'static str, place: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(anyhow!(text)).at(place) }
}

/// Reads one list of mappings, of a user namespace or of an idmapped mount.
pub fn read(spec: &[LinuxIdMapping], place: &str) -> Result<Vec<IdMap>> {
    let mut maps: Vec<IdMap> = Vec::with_capacity(spec.len());
    for (i, map) in spec.iter().enumerate() {
        let map = IdMap { container: map.container_id(), host: map.host_id(), size: map.size() };
        check(map, &maps).at(format!("{place}[{i}]"))?;
        maps.push(map);
    }
    let limits = || {
        ensure!(maps.len() <= MAX_LINES, "has {} entries, the maximum is {MAX_LINES}", maps.len());
        let bytes = to_text(&maps).len();
        ensure!(
            bytes <= MAX_BYTES,
            "is {bytes} bytes long in the kernel's format, the maximum is {MAX_BYTES}"
        );
        Ok(())
    };
    limits().at(place)?;
    Ok(maps)
}

pub(super) fn check(map: IdMap, others: &[IdMap]) -> Result<()> {
    ensure!(map.size > 0, "has size 0");
    let fits = |first: u32| first.checked_add(map.size).is_some();
    ensure!(fits(map.container) && fits(map.host), "reaches beyond the last id");
    let overlap = |a: u32, b: u32, size: u32| a < b + size && b < a + map.size;
    for other in others {
        ensure!(
            !overlap(map.container, other.container, other.size),
            "overlaps the container ids of an earlier entry"
        );
        ensure!(
            !overlap(map.host, other.host, other.size),
            "overlaps the host ids of an earlier entry"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(json: &str) -> Result<Vec<IdMap>> {
        read(&serde_json::from_str::<Vec<LinuxIdMapping>>(json).unwrap(), "linux.uidMappings")
    }

    #[test]
    fn ranges_must_not_overlap_or_overflow() {
        let text = |json: &str| format!("{:#}", maps(json).unwrap_err());
        let zero = r#"{"containerID":0,"hostID":1000,"size":10}"#;
        let same = r#"{"containerID":9,"hostID":5000,"size":1}"#;
        assert_eq!(
            text(&format!("[{zero},{same}]")),
            "linux.uidMappings[1]: overlaps the container ids of an earlier entry"
        );
        assert!(text(r#"[{"containerID":0,"hostID":4294967295,"size":2}]"#).contains("beyond"));
        assert!(text(r#"[{"containerID":0,"hostID":1,"size":0}]"#).contains("size 0"));
    }

    #[test]
    fn a_mount_has_both_maps_or_its_namespaces() {
        let of = |maps: &str, option: Option<(usize, bool)>| {
            let mount: Mount =
                serde_json::from_str(&format!(r#"{{"destination":"/a"{maps}}}"#)).unwrap();
            let option = option.map(|(option, recursive)| {
                let mappings = None;
                mount_options::IdMap { option, recursive, mappings }
            });
            MountMap::new(&mount, option, &Linux::default(), "mounts[2]")
        };
        assert_eq!(of("", None).unwrap(), None);
        let place = "mounts[2].options[4]".to_owned();
        let namespaces = MountMap { maps: None, recursive: true, place };
        assert_eq!(of("", Some((4, true))).unwrap(), Some(namespaces));
        let one = r#"[{"containerID":0,"hostID":7,"size":1}]"#;
        let both = format!(r#","uidMappings":{one},"gidMappings":{one}"#);
        let map = of(&both, None).unwrap().unwrap();
        assert_eq!((map.maps.is_some(), map.recursive), (true, false));
        let error = of(&format!(r#","uidMappings":{one}"#), Some((0, false))).unwrap_err();
        assert!(format!("{error:#}").starts_with("mounts[2].gidMappings: missing"), "{error:#}");
    }

    #[test]
    fn the_kernels_limits_are_named() {
        let list = |count: u32, step: u32| {
            let entry =
                |i| format!(r#"{{"containerID":{},"hostID":{},"size":1}}"#, i, 1 + i * step);
            format!("[{}]", (0..count).map(entry).collect::<Vec<_>>().join(","))
        };
        assert!(maps(&list(340, 1)).is_ok());
        assert!(format!("{:#}", maps(&list(341, 1)).unwrap_err()).contains("maximum is 340"));
        assert!(
            format!("{:#}", maps(&list(340, 10_000_000)).unwrap_err()).contains("maximum is 4095")
        );
    }
}
