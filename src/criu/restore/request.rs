//! The request to restore a container.

use super::super::dump::{JOINABLE, SHARED, SOFT, config_file};
use super::super::external::{External, NULL, Origin};
use super::super::image::{self, Record};
use super::super::options::{RestoreOptions, needs};
use super::super::wire::Message;
use crate::cgroup::Version;
use crate::launch::spawn::Joined;
use crate::plan::Plan;
use crate::plan::mounts::Kind;
use crate::plan::namespaces::file;
use crate::rootfs::staged;
use crate::state::State;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Descriptors that CRIU passes to restored processes, or makes them join, by their names in the image.
pub(super) struct Given(Vec<(String, OwnedFd)>);

impl Given {
    /// brig's standard streams and preserved descriptors, which replace external ones of the container, and
    /// the namespaces to join that CRIU did not dump.
    pub(super) fn new(
        images: &Path,
        record: &Record,
        plan: &Plan,
        joined: &[Joined],
        preserved: u32,
    ) -> Result<Given> {
        let mut given = Given(Vec::new());
        let streams = image::streams(images)?;
        let pipes = streams
            .iter()
            .take(3)
            .map(|name| Some(name.clone()).filter(|name| name.contains("pipe:")));
        let others = record.stdio.iter().cloned();
        for (name, fd) in pipes.zip(0..).chain(others.zip(0..3 + preserved)) {
            if let Some(name) = name {
                given.add(name, sys::fd::duplicate(fd)?);
            }
        }
        for (kind, key) in SHARED {
            if let (Some(_), Some(joined)) =
                (plan.namespaces.joined(kind), joined.iter().find(|joined| joined.kind() == kind))
            {
                given.add(key.to_owned(), joined.file()?.into());
            }
        }
        Ok(given)
    }

    /// Each name once: several streams can be the same pipe.
    fn add(&mut self, name: String, fd: OwnedFd) {
        if self.0.iter().all(|(known, _)| *known != name) {
            self.0.push((name, fd));
        }
    }

    /// The descriptors that CRIU inherits.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|(_, fd)| fd.as_fd()).collect()
    }
}

/// The data for the request.
pub(super) struct Asked<'a> {
    pub(super) how: &'a RestoreOptions,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
    pub(super) record: &'a Record,
    pub(super) given: &'a Given,
    pub(super) beside: &'a Path,
    pub(super) binds: &'a Binds,
}

/// The bind mounts of a checkpoint, and the mounts below them.
#[derive(Default)]
pub(super) struct Binds {
    /// Bind mounts: their names in the image, and their indexes in the config.
    whole: Vec<(String, usize)>,
    /// Mounts below: their names in the image.
    names: Vec<String>,
    /// Mounts below: the index of the bind mount, and the path relative to it.
    pub(super) below: Vec<(usize, PathBuf)>,
}

impl Binds {
    /// Finds the bind mount of the config for each.
    pub(super) fn find(plan: &Plan, record: &Record) -> Result<Binds> {
        let mut found = Binds::default();
        for External { point, name, origin } in &record.external {
            let Origin::Bind(target, rest) = origin else { continue };
            let target = target.as_os_str().as_bytes();
            let mut binds = plan.rootfs.mounts.iter().rev();
            let bind = binds.find(|mount| {
                matches!(mount.kind, Kind::Bind { .. }) && mount.target.to_bytes() == target
            });
            let index = bind.map(|mount| mount.index).with_context(|| {
                format!(
                    "the checkpoint has a bind mount on {}, and config.json none: nothing tells its source",
                    point.display()
                )
            })?;
            match rest.as_os_str().is_empty() {
                true => found.whole.push((name.clone(), index)),
                false => {
                    found.names.push(name.clone());
                    found.below.push((index, rest.clone()));
                }
            }
        }
        Ok(found)
    }

    /// The names, and the path at which each is staged.
    fn places(&self, beside: &Path) -> impl Iterator<Item = (String, Vec<u8>)> {
        let whole = self.whole.iter().map(|(name, index)| (name, staged::place(beside, *index)));
        let below = self.names.iter().enumerate();
        let below = below.map(|(number, name)| (name, staged::place_below(beside, number)));
        whole.chain(below).map(|(name, path)| (name.clone(), path.into_os_string().into_vec()))
    }
}

impl Asked<'_> {
    /// The options of the request.
    pub(super) fn options(&self, version: u32, images: &File, work: &File) -> Result<Message> {
        let Asked { how, plan, state, .. } = self;
        let mut request = Message::default()
            .number(1, images.as_raw_fd().into())
            .flag(6, true)
            .number(9, 4)
            .bytes(10, super::attempt::LOG.as_bytes())
            .flag(12, true)
            .bytes(13, plan.rootfs.path.as_os_str().as_bytes())
            .number(17, work.as_raw_fd().into())
            .flag(26, true)
            .flag(50, plan.process.terminal.is_some());
        request = self.add_cgroups(request);
        for (name, source) in self.externals() {
            let map = Message::default().bytes(1, name.as_bytes()).bytes(2, &source);
            request = request.message(23, &map);
        }
        for (name, fd) in &self.given.0 {
            let inherited = Message::default().bytes(1, name.as_bytes());
            request = request.message(27, &inherited.number(2, fd.as_raw_fd().into()));
        }
        for kind in JOINABLE {
            if let Some(join) = plan.namespaces.joined(kind) {
                let joined = Message::default().bytes(1, file(kind).as_bytes());
                request = request.message(39, &joined.bytes(2, join.path.as_os_str().as_bytes()));
            }
        }
        if plan.namespaces.new & libc::CLONE_NEWNET != 0 {
            request = request.number(38, libc::CLONE_NEWNET.into());
        }
        if let Some(profile) = &how.lsm_profile {
            request = request.bytes(53, profile.as_bytes());
        }
        if let Some(context) = &how.lsm_mount_context {
            needs(version, "lsm-mount-context")?;
            request = request.bytes(63, context.as_bytes());
        }
        if let Some(config) = config_file(&state.annotations.for_runtimes()?) {
            request = request.bytes(51, config.as_os_str().as_bytes());
        }
        how.common.add_to(request, version)
    }

    /// Sets the container's own cgroup in each hierarchy. CRIU creates the cgroups below it, and does not
    /// change limits, which brig has set.
    fn add_cgroups(&self, request: Message) -> Message {
        let dirs = self.state.cgroup.dirs();
        if dirs.is_empty() {
            return request.number(34, 0);
        }
        let mode = self.how.common.cgroup_mode().unwrap_or(SOFT);
        let mut request = request.flag(24, true).number(34, mode);
        for dir in dirs {
            let below = dir.path.strip_prefix(&dir.mountpoint).unwrap_or(&dir.path);
            let path = Path::new("/").join(below);
            let root = Message::default().bytes(1, dir.controllers.as_bytes());
            request = request.message(25, &root.bytes(2, path.as_os_str().as_bytes()));
        }
        request
    }

    /// The external mounts by name, with their current paths: those in brig's record, and those that an image
    /// of runc would contain.
    fn externals(&self) -> BTreeMap<String, Vec<u8>> {
        let plan = self.plan;
        let path = |bytes: &[u8]| bytes.to_vec();
        let mut found = BTreeMap::from([(NULL.to_owned(), path(NULL.as_bytes()))]);
        for device in &plan.rootfs.devices {
            let name = device.path.to_string_lossy().into_owned();
            found.insert(name.clone(), name.into_bytes());
        }
        for mount in &plan.rootfs.mounts {
            let name = mount.target.to_string_lossy().into_owned();
            match mount.kind {
                Kind::Bind { .. } => {
                    let place = staged::place(self.beside, mount.index);
                    found.insert(name, path(place.as_os_str().as_bytes()));
                }
                Kind::Cgroup(_) if !plan.rootfs.cgroup_namespace => {
                    found.extend(self.cgroup_mounts(&name));
                }
                Kind::Filesystem(_) | Kind::Cgroup(_) | Kind::Remount { .. } => {}
            }
        }
        found.extend(self.binds.places(self.beside));
        for external in &self.record.external {
            if let Origin::Device = external.origin {
                let source = external.point.as_os_str().as_bytes();
                found.insert(external.name.clone(), path(source));
            }
        }
        found
    }

    /// v1: a directory in each hierarchy, by the name in the mount; cgroup2: the host's mount.
    fn cgroup_mounts(&self, point: &str) -> Vec<(String, Vec<u8>)> {
        let cgroup = &self.state.cgroup;
        let shown = cgroup.mounts();
        if cgroup.version == Version::V2 {
            let host = shown.first().map(|mount| mount.mountpoint.as_os_str().as_bytes().to_vec());
            return host.map(|host| (point.to_owned(), host)).into_iter().collect();
        }
        let v1 = shown.iter().filter(|mount| !mount.controllers.is_empty());
        v1.map(|mount| {
            (format!("{point}/{}", mount.name), mount.dir.as_os_str().as_bytes().to_vec())
        })
        .collect()
    }
}
