//! `mounts`: what to request from the kernel for each entry.

pub use super::destination::{check_proc, clean};

use super::bind::SourceFlags;
use super::destination::{below, target};
use super::idmap::MountMap;
use super::lsm::MountLabel;
use super::mount_options::{self, Links, Options, SUPER_WORDS, Step, legacy, steps};
use crate::spec::{self, Linux, Place, Spec};
use anyhow::{Context, Result, anyhow, ensure};
use libc::{MOUNT_ATTR_RDONLY, MS_I_VERSION, MS_RDONLY};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One of `mounts`.
#[derive(Debug)]
pub struct Mount {
    /// Its index in the config.
    pub index: usize,
    /// The destination in the container: an absolute, normalised path, not the root.
    pub target: CString,
    /// What to mount.
    pub kind: Kind,
    /// Calls of mount_setattr(2) on the mount; on a bind mount before it is attached.
    pub steps: Vec<Step>,
    /// The flags that a bind mount in a user namespace keeps from its source.
    pub source_flags: SourceFlags,
    /// The id map of an id-mapped mount.
    pub id_map: Option<MountMap>,
    /// How to treat a source or destination that is a symbolic link.
    pub links: Links,
}

/// What the plan of a mount depends on in addition to its own entry.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The directory that relative sources are relative to.
    pub bundle: &'a Path,
    /// `root.path`, absolute and normalised.
    pub root: Vec<u8>,
    /// The propagation that sources of bind mounts get first.
    pub base: Option<u64>,
    /// Whether the container is in another user namespace than the runtime.
    pub user: bool,
    /// `linux`.
    pub linux: &'a Linux,
}

impl<'a> Setting<'a> {
    /// The context of the mounts of this config.
    pub fn new(spec: &'a Spec, bundle: &'a Path, base: Option<u64>, user: bool) -> Self {
        let root = spec.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
        let root = clean(root.as_os_str().as_bytes());
        Setting { bundle, root, base, user, linux: &spec.linux }
    }
}

/// What to mount.
#[derive(Debug)]
pub enum Kind {
    /// A file or directory of the host; with `recursive` also the mounts below it.
    Bind {
        /// Absolute.
        source: CString,
        /// If the source is in the root filesystem: its path there. It may only exist after an earlier mount,
        /// so it is resolved when the mount is made.
        inside: Option<CString>,
        /// Whether to include mounts below the source.
        recursive: bool,
    },
    /// A new mount of a filesystem.
    Filesystem(Filesystem),
    /// The container's view of its cgroups.
    Cgroup(Filesystem),
    /// Nothing new: an existing mount gets other options.
    Remount {
        /// `MS_*` bits.
        flags: u64,
        /// The filesystem's own options.
        data: CString,
    },
}

/// A filesystem to mount.
#[derive(Debug)]
pub struct Filesystem {
    /// Its type.
    pub fstype: CString,
    /// Its device, or an arbitrary string that is only shown in mountinfo.
    pub source: Option<CString>,
    /// The filesystem's own options.
    pub params: Vec<Param>,
    /// Flags of the filesystem: `MS_*` bits.
    pub flags: u64,
    /// Attributes of the mount: `MOUNT_ATTR_*` bits.
    pub attr: u64,
    /// The index of `tmpcopyup`: it starts with the contents of its target.
    pub copy_up: Option<usize>,
    /// It becomes read-only at the end, because devices and the targets of later mounts are created in it.
    pub late_read_only: bool,
    /// The SELinux label of everything in it.
    pub label: Option<MountLabel>,
    /// Whether an option can only be passed by mount(2), not by fsconfig(2).
    pub by_mount_2: bool,
}

/// One of the filesystem's own options.
#[derive(Debug)]
pub struct Param {
    /// Its index in `options`.
    pub option: usize,
    /// The part before `=`.
    pub key: CString,
    /// The part after `=`.
    pub value: Option<CString>,
}

/// The maximum length of values for fsconfig(2).
const MAX_VALUE: usize = 255;

impl Mount {
    /// Plans `mounts[index]`.
    pub fn new(
        index: usize,
        mount: &spec::Mount,
        setting: &Setting<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let place = format!("mounts[{index}]");
        let target =
            target(&mount.destination, &setting.root).at(format!("{place}.destination"))?;
        if mount.destination.is_relative() {
            warnings.push(format!(
                "{place}.destination: {} is not absolute, which is deprecated: interpreted as {}",
                mount.destination.display(),
                target.to_string_lossy()
            ));
        }
        let options = mount_options::parse(&mount.options);
        let kind = kind(&options, mount, setting, &target, &place)?;
        check_proc(&target, &kind).at(format!("{place}.destination"))?;
        if let Kind::Bind { .. } = kind {
            let all = options.super_options.iter().chain(&options.data);
            warnings.extend(all.map(|(option, name)| {
                format!("{place}.options[{option}]: {name} has no effect on a bind mount")
            }));
        }
        let id_map = MountMap::new(mount, options.id_map, setting.linux, &place)?;
        if let Some(map) = &id_map
            && !matches!(kind, Kind::Bind { .. })
        {
            Err(anyhow!("only a bind mount can be id-mapped")).at(&map.place)?;
        }
        let steps = match kind {
            Kind::Bind { recursive, .. } => steps(setting.base, recursive, true, &options),
            Kind::Remount { .. } => steps(None, true, false, &options),
            Kind::Filesystem(_) | Kind::Cgroup(_) => steps(None, false, false, &options),
        };
        let source_flags = SourceFlags { locked: setting.user, changes: options.changes };
        let is_bind = matches!(kind, Kind::Bind { .. });
        let links = match options.links {
            Some(links) if !is_bind => Err(anyhow!("is only valid for a bind mount"))
                .at(format!("{place}.options[{}]", links.option))?,
            links => links.unwrap_or_default(),
        };
        Ok(Mount { index, target, kind, steps, source_flags, id_map, links })
    }

    /// Whether the container's /dev is a bind mount: nothing must be created in it then.
    pub fn is_bound_dev(&self) -> bool {
        self.target.as_c_str() == c"/dev" && matches!(self.kind, Kind::Bind { .. })
    }

    /// Adds `linux.mountLabel` to the options of a new filesystem, unless they contain a label. Not for
    /// filesystems whose superblock is shared by many mounts: those get their label from the policy.
    pub fn label(&mut self, label: &MountLabel) {
        let (Kind::Filesystem(fs) | Kind::Cgroup(fs)) = &mut self.kind else { return };
        let shared = [c"proc", c"sysfs", c"cgroup2"].contains(&fs.fstype.as_c_str());
        if !shared && !fs.has(&label.key) {
            fs.label = Some(label.clone());
        }
    }

    /// Its place in config.json.
    pub fn place(&self) -> String {
        format!("mounts[{}]", self.index)
    }
}

fn kind(
    options: &Options<'_>,
    mount: &spec::Mount,
    setting: &Setting<'_>,
    target: &CStr,
    place: &str,
) -> Result<Kind> {
    let at = |option: usize| format!("{place}.options[{option}]");
    if let Some(option) = options.copy_up
        && (options.remount || options.bind.is_some() || mount.typ.as_deref() != Some("tmpfs"))
    {
        Err(anyhow!("is only valid for a new tmpfs")).at(at(option))?;
    }
    if options.remount {
        let bind = if options.bind.is_some() { libc::MS_BIND } else { 0 };
        let flags = libc::MS_REMOUNT | bind | options.flags | legacy(options.all_set());
        return Ok(Kind::Remount { flags, data: data(&mount.options, options)? });
    }
    if let Some(recursive) = options.bind {
        // "mode=755" is meant for another filesystem: crun and runtime-tools write such options, and mount(2)
        // ignores them. An unknown option without a value is probably a typing error.
        if let Some((option, name)) = options.data.iter().find(|(_, name)| !name.contains('=')) {
            let what = "is not an option of a bind mount, which does not accept filesystem options";
            Err(anyhow!("{name:?} {what}")).at(at(*option))?;
        }
        let source = source(mount, setting.bundle).at(format!("{place}.source"))?;
        let clean = clean(source.as_bytes());
        let inside = below(&clean, &setting.root).map(c_string).transpose()?;
        return Ok(Kind::Bind { source, inside, recursive });
    }
    let filesystem = filesystem(options, mount, target, place)?;
    Ok(match filesystem.fstype.as_bytes() {
        b"cgroup" => Kind::Cgroup(filesystem),
        _ => Kind::Filesystem(filesystem),
    })
}

fn source(mount: &spec::Mount, bundle: &Path) -> Result<CString> {
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    ensure!(!source.as_os_str().is_empty(), "missing: a bind mount needs a source");
    c_string(bundle.join(source).as_os_str().as_bytes())
}

fn filesystem(
    options: &Options<'_>,
    mount: &spec::Mount,
    target: &CStr,
    place: &str,
) -> Result<Filesystem> {
    let fstype = mount.typ.as_deref().unwrap_or_default();
    let check = || -> Result<()> {
        ensure!(
            !fstype.is_empty(),
            "missing: only a bind mount (option bind or rbind) can omit it"
        );
        ensure!(
            fstype != "bind" && fstype != "rbind",
            "{fstype:?} is not a filesystem: a bind mount needs the option bind or rbind"
        );
        Ok(())
    };
    check().at(format!("{place}.type"))?;
    let source = mount.source.as_deref().map(Path::as_os_str).filter(|source| !source.is_empty());
    let source = source.map(|source| c_string(source.as_bytes())).transpose();
    let source = source.at(format!("{place}.source"))?;
    let mut params = Vec::new();
    for (option, text) in options.data.iter().filter(|(_, text)| !text.is_empty()) {
        params.push(param(*option, text).at(format!("{place}.options[{option}]"))?);
    }
    let long = |param: &Param| {
        // A comma would have to be split in the way of the filesystem's own parser.
        let comma = |text: &CString| text.as_bytes().contains(&b',');
        let value = param.value.as_ref();
        comma(&param.key)
            || value.is_some_and(|value| comma(value) || value.as_bytes().len() > MAX_VALUE)
    };
    let by_mount_2 = options.flags & MS_I_VERSION != 0 || params.iter().any(long);
    let read_only = options.all_set() & MOUNT_ATTR_RDONLY != 0;
    let late_read_only = read_only && (fstype == "tmpfs" || target == c"/dev");
    let (mut attr, mut flags) = (options.all_set(), options.flags);
    if late_read_only {
        attr &= !MOUNT_ATTR_RDONLY;
        flags &= !MS_RDONLY;
    }
    let fstype = c_string(fstype.as_bytes()).at(format!("{place}.type"))?;
    let copy_up = options.copy_up;
    Ok(Filesystem {
        fstype,
        source,
        params,
        flags,
        attr,
        copy_up,
        late_read_only,
        label: None,
        by_mount_2,
    })
}

fn param(option: usize, text: &str) -> Result<Param> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    let value = value.map(|value| c_string(value.as_bytes())).transpose()?;
    Ok(Param { option, key: c_string(key.as_bytes())?, value })
}

impl Filesystem {
    /// The filesystem's own options in the format of mount(2).
    pub fn data(&self) -> CString {
        let mut data = Vec::new();
        for Param { key, value, .. } in &self.params {
            data.extend_from_slice(if data.is_empty() { b"" } else { b"," });
            data.extend_from_slice(key.as_bytes());
            if let Some(value) = value {
                data.push(b'=');
                data.extend_from_slice(value.as_bytes());
            }
        }
        CString::new(data).unwrap_or_default()
    }

    /// Its flags as parameters of fsconfig(2).
    pub fn words(&self) -> impl Iterator<Item = &'static CStr> {
        let flags = self.flags;
        let asked = move |(flag, _): &&(u64, &CStr)| flags & flag != 0;
        SUPER_WORDS.iter().filter(asked).map(|(_, word)| *word)
    }

    /// Whether an option of this name is given.
    pub fn has(&self, key: &CStr) -> bool {
        self.params.iter().any(|param| *param.key == *key)
    }
}

fn data(options: &[String], parsed: &Options<'_>) -> Result<CString> {
    let data: Vec<&str> = parsed.data.iter().map(|(option, _)| options[*option].as_str()).collect();
    c_string(data.join(",").as_bytes())
}

/// Converts a string of the config that is passed to the kernel.
///
/// # Errors
///
/// If it contains a NUL byte.
pub fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).ok().context("contains a NUL byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Mount as SpecMount;
    use libc::{MS_PRIVATE, MS_SHARED};
    use sys::mount::Attr;

    fn plan(json: &str) -> Result<Mount> {
        let spec: SpecMount = serde_json::from_str(json).unwrap();
        let config = serde_json::from_str(r#"{"ociVersion":"1.3.0","root":{"path":"r"}}"#).unwrap();
        let setting = Setting::new(&config, Path::new("/bundle"), Some(libc::MS_SLAVE), false);
        Mount::new(3, &spec, &setting, &mut Vec::new())
    }

    fn error(json: &str) -> String {
        format!("{:#}", plan(json).unwrap_err())
    }

    fn bind(options: &str) -> Vec<Step> {
        let options: Vec<&str> = options.split(' ').collect();
        let spec = serde_json::json!({"destination": "/a", "source": "b", "options": options});
        plan(&spec.to_string()).unwrap().steps
    }

    fn step(recursive: bool, propagation: u64, set: u64, clear: u64) -> Step {
        Step { recursive, attr: Attr { set, clear, propagation } }
    }

    #[test]
    fn a_bind_mount_is_a_slave_of_its_source_unless_told_otherwise() {
        assert_eq!(bind("bind"), [step(false, libc::MS_SLAVE, 0, 0)]);
        assert_eq!(bind("rbind"), [step(true, libc::MS_SLAVE, 0, 0)]);
        assert_eq!(bind("rbind rprivate"), [step(true, MS_PRIVATE, 0, 0)]);
        assert_eq!(bind("rbind rslave"), [step(true, libc::MS_SLAVE, 0, 0)]);
        let shared = [step(true, libc::MS_SLAVE, 0, 0), step(true, MS_SHARED, 0, 0)];
        assert_eq!(bind("rbind rshared"), shared);
        let top = [step(true, libc::MS_SLAVE, 0, 0), step(false, MS_PRIVATE, 0, 0)];
        assert_eq!(bind("rbind private"), top);
    }

    #[test]
    fn one_call_for_one_mount() {
        let others = |kept: u64| {
            let nosymfollow = libc::MOUNT_ATTR_NOSYMFOLLOW;
            let all = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
            (all | nosymfollow | MOUNT_ATTR_RDONLY) & !kept
        };
        let ro = step(false, MS_PRIVATE, MOUNT_ATTR_RDONLY, others(MOUNT_ATTR_RDONLY));
        assert_eq!(bind("bind ro private"), [ro]);
        let rro = step(true, MS_PRIVATE, MOUNT_ATTR_RDONLY, 0);
        assert_eq!(bind("rbind rprivate rro"), [rro]);
        let own = step(false, 0, MOUNT_ATTR_RDONLY, others(MOUNT_ATTR_RDONLY));
        assert_eq!(bind("rbind rprivate ro"), [step(true, MS_PRIVATE, 0, 0), own]);
    }

    #[test]
    fn a_recursive_option_beats_its_plain_one() {
        let steps = bind("rbind rprivate rw nosuid rro");
        assert_eq!(steps[0], step(true, MS_PRIVATE, MOUNT_ATTR_RDONLY, 0));
        let own = steps[1].attr;
        assert_eq!((own.set, own.clear & MOUNT_ATTR_RDONLY), (libc::MOUNT_ATTR_NOSUID, 0));
    }

    #[test]
    fn a_word_that_no_bind_mount_knows_is_named() {
        let text = error(r#"{"destination":"/a","source":"b","options":["bind","noexce"]}"#);
        let said = r#"mounts[3].options[1]: "noexce" is not an option of a bind mount"#;
        assert!(text.starts_with(said), "{text}");
        assert_eq!(bind("bind  ro"), bind("bind ro"));
    }

    #[test]
    fn only_a_new_tmpfs_is_filled() {
        let of = |kind: &str, options: &str| {
            let json = format!(
                r#"{{"destination":"/a","source":"b","type":{kind:?},"options":{options}}}"#
            );
            plan(&json)
        };
        assert!(of("tmpfs", r#"["tmpcopyup"]"#).is_ok());
        for (kind, options) in [
            ("ramfs", r#"["tmpcopyup"]"#),
            ("tmpfs", r#"["tmpcopyup","bind"]"#),
            ("tmpfs", r#"["tmpcopyup","remount"]"#),
        ] {
            let text = format!("{:#}", of(kind, options).unwrap_err());
            assert_eq!(text, "mounts[3].options[0]: is only valid for a new tmpfs");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let source = error(r#"{"destination":"/a","options":["rbind"]}"#);
        assert_eq!(source, "mounts[3].source: missing: a bind mount needs a source");
        let kind = error(r#"{"destination":"/a","source":"tmpfs"}"#);
        assert!(kind.starts_with("mounts[3].type: missing"), "{kind}");
        let option = error(r#"{"destination":"/a","type":"bind","source":"b"}"#);
        assert!(option.starts_with(r#"mounts[3].type: "bind" is not a filesystem"#), "{option}");
    }

    #[test]
    fn nothing_is_mounted_on_the_root_or_into_proc() {
        let mount = |at| error(&format!(r#"{{"destination":{at:?},"type":"tmpfs"}}"#));
        assert_eq!(mount("/a/.."), "mounts[3].destination: /a/.. is the container's root");
        assert!(mount("/proc").ends_with("only a proc filesystem can be mounted on /proc"));
        assert!(mount("/sys/../proc/self/attr").contains("is inside /proc"));
        let lxcfs = r#"{"destination":"/proc/meminfo","source":"/x","options":["bind"]}"#;
        assert!(plan(lxcfs).is_ok());
    }

    #[test]
    fn targets_are_clean_and_sources_are_of_the_bundle() {
        let mount = plan(r#"{"destination":"a//b/./c/../d/","source":"b","options":["bind"]}"#);
        let mount = mount.unwrap();
        assert_eq!(mount.target.as_c_str(), c"/a/b/d");
        let Kind::Bind { source, .. } = mount.kind else { panic!() };
        assert_eq!(source.as_c_str(), c"/bundle/b");
    }

    #[test]
    fn only_what_fsconfig_cannot_say_goes_to_mount_2() {
        let filesystem = |option: &str| {
            let json = serde_json::json!({
                "destination": "/a", "type": "tmpfs", "options": ["mode=755", option]
            });
            let Kind::Filesystem(filesystem) = plan(&json.to_string()).unwrap().kind else {
                panic!()
            };
            (filesystem.by_mount_2, filesystem.data().into_string().unwrap())
        };
        assert_eq!(filesystem("size=1k"), (false, "mode=755,size=1k".into()));
        assert_eq!(filesystem("iversion"), (true, "mode=755".into()));
        assert!(filesystem("a=b,c=d").0);
        assert!(filesystem(&format!("x={}", "y".repeat(256))).0);
    }

    #[test]
    fn a_tmpfs_becomes_read_only_last() {
        let json = r#"{"destination":"/x","type":"tmpfs","options":["ro","nosuid"]}"#;
        let Kind::Filesystem(filesystem) = plan(json).unwrap().kind else { panic!() };
        assert!(filesystem.late_read_only);
        assert_eq!((filesystem.attr, filesystem.flags), (libc::MOUNT_ATTR_NOSUID, 0));
        let json = r#"{"destination":"/dev","type":"ramfs","options":["rro","rnoatime"]}"#;
        let mount = plan(json).unwrap();
        let Kind::Filesystem(filesystem) = mount.kind else { panic!() };
        assert!(filesystem.late_read_only && mount.steps.is_empty());
        assert_eq!(filesystem.attr, libc::MOUNT_ATTR_NOATIME);
    }
}
