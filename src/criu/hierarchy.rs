//! The mount options of cgroup2 (`nsdelegate`, `memory_recursiveprot`), which apply to the whole host: a
//! mount in the initial cgroup namespace, as CRIU makes to read cgroups, sets the given ones and clears all
//! others.

use anyhow::Result;
use std::ffi::CString;
use sys::mount::Filesystem;
use sys::mountinfo::mounts;

/// The options that are set; none without cgroup2.
pub(super) fn options() -> Vec<String> {
    let own = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts(&own).find(|mount| mount.is_type("cgroup2"));
    let text = found.map(|mount| String::from_utf8_lossy(mount.super_options()).into_owned());
    let all = text.unwrap_or_default();
    let set = all.split(',').filter(|option| !matches!(*option, "" | "rw" | "ro"));
    set.map(str::to_owned).collect()
}

/// Sets the lost options again, with a mount that is not attached anywhere.
pub(super) fn put_back(before: &[String]) -> Result<()> {
    let now = options();
    if before.iter().all(|option| now.contains(option)) {
        return Ok(());
    }
    let filesystem = Filesystem::open(c"cgroup2")?;
    let added = now.iter().filter(|option| !before.contains(option));
    for option in before.iter().chain(added) {
        filesystem.set(&CString::new(option.as_str())?, None)?;
    }
    filesystem.mount(0)?;
    Ok(())
}
