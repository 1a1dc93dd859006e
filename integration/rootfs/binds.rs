//! Bind mounts: flags of their sources.

use super::binds_inside::volume;
use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

/// The flags of a source, the options of the bind mount, and its resulting flags; in a user namespace the
/// same, other flags, or an error about the source's flag.
struct Row {
    source: &'static str,
    options: &'static str,
    flags: &'static str,
    user: User,
}

enum User {
    Same,
    Has(&'static str),
    Refused(&'static str),
}

use User::{Has, Refused, Same};

const fn row(source: &'static str, options: &'static str, flags: &'static str, user: User) -> Row {
    Row { source, options, flags, user }
}

const ALL: &str = "ro,nosuid,nodev,noexec";
const KEPT: &str = "ro,nosuid,nodev,noexec,relatime";

const TABLE: &[Row] = &[
    // No options that set flags: the source's flags.
    row(ALL, "bind", KEPT, Same),
    row(ALL, "rbind,rprivate", KEPT, Same),
    row(ALL, "rbind,rslave,defaults", KEPT, Same),
    row("nosymfollow", "bind", "rw,relatime,nosymfollow", Same),
    // A single option replaces all other flags.
    row(ALL, "bind,ro", "ro,relatime", Has(KEPT)),
    row(ALL, "bind,nosuid", "rw,nosuid,relatime", Has(KEPT)),
    row(ALL, "bind,nodev", "rw,nodev,relatime", Has(KEPT)),
    row(ALL, "bind,noexec", "rw,noexec,relatime", Has(KEPT)),
    row(
        ALL,
        "rbind,nosymfollow",
        "rw,relatime,nosymfollow",
        Has("ro,nosuid,nodev,noexec,relatime,nosymfollow"),
    ),
    row(ALL, "bind,relatime", "rw,relatime", Has(KEPT)),
    row(ALL, "bind,sync", "rw,relatime", Has(KEPT)),
    row(ALL, "bind,ro,nosuid,nodev,noexec", KEPT, Same),
    row("nosymfollow", "bind,ro", "ro,relatime", Same),
    row("nosymfollow,nodev", "bind,noexec", "rw,noexec,relatime", Has("rw,nodev,noexec,relatime")),
    // An option that only clears a flag counts as well, and is refused in a user namespace.
    row(ALL, "bind,rw", "rw,relatime", Refused("ro")),
    row(ALL, "bind,suid", "rw,relatime", Refused("nosuid")),
    row(ALL, "bind,dev", "rw,relatime", Refused("nodev")),
    row(ALL, "bind,exec,ro", "ro,relatime", Refused("noexec")),
    row(ALL, "bind,async", "rw,relatime", Has(KEPT)),
    row("nosymfollow", "bind,symfollow", "rw,relatime", Same),
    row("ro", "bind,ro,rw", "rw,relatime", Refused("ro")),
    row("noexec", "bind,exec,noexec", "rw,noexec,relatime", Same),
    row("nosuid", "bind,rw", "rw,relatime", Has("rw,nosuid,relatime")),
    // The access time mode is unchanged until an option chooses one.
    row("noatime", "bind,ro", "ro,noatime", Same),
    row("noatime,nodiratime", "bind,nosuid", "rw,nosuid,noatime,nodiratime", Same),
    row("strictatime", "bind,noexec", "rw,noexec", Same),
    row("nodev", "bind,noatime", "rw,noatime", Refused("relatime")),
    row("noatime,nodev", "bind,noatime", "rw,noatime", Has("rw,nodev,noatime")),
    row("noatime", "bind,strictatime", "rw", Refused("noatime")),
    row("noatime", "bind,relatime", "rw,relatime", Refused("noatime")),
    row("strictatime", "bind,relatime", "rw,relatime", Refused("strictatime")),
    row("strictatime", "bind,strictatime,ro", "ro", Same),
    row("noatime", "bind,nodiratime", "rw,nodiratime,relatime", Refused("noatime")),
    row("noatime,nodiratime", "bind,noatime", "rw,noatime", Refused("noatime")),
    row("", "bind,nodiratime", "rw,nodiratime,relatime", Refused("relatime")),
    row("noatime,nodev", "bind,atime", "rw,noatime", Refused("noatime")),
    row("nodiratime,nodev", "bind,diratime", "rw,nodiratime,relatime", Refused("nodiratime")),
    // Recursive options are added, and replace nothing.
    row("nosuid,nodev", "rbind,rro", "ro,nosuid,nodev,relatime", Same),
    row("ro,nodev", "rbind,rrw", "rw,nodev,relatime", Refused("ro")),
    row("ro,nodev", "rbind,rexec", "ro,nodev,relatime", Same),
    row("nodev", "rbind,nosuid,rro", "ro,nosuid,relatime", Has("ro,nosuid,nodev,relatime")),
    row("", "rbind,rnoatime", "rw,noatime", Refused("relatime")),
];

/// Directories mounted with these flags, for as long as this exists.
struct Sources<'a>(&'a Sandbox, Vec<&'static str>);

impl<'a> Sources<'a> {
    fn mount(sandbox: &'a Sandbox) -> Self {
        let mut all: Vec<&str> = TABLE.iter().map(|row| row.source).collect();
        all.sort_unstable();
        all.dedup();
        let sources = Sources(sandbox, all);
        for flags in &sources.1 {
            let path = sources.path(flags);
            fs::create_dir(&path).unwrap();
            let none = None::<&str>;
            mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let bits = flags.split(',').filter(|flag| !flag.is_empty()).map(bit);
            let bits = bits.fold(MsFlags::MS_REMOUNT | MsFlags::MS_BIND, MsFlags::union);
            mount(none, &path, none, bits, none).unwrap();
        }
        sources
    }

    fn path(&self, flags: &str) -> PathBuf {
        self.0.dir.join(format!("source-{}", flags.replace(',', "-")))
    }

    fn entry(&self, row: &Row, to: &str) -> Value {
        let options: Vec<&str> = row.options.split(',').collect();
        json!({"destination": to, "source": self.path(row.source), "type": "bind", "options": options})
    }
}

impl Drop for Sources<'_> {
    fn drop(&mut self) {
        for flags in &self.1 {
            umount2(&self.path(flags), MntFlags::MNT_DETACH).unwrap();
        }
    }
}

fn bit(flag: &str) -> MsFlags {
    match flag {
        "ro" => MsFlags::MS_RDONLY,
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "noatime" => MsFlags::MS_NOATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "strictatime" => MsFlags::MS_STRICTATIME,
        "nosymfollow" => MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW),
        _ => panic!("{flag}"),
    }
}

pub(super) fn add(sandbox: &Sandbox, mounts: &[Value]) {
    sandbox.patch(|config| config["mounts"].as_array_mut().unwrap().extend_from_slice(mounts));
}

pub(super) fn in_user_namespace(sandbox: &Sandbox) {
    sandbox.patch(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    });
    for path in [sandbox.rootfs(), sandbox.rootfs().join("tmp"), sandbox.rootfs().join("mnt")] {
        fs::create_dir_all(&path).unwrap();
        chown(path, Some(100_000), Some(100_000)).unwrap();
    }
}

/// Mounts all rows at once and compares the flags of each.
fn compare(
    sandbox: &Sandbox,
    sources: &Sources<'_>,
    rows: &[(&Row, &str)],
    facts: impl Fn() -> Facts,
) {
    let at = |index: usize| format!("/mnt/{index}");
    let plain = sandbox.config();
    let mounts = rows.iter().enumerate();
    let mounts: Vec<Value> = mounts.map(|(i, (row, _))| sources.entry(row, &at(i))).collect();
    add(sandbox, &mounts);
    let facts = facts();
    sandbox.write_config(&plain);
    for (index, (row, expected)) in rows.iter().enumerate() {
        let found = facts.mount(&at(index)).options.join(",");
        assert_eq!(found, *expected, "{} of a source that is {:?}", row.options, row.source);
    }
}

#[test]
fn a_bind_has_the_flags_of_its_options_and_not_its_sources() {
    brig_only!();
    let sandbox = Sandbox::new();
    let sources = Sources::mount(&sandbox);
    let rows: Vec<_> = TABLE.iter().map(|row| (row, row.flags)).collect();
    compare(&sandbox, &sources, &rows, || sandbox.facts("mounts"));
}

/// runc 1.1 ignores options that only clear flags, and warns of unknown recursive ones; otherwise it behaves
/// like later versions.
#[test]
fn binds_have_the_flags_that_they_have_with_runc() {
    brig_only!();
    if std::process::Command::new("runc").arg("--version").output().is_err() {
        return skip("no runc to compare with");
    }
    let sandbox = Sandbox::new();
    let sources = Sources::mount(&sandbox);
    const TAKEN_AWAY: [&str; 7] = [
        "bind,rw",
        "bind,suid",
        "bind,dev",
        "bind,async",
        "bind,symfollow",
        "bind,atime",
        "bind,diratime",
    ];
    let same = |row: &&Row| !TAKEN_AWAY.contains(&row.options) && row.options != "bind,ro,rw";
    let rows: Vec<_> = TABLE.iter().filter(same).map(|row| (row, row.flags)).collect();
    compare(&sandbox, &sources, &rows, || {
        let bundle = sandbox.script("mounts").bundle();
        let mut command = std::process::Command::new("runc");
        command.arg("--root").arg(sandbox.dir.join("runc")).arg("run");
        command.arg("--bundle").arg(bundle).arg(&sandbox.id);
        Facts::parse(&sandbox.spawn(command).wait().ok().stdout)
    });
}

#[test]
fn in_a_user_namespace_a_bind_keeps_its_sources_flags() {
    brig_only!();
    let sandbox = Sandbox::new();
    in_user_namespace(&sandbox);
    let sources = Sources::mount(&sandbox);
    let kept = TABLE.iter().filter_map(|row| match row.user {
        Same => Some((row, row.flags)),
        Has(flags) => Some((row, flags)),
        Refused(_) => None,
    });
    compare(&sandbox, &sources, &kept.collect::<Vec<_>>(), || sandbox.facts("mounts"));
}

#[test]
fn in_a_user_namespace_no_option_takes_a_sources_flag_away() {
    brig_only!();
    let sandbox = Sandbox::new();
    in_user_namespace(&sandbox);
    let sources = Sources::mount(&sandbox);
    for row in TABLE {
        let Refused(flag) = row.user else { continue };
        let plain = sandbox.config();
        add(&sandbox, &[sources.entry(row, "/mnt")]);
        let said = sandbox.create_with(&[]).fails();
        let expected = format!("the source is mounted {flag}: a user namespace");
        assert!(said.contains(&expected) && said.contains("].options["), "{}: {said}", row.options);
        sandbox.write_config(&plain);
    }
    drop(sources);
    sandbox.assert_nothing_left();
}

#[test]
fn in_a_user_namespace_no_recursive_option_takes_a_flag_away_from_a_mount_below() {
    brig_only!();
    let sandbox = Sandbox::new();
    in_user_namespace(&sandbox);
    let source = sandbox.dir.join("source");
    let below = source.join("below");
    fs::create_dir_all(&below).unwrap();
    let none = None::<&str>;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let flags = MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NOATIME;
    mount(none, &below, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, none).unwrap();
    let plain = sandbox.script("mounts").config();
    let with = |options: &[&str]| {
        sandbox.write_config(&plain);
        add(&sandbox, &[json!({"destination": "/mnt", "source": source, "options": options})]);
    };
    for (option, flag) in [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("rrelatime", "noatime"),
    ] {
        with(&["rbind", option]);
        let said = sandbox.create_with(&[]).fails();
        let expected = format!("{} is mounted {flag}: a user namespace", below.display());
        assert!(said.contains(&expected) && said.contains("].options[1]"), "{option}: {said}");
    }
    // These add to its flags, or do not apply to it.
    for option in ["rro", "rnosuid", "rw", "exec"] {
        with(&["rbind", option]);
        let done = sandbox.run().ok();
        let mount = Facts::parse(&done.stdout).mount("/mnt/below");
        assert!(mount.options.starts_with(&["ro".into(), "nosuid".into()]), "{option}: {done:?}");
    }
    umount2(&below, MntFlags::MNT_DETACH).unwrap();
    sandbox.assert_nothing_left();
}

#[test]
fn a_filesystem_that_is_read_only_by_itself_can_be_bound_rw_in_a_user_namespace() {
    brig_only!();
    let sandbox = Sandbox::new();
    in_user_namespace(&sandbox);
    let source = sandbox.dir.join("read-only");
    fs::create_dir(&source).unwrap();
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let none = None::<&str>;
    mount(none, &source, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    // After that, the mount is read-only, too.
    mount(none, &source, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();
    add(&sandbox, &[json!({"destination": "/mnt", "source": source, "options": ["bind", "rw"]})]);
    let done = sandbox.script("mounts").run();
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
    let mount = Facts::parse(&done.ok().stdout).mount("/mnt");
    assert_eq!((mount.options[0].as_str(), mount.data[0].as_str()), ("rw", "ro"));
}

#[test]
fn mounts_below_an_rbind_keep_their_flags() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir.join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    let none = None::<&str>;
    for (path, flags) in
        [(source.clone(), MsFlags::MS_NOSUID), (source.join("below"), MsFlags::MS_NODEV)]
    {
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, none).unwrap();
        fs::create_dir_all(path.join("below")).unwrap();
    }
    add(&sandbox, &[json!({"destination": "/mnt", "source": source, "options": ["rbind", "ro"]})]);
    let done = sandbox.script("mounts").run();
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
    let facts = Facts::parse(&done.ok().stdout);
    assert_eq!(facts.mount("/mnt").options.join(","), "ro,relatime");
    assert_eq!(facts.mount("/mnt/below").options.join(","), "rw,nodev,relatime");
}

#[test]
fn options_of_a_filesystem_have_no_effect_on_a_bind() {
    let sandbox = Sandbox::new();
    let volume = volume(&sandbox);
    let options = ["bind", "ro", "mode=700", "size=1k"];
    add(&sandbox, &[json!({"destination": "/mnt", "source": volume, "options": options})]);
    assert_eq!(sandbox.facts("read /mnt/file").get("read /mnt/file"), r#""of the volume""#);
}
