//! `export` of a container with a user namespace: attributes that contain ids.

use crate::images::Images;
use crate::images_commit::entries;
use crate::sandbox::brig_only;
use crate::userns::mapped;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The first id on the host of the containers here.
const FIRST: u32 = 100_000;

fn set(path: &Path, name: &str, value: &[u8]) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = CString::new(name).unwrap();
    // SAFETY: both are C strings, the value has the given length, and all outlive the call.
    let done = unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    assert_eq!(done, 0, "{path:?} {name:?}: {}", std::io::Error::last_os_error());
}

/// An ACL (acl(5)) with an entry for each of these users and groups.
fn acl(uids: &[u32], gids: &[u32]) -> Vec<u8> {
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let mut acl = vec![2_u32.to_le_bytes().to_vec(), entry(1, 6, none)];
    acl.extend(uids.iter().map(|id| entry(2, 4, *id)));
    acl.push(entry(4, 4, none));
    acl.extend(gids.iter().map(|id| entry(8, 4, *id)));
    acl.extend([entry(0x10, 4, none), entry(0x20, 0, none)]);
    acl.concat()
}

/// The capabilities of a file (capabilities(7)): without a user namespace's root, and with one.
fn capabilities(root: Option<u32>) -> Vec<u8> {
    let version = if root.is_some() { 3 } else { 2 };
    let root = root.map(u32::to_le_bytes);
    [&[1, 0, 0, version][..], &[0, 0x20], &[0; 14], root.as_ref().map_or(&[], |root| root)].concat()
}

/// The attributes of the files in an archive.
fn attributes(archive: &Path) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(fs::File::open(archive).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut attributes = BTreeMap::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
                attributes.insert(name.to_owned(), record.value_bytes().to_vec());
            }
        }
        found.insert(path, attributes);
    }
    found
}

/// Makes the container's root the owner of a tree.
fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(FIRST), Some(FIRST)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

#[test]
fn capabilities_and_acls_have_the_ids_of_the_container() {
    brig_only!();
    let images = Images { sandbox: mapped() };
    let sandbox = &images.sandbox;
    let (low, upper) = (sandbox.dir.join("low"), sandbox.dir.join("upper"));
    fs::rename(sandbox.rootfs(), &low).unwrap();
    give(&low);
    fs::write(low.join("foreign"), "of the host's root").unwrap();
    let names = ["mine", "nested", "other", "listed"];
    let script: Vec<String> = names.iter().map(|name| format!("write /{name} x")).collect();
    sandbox.script(&script.join(" ; "));
    let layer = format!("--layer={}", low.display());
    sandbox.run_with(&["--keep", &layer, &format!("--upper={}", upper.display())]).ok();
    // What the kernel stores when a process of the container sets them.
    let capability = "security.capability";
    for (name, root) in [("mine", FIRST), ("nested", FIRST + 1000), ("other", FIRST + 100_000)] {
        set(&upper.join(name), capability, &capabilities(Some(root)));
    }
    let list = "system.posix_acl_access";
    set(&upper.join("listed"), list, &acl(&[100, FIRST + 33], &[FIRST + 44]));
    let exported = sandbox.dir.join("exported.tar");
    let done = images.brig(&["export", "-o", exported.to_str().unwrap(), &sandbox.id]).ok();
    for name in ["other", "listed"] {
        assert!(done.stderr.contains(&format!("{name}: capabilities or ACL entries")), "{done:?}");
    }
    assert!(done.stderr.contains("belong to nobody"), "{done:?}");
    let entries = entries(&fs::read(&exported).unwrap());
    assert_eq!((entries["foreign"].2, entries["foreign"].3), (65534, 65534));
    assert_eq!((entries["mine"].2, entries["mine"].3), (0, 0));
    let found = attributes(&exported);
    let of = |file: &str, name: &str| found[file].get(name).cloned();
    assert_eq!(of("mine", capability), Some(capabilities(None)));
    assert_eq!(of("nested", capability), Some(capabilities(Some(1000))));
    assert_eq!(of("other", capability), None);
    assert_eq!(of("listed", list), Some(acl(&[33], &[44])));
}
