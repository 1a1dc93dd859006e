//! One entry of `mounts`.

use super::Root;
use super::cgroup;
use super::copy_up::{Owner, copy_up};
use super::kernel::{Kernel, Shown};
use super::made::HostProc;
use super::source::{Source, clone_bind, map_ids, open_inside, set_flags};
use super::target::{self, Target, is_directory, proc_path};
use crate::plan::lsm::MountLabel;
use crate::plan::mounts::{Filesystem, Kind, Mount, check_proc};
use crate::spec::{At, Place};
use anyhow::{Context, Result, bail, ensure};
use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_SLAVE};
use nix::fcntl::readlinkat;
use nix::sys::stat::fstat;
use nix::unistd::symlinkat;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use sys::mount::{self, Attr, move_mount};
use sys::path::make_dir_in;
use sys::{Errno, SysError, errno_of, xattr};

/// Mounts one entry.
pub fn attach(root: &mut Root, mount: &Mount, source: &Source) -> Result<()> {
    let found = match (&mount.kind, source) {
        (Kind::Bind { inside: Some(path), .. }, Source::Inside(_)) => {
            Some(open_inside(root.fd.as_fd(), mount, path)?)
        }
        _ => None,
    };
    let tree = match source {
        Source::Detached(file) | Source::Open(file) => Some(file.as_fd()),
        Source::Inside(_) => found.as_ref().map(AsFd::as_fd),
        Source::None | Source::Cgroup(_) => None,
        Source::Link(to) => return make_link(root, mount, to),
    };
    if let (Some(file), true) = (&found, mount.links.copy)
        && let Some(to) = link_of(file.as_fd())?
    {
        return make_link(root, mount, &to);
    }
    let target = target::find(root, mount, tree)?;
    if !matches!(mount.kind, Kind::Remount { .. }) {
        root.place_upper(target.fd.as_fd())?;
    }
    match (&mount.kind, source) {
        (Kind::Bind { .. }, Source::Detached(tree)) => put(tree.as_fd(), target.fd.as_fd()),
        (Kind::Bind { source, .. }, Source::Open(file)) => {
            let source = BindSource { file: file.as_fd(), shown: &Shown::Path(source), user: None };
            bind(root, mount, &source, target.fd.as_fd())
        }
        (Kind::Bind { .. }, Source::Inside(user)) => {
            let file = found.as_ref().context("internal error: its source is not open")?.as_fd();
            let user = user.as_ref().map(AsFd::as_fd);
            let source = BindSource { file, shown: &Shown::Fd(file), user };
            bind(root, mount, &source, target.fd.as_fd())
        }
        (Kind::Filesystem(fs), _) => match new(root, mount, fs, &fs.fstype, &target) {
            Err(error) if *fs.fstype == *c"sysfs" && errno_of(&error) == Some(Errno::EPERM) => {
                hosts_sysfs(root, mount, fs, target.fd.as_fd())
            }
            mounted => mounted,
        },
        (Kind::Cgroup(fs), Source::Cgroup(cgroups)) => {
            cgroup::mount(root, mount, fs, &target, cgroups)
        }
        (Kind::Remount { flags, data }, _) => {
            let target = target.fd.as_fd();
            mount::mount(None, &proc_path(target), None, *flags, Some(data))?;
            root.kernel.apply(target, &mount.steps)
        }
        (Kind::Bind { .. } | Kind::Cgroup(_), _) => bail!("internal error: its source is not open"),
    }
}

/// The target of an open symbolic link; `None` if it is something else.
fn link_of(file: BorrowedFd<'_>) -> Result<Option<CString>> {
    match readlinkat(file, "") {
        Ok(to) => Ok(Some(CString::new(to.into_vec())?)),
        // readlink(2) with an empty path, of a file that is not a link.
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno).context("readlink"),
    }
}

/// Creates a symbolic link with the target of the source. An existing one must have the same target.
pub fn make_link(root: &Root, mount: &Mount, to: &CStr) -> Result<()> {
    let path = mount.target.to_bytes();
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let (parent, name) = (CString::new(&path[..slash.max(1)])?, &path[slash + 1..]);
    check_proc(&mount.target, &mount.kind)?;
    root.hosts.may_make(root.fd.as_fd(), &parent)?;
    let dir = make_dir_in(root.fd.as_fd(), &parent)?;
    match readlinkat(&dir, name) {
        Ok(there) if there.as_bytes() == to.to_bytes() => return Ok(()),
        Ok(there) => bail!("is a link to {} already", there.display()),
        Err(Errno::EINVAL) => bail!("already exists and is not a symbolic link"),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).context("readlink"),
    }
    ensure!(!root.hosts.has(dir.as_fd())?, "would be created in a directory of the host");
    symlinkat(to, &dir, name).context("symlink")
}

/// An opened source of a bind mount.
struct BindSource<'a> {
    file: BorrowedFd<'a>,
    /// The same source by name, for Linux before 5.12.
    shown: &'a Shown<'a>,
    /// The user namespace for its id map.
    user: Option<BorrowedFd<'a>>,
}

/// Mounts a source on a target.
fn bind(root: &Root, mount: &Mount, source: &BindSource<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let BindSource { file, shown, user } = *source;
    let recursive = matches!(mount.kind, Kind::Bind { recursive: true, .. });
    if let Kernel::Old(_) = root.kernel {
        same_kind(file, target)?;
        let kernel = &root.kernel;
        return kernel.bind_with(shown, target, recursive, |made| set_flags(kernel, made, mount));
    }
    let tree = clone_bind(file, c"", mount, recursive)?;
    if let (Some(map), Some(user)) = (&mount.id_map, user) {
        map_ids(tree.as_fd(), map.recursive, user, true).at(&map.place)?;
    }
    put(tree.as_fd(), target)
}

/// Adds the mount and the option to an error, unless the error is more specific.
pub fn with_origin(
    error: impl Into<anyhow::Error>,
    mount: &Mount,
    option: Option<usize>,
) -> anyhow::Error {
    let error = error.into();
    if error.downcast_ref::<At>().is_some() {
        return error;
    }
    let place = match option {
        Some(option) => format!("{}.options[{option}]", mount.place()),
        None => mount.place(),
    };
    error.context(mount.target.to_string_lossy().into_owned()).context(At::new(place))
}

/// Attaches a detached mount to its target.
pub fn put(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let Err(error) = move_mount(tree, target) else { return Ok(()) };
    if error.errno == Errno::EINVAL {
        same_kind(tree, target)?;
    }
    Err(error.into())
}

fn same_kind(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    // Docker matches on this message.
    ensure!(
        is_directory(source)? == is_directory(target)?,
        "not a directory: a directory can only be mounted on a directory, and a file on a file"
    );
    Ok(())
}

/// Mounts a new filesystem on a target.
pub fn new(
    root: &mut Root,
    mount: &Mount,
    fs: &Filesystem,
    fstype: &CStr,
    target: &Target,
) -> Result<()> {
    let by_name = fs.by_mount_2 || matches!(root.kernel, Kernel::Old(_));
    let detached = complete(root, mount, fs, fstype, target, by_name)?;
    root.hosts.add_new(detached.as_fd())?;
    if !by_name {
        put(detached.as_fd(), target.fd.as_fd())?;
    }
    if let (Some(label), b"mqueue") = (&fs.label, fstype.to_bytes()) {
        // It is mounted together with the IPC namespace: only its directory can be labelled, as in runc.
        let path = proc_path(detached.as_fd());
        match xattr::set(&path, c"security.selinux", label.label.as_bytes()) {
            // The IPC filesystem of a new user namespace was created together with it and belongs to root of
            // the outer one.
            Err(error) if error.errno == Errno::EPERM => root.warnings.push(format!(
                "{}: {} keeps its label from the policy",
                mount.place(),
                mount.target.to_string_lossy()
            )),
            set => set?,
        }
    }
    if fs.late_read_only {
        root.late.push(detached);
    }
    Ok(())
}

/// A mount of a new filesystem, complete; only attached if that is required to make it (`by_name`).
pub fn complete(
    root: &Root,
    mount: &Mount,
    fs: &Filesystem,
    fstype: &CStr,
    target: &Target,
    by_name: bool,
) -> Result<OwnedFd> {
    let mode = inherited_mode(fs, target)?;
    let new = match by_name {
        true => by_mount_2(root, fs, fstype, mode.as_deref(), target)?,
        false => detached(mount, fs, fstype, mode.as_deref())?,
    };
    if let Some(option) = fs.copy_up {
        let owner = Owner { uid: !fs.has(c"uid"), gid: !fs.has(c"gid") };
        let copied = copy_up(target.fd.as_fd(), new.as_fd(), owner);
        copied.map_err(|error| with_origin(error, mount, Some(option)))?;
    }
    root.kernel.apply(new.as_fd(), &mount.steps)?;
    Ok(new)
}

/// The label option of a filesystem. Filesystems not listed here have one superblock for many mounts: they
/// have a label from the policy, and each mount must have the same.
fn label<'a>(fs: &'a Filesystem, fstype: &CStr) -> Option<&'a MountLabel> {
    fs.label.as_ref().filter(|_| ![c"cgroup2", c"mqueue"].contains(&fstype))
}

/// The kernel lets only the owner of the network namespace mount sysfs, and only if its own is not partly
/// covered: otherwise the container gets the host's, read-only.
fn hosts_sysfs(
    root: &mut Root,
    mount: &Mount,
    fs: &Filesystem,
    target: BorrowedFd<'_>,
) -> Result<()> {
    let safe = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let attr = Attr { set: fs.attr | safe, clear: 0, propagation: MS_SLAVE };
    let kernel = &root.kernel;
    kernel.bind_with(&Shown::Path(c"/sys"), target, true, |made| kernel.set(made, true, attr))?;
    root.warnings.push(format!(
        "{}: {} is mounted from the host, read-only: a new sysfs needs a new network namespace",
        mount.place(),
        mount.target.to_string_lossy()
    ));
    Ok(())
}

/// As in runc, a tmpfs has the mode of the directory it covers, unless the config sets one.
fn inherited_mode(fs: &Filesystem, target: &Target) -> Result<Option<CString>> {
    if fs.fstype.as_c_str() != c"tmpfs" || !target.existed || fs.has(c"mode") {
        return Ok(None);
    }
    let mode = fstat(&target.fd).context("fstat")?.st_mode & 0o7777;
    Ok(Some(CString::new(format!("{mode:04o}"))?))
}

/// A mount of a new filesystem, not attached yet.
fn detached(mount: &Mount, fs: &Filesystem, fstype: &CStr, mode: Option<&CStr>) -> Result<OwnedFd> {
    let context = mount::Filesystem::open(fstype).map_err(|error| match error.errno {
        Errno::ENODEV => anyhow::Error::from(error)
            .context("this kernel has no such filesystem")
            .context(At::new(format!("{}.type", mount.place()))),
        _ => error.into(),
    })?;
    if let Some(source) = &fs.source {
        context.set(c"source", Some(source))?;
    }
    for word in fs.words() {
        context.set(word, None)?;
    }
    if let Some(mode) = mode {
        context.set(c"mode", Some(mode))?;
    }
    if let Some((key, value)) = label(fs, fstype).map(MountLabel::option) {
        context.set(&key, value.as_deref())?;
    }
    for param in &fs.params {
        let set = context.set(&param.key, param.value.as_deref());
        set.map_err(|error| with_origin(error, mount, Some(param.option)))?;
    }
    Ok(context.mount(fs.attr)?)
}

fn by_mount_2(
    root: &Root,
    fs: &Filesystem,
    fstype: &CStr,
    mode: Option<&CStr>,
    target: &Target,
) -> Result<OwnedFd> {
    // The inherited mode is first, so that a mode within a longer option of the config overrides it.
    let mut data = mode.map_or(Vec::new(), |mode| [b"mode=", mode.to_bytes()].concat());
    let own = fs.data();
    data.extend_from_slice(if data.is_empty() || own.is_empty() { b"" } else { b"," });
    data.extend_from_slice(own.to_bytes());
    if let Some(label) = label(fs, fstype) {
        data.extend_from_slice(if data.is_empty() { b"" } else { b"," });
        data.extend_from_slice(&label.quoted());
    }
    let flags = fs.flags | crate::plan::mount_options::legacy(fs.attr);
    let (path, data) = (proc_path(target.fd.as_fd()), CString::new(data)?);
    let mut own = HostProc::open()?;
    own.set_root(root.fd.as_fd())?;
    let before = own.before(target.fd.as_fd())?;
    mount::mount(fs.source.as_deref(), &path, Some(fstype), flags, Some(&data)).map_err(
        |error| {
            let call = format!("mount({}, {data:?}, {flags:#x})", fstype.to_string_lossy());
            SysError::new(call, error.errno)
        },
    )?;
    before.made(|_| true)
}

impl Root {
    /// An upper in memory has to stay reachable as long as the container exists, but hidden from it: it is
    /// mounted beneath the first mount on a directory.
    pub(super) fn place_upper(&mut self, target: BorrowedFd<'_>) -> Result<()> {
        if let Some(upper) = &self.parked
            && is_directory(target)?
        {
            self.kernel.relocate(upper.as_fd(), target).context("move the upper out of sight")?;
            self.parked = None;
        }
        Ok(())
    }

    /// If there is no mount, /dev is mounted on itself.
    pub(super) fn place_upper_somewhere(&mut self) -> Result<()> {
        if self.parked.is_some() {
            let dev = make_dir_in(self.fd.as_fd(), c"/dev")?;
            self.place_upper(dev.as_fd())?;
            self.kernel.bind(&Shown::Fd(dev.as_fd()), dev.as_fd(), false)?;
        }
        Ok(())
    }
}
