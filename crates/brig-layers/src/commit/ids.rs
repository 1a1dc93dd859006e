//! The container's ids for those on disk: of owners, and in attributes that contain ids.

use anyhow::{Context, Result};
use sys::idmap::IdMap;

/// Ids on disk that differ from those in the container; empty: all are the same.
#[derive(Debug, Default)]
pub struct Ids {
    /// User ids.
    pub uids: Vec<IdMap>,
    /// Group ids.
    pub gids: Vec<IdMap>,
}

/// The default of the sysctls fs.overflowuid and fs.overflowgid.
const NOBODY: u32 = 65534;

/// The attribute with capabilities of a file: `struct vfs_ns_cap_data` of linux/capability.h.
const CAPABILITIES: &[u8] = b"security.capability";
/// Its last byte of the first word, from the version that has the root of a user namespace.
const REVISION_3: u8 = 3;
/// The same without it.
const REVISION_2: u8 = 2;
/// Where that root is, in the longer version.
const ROOT: std::ops::Range<usize> = 20..24;

/// The attributes with ACLs: `struct posix_acl_xattr_header`, then entries of linux/posix_acl_xattr.h.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
/// Tags of entries with an id.
const ACL_USER: u8 = 0x02;
const ACL_GROUP: u8 = 0x08;

impl Ids {
    /// The ids on disk of the container's root; if it has none, those of its first user and group.
    pub fn of_root(&self) -> (u32, u32) {
        let first = |maps: &[IdMap]| {
            let root = maps.iter().find(|map| map.container == 0).or(maps.first());
            root.map_or(0, |map| map.host)
        };
        (first(&self.uids), first(&self.gids))
    }

    /// The container's ids for the owner and the group of a file.
    ///
    /// # Errors
    ///
    /// If one of them is not mapped in the container.
    pub(crate) fn of_owner(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        let inside = |maps: &[IdMap], id| {
            let why = || format!("is owned by id {id}, which is not mapped in the container");
            inside(maps, id).with_context(why)
        };
        Ok((inside(&self.uids, uid)?, inside(&self.gids, gid)?))
    }

    /// As [`Self::of_owner`]; an id that is not mapped is that which the kernel shows in its place.
    pub(crate) fn of_owner_or_nobody(&self, uid: u32, gid: u32) -> (u32, u32) {
        let inside = |maps, id| inside(maps, id).unwrap_or(NOBODY);
        (inside(&self.uids, uid), inside(&self.gids, gid))
    }

    /// Replaces the ids in attributes by those of the container. What concerns ids that the container does not have
    /// has no effect in it, and is removed; the result tells whether there was any.
    pub(crate) fn convert(&self, attributes: &mut Vec<(Vec<u8>, Vec<u8>)>) -> bool {
        let mut removed = false;
        attributes.retain_mut(|(name, value)| {
            let name = name.as_slice();
            if name == CAPABILITIES {
                let known = self.convert_capabilities(value);
                removed |= !known;
                return known;
            }
            if ACLS.contains(&name) {
                removed |= !self.convert_acl(value);
            }
            true
        });
        removed
    }

    /// The kernel shows the version without a root to the user namespace that this root belongs to, and stores the
    /// one with the root that the writer's user namespace has. False: these are of another user namespace.
    fn convert_capabilities(&self, value: &mut Vec<u8>) -> bool {
        if value.len() != ROOT.end || value[3] != REVISION_3 {
            return true;
        }
        match inside(&self.uids, word(&value[ROOT])) {
            Some(0) => {
                value[3] = REVISION_2;
                value.truncate(ROOT.start);
            }
            Some(root) => value[ROOT].copy_from_slice(&root.to_le_bytes()),
            None => return false,
        }
        true
    }

    /// False if there were entries for other ids.
    fn convert_acl(&self, value: &mut Vec<u8>) -> bool {
        let Some((header, entries)) = value.split_at_checked(ACL_HEADER) else { return true };
        let mut converted = header.to_vec();
        let mut all = true;
        for entry in entries.chunks(ACL_ENTRY) {
            let maps = match entry {
                [ACL_USER, 0, .., _, _, _, _] if entry.len() == ACL_ENTRY => &self.uids,
                [ACL_GROUP, 0, .., _, _, _, _] if entry.len() == ACL_ENTRY => &self.gids,
                _ => {
                    converted.extend_from_slice(entry);
                    continue;
                }
            };
            match inside(maps, word(&entry[4..])) {
                Some(id) => {
                    converted.extend_from_slice(&entry[..4]);
                    converted.extend_from_slice(&id.to_le_bytes());
                }
                None => all = false,
            }
        }
        *value = converted;
        all
    }
}

/// A little-endian number of four bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(u32::MAX, u32::from_le_bytes)
}

/// The container's id for an id on disk, if it has one.
fn inside(maps: &[IdMap], id: u32) -> Option<u32> {
    if maps.is_empty() {
        return Some(id);
    }
    let offset = |map: &IdMap| id.checked_sub(map.host).filter(|offset| *offset < map.size);
    maps.iter().find_map(|map| offset(map).map(|offset| map.container + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        let map = |container, host| IdMap { container, host, size: 10 };
        Ids { uids: vec![map(0, 1000), map(100, 2000)], gids: vec![map(0, 3000)] }
    }

    fn converted(name: &[u8], value: &[u8]) -> (Option<Vec<u8>>, bool) {
        let mut attributes = vec![(name.to_vec(), value.to_vec())];
        let removed = ids().convert(&mut attributes);
        (attributes.pop().map(|(_, value)| value), removed)
    }

    #[test]
    fn capabilities_belong_to_a_root_of_the_container() {
        let of = |root: u32| [&[1, 0, 0, 3][..], &[0x0d; 16], &root.to_le_bytes()].concat();
        let plain = [&[1, 0, 0, 2][..], &[0x0d; 16]].concat();
        let convert = |value: &[u8]| converted(CAPABILITIES, value);
        assert_eq!(convert(&of(1000)), (Some(plain.clone()), false));
        assert_eq!(convert(&plain), (Some(plain.clone()), false));
        assert_eq!(convert(&of(2001)), (Some(of(101)), false));
        assert_eq!(convert(&of(0)), (None, true));
        let mut same = vec![(CAPABILITIES.to_vec(), of(1000))];
        assert!(!Ids::default().convert(&mut same));
        assert_eq!(same[0].1, of(1000));
    }

    #[test]
    fn acls_name_ids_of_the_container() {
        let entry = |tag: u8, id: u32| [&[tag, 0, 4, 0][..], &id.to_le_bytes()].concat();
        let acl = |entries: &[Vec<u8>]| [&[2, 0, 0, 0][..], &entries.concat()].concat();
        let none = u32::MAX;
        let before =
            [entry(1, none), entry(2, 1005), entry(4, none), entry(8, 3001), entry(32, none)];
        let after = [entry(1, none), entry(2, 5), entry(4, none), entry(8, 1), entry(32, none)];
        assert_eq!(converted(ACLS[0], &acl(&before)), (Some(acl(&after)), false));
        let foreign = [entry(1, none), entry(2, 3001), entry(4, none), entry(32, none)];
        let rest = [entry(1, none), entry(4, none), entry(32, none)];
        assert_eq!(converted(ACLS[1], &acl(&foreign)), (Some(acl(&rest)), true));
        // Not an ACL.
        assert_eq!(converted(ACLS[0], b"xy"), (Some(b"xy".to_vec()), false));
    }
}
