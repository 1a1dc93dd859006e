//! Turns clap's matches into plain values.

use super::describe::LIMITS;
use super::{Parsed, UsageError, criu, images};
use crate::cmd::command::{Command, Globals, ListFormat};
use crate::cmd::create::RunOptions;
use crate::cmd::{doctor, events, inspect, lint, mounts, stats, update, wait};
use crate::doctor::Question;
use crate::launch::create::Options;
use crate::launch::exec;
use crate::lint::Format as Findings;
use crate::log::{Format, Level};
use crate::plan::CgroupManager;
use crate::plan::exec::ProcessOptions;
use crate::plan::rootfs::RootOptions;
use clap::ArgMatches;
use std::path::PathBuf;
use sys::cred;

/// The whole command line.
pub(super) fn read(matches: &ArgMatches) -> Parsed {
    let globals = globals(matches);
    let Some((name, matches_of)) = matches.subcommand() else {
        return wrong(globals, "no command given: see `brig --help`".into());
    };
    let wrong_words = images::contradiction(name, matches_of);
    if let Some(text) = wrong_words.or_else(|| contradiction(name, matches_of)) {
        return wrong(globals, format!("{name}: {text}"));
    }
    let command = command(name, matches_of, &globals);
    Parsed::Run(globals, Box::new(command))
}

fn wrong(globals: Globals, text: String) -> Parsed {
    Parsed::Wrong(UsageError { globals: Some(globals), text, help: None, code: 1 })
}

/// The options before the command.
pub(super) fn globals(matches: &ArgMatches) -> Globals {
    let json = text(matches, "log-format").as_deref() == Some("json");
    Globals {
        root: path(matches, "root").unwrap_or_else(default_root),
        log: path(matches, "log"),
        log_format: if json { Format::Json } else { Format::Text },
        log_level: match text(matches, "log-level").as_deref() {
            _ if matches.get_flag("debug") => Level::Debug,
            Some("debug") => Level::Debug,
            Some("error") => Level::Error,
            _ => Level::Warning,
        },
        trace: path(matches, "trace"),
        timings: matches.get_flag("timings"),
        cgroup_manager: match text(matches, "cgroup-manager").as_deref() {
            Some("systemd") => CgroupManager::Systemd,
            Some("disabled") => CgroupManager::Disabled,
            None if matches.get_flag("systemd-cgroup") => CgroupManager::Systemd,
            _ => CgroupManager::Cgroupfs,
        },
        rootless: match text(matches, "rootless").as_deref() {
            None | Some("auto" | "") => None,
            Some(whether) => Some(whether.starts_with(['1', 't', 'T'])),
        },
        store: images::store(matches),
        criu: path(matches, "criu"),
    }
}

/// Flags of run that contradict each other.
fn contradiction(name: &str, matches: &ArgMatches) -> Option<String> {
    let on = |flag| name == "run" && matches.get_flag(flag);
    if on("rm") && on("detach") {
        return Some("--rm and --detach exclude each other: a detached container is kept until `brig delete`".into());
    }
    (on("rm") && on("keep")).then(|| "--rm and --keep exclude each other".into())
}

/// /run/brig; for an unprivileged user, a directory below XDG_RUNTIME_DIR. A user who is root only inside a
/// user namespace counts as unprivileged, as in runc.
fn default_root() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let unprivileged = || {
        // podman's conmon runs without USER.
        let named_root = variable("USER").is_some_and(|name| name == "root");
        !nix::unistd::geteuid().is_root() || !named_root && !cred::in_first_user_namespace()
    };
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) if unprivileged() => PathBuf::from(dir).join("brig"),
        _ => PathBuf::from("/run/brig"),
    }
}

fn wait_options(matches: &ArgMatches) -> wait::WaitOptions {
    wait::WaitOptions {
        ids: matches.get_many::<String>("id").into_iter().flatten().cloned().collect(),
        condition: match text(matches, "condition").as_deref() {
            Some("created") => wait::Condition::Created,
            Some("running") => wait::Condition::Running,
            Some("removed") => wait::Condition::Removed,
            _ => wait::Condition::Stopped,
        },
        timeout: text(matches, "timeout"),
        format: format(matches),
        quiet: matches.get_flag("quiet"),
    }
}

fn lint_options(matches: &ArgMatches) -> lint::LintOptions {
    let format = match text(matches, "format").as_deref() {
        Some("json") => Findings::Json,
        Some("sarif") => Findings::Sarif,
        Some("github") => Findings::Github,
        _ => Findings::Text,
    };
    let of = path(matches, "of").unwrap_or_else(|| ".".into());
    lint::LintOptions { of, here: matches.get_flag("here"), format }
}

fn command(name: &str, matches: &ArgMatches, globals: &Globals) -> Command {
    acting(name, matches, globals)
        .or_else(|| looking(name, matches, globals))
        .or_else(|| images::command(name, matches))
        .unwrap_or(Command::Features)
}

/// Reads the arguments of a command that changes a container.
fn acting(name: &str, matches: &ArgMatches, globals: &Globals) -> Option<Command> {
    let id = || text(matches, "id").unwrap_or_default();
    Some(match name {
        "create" => {
            Command::Create(options(matches, globals, true), images::from_image(matches, globals))
        }
        "run" => {
            let run_options = RunOptions {
                keep: matches.get_flag("keep"),
                subreaper: !matches.get_flag("no-subreaper"),
            };
            let options = options(matches, globals, matches.get_flag("detach"));
            Command::Run(options, images::from_image(matches, globals), run_options)
        }
        "checkpoint" => Command::Checkpoint(criu::checkpoint(matches, globals)),
        "restore" => {
            Command::Restore(criu::options(matches, globals), criu::restore(matches, globals))
        }
        "start" => Command::Start { id: id() },
        "exec" => Command::Exec(exec_options(matches, globals)),
        "kill" => Command::Kill {
            id: id(),
            regex: matches.get_flag("regex"),
            signal: text(matches, "signal").unwrap_or_default(),
            all: matches.get_flag("all"),
        },
        "mounts" => Command::Mounts(mounts::MountsOptions {
            add: text(matches, "action").as_deref() == Some("add"),
            id: id(),
            file: path(matches, "file").unwrap_or_default(),
        }),
        "pause" => Command::Pause { id: id() },
        "resume" => Command::Resume { id: id() },
        "delete" => Command::Delete {
            id: id(),
            regex: matches.get_flag("regex"),
            force: matches.get_flag("force"),
        },
        "update" => Command::Update(update_options(matches)),
        _ => return None,
    })
}

/// Reads the arguments of a command that only reads.
fn looking(name: &str, matches: &ArgMatches, globals: &Globals) -> Option<Command> {
    let id = || text(matches, "id").unwrap_or_default();
    Some(match name {
        "state" => Command::State { id: id() },
        "ps" => Command::Ps {
            id: id(),
            format: format(matches),
            options: matches.get_many("args").into_iter().flatten().cloned().collect(),
        },
        "doctor" => Command::Doctor(doctor::DoctorOptions {
            question: Question {
                bundle: path(matches, "bundle"),
                root: globals.root.clone(),
                criu: globals.criu.clone().unwrap_or_else(|| "criu".into()),
                manager: globals.cgroup_manager,
                rootless: globals.rootless,
            },
            format: format(matches),
        }),
        "inspect" => Command::Inspect(inspect::InspectOptions {
            id: id(),
            syscall: text(matches, "syscall"),
            format: format(matches),
        }),
        "lint" => Command::Lint(lint_options(matches)),
        "seccomp" => Command::Seccomp(seccomp_options(matches)),
        "wait" => Command::Wait(wait_options(matches)),
        "list" => Command::List { format: format(matches), quiet: matches.get_flag("quiet") },
        "spec" => Command::Spec {
            bundle: path(matches, "bundle").unwrap_or_else(|| ".".into()),
            file: path(matches, "file"),
            rootless: matches.get_flag("rootless"),
        },
        "events" => Command::Events(events::EventsOptions {
            id: id(),
            once: matches.get_flag("stats"),
            interval: text(matches, "interval"),
        }),
        "stats" => Command::Stats(stats::StatsOptions {
            ids: matches.get_many("id").into_iter().flatten().cloned().collect(),
            format: format(matches),
            once: matches.get_flag("no-stream"),
            interval: text(matches, "interval"),
        }),
        _ => return None,
    })
}

pub(super) fn format(matches: &ArgMatches) -> ListFormat {
    match text(matches, "format").as_deref() {
        Some("json") => ListFormat::Json,
        _ => ListFormat::Table,
    }
}

fn options(matches: &ArgMatches, globals: &Globals, detach: bool) -> Options {
    Options {
        root: globals.root.clone(),
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        id: images::id(matches),
        bundle: path(matches, "bundle").unwrap_or_else(|| ".".into()),
        config: path(matches, "config"),
        pid_file: path(matches, "pid-file"),
        rootfs: root_options(matches, matches.get_flag("no-pivot")),
        no_new_keyring: matches.get_flag("no-new-keyring"),
        preserve_fds: number(matches, "preserve-fds"),
        console_socket: path(matches, "console-socket"),
        pidfd_socket: path(matches, "pidfd-socket"),
        detach,
        own_bundle: false,
        strict: matches.get_flag("strict"),
        record_calls: path(matches, "record-calls"),
    }
}

fn update_options(matches: &ArgMatches) -> update::UpdateOptions {
    let given = |&(name, ..): &(&'static str, _, _)| Some((name, text(matches, name)?));
    update::UpdateOptions {
        id: text(matches, "id").unwrap_or_default(),
        resources: path(matches, "resources"),
        limits: LIMITS.iter().filter_map(given).collect(),
        l3_cache: text(matches, "l3-cache-schema"),
        mem_bw: text(matches, "mem-bw-schema"),
        dry_run: matches.get_flag("dry-run"),
    }
}

fn exec_options(matches: &ArgMatches, globals: &Globals) -> exec::Options {
    let texts = |name| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let process = ProcessOptions {
        args: texts("args"),
        file: path(matches, "process"),
        tty: matches.get_flag("tty"),
        apparmor: text(matches, "apparmor"),
        process_label: text(matches, "process-label"),
        cwd: text(matches, "cwd"),
        env: texts("env"),
        user: text(matches, "user"),
        additional_gids: matches
            .get_many("additional-gids")
            .into_iter()
            .flatten()
            .copied()
            .collect(),
        capabilities: texts("cap"),
        no_new_privileges: matches.get_flag("no-new-privs"),
        detach: matches.get_flag("detach"),
        preserve_fds: number(matches, "preserve-fds"),
    };
    exec::Options {
        root: globals.root.clone(),
        id: text(matches, "id").unwrap_or_default(),
        process,
        console_socket: path(matches, "console-socket"),
        pid_file: path(matches, "pid-file"),
        cgroups: texts("cgroup"),
        pidfd_socket: path(matches, "pidfd-socket"),
        ignore_paused: matches.get_flag("ignore-paused"),
    }
}

fn seccomp_options(matches: &ArgMatches) -> crate::cmd::seccomp::SeccompOptions {
    let texts = |name| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    crate::cmd::seccomp::SeccompOptions {
        action: match text(matches, "action").as_deref() {
            Some("diff") => crate::cmd::seccomp::Action::Diff,
            Some("record") => crate::cmd::seccomp::Action::Record,
            _ => crate::cmd::seccomp::Action::Explain,
        },
        of: texts("of"),
        caps: texts("cap"),
        format: format(matches),
    }
}

pub(super) fn number(matches: &ArgMatches, name: &str) -> u32 {
    matches.get_one(name).copied().unwrap_or(0)
}

pub(super) fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

/// An empty path counts as absent: scripts pass the value of a variable that may be empty.
pub(super) fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).filter(|path| !path.as_os_str().is_empty()).cloned()
}

pub(super) fn root_options(matches: &ArgMatches, no_pivot: bool) -> RootOptions {
    RootOptions {
        layers: matches.get_many("layer").into_iter().flatten().cloned().collect(),
        upper: text(matches, "upper"),
        no_pivot,
    }
}
