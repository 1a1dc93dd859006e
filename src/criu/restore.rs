//! restore: CRIU creates a container's processes again, in a root filesystem, cgroups and namespaces prepared
//! by brig.
//!
//! Everything that can fail does so before the processes continue; then CRIU, and after it brig, undo
//! everything.

mod attempt;
mod inside;
mod request;

use super::image::{self, Record};
use super::options::RestoreOptions;
use super::{dump, external::Origin};
use crate::hooks::Output;
use crate::launch::create::Options;
use crate::launch::foreground::terminal::Carrier;
use crate::launch::prepare::cgroup::{self, ChosenCgroup};
use crate::launch::prepare::first_state::{Belonging, first_state};
use crate::launch::prepare::net_devices;
use crate::launch::{destroy, foreground, spawn};
use crate::log::Log;
use crate::plan::devices;
use crate::plan::landlock;
use crate::plan::overlay::Upper;
use crate::plan::rootfs::Jail;
use crate::plan::{Host, Plan, Request};
use crate::process::{console, stdio};
use crate::rdt::Rdt;
use crate::spec::{Owned, Place, Spec, shape};
use crate::state::{self, Dir};
use anyhow::{Result, anyhow, ensure};
use attempt::{Attempt, Opened, Restored};
use request::Binds;
use std::os::unix::ffi::OsStrExt;
use sys::idmap::host_id;

/// Restores a container. Returns the exit code: in the foreground, the container's.
pub fn restore(options: &Options, how: &RestoreOptions, log: &mut Log) -> Result<i32> {
    dump::ensure_root()?;
    how.common.check()?;
    image::check(&how.common.images)?;
    how.common.check_parent()?;
    let record = image::read(&how.common.images)?;
    record.as_ref().map_or(Ok(()), |record| image::check_sizes(&how.common.images, record))?;
    let options = with_record(options, record.as_ref())?;
    let bundle = options.bundle.clone();
    let name = options.config.as_ref().map_or("config.json".into(), |path| path.to_string_lossy());
    let config = Owned {
        name: name.into_owned(),
        shape: shape::CONFIG,
        text: options.read_config(&bundle)?,
    };
    if !options.detach && how.subreaper {
        foreground::adopt_orphans()?;
    }
    let restored = restore_from(&options, how, &config, record.unwrap_or_default(), log);
    let restored = restored.map_err(|error| config.document().located(error))?;
    finish(&options, restored, log)
}

/// Uses the bundle that was created for the container and kept for the checkpoint; it is removed with the
/// container.
fn with_record(options: &Options, record: Option<&Record>) -> Result<Options> {
    let own = record.filter(|record| record.own_bundle);
    let given = Some(&options.bundle).filter(|path| !path.as_os_str().is_empty());
    let bundle = match (given, own) {
        (Some(_), _) => options.real_bundle()?,
        (None, Some(record)) => record.bundle.clone(),
        (None, None) => std::path::absolute(".")?,
    };
    let same = |record: &&Record| record.bundle == bundle && record.id == options.id;
    Ok(Options { own_bundle: own.is_some_and(|record| same(&record)), bundle, ..options.clone() })
}

/// In the foreground, waits for the container like `run`.
fn finish(options: &Options, restored: Restored, log: &mut Log) -> Result<i32> {
    let Restored { dir, lock, state, init, master } = restored;
    drop(lock);
    if options.detach {
        return Ok(0);
    }
    let mut carrier = match master.map(Carrier::new).transpose() {
        Ok(carrier) => carrier,
        Err(error) => return Err(destroy::unlocked_because(error, dir, &state, log)),
    };
    let end = foreground::wait(&init, carrier.as_mut(), None)?;
    foreground::reap(&init)?;
    destroy::at_the_end(dir, &state, log)?;
    Ok(end.code)
}

/// Makes the plan; nothing is changed yet.
fn decide(
    options: &Options,
    how: &RestoreOptions,
    owned: &Owned,
    log: &mut Log,
) -> Result<(Spec, Host, Plan, Option<Vec<u8>>)> {
    state::check_id(&options.id)?;
    let mut warnings = Vec::new();
    let config = owned.document();
    let (spec, rewritten) = config.parse::<Spec>(&mut warnings)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    log.debug_each(|| config.unknown_keys());
    let request = Request {
        rootfs: &options.rootfs,
        cgroup_manager: options.cgroup_manager,
        rootless: options.rootless,
        preserve_fds: options.preserve_fds,
        carries_terminal: !options.detach,
        ..Request::of_bundle(&options.bundle)
    };
    let host = Host::default();
    let mut plan = Plan::new(&spec, &request, &host)?;
    plan.hooks.locate(&config);
    if plan.process.landlock.is_some() && !how.trust_image {
        let why = "CRIU cannot restore a process in a Landlock domain (--trust-image restores it without)";
        Err(anyhow!(why)).at(landlock::PLACE)?;
    }
    stdio::set_cloexec_from(0, options.preserve_fds)?;
    for warning in &plan.warnings {
        log.warn(&config.located_warning(warning));
    }
    Ok((spec, host, plan, rewritten))
}

/// The group of root in a new user namespace, if it differs from the host's.
fn group_of_root(plan: &Plan) -> Option<u32> {
    let gid = host_id(&plan.id_maps.gids, 0)?;
    (plan.namespaces.new & libc::CLONE_NEWUSER != 0 && gid != 0).then_some(gid)
}

/// Refuses what cannot be restored, before anything is created.
fn check(plan: &Plan, record: &Record) -> Result<()> {
    dump::check_joined(&plan.namespaces)?;
    ensure!(
        matches!(plan.rootfs.jail, Jail::Pivot),
        "CRIU restores containers with a mount namespace of their own only"
    );
    ensure!(
        record.layers.is_none() || plan.rootfs.overlay.is_some(),
        "the root filesystem of the checkpoint had layers, and config.json names none: give --layer and --upper \
         as to create"
    );
    if let Some(overlay) = &plan.rootfs.overlay
        && let Upper::Tmpfs { .. } = overlay.upper
    {
        let why =
            anyhow!("is in memory, which CRIU does not restore: give a directory with --upper DIR");
        overlay.upper_from.with_origin(Err(why))?;
    }
    for external in &record.external {
        let Origin::Device = external.origin else { continue };
        let (path, point) = (external.point.as_path(), external.point.display());
        // A checkpoint is a file: it must not choose files of the host for the container.
        let bytes = path.as_os_str().as_bytes();
        let listed = plan.rootfs.devices.iter().any(|device| device.path.as_bytes() == bytes);
        let known = listed || devices::is_default(path);
        ensure!(known, "the checkpoint has the device {point}, and config.json has not");
        ensure!(path.exists(), "the checkpoint has the device {point}, and the host none");
    }
    Ok(())
}

fn restore_from(
    options: &Options,
    how: &RestoreOptions,
    owned: &Owned,
    record: Record,
    log: &mut Log,
) -> Result<Restored> {
    let (spec, host, plan, rewritten) = decide(options, how, owned, log)?;
    check(&plan, &record)?;
    let binds = Binds::find(&plan, &record)?;
    if let Some(name) = &how.hostname {
        ensure!(
            plan.namespaces.new & libc::CLONE_NEWUTS != 0,
            "--hostname {name}: needs a UTS namespace of its own (linux.namespaces)"
        );
    }
    let terminal = plan.process.terminal.is_some();
    let console =
        console::master_route(terminal, options.console_socket.as_deref(), options.detach)?;
    let pidfd_sockets = options.pidfd_sockets(&spec.annotations, &options.bundle)?;
    let output = match plan.hooks.during_create() {
        true => Output::open(&spec.annotations, &options.bundle)?,
        false => Output::default(),
    };
    let joined = spawn::open(&plan.namespaces)?;
    let network = net_devices::destination(&plan, &joined)?;
    let found = cgroup::locate(&options.id, &spec, &plan, host);
    let ChosenCgroup { cgroup, view, scope } =
        found.map_err(|error| state::in_use(&options.root, &options.id).unwrap_or(error))?;
    let rdt = plan.rdt.as_ref().map(|plan| Rdt::locate(plan, &options.id));
    let rdt = rdt.transpose().at("linux.intelRdt")?;
    ensure!(
        cgroup.is_none() || how.common.manage_cgroups.as_deref() != Some("strict"),
        "--manage-cgroups-mode strict: CRIU then refuses the cgroup that brig makes for the container (soft or full)"
    );
    image::make_dir("--work-path", how.common.work())?;
    if let Some(gid) = group_of_root(&plan) {
        image::show_to(&how.common.images, gid)?;
    }
    let state = first_state(options, &spec, &plan, &options.bundle, Belonging { cgroup, rdt })?;

    // From here on there is something to undo; if brig is killed, state.json says what.
    let signals = foreground::block_signals()?;
    let (dir, lock) = Dir::create(&options.root, &options.id)?;
    let text = rewritten.as_ref().unwrap_or(&owned.text);
    let opened = Opened { record, binds, joined, console, pidfd_sockets, output, network };
    let attempt = Attempt::new(dir, lock, state, view.is_none(), scope);
    attempt.launch(options, how, &plan, opened, text, &signals, log)
}
