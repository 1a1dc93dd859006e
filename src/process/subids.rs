//! subuid(5) and subgid(5): ids that an unprivileged user may map in a user namespace.

use nix::unistd::{getegid, geteuid};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use sys::idmap::{IdMap, IdMaps};

/// The maximum number of bytes to read: no reasonable file is longer.
const MAX_FILE: u64 = 16 << 20;

/// First id and count of each range that a file grants to a user, by name or by number.
pub fn granted(path: &str, uid: u32) -> Vec<(u32, u32)> {
    let Ok(file) = std::fs::File::open(path) else { return Vec::new() };
    let name = super::passwd::name_of(uid);
    ranges(BufReader::new(file.take(MAX_FILE)), uid, name.as_deref())
}

fn ranges(file: impl BufRead, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let mut ranges = Vec::new();
    for line in file.lines().map_while(Result::ok) {
        let mut fields = line.trim().split(':');
        let owner = fields.next().unwrap_or_default();
        let (first, count) = (fields.next().map(str::parse), fields.next().map(str::parse));
        if let (true, Some(Ok(first)), Some(Ok(count))) =
            (owner == number || Some(owner) == name, first, count)
            && count > 0
        {
            ranges.push((first, count));
        }
    }
    ranges
}

/// The id maps for brig's caller: root is the caller, followed by the subordinate ids granted to them, if
/// they can be used.
pub fn own_maps() -> IdMaps {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut granted = ["/etc/subuid", "/etc/subgid"].map(|path| granted(path, uid));
    let helpers = ["newuidmap", "newgidmap"].map(helper);
    let usable = uid == 0 || helpers.iter().all(Option::is_some);
    if !usable || granted.iter().any(Vec::is_empty) {
        granted = Default::default();
    }
    let [uids, gids] = &granted;
    IdMaps { uids: id_maps(uid, uids), gids: id_maps(gid, gids) }
}

/// Root in the container is brig's caller, followed by the subordinate ids granted to them.
pub fn id_maps(own: u32, granted: &[(u32, u32)]) -> Vec<IdMap> {
    let mut maps = vec![IdMap { container: 0, host: own, size: 1 }];
    let mut container = 1_u32;
    for &(host, size) in granted {
        let Some(next) = container.checked_add(size) else { break };
        maps.push(IdMap { container, host, size });
        container = next;
    }
    maps
}

/// newuidmap(1) or newgidmap(1), if it is installed.
pub fn helper(name: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&search).map(|directory| directory.join(name));
    found.find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_user_count_by_name_and_by_number() {
        let file = "other:1:2\nme:100000:65536\n1000:300000:10\nme:x:1\nme:5:0\n\nme\n me:7:1 \n";
        let of = |uid, name| ranges(file.as_bytes(), uid, name);
        assert_eq!(of(1000, Some("me")), [(100_000, 65536), (300_000, 10), (7, 1)]);
        assert_eq!(of(1000, None), [(300_000, 10)]);
        assert_eq!(of(5, Some("")), []);
    }
}
