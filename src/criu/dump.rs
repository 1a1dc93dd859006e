//! checkpoint: CRIU freezes a container and writes its state to files; then the container is deleted, unless
//! it is left running.

use super::external::{self, Configured, External};
use super::image::{self, Record};
use super::log as criu_log;
use super::options::{CheckpointOptions, needs, page_server};
use super::rpc::{Criu, DUMP, PRE_DUMP, SINGLE_PRE_DUMP, Start};
use super::wire::Message;
use crate::launch::{destroy, foreground, own_bundle};
use crate::log::Log;
use crate::plan::Host;
use crate::plan::landlock;
use crate::plan::mounts::{Mount, Setting};
use crate::plan::namespaces::{Join, Namespaces, file};
use crate::spec::Spec;
use crate::state::{Dir, State, Status};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use sys::mountinfo::mounts;
use sys::{cred, signal};

/// The annotation that names CRIU's configuration file; empty: none.
pub(super) const CONFIG: &str = "org.criu.config";
/// The default without the annotation.
const DEFAULT_CONFIG: &str = "/etc/criu/runc.conf";

/// Checkpoints a running container.
pub fn checkpoint(options: &CheckpointOptions, log: &mut Log) -> Result<()> {
    ensure_root()?;
    options.common.check()?;
    options.status_fd.map_or(Ok(()), |fd| status_file(fd).map(drop))?;
    let dir = Dir::open(&options.root, &options.id)?;
    let lock = dir.lock()?;
    let state = dir.existing()?;
    match dir.status(&state)? {
        Status::Running | Status::Paused => {}
        // runc's message.
        status => bail!("container cannot be checkpointed in {status} state"),
    }
    ensure!(
        !state.annotations.for_runtimes()?.contains_key(landlock::ANNOTATION),
        "its processes are in Landlock domains ({}), which CRIU cannot restore",
        landlock::PLACE
    );
    let subject = Subject::look(&dir, &state)?;
    let images = image::make_dir("--image-path", &options.common.images)?;
    options.common.check_parent()?;
    let work = image::make_dir("--work-path", options.common.work())?;
    let signals = foreground::block_signals()?;
    let start = Start {
        program: options.common.program(),
        namespaces: 0,
        inherits: Vec::new(),
        same_job: options.common.has("shell-job"),
        signals: &signals,
    };
    let mut criu = Criu::start(&start, || Ok(()))?;
    let version = criu.version()?;
    criu.check_features(options.pre_dump, options.common.has("lazy-pages"))?;
    let goes = !options.leave_running && !options.pre_dump;
    subject.warn_of_others(goes, log);
    let request = subject.request(options, version, &images, &work)?;
    let dumped = subject.dump(&mut criu, options, version, &request);
    if let Err(error) = dumped {
        // A dead CRIU cannot thaw what it has frozen.
        drop(criu);
        subject.let_go()?;
        return Err(error);
    }
    criu.finish();
    if !goes {
        return Ok(());
    }
    // A restore needs the bundle and the upper of an image's container: `gc` must not treat them as unused.
    if state.own_bundle {
        own_bundle::keep(&state.bundle, &std::path::absolute(&options.common.images)?)?;
    }
    let gone = State { own_bundle: false, ..state };
    destroy::destroy(dir, &gone, true, log)?;
    drop(lock);
    Ok(())
}

/// CRIU needs root privileges on the host: `criu --unprivileged` does not support namespaces.
pub(super) fn ensure_root() -> Result<()> {
    let first = cred::in_first_user_namespace();
    ensure!(
        nix::unistd::geteuid().is_root() && first && cred::is_privileged()?,
        "only root of the host can do this: CRIU looks into processes and makes namespaces, for which the \
         kernel gives an unprivileged user no rights"
    );
    Ok(())
}

/// The container to checkpoint.
struct Subject<'a> {
    state: &'a State,
    namespaces: Namespaces,
    external: Vec<External>,
    was_paused: bool,
}

impl<'a> Subject<'a> {
    fn look(dir: &Dir, state: &'a State) -> Result<Self> {
        let config: Spec = serde_json::from_slice(&dir.read("config.json")?)?;
        let namespaces = Namespaces::new(&config.linux, &Host::default())?;
        check(state, &namespaces)?;
        let calls = config.linux.seccomp.iter().flat_map(|filter| filter.syscalls.iter().flatten());
        for call in calls {
            ensure!(
                call.action != oci_seccomp::LinuxSeccompAction::Notify,
                "linux.seccomp: an agent decides about system calls (SCMP_ACT_NOTIFY), which CRIU does not restore"
            );
        }
        let setting =
            Setting::new(&config, &state.bundle, None, state.has_namespace(libc::CLONE_NEWUSER));
        let planned = config.mounts.iter().enumerate();
        let mounts = planned
            .map(|(index, mount)| Mount::new(index, mount, &setting, &mut Vec::new()))
            .collect::<Result<Vec<_>>>()?;
        let devices = config.linux.devices.as_deref().unwrap_or_default();
        let configured = Configured {
            mounts: &mounts,
            masked: &config.linux.masked_paths,
            devices: &devices.iter().map(|device| device.path().clone()).collect::<Vec<_>>(),
            cgroup_namespace: state.has_namespace(libc::CLONE_NEWCGROUP),
            added: &state
                .extra_mounts
                .mounts
                .iter()
                .map(|added| added.mount.id)
                .collect::<Vec<_>>(),
        };
        let external = external::of_container(state.pid, &configured)?;
        let was_paused = state.cgroup.paused()?;
        Ok(Subject { state, namespaces, external, was_paused })
    }

    /// Warns of processes that CRIU does not find, because it only dumps init's descendants.
    fn warn_of_others(&self, goes: bool, log: &mut Log) {
        let init = self.state.pid;
        let mut pids = self.state.pids().unwrap_or_default();
        pids.retain(|&pid| pid != init && !descends(pid, init));
        if !pids.is_empty() {
            let pids = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
            let fate = if goes { "and end with the container" } else { "and run on" };
            log.warn(&format!(
                "not in the checkpoint, {fate}: processes {pids}, which `brig exec` has started"
            ));
        }
    }

    fn request(
        &self,
        options: &CheckpointOptions,
        version: u32,
        images: &File,
        work: &File,
    ) -> Result<Message> {
        let CheckpointOptions { common, .. } = options;
        let state = self.state;
        let mut request = Message::default()
            .number(1, images.as_raw_fd().into())
            .number(2, state.pid.into())
            .flag(3, options.leave_running)
            .number(9, 4)
            .bytes(10, LOG.as_bytes())
            .flag(12, true)
            .bytes(13, state.rootfs.as_os_str().as_bytes())
            .number(17, work.as_raw_fd().into())
            .flag(50, true);
        if let Some(parent) = &common.parent {
            request = request.bytes(14, parent.as_os_str().as_bytes());
        }
        request = request.flag(15, options.pre_dump || common.parent.is_some());
        if let Some(server) = &options.page_server {
            request = request.message(11, &page_server(server)?);
        }
        request = match state.cgroup.is_none() {
            true => request.number(34, 0),
            false => request.flag(24, true).number(34, common.cgroup_mode().unwrap_or(SOFT)),
        };
        if let Some(freezer) = state.cgroup.own_freezer() {
            request = request.bytes(44, freezer.as_os_str().as_bytes());
        }
        if common.network_lock.is_none() && !common.has("tcp-established") && needs_no_lock(version)
        {
            // There are no connections to lock, and CRIU would execute iptables-restore.
            request = request.number(64, 3);
        }
        if let Some(config) = config_file(&state.annotations.for_runtimes()?) {
            request = request.bytes(51, config.as_os_str().as_bytes());
        }
        let request = common.add_to(request, version)?;
        // A pre-dump only contains memory.
        if options.pre_dump { Ok(request) } else { self.add_outside(request) }
    }

    /// Adds external resources, which do not belong to the container.
    fn add_outside(&self, mut request: Message) -> Result<Message> {
        for External { point, name, .. } in &self.external {
            let map = Message::default().bytes(1, external::text(point)?.to_bytes());
            request = request.message(23, &map.bytes(2, name.as_bytes()));
        }
        for (kind, key) in SHARED {
            if let Some(join) = self.namespaces.joined(kind) {
                request = request.bytes(37, shared(join, key)?.as_bytes());
            }
        }
        for key in self.outside_streams()?.into_iter().flatten() {
            request = request.bytes(37, key.as_bytes());
        }
        if self.namespaces.new & libc::CLONE_NEWNET != 0 {
            // As in runc: brig does not set up networks, so the caller of restore has to set it up again.
            request = request.number(38, libc::CLONE_NEWNET.into());
        }
        Ok(request)
    }

    /// The names that CRIU has for the standard streams and preserved descriptors that are files of the host;
    /// None for others.
    fn outside_streams(&self) -> Result<Vec<Option<String>>> {
        let pid = self.state.pid;
        let theirs = std::fs::read(format!("/proc/{pid}/mountinfo"))?;
        let key = |fd: i32| -> Result<Option<String>> {
            let path = format!("/proc/{pid}/fd/{fd}");
            let named = std::fs::read_link(&path).is_ok_and(|link| link.is_absolute());
            let (true, Ok(found)) = (named, std::fs::metadata(&path)) else { return Ok(None) };
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))?;
            let id =
                info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
            let id: u64 = id.context("fdinfo has no mnt_id")?;
            let inside = mounts(&theirs).any(|mount| mount.id() == Some(id));
            Ok((!inside).then(|| format!("file[{id:x}:{:x}]", found.ino())))
        };
        (0..self.inherited()).map(key).collect()
    }

    /// The number of standard streams and preserved descriptors.
    fn inherited(&self) -> i32 {
        i32::try_from(self.state.stdio.len()).unwrap_or(0).max(3)
    }

    /// The descriptors to replace on restore: of the standard streams only files, because `descriptors.json`
    /// contains the pipes.
    fn replaced(&self) -> Result<Vec<Option<String>>> {
        let mut found = self.outside_streams()?;
        for (found, pipe) in found.iter_mut().zip(&self.state.stdio).skip(3) {
            *found = found.take().or_else(|| Some(pipe.clone()).filter(|name| !name.is_empty()));
        }
        Ok(found)
    }

    fn dump(
        &self,
        criu: &mut Criu<'_>,
        options: &CheckpointOptions,
        version: u32,
        request: &Message,
    ) -> Result<()> {
        let kind = match options.pre_dump {
            false => DUMP,
            true if version >= 31_700 => SINGLE_PRE_DUMP,
            true => PRE_DUMP,
        };
        let request = Message::default().number(1, kind).message(2, request);
        let images = &options.common.images;
        let mut begun = false;
        let answer = criu.ask(&request, "post-dump", &mut |notice| match notice.script.as_str() {
            "pre-dump" => {
                begun = true;
                image::invalidate(images)
            }
            "status-ready" => tell_ready(options.status_fd),
            "post-dump" if !options.pre_dump => self.write(options, version),
            _ => Ok(()),
        });
        let answer = answer.and_then(|answer| match criu.refused.take() {
            Some(error) => Err(error),
            None => Ok(answer),
        });
        let done = answer.and_then(|answer| {
            let log = options.common.work().join(LOG);
            ensure!(answer.success, criu_log::explain(&log, &answer.text));
            Ok(())
        });
        if done.is_err() && begun {
            // The first error is the one to report.
            let _ = image::invalidate(images);
        }
        done
    }

    /// Writes brig's and runc's files beside those of CRIU, while the container is frozen.
    fn write(&self, options: &CheckpointOptions, criu: u32) -> Result<()> {
        let state = self.state;
        let stream = |fd: usize| {
            let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", state.pid));
            let now = link.unwrap_or_default().to_string_lossy().into_owned();
            let at_first = state.stdio.get(fd).filter(|name| !name.is_empty());
            at_first.cloned().unwrap_or(now)
        };
        let streams: Vec<String> = (0..3).map(stream).collect();
        let record = Record {
            version: Record::VERSION,
            id: state.id.clone(),
            bundle: state.bundle.clone(),
            rootfs: state.rootfs.clone(),
            layers: state.layers.clone(),
            own_bundle: state.own_bundle,
            criu,
            external: self.external.clone(),
            stdio: self.replaced()?,
            sizes: image::sizes(&options.common.images, options.page_server.is_some())?,
        };
        image::write(&options.common.images, &streams, &record)
    }

    /// Thaws the container after a CRIU that could not do it itself.
    fn let_go(&self) -> Result<()> {
        if self.was_paused || self.state.cgroup.own_freezer().is_none() {
            return Ok(());
        }
        self.state.cgroup.thaw()
    }
}

/// `SOFT` of `criu_cg_mode`: missing cgroups are created, existing ones are not changed.
pub(super) const SOFT: i64 = 3;

/// Joined namespaces that are not dumped, with the names that runc uses for them.
pub(super) const SHARED: [(libc::c_int, &str); 2] =
    [(libc::CLONE_NEWNET, "extRootNetNS"), (libc::CLONE_NEWPID, "extRootPidNS")];

/// Namespaces that CRIU can make restored processes join.
pub(super) const JOINABLE: [libc::c_int; 2] = [libc::CLONE_NEWIPC, libc::CLONE_NEWUTS];

fn shared(join: &Join, key: &str) -> Result<String> {
    let found = std::fs::metadata(&join.path).with_context(|| join.path.display().to_string())?;
    Ok(format!("{}[{}]:{key}", file(join.kind), found.ino()))
}

/// Whether CRIU supports not locking the network (since 3.19).
fn needs_no_lock(version: u32) -> bool {
    needs(version, "network-lock skip").is_ok()
}

/// The name used by runc and crun: engines read this file.
const LOG: &str = "dump.log";

/// Refuses containers that could not be restored, before anything is changed.
fn check(state: &State, namespaces: &Namespaces) -> Result<()> {
    if state.layers.as_ref().is_some_and(|layers| layers.upper.is_none()) {
        bail!(
            "its changes are in memory, which CRIU does not dump: --upper DIR of create and run keeps them"
        );
    }
    check_joined(namespaces)
}

/// Refuses joined namespaces of other types.
pub(super) fn check_joined(namespaces: &Namespaces) -> Result<()> {
    let known =
        |kind: i32| SHARED.iter().any(|(known, _)| *known == kind) || JOINABLE.contains(&kind);
    match namespaces.join.iter().find(|join| !known(join.kind)) {
        Some(join) => bail!(
            "{}: CRIU cannot restore a container that joins a {} namespace",
            join.place,
            crate::plan::namespaces::name(join.kind)
        ),
        None => Ok(()),
    }
}

/// The configuration file, which can override every option of a request.
pub(super) fn config_file(
    annotations: &std::collections::BTreeMap<String, String>,
) -> Option<PathBuf> {
    match annotations.get(CONFIG).map(String::as_str) {
        Some("") => None,
        Some(path) => Some(path.into()),
        None => Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.exists()),
    }
}

fn tell_ready(fd: Option<u32>) -> Result<()> {
    let Some(fd) = fd else { return Ok(()) };
    let mut file = status_file(fd)?;
    signal::without_sigpipe(|| std::io::Write::write_all(&mut file, b"\0"))
        .with_context(|| format!("--status-fd {fd}"))
}

/// A descriptor opened by the caller, for a single message.
fn status_file(fd: u32) -> Result<File> {
    let file = sys::fd::duplicate(fd).with_context(|| format!("--status-fd {fd}: is not open"))?;
    let mode = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFL).context("F_GETFL")?;
    ensure!(mode & libc::O_ACCMODE != libc::O_RDONLY, "--status-fd {fd}: is not open for writing");
    Ok(file.into())
}

/// Whether process `pid` is a descendant of `from`.
pub(super) fn descends(pid: i32, from: i32) -> bool {
    let mut pid = pid;
    while pid > 1 {
        let Ok(text) =
            std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))
        else {
            // It has exited in the meantime.
            return true;
        };
        let parent = text.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        pid = parent.unwrap_or(0);
        if pid == from {
            return true;
        }
    }
    false
}
