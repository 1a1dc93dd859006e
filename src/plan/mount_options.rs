//! The option strings of `mounts[].options`, in one table.

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME,
    MS_MANDLOCK, MS_PRIVATE, MS_RDONLY, MS_SHARED, MS_SILENT, MS_SLAVE, MS_SYNCHRONOUS,
    MS_UNBINDABLE,
};
use std::ffi::CStr;
use sys::mount::Attr;

/// What an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// No effect: `defaults`, and options that make no difference on any kernel.
    Nothing,
    /// A bind mount; with `true` a recursive one.
    Bind(bool),
    /// Change an existing mount.
    Remount,
    /// Copy the contents of the target into the new filesystem.
    CopyUp,
    /// An id-mapped mount; with `true` also the mounts below it.
    IdMap(bool),
    /// Set or clear read-only, of the mount and of the filesystem.
    ReadOnly(bool),
    /// A change of the mount.
    Mount(Change),
    /// A change of the mount and all mounts below it.
    Recursive(Change),
    /// Sets (or clears) a flag of the filesystem, an `MS_*` bit.
    Super(u64, bool),
    /// Propagation, an `MS_*` bit; with `true` also of the mounts below it.
    Propagation(u64, bool),
    /// How to treat a symbolic link that is the source or the destination of a bind mount.
    Link(Link),
}

/// crun's options for symbolic links (podman: `no-dereference`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// `copy-symlink`: a source that is a link is recreated at the destination, and nothing is mounted.
    Copy,
    /// `src-nofollow`: a source that is a link is mounted itself.
    Source,
    /// `dest-nofollow`: a destination that is a link is mounted on.
    Target,
}

/// The ones that are given, and the index of the last one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// [`Link::Copy`].
    pub copy: bool,
    /// [`Link::Source`].
    pub source: bool,
    /// [`Link::Target`].
    pub target: bool,
    /// The index of the last option.
    pub option: usize,
}

/// A change of a mount's attributes, `MOUNT_ATTR_*` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Sets an attribute.
    Set(u64),
    /// Clears an attribute.
    Clear(u64),
    /// Chooses an access time mode.
    Atime(u64),
    /// Reverts an earlier choice of this access time mode: a new mount then has the kernel's default, which
    /// is relatime, and a bind mount has its source's, as in runc.
    NotAtime(u64),
}

use Change::{Atime, Clear, NotAtime, Set};
use Meaning::{Bind, Mount, Propagation, Recursive, Super};

/// Every option that is not specific to a filesystem, sorted by name.
pub const OPTIONS: &[(&str, Meaning)] = &[
    // runc's flag for these two, MS_POSIXACL, has no effect: the filesystems that have ACLs set it by themselves.
    ("acl", Meaning::Nothing),
    ("async", Super(MS_SYNCHRONOUS, false)),
    ("atime", Mount(NotAtime(MOUNT_ATTR_NOATIME))),
    ("bind", Bind(false)),
    ("copy-symlink", Meaning::Link(Link::Copy)),
    ("defaults", Meaning::Nothing),
    ("dest-nofollow", Meaning::Link(Link::Target)),
    ("dev", Mount(Clear(MOUNT_ATTR_NODEV))),
    ("diratime", Mount(Clear(MOUNT_ATTR_NODIRATIME))),
    ("dirsync", Super(MS_DIRSYNC, true)),
    ("exec", Mount(Clear(MOUNT_ATTR_NOEXEC))),
    ("idmap", Meaning::IdMap(false)),
    ("iversion", Super(MS_I_VERSION, true)),
    ("lazytime", Super(MS_LAZYTIME, true)),
    ("loud", Super(MS_SILENT, false)),
    ("mand", Super(MS_MANDLOCK, true)),
    ("noacl", Meaning::Nothing),
    ("noatime", Mount(Atime(MOUNT_ATTR_NOATIME))),
    ("nodev", Mount(Set(MOUNT_ATTR_NODEV))),
    ("nodiratime", Mount(Set(MOUNT_ATTR_NODIRATIME))),
    ("noexec", Mount(Set(MOUNT_ATTR_NOEXEC))),
    ("noiversion", Super(MS_I_VERSION, false)),
    ("nolazytime", Super(MS_LAZYTIME, false)),
    ("nomand", Super(MS_MANDLOCK, false)),
    ("norelatime", Mount(NotAtime(MOUNT_ATTR_RELATIME))),
    ("nostrictatime", Mount(NotAtime(MOUNT_ATTR_STRICTATIME))),
    ("nosuid", Mount(Set(MOUNT_ATTR_NOSUID))),
    ("nosymfollow", Mount(Set(MOUNT_ATTR_NOSYMFOLLOW))),
    ("private", Propagation(MS_PRIVATE, false)),
    ("rasync", Super(MS_SYNCHRONOUS, false)),
    ("ratime", Recursive(NotAtime(MOUNT_ATTR_NOATIME))),
    ("rbind", Bind(true)),
    ("rdev", Recursive(Clear(MOUNT_ATTR_NODEV))),
    ("rdiratime", Recursive(Clear(MOUNT_ATTR_NODIRATIME))),
    ("rdirsync", Super(MS_DIRSYNC, true)),
    ("relatime", Mount(Atime(MOUNT_ATTR_RELATIME))),
    ("remount", Meaning::Remount),
    ("rexec", Recursive(Clear(MOUNT_ATTR_NOEXEC))),
    ("ridmap", Meaning::IdMap(true)),
    ("rmand", Super(MS_MANDLOCK, true)),
    ("rnoatime", Recursive(Atime(MOUNT_ATTR_NOATIME))),
    ("rnodev", Recursive(Set(MOUNT_ATTR_NODEV))),
    ("rnodiratime", Recursive(Set(MOUNT_ATTR_NODIRATIME))),
    ("rnoexec", Recursive(Set(MOUNT_ATTR_NOEXEC))),
    ("rnomand", Super(MS_MANDLOCK, false)),
    ("rnorelatime", Recursive(NotAtime(MOUNT_ATTR_RELATIME))),
    ("rnostrictatime", Recursive(NotAtime(MOUNT_ATTR_STRICTATIME))),
    ("rnosuid", Recursive(Set(MOUNT_ATTR_NOSUID))),
    ("rnosymfollow", Recursive(Set(MOUNT_ATTR_NOSYMFOLLOW))),
    ("ro", Meaning::ReadOnly(true)),
    ("rprivate", Propagation(MS_PRIVATE, true)),
    ("rrelatime", Recursive(Atime(MOUNT_ATTR_RELATIME))),
    ("rro", Recursive(Set(MOUNT_ATTR_RDONLY))),
    ("rrw", Recursive(Clear(MOUNT_ATTR_RDONLY))),
    ("rshared", Propagation(MS_SHARED, true)),
    ("rslave", Propagation(MS_SLAVE, true)),
    ("rstrictatime", Recursive(Atime(MOUNT_ATTR_STRICTATIME))),
    ("rsuid", Recursive(Clear(MOUNT_ATTR_NOSUID))),
    ("rsymfollow", Recursive(Clear(MOUNT_ATTR_NOSYMFOLLOW))),
    ("rsync", Super(MS_SYNCHRONOUS, true)),
    ("runbindable", Propagation(MS_UNBINDABLE, true)),
    ("rw", Meaning::ReadOnly(false)),
    ("shared", Propagation(MS_SHARED, false)),
    ("silent", Super(MS_SILENT, true)),
    ("slave", Propagation(MS_SLAVE, false)),
    ("src-nofollow", Meaning::Link(Link::Source)),
    ("strictatime", Mount(Atime(MOUNT_ATTR_STRICTATIME))),
    ("suid", Mount(Clear(MOUNT_ATTR_NOSUID))),
    ("symfollow", Mount(Clear(MOUNT_ATTR_NOSYMFOLLOW))),
    ("sync", Super(MS_SYNCHRONOUS, true)),
    ("tmpcopyup", Meaning::CopyUp),
    ("unbindable", Propagation(MS_UNBINDABLE, false)),
];

impl Change {
    fn apply(self, attr: &mut Attr) {
        match self {
            Set(bit) => {
                attr.set |= bit;
                attr.clear &= !bit;
            }
            Clear(bit) => {
                attr.set &= !bit;
                attr.clear |= bit;
            }
            // The modes are one field, not bits: mount_setattr(2) requires clearing all of it.
            Atime(mode) => {
                attr.set = attr.set & !MOUNT_ATTR__ATIME | mode;
                attr.clear |= MOUNT_ATTR__ATIME;
            }
            NotAtime(mode) => {
                if attr.set & MOUNT_ATTR__ATIME == mode {
                    attr.set &= !mode;
                    attr.clear &= !MOUNT_ATTR__ATIME;
                }
            }
        }
    }

    /// Like [`Change::apply`], but `ratime` and `rnostrictatime` make existing mounts relatime.
    fn apply_recursively(self, attr: &mut Attr) {
        self.apply(attr);
        let chosen = attr.clear & MOUNT_ATTR__ATIME != 0;
        if matches!(self, NotAtime(mode) if mode != MOUNT_ATTR_RELATIME) && !chosen {
            Atime(MOUNT_ATTR_RELATIME).apply(attr);
        }
    }
}

/// The parsed options of one mount.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// A bind mount; with `true` a recursive one.
    pub bind: Option<bool>,
    /// `remount`.
    pub remount: bool,
    /// The index of `tmpcopyup`.
    pub copy_up: Option<usize>,
    /// `idmap` or `ridmap`.
    pub id_map: Option<IdMap<'a>>,
    /// The options for symbolic links.
    pub links: Option<Links>,
    /// Attributes of the mount.
    pub attr: Attr,
    /// A bind mount gets exactly the flags in the options, instead of those of its source.
    pub replaces: bool,
    /// Changes of attributes in order, and the indexes of their options.
    pub changes: Vec<(usize, Change)>,
    /// Attributes of the mount and those below it.
    pub recursive: Attr,
    /// Flags of the filesystem: `MS_*` bits.
    pub flags: u64,
    /// The options that set one of `flags`, and their indexes.
    pub super_options: Vec<(usize, &'a str)>,
    /// Propagation changes, in order.
    pub propagation: Vec<(u64, bool)>,
    /// All others: options specific to the filesystem, and their indexes.
    pub data: Vec<(usize, &'a str)>,
}

/// `idmap` or `ridmap`, with or without mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap<'a> {
    /// Its index.
    pub option: usize,
    /// Also applies to the mounts below.
    pub recursive: bool,
    /// The value after `=`, e.g. `uids=0-1000-1;gids=0-1000-1`.
    pub mappings: Option<&'a str>,
}

/// Parses the options of a mount.
pub fn parse(options: &[String]) -> Options<'_> {
    let mut parsed = Options::default();
    for (index, option) in options.iter().enumerate() {
        let found = OPTIONS.binary_search_by_key(&option.as_str(), |(name, _)| name);
        match found.ok().and_then(|found| OPTIONS.get(found)) {
            Some((name, meaning)) => parsed.add(index, name, *meaning),
            // buildah writes empty options.
            None if option.is_empty() => {}
            None => match option.split_once('=') {
                Some(("idmap", mappings)) => parsed.map_ids(index, false, Some(mappings)),
                Some(("ridmap", mappings)) => parsed.map_ids(index, true, Some(mappings)),
                _ => parsed.data.push((index, option)),
            },
        }
    }
    parsed
}

impl<'a> Options<'a> {
    /// The attributes of a mount without mounts below it: recursive options take precedence.
    pub fn all_set(&self) -> u64 {
        let touched = self.recursive.set | self.recursive.clear;
        self.attr.set & !touched | self.recursive.set
    }

    /// The flags of a bind mount: as soon as an option sets one of them, they are those given by the options,
    /// whatever the source has, as in runc and unlike mount(8). The access time mode stays that of the source
    /// until an option chooses one.
    fn of_bind(&self) -> Attr {
        const REPLACED: u64 = MOUNT_ATTR_RDONLY
            | MOUNT_ATTR_NOSUID
            | MOUNT_ATTR_NODEV
            | MOUNT_ATTR_NOEXEC
            | MOUNT_ATTR_NOSYMFOLLOW;
        if !self.replaces {
            return Attr::default();
        }
        let set = self.attr.set;
        let mut clear = REPLACED & !set;
        if self.attr.clear & MOUNT_ATTR__ATIME != 0 || set & MOUNT_ATTR_NODIRATIME != 0 {
            clear |= MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME & !set;
        }
        Attr { set, clear, propagation: 0 }
    }

    fn change(&mut self, index: usize, change: Change) {
        self.replaces = true;
        self.changes.push((index, change));
        change.apply(&mut self.attr);
    }

    fn map_ids(&mut self, option: usize, recursive: bool, mappings: Option<&'a str>) {
        let before = self.id_map;
        let recursive = recursive || before.is_some_and(|before| before.recursive);
        let mappings = mappings.or(before.and_then(|before| before.mappings));
        self.id_map = Some(IdMap { option, recursive, mappings });
    }

    fn add(&mut self, index: usize, name: &'static str, meaning: Meaning) {
        match meaning {
            Meaning::Nothing => {}
            Meaning::Link(link) => {
                let links = self.links.get_or_insert_default();
                links.option = index;
                match link {
                    Link::Copy => links.copy = true,
                    Link::Source => links.source = true,
                    Link::Target => links.target = true,
                }
            }
            // rbind includes bind, whichever comes last.
            Bind(recursive) => self.bind = Some(recursive || self.bind == Some(true)),
            Meaning::Remount => self.remount = true,
            Meaning::CopyUp => self.copy_up = Some(index),
            Meaning::IdMap(recursive) => self.map_ids(index, recursive, None),
            Meaning::ReadOnly(true) => {
                self.change(index, Set(MOUNT_ATTR_RDONLY));
                self.flags |= MS_RDONLY;
            }
            Meaning::ReadOnly(false) => {
                self.change(index, Clear(MOUNT_ATTR_RDONLY));
                self.flags &= !MS_RDONLY;
            }
            Mount(change) => self.change(index, change),
            Recursive(change) => {
                change.apply_recursively(&mut self.recursive);
                self.changes.push((index, change));
            }
            Super(flag, true) => {
                self.replaces = true;
                self.flags |= flag;
                // MS_SILENT is the same flag for mounts and filesystems.
                if flag != MS_SILENT {
                    self.super_options.push((index, name));
                }
            }
            Super(flag, false) => {
                self.replaces = true;
                self.flags &= !flag;
            }
            Propagation(kind, recursive) => self.propagation.push((kind, recursive)),
        }
    }
}

/// A call of mount_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Also applies to the mounts below.
    pub recursive: bool,
    /// What to change.
    pub attr: Attr,
}

/// The calls that set a mount's propagation and, with `attr`, its attributes; a new filesystem's mount is
/// created with its attributes.
pub fn steps(base: Option<u64>, tree: bool, attr: bool, options: &Options<'_>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let base = base.map(|kind| (kind, true));
    for (kind, recursive) in base.into_iter().chain(options.propagation.iter().copied()) {
        let recursive = recursive && tree;
        let whole = recursive || !tree;
        // These replace the earlier type; slave and shared can be combined.
        if whole && (kind == MS_PRIVATE || kind == MS_UNBINDABLE) {
            steps.clear();
        }
        let step = Step { recursive, attr: Attr { propagation: kind, ..Attr::default() } };
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    if !attr {
        return steps;
    }
    let touched = options.recursive.set | options.recursive.clear;
    if touched != 0 {
        merge(&mut steps, tree, options.recursive);
    }
    let own = options.of_bind();
    let own = Attr { set: own.set & !touched, clear: own.clear & !touched, propagation: 0 };
    if own.set | own.clear != 0 {
        merge(&mut steps, false, own);
    }
    steps
}

fn merge(steps: &mut Vec<Step>, recursive: bool, attr: Attr) {
    match steps.iter_mut().rfind(|step| step.recursive == recursive) {
        Some(step) => {
            step.attr.set |= attr.set;
            step.attr.clear |= attr.clear;
        }
        None => steps.push(Step { recursive, attr }),
    }
}

/// Parses e.g. `slave` as an `MS_*` bit; `true` for a recursive one.
pub fn propagation(name: &str) -> Option<(u64, bool)> {
    match OPTIONS.iter().find(|(option, _)| *option == name) {
        Some((_, Propagation(kind, recursive))) => Some((*kind, *recursive)),
        _ => None,
    }
}

/// The `MS_*` bits of mount(2) equivalent to these `MOUNT_ATTR_*` bits.
pub fn legacy(attr: u64) -> u64 {
    const SAME: [(u64, u64); 8] = [
        (MOUNT_ATTR_RDONLY, MS_RDONLY),
        (MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (MOUNT_ATTR_NOATIME, libc::MS_NOATIME),
        (MOUNT_ATTR_STRICTATIME, libc::MS_STRICTATIME),
        (MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
        (MOUNT_ATTR_NOSYMFOLLOW, libc::MS_NOSYMFOLLOW),
    ];
    let bit = |(bit, flag): &(u64, u64)| if attr & bit == 0 { 0 } else { *flag };
    SAME.iter().map(bit).fold(0, |all, flag| all | flag)
}

/// Parameters of fsconfig(2) for the `MS_*` bits that are flags of the filesystem. `MS_SILENT` has none and
/// needs none: only mount(2) logs the messages that it silences.
pub const SUPER_WORDS: [(u64, &CStr); 5] = [
    (MS_RDONLY, c"ro"),
    (MS_SYNCHRONOUS, c"sync"),
    (MS_DIRSYNC, c"dirsync"),
    (MS_MANDLOCK, c"mand"),
    (MS_LAZYTIME, c"lazytime"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn options(names: &str) -> Options<'static> {
        let names: Vec<String> = names.split(' ').map(Into::into).collect();
        parse(names.leak())
    }

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| name));
        // The rows of the table in config.md, and runc's acl and noacl.
        assert_eq!(OPTIONS.len(), 72);
    }

    #[test]
    fn the_last_of_contraries_wins() {
        let parsed = options("nosuid suid nodev noexec exec ro rw");
        assert_eq!(parsed.attr.set, MOUNT_ATTR_NODEV);
        let cleared = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
        assert_eq!((parsed.attr.clear, parsed.flags), (cleared, 0));
    }

    #[test]
    fn access_time_modes_replace_each_other() {
        let of = |names| (options(names).attr.set, options(names).attr.clear);
        assert_eq!(of("noatime strictatime"), (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME));
        assert_eq!(of("strictatime relatime"), (0, MOUNT_ATTR__ATIME));
        assert_eq!(of("noatime atime"), (0, 0));
        assert_eq!(of("strictatime atime"), (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME));
        assert_eq!(of("norelatime"), (0, 0));
        assert_eq!(of("relatime norelatime"), (0, 0));
        assert_eq!(of("noatime norelatime"), (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME));
    }

    #[test]
    fn recursive_options_are_kept_apart() {
        let parsed = options("rro rnoatime nosuid");
        assert_eq!(parsed.recursive.set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME);
        assert_eq!(parsed.recursive.clear, MOUNT_ATTR__ATIME);
        assert_eq!((parsed.attr.set, parsed.flags), (MOUNT_ATTR_NOSUID, 0));
    }

    #[test]
    fn what_is_not_in_the_table_is_data_with_its_place() {
        let parsed = options("nosuid size=64k rbind mode=755 bind");
        assert_eq!(parsed.data, [(1, "size=64k"), (3, "mode=755")]);
        assert_eq!(parsed.bind, Some(true));
    }

    #[test]
    fn mount_2_gets_the_same_flags() {
        let parsed = options("nosuid nodev noexec noatime nosymfollow ro nodiratime");
        let flags = libc::MS_NOSUID
            | libc::MS_NODEV
            | libc::MS_NOEXEC
            | libc::MS_NOATIME
            | libc::MS_NOSYMFOLLOW
            | MS_RDONLY
            | libc::MS_NODIRATIME;
        assert_eq!(legacy(parsed.attr.set), flags);
    }
}
