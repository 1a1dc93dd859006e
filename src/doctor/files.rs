//! Filesystems: overlay, id-mapped mounts, and those that contain the root filesystem and the state.

use super::attempt::{attempt, keep_mounts};
use super::probes::Wanted;
use super::{Answer, Subject, Trouble, quoted};
use crate::launch::prepare::id_maps;
use crate::plan::mounts::Kind;
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::idmap::{IdMap, IdMaps};
use sys::mount::{self, Filesystem, clone_tree, set_id_map};
use sys::{Errno, describe, hierarchy, mountinfo};

pub(super) fn wants_overlay(subject: &Subject<'_>) -> Wanted {
    match &subject.bundle {
        Some(bundle) if bundle.plan.rootfs.overlay.is_some() => Wanted::Yes,
        Some(_) => Wanted::No,
        None => Wanted::Sometimes,
    }
}

/// Mounts an overlay on a tmpfs, and writes to it.
pub(super) fn overlay(subject: &Subject<'_>) -> Answer {
    let (inside, maps) = subject.inside();
    let tried = attempt(inside | libc::CLONE_NEWNS, maps.as_ref(), None, |_| {
        keep_mounts()?;
        mount::mount(None, c"/proc", Some(c"tmpfs"), 0, None)?;
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(Path::new("/proc").join(name))?;
        }
        let own = "lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work";
        let options = if inside == 0 { own.to_owned() } else { format!("{own},userxattr") };
        let options = CString::new(options)?;
        mount::mount(None, c"/proc/merged", Some(c"overlay"), 0, Some(&options))?;
        File::create("/proc/merged/file").context("write to the overlay")?;
        Ok(String::new())
    });
    match tried {
        Ok(_) if inside != 0 => Answer::Works("overlay mounted in a user namespace".into()),
        Ok(_) => Answer::Works("overlay mounted".into()),
        Err(refused) if refused.is(&[Errno::ENODEV]) => {
            let why = format!("the kernel has no overlayfs: {}", refused.why);
            Answer::Lacks(Trouble::mend(why, "modprobe overlay"))
        }
        Err(refused) => Answer::Lacks(Trouble::new(refused.why)),
    }
}

pub(super) fn wants_id_maps(subject: &Subject<'_>) -> Wanted {
    match &subject.bundle {
        // Only root may.
        None if !subject.root_of_host => Wanted::No,
        None => Wanted::Sometimes,
        Some(_) if sources(subject).is_empty() => Wanted::No,
        Some(_) => Wanted::Yes,
    }
}

/// The sources that the bundle id-maps.
fn sources(subject: &Subject<'_>) -> Vec<PathBuf> {
    let Some(bundle) = &subject.bundle else { return Vec::new() };
    let rootfs = &bundle.plan.rootfs;
    let path = |path: &CString| PathBuf::from(OsString::from_vec(path.to_bytes().to_vec()));
    let mut sources: Vec<_> = rootfs
        .mounts
        .iter()
        .filter(|mount| mount.id_map.is_some())
        .filter_map(|mount| match &mount.kind {
            Kind::Bind { source, inside: None, .. } => Some(path(source)),
            _ => None,
        })
        .collect();
    let layers = rootfs.overlay.iter().filter(|overlay| overlay.id_mapped);
    sources.extend(layers.flat_map(|overlay| &overlay.layers).map(path));
    sources
}

/// One mount point for each filesystem type.
fn one_of_each() -> Vec<PathBuf> {
    const KERNELS: [&str; 20] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "ramfs",
        "securityfs",
        "sysfs",
        "tracefs",
    ];
    let text = hierarchy::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mut found = BTreeMap::new();
    for mount in mountinfo::mounts(&text).filter(|mount| !KERNELS.iter().any(|t| mount.is_type(t)))
    {
        found.entry(mount.fstype()).or_insert_with(|| mount.point());
    }
    found.into_values().collect()
}

pub(super) fn id_mapped_mounts(subject: &Subject<'_>) -> Answer {
    let named = sources(subject);
    let paths = if named.is_empty() { one_of_each() } else { named.clone() };
    let many = vec![IdMap { container: 0, host: 100_000, size: 65536 }];
    let maps = IdMaps { uids: many.clone(), gids: many };
    let users = match id_maps::make_namespace(&maps, "linux") {
        Ok(users) => users,
        Err(error) => return Answer::Lacks(Trouble::new(describe(&error))),
    };
    let tried = attempt(libc::CLONE_NEWNS, None, None, |_| {
        let mut lines = Vec::new();
        for path in &paths {
            let error = map(path, users.as_fd()).err();
            let line = |path: String| error.map(|error| format!("{path}: {}", describe(&error)));
            let path = format!("{} ({})", type_of(path), path.display());
            lines.push(line(path.clone()).map_or(format!("+{path}"), |line| format!("-{line}")));
        }
        let tmpfs = Filesystem::open(c"tmpfs").and_then(|new| new.mount(0));
        let tmpfs = tmpfs.and_then(|new| set_id_map(new.as_fd(), false, users.as_fd()));
        match tmpfs {
            Ok(()) if named.is_empty() => lines.push("+a new tmpfs".into()),
            Err(error) if named.is_empty() => lines.push(format!("-a new tmpfs: {error}")),
            _ => {}
        }
        Ok(lines.join("\n"))
    });
    let text = match tried {
        Ok(text) => text,
        Err(refused) => return Answer::Lacks(Trouble::new(refused.why)),
    };
    let with = |sign| text.lines().filter_map(|line| line.strip_prefix(sign)).collect::<Vec<_>>();
    let (can, cannot) = (with('+'), with('-'));
    if cannot.is_empty() {
        return Answer::Works(format!("id-mapped: {}", can.join(", ")));
    }
    if can.is_empty() || !named.is_empty() {
        return Answer::Lacks(Trouble::new(format!("cannot be id-mapped: {}", cannot.join(", "))));
    }
    let (can, cannot) = (can.join(", "), cannot.join(", "));
    Answer::Works(format!("id-mapped: {can}; cannot be: {cannot}"))
}

/// In the child: id-maps a detached mount.
fn map(path: &Path, users: BorrowedFd<'_>) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let opened = open(path.as_c_str(), flags, Mode::empty())?;
    let clone = clone_tree(opened.as_fd(), c"", false)?;
    Ok(set_id_map(clone.as_fd(), false, users)?)
}

/// The type of the filesystem that contains a path: that of the last mount in mountinfo above it.
fn type_of(path: &Path) -> String {
    let text = hierarchy::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let on = mountinfo::mounts(&text).filter(|mount| path.starts_with(mount.point()));
    let on = on.max_by_key(|mount| mount.point().as_os_str().len());
    on.map_or(String::new(), |mount| String::from_utf8_lossy(&mount.fstype()).into_owned())
}

pub(super) fn wants_rootfs(subject: &Subject<'_>) -> Wanted {
    if subject.bundle.is_some() { Wanted::Yes } else { Wanted::No }
}

/// Whether programs in it can be executed.
pub(super) fn rootfs(subject: &Subject<'_>) -> Answer {
    let Some(bundle) = &subject.bundle else { return Answer::Works(String::new()) };
    let rootfs = &bundle.plan.rootfs;
    let path = |path: &CString| PathBuf::from(OsString::from_vec(path.to_bytes().to_vec()));
    let paths: Vec<PathBuf> = match &rootfs.overlay {
        Some(overlay) => overlay.layers.iter().map(path).collect(),
        None => vec![rootfs.path.clone()],
    };
    for path in &paths {
        let opened = open(path.as_path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let opened = opened.with_context(|| path.display().to_string());
        let flags = opened.and_then(|opened| Ok(mount::flags(opened.as_fd())?));
        match flags {
            Err(error) => return Answer::Lacks(Trouble::new(describe(&error))),
            // A layer's mount flags do not apply to the overlay.
            Ok(flags) if flags & libc::ST_NOEXEC != 0 && rootfs.overlay.is_none() => {
                let why =
                    format!("{} is mounted noexec: nothing in it can be executed", path.display());
                let mend =
                    format!("mount -o remount,exec \"$(findmnt -no TARGET -T {})\"", quoted(path));
                return Answer::Lacks(Trouble::mend(why, mend));
            }
            Ok(_) => {}
        }
    }
    Answer::Works(
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    )
}

/// Whether it exists and is writable, or can be created.
pub(super) fn state_directory(subject: &Subject<'_>) -> Answer {
    let root = &subject.question.root;
    let Ok(path) = std::path::absolute(root) else { return Answer::Works(String::new()) };
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let refused = |errno: Errno| {
        let why = format!("{}: {}", existing.display(), errno.desc());
        Answer::Lacks(Trouble::mend(why, "brig --root DIR …"))
    };
    if !existing.is_dir() {
        return refused(Errno::ENOTDIR);
    }
    match access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Answer::Works(path.display().to_string()),
        Err(errno) => refused(errno),
    }
}
