//! The mounts, and where they come from.

use super::{Asked, Row, Subject};
use crate::plan::mount_options;
use crate::plan::mounts::Kind;
use crate::plan::overlay::Upper;
use anyhow::Result;
use serde_json::Value;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::mountinfo::{self, Mount};

/// Flags that can be configured, and their opposites.
const FLAGS: [(&str, &str); 4] =
    [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")];

/// A line of mountinfo.
struct Seen {
    id: u64,
    point: Vec<u8>,
    row: Row,
    fstype: Vec<u8>,
    options: Vec<String>,
    /// Where it comes from, if known.
    from: Option<String>,
}

impl Seen {
    fn new(mount: &Mount<'_>) -> Seen {
        let point = mount.point();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let options: Vec<String> = text(mount.options).split(',').map(str::to_owned).collect();
        let fstype = mount.fstype();
        let has = format!("{} {}", text(&fstype), options.join(","));
        let row = Row::new(point.display().to_string(), has)
            .more("fstype", text(&fstype))
            .more("source", text(&mount.source()))
            .more("root", mount.root().display().to_string())
            .more("options", options.clone())
            .more("superOptions", text(mount.super_options()));
        let (id, point) = (mount.id().unwrap_or_default(), point.as_os_str().as_bytes().to_vec());
        Seen { id, point, row, fstype, options, from: None }
    }

    fn is_at(&self, path: &CStr) -> bool {
        self.point == path.to_bytes()
    }

    fn is_below(&self, path: &CStr) -> bool {
        let below = self.point.strip_prefix(path.to_bytes());
        below.is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Records where it comes from, with the options configured there.
    fn explain(&mut self, from: String, options: &[String]) {
        let asked = flags(options);
        let has = |name: &str| self.options.iter().any(|option| option == name);
        let lacks: Vec<&str> = asked
            .iter()
            .filter(|(name, on)| has(name) != *on)
            .map(|(name, on)| if *on { *name } else { opposite(name) })
            .collect();
        if !lacks.is_empty() {
            self.row.drift = true;
            self.row.note = Some(format!("{from}: is not {}", lacks.join(",")));
        }
        if !asked.is_empty() {
            let asked = asked.iter().map(|(name, on)| if *on { *name } else { opposite(name) });
            self.row.asked = Some(asked.collect::<Vec<_>>().join(",").into());
        }
        self.from = Some(from);
    }
}

fn opposite(name: &str) -> &'static str {
    FLAGS.iter().find(|(on, _)| *on == name).map_or("", |(_, off)| off)
}

/// The flags that these options set or clear: the last option for each counts.
fn flags(options: &[String]) -> Vec<(&'static str, bool)> {
    let last = |&(on, off): &(&'static str, &'static str)| {
        let said = |option: &String| match option.strip_prefix('r').filter(|rest| *rest != "o") {
            // A recursive option, e.g. `rro`.
            Some(rest) if rest == on => Some(true),
            _ if option == on => Some(true),
            _ if option == off => Some(false),
            _ => None,
        };
        options.iter().filter_map(said).next_back().map(|set| (on, set))
    };
    FLAGS.iter().filter_map(last).collect()
}

pub(super) fn rows(subject: &Subject<'_>) -> Result<Vec<Row>> {
    let text = subject.task.bytes("mountinfo")?;
    let mut seen: Vec<Seen> = mountinfo::mounts(&text).map(|mount| Seen::new(&mount)).collect();
    let mut missing = Vec::new();
    for added in &subject.state.extra_mounts.mounts {
        for one in seen.iter_mut().filter(|one| one.id == added.mount.id) {
            one.from = Some("mounts add".into());
        }
    }
    if let Some(asked) = &subject.asked
        && asked.plan.namespaces.new & libc::CLONE_NEWNS != 0
    {
        root(asked, &mut seen);
        config(asked, &mut seen, &mut missing);
        brigs(asked, &mut seen, &mut missing);
        stray(&mut seen);
    }
    let mut rows: Vec<Row> = seen.into_iter().map(finished).collect();
    rows.extend(missing);
    Ok(rows)
}

fn finished(seen: Seen) -> Row {
    let note = seen.row.note.clone().or_else(|| seen.from.clone());
    Row { note, ..seen.row }.more("from", seen.from)
}

/// Explains the first mount on `/`, and that of an upper in memory.
fn root(asked: &Asked, seen: &mut [Seen]) {
    let rootfs = &asked.plan.rootfs;
    if let Some(one) = seen.iter_mut().find(|one| one.is_at(c"/")) {
        let readonly = if rootfs.readonly { vec!["ro".to_owned()] } else { Vec::new() };
        one.explain("config root".into(), &readonly);
    }
    let in_memory =
        rootfs.overlay.as_ref().map(|overlay| matches!(overlay.upper, Upper::Tmpfs { .. }));
    if in_memory == Some(true) {
        let hidden = |one: &&mut Seen| one.is_at(c"/proc") && one.fstype == b"tmpfs";
        if let Some(one) = seen.iter_mut().find(hidden) {
            one.from = Some("brig: upper".into());
        }
    }
}

/// Whether this mount can be that of the entry.
fn fits(kind: &Kind, seen: &Seen) -> bool {
    match kind {
        Kind::Bind { .. } => true,
        Kind::Filesystem(new) => seen.fstype == new.fstype.to_bytes(),
        Kind::Cgroup(_) => true,
        Kind::Remount { .. } => false,
    }
}

/// Explains the mounts of each entry of `mounts`, including those below a recursive bind mount.
fn config(asked: &Asked, seen: &mut [Seen], missing: &mut Vec<Row>) {
    let Asked { spec, plan } = asked;
    let planned = &plan.rootfs.mounts;
    for mount in planned.iter().filter(|mount| !matches!(mount.kind, Kind::Remount { .. })) {
        let Some(entry) = spec.mounts.get(mount.index) else { continue };
        let from = format!("config mounts[{}]", mount.index);
        let mut options = entry.options.clone();
        // Later entries that change the flags of this one.
        let later = planned.iter().filter(|later| {
            later.index > mount.index
                && later.target == mount.target
                && matches!(later.kind, Kind::Remount { .. })
        });
        for later in later.filter_map(|later| spec.mounts.get(later.index)) {
            options.extend(later.options.iter().cloned());
        }
        let new = |one: &&mut Seen| one.from.is_none() && fits(&mount.kind, one);
        // If its destination was a symbolic link, the mount has another path.
        let name = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().map(<[u8]>::to_vec);
        let target = mount.target.as_c_str();
        let at = seen
            .iter()
            .position(|one| one.from.is_none() && fits(&mount.kind, one) && one.is_at(target));
        let at = at.or_else(|| {
            let same = |one: &Seen| name(&one.point) == name(target.to_bytes());
            seen.iter().position(|one| one.from.is_none() && fits(&mount.kind, one) && same(one))
        });
        let Some(at) = at else {
            let row = Row::new(target.to_string_lossy().into_owned(), Value::Null);
            let row = row.note(format!("{from}: not mounted there")).more("from", from);
            missing.push(Row { asked: Some(options.join(",").into()), drift: true, ..row });
            continue;
        };
        seen[at].explain(from.clone(), &options);
        let recursive = mount_options::parse(&entry.options).bind.is_some_and(|all| all);
        if recursive || matches!(mount.kind, Kind::Cgroup(_)) {
            for one in seen.iter_mut().filter(new).filter(|one| one.is_below(target)) {
                one.from = Some(from.clone());
            }
        }
    }
}

/// Explains mounts for masked and read-only paths, devices and the terminal.
fn brigs(asked: &Asked, seen: &mut [Seen], missing: &mut Vec<Row>) {
    let rootfs = &asked.plan.rootfs;
    let read_only = ["ro".to_owned()];
    let lists = [
        (&rootfs.masked, "brig: linux.maskedPaths", &[][..]),
        (&rootfs.readonly_paths, "brig: linux.readonlyPaths", &read_only[..]),
    ];
    for (paths, place, options) in lists {
        for (index, path) in paths.iter().enumerate() {
            let from = format!("{place}[{index}]");
            let one = seen.iter().rposition(|one| one.from.is_none() && one.is_at(path));
            match one {
                Some(at) => seen[at].explain(from, options),
                // A path that exists everywhere; whether others exist is unknown without looking them up in
                // the container.
                None if is_kernels(path) && !is_protected(seen, path) => {
                    let row = Row::new(path.to_string_lossy().into_owned(), Value::Null);
                    let row = row.note(format!("{from}: not protected")).more("from", from);
                    missing.push(Row { drift: true, ..row });
                }
                None => {}
            }
        }
    }
    for one in seen.iter_mut().filter(|one| one.from.is_none()) {
        if one.is_at(c"/dev/console") {
            one.from = Some("brig: terminal".into());
        } else if rootfs.devices.iter().any(|device| one.is_at(&device.path)) {
            one.from = Some("brig: device".into());
        }
    }
}

/// Whether it exists on this host, in /proc or /sys.
fn is_kernels(path: &CStr) -> bool {
    let bytes = path.to_bytes();
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    (bytes.starts_with(b"/proc/") || bytes.starts_with(b"/sys/")) && path.exists()
}

/// Whether it is mounted over, or in a read-only filesystem, or in one that is not mounted.
fn is_protected(seen: &[Seen], path: &CStr) -> bool {
    let at = seen.iter().any(|one| one.is_at(path));
    let parent = if path.to_bytes().starts_with(b"/proc/") { c"/proc" } else { c"/sys" };
    at || !seen.iter().any(|one| one.is_at(parent))
}

/// The remaining mounts were made later.
fn stray(seen: &mut [Seen]) {
    for one in seen.iter_mut().filter(|one| one.from.is_none()) {
        one.row.drift = true;
        one.row.note = Some("not asked for: by a hook, the container itself, or the host".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_flag_counts() {
        let flags = |text: &str| flags(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(flags("rbind"), []);
        assert_eq!(flags("ro,nosuid,rw"), [("ro", false), ("nosuid", true)]);
        assert_eq!(flags("rro,rnoexec"), [("ro", true), ("noexec", true)]);
        assert_eq!(flags("size=1m,dev"), [("nodev", false)]);
    }
}
