//! Turns parsed arguments into the options of a command.

use super::describe::LIMITS;
use super::table::Argument;
use super::values::Values;
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
use std::path::PathBuf;
use sys::cred;

/// Reads the whole command line: global options, and a command with its arguments.
pub(super) fn read(globals: &Values, name: &str, values: &Values) -> Parsed {
    let globals = self::globals(globals);
    let wrong_words = images::contradiction(name, values);
    if let Some(text) = wrong_words.or_else(|| contradiction(name, values)) {
        let text = format!("{name}: {text}");
        return Parsed::Wrong(UsageError { globals: Some(globals), text, help: None, code: 1 });
    }
    let command = command(name, values, &globals);
    Parsed::Run(globals, Box::new(command))
}

/// Reads the global options, before the command.
pub(super) fn globals(values: &Values) -> Globals {
    let json = values.text("log-format").as_deref() == Some("json");
    Globals {
        root: values.path("root").unwrap_or_else(default_root),
        log: values.path("log"),
        log_format: if json { Format::Json } else { Format::Text },
        log_level: match values.text("log-level").as_deref() {
            _ if values.has("debug") => Level::Debug,
            Some("debug") => Level::Debug,
            Some("error") => Level::Error,
            _ => Level::Warning,
        },
        trace: values.path("trace"),
        timings: values.has("timings"),
        cgroup_manager: match values.text("cgroup-manager").as_deref() {
            Some("systemd") => CgroupManager::Systemd,
            Some("disabled") => CgroupManager::Disabled,
            None if values.has("systemd-cgroup") => CgroupManager::Systemd,
            _ => CgroupManager::Cgroupfs,
        },
        rootless: match values.text("rootless").as_deref() {
            None | Some("auto" | "") => None,
            Some(whether) => Some(whether.starts_with(['1', 't', 'T'])),
        },
        store: images::store(values),
        criu: values.path("criu"),
    }
}

/// Flags of run that contradict each other.
fn contradiction(name: &str, values: &Values) -> Option<String> {
    let on = |flag| name == "run" && values.has(flag);
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

fn wait_options(values: &Values) -> wait::WaitOptions {
    wait::WaitOptions {
        ids: values.texts("id"),
        condition: match values.text("condition").as_deref() {
            Some("created") => wait::Condition::Created,
            Some("running") => wait::Condition::Running,
            Some("removed") => wait::Condition::Removed,
            _ => wait::Condition::Stopped,
        },
        timeout: values.text("timeout"),
        format: format(values),
        quiet: values.has("quiet"),
    }
}

fn lint_options(values: &Values) -> lint::LintOptions {
    let format = match values.text("format").as_deref() {
        Some("json") => Findings::Json,
        Some("sarif") => Findings::Sarif,
        Some("github") => Findings::Github,
        _ => Findings::Text,
    };
    let of = values.path("of").unwrap_or_else(|| ".".into());
    lint::LintOptions { of, here: values.has("here"), format }
}

fn command(name: &str, values: &Values, globals: &Globals) -> Command {
    acting(name, values, globals)
        .or_else(|| looking(name, values, globals))
        .or_else(|| images::command(name, values))
        .unwrap_or(Command::Features)
}

/// Reads the arguments of a command that changes a container.
fn acting(name: &str, values: &Values, globals: &Globals) -> Option<Command> {
    let id = || values.text("id").unwrap_or_default();
    Some(match name {
        "create" => {
            Command::Create(options(values, globals, true), images::from_image(values, globals))
        }
        "run" => {
            let run_options =
                RunOptions { keep: values.has("keep"), subreaper: !values.has("no-subreaper") };
            let options = options(values, globals, values.has("detach"));
            Command::Run(options, images::from_image(values, globals), run_options)
        }
        "checkpoint" => Command::Checkpoint(criu::checkpoint(values, globals)),
        "restore" => {
            Command::Restore(criu::options(values, globals), criu::restore(values, globals))
        }
        "start" => Command::Start { id: id() },
        "exec" => Command::Exec(exec_options(values, globals)),
        "kill" => Command::Kill {
            id: id(),
            regex: values.has("regex"),
            signal: values.text("signal").unwrap_or_default(),
            all: values.has("all"),
        },
        "mounts" => Command::Mounts(mounts::MountsOptions {
            add: values.text("action").as_deref() == Some("add"),
            id: id(),
            file: values.path("file").unwrap_or_default(),
        }),
        "pause" => Command::Pause { id: id() },
        "resume" => Command::Resume { id: id() },
        "delete" => {
            Command::Delete { id: id(), regex: values.has("regex"), force: values.has("force") }
        }
        "update" => Command::Update(update_options(values)),
        _ => return None,
    })
}

/// Reads the arguments of a command that only reads.
fn looking(name: &str, values: &Values, globals: &Globals) -> Option<Command> {
    let id = || values.text("id").unwrap_or_default();
    Some(match name {
        "state" => Command::State { id: id() },
        "ps" => Command::Ps { id: id(), format: format(values), options: values.texts("args") },
        "doctor" => Command::Doctor(doctor::DoctorOptions {
            question: Question {
                bundle: values.path("bundle"),
                root: globals.root.clone(),
                criu: globals.criu.clone().unwrap_or_else(|| "criu".into()),
                manager: globals.cgroup_manager,
                rootless: globals.rootless,
            },
            format: format(values),
        }),
        "inspect" => Command::Inspect(inspect::InspectOptions {
            id: id(),
            syscall: values.text("syscall"),
            format: format(values),
        }),
        "lint" => Command::Lint(lint_options(values)),
        "seccomp" => Command::Seccomp(seccomp_options(values)),
        "wait" => Command::Wait(wait_options(values)),
        "list" => Command::List { format: format(values), quiet: values.has("quiet") },
        "spec" => Command::Spec {
            bundle: values.path("bundle").unwrap_or_else(|| ".".into()),
            file: values.path("file"),
            rootless: values.has("rootless"),
        },
        "events" => Command::Events(events::EventsOptions {
            id: id(),
            once: values.has("stats"),
            interval: values.text("interval"),
        }),
        "stats" => Command::Stats(stats::StatsOptions {
            ids: values.texts("id"),
            format: format(values),
            once: values.has("no-stream"),
            interval: values.text("interval"),
        }),
        _ => return None,
    })
}

pub(super) fn format(values: &Values) -> ListFormat {
    match values.text("format").as_deref() {
        Some("json") => ListFormat::Json,
        _ => ListFormat::Table,
    }
}

fn options(values: &Values, globals: &Globals, detach: bool) -> Options {
    Options {
        root: globals.root.clone(),
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        id: images::id(values),
        bundle: values.path("bundle").unwrap_or_else(|| ".".into()),
        config: values.path("config"),
        pid_file: values.path("pid-file"),
        rootfs: root_options(values, values.has("no-pivot")),
        no_new_keyring: values.has("no-new-keyring"),
        preserve_fds: values.number("preserve-fds").unwrap_or(0),
        console_socket: values.path("console-socket"),
        pidfd_socket: values.path("pidfd-socket"),
        detach,
        own_bundle: false,
        strict: values.has("strict"),
        record_calls: values.path("record-calls"),
    }
}

fn update_options(values: &Values) -> update::UpdateOptions {
    let given = |limit: &Argument| Some((limit.name, values.text(limit.name)?));
    update::UpdateOptions {
        id: values.text("id").unwrap_or_default(),
        resources: values.path("resources"),
        limits: LIMITS.iter().filter_map(given).collect(),
        l3_cache: values.text("l3-cache-schema"),
        mem_bw: values.text("mem-bw-schema"),
        dry_run: values.has("dry-run"),
    }
}

fn exec_options(values: &Values, globals: &Globals) -> exec::Options {
    let process = ProcessOptions {
        args: values.texts("args"),
        file: values.path("process"),
        tty: values.has("tty"),
        apparmor: values.text("apparmor"),
        process_label: values.text("process-label"),
        cwd: values.text("cwd"),
        env: values.texts("env"),
        user: values.text("user"),
        additional_gids: values.numbers("additional-gids"),
        capabilities: values.texts("cap"),
        no_new_privileges: values.has("no-new-privs"),
        detach: values.has("detach"),
        preserve_fds: values.number("preserve-fds").unwrap_or(0),
    };
    exec::Options {
        root: globals.root.clone(),
        id: values.text("id").unwrap_or_default(),
        process,
        console_socket: values.path("console-socket"),
        pid_file: values.path("pid-file"),
        cgroups: values.texts("cgroup"),
        pidfd_socket: values.path("pidfd-socket"),
        ignore_paused: values.has("ignore-paused"),
    }
}

fn seccomp_options(values: &Values) -> crate::cmd::seccomp::SeccompOptions {
    crate::cmd::seccomp::SeccompOptions {
        action: match values.text("action").as_deref() {
            Some("diff") => crate::cmd::seccomp::Action::Diff,
            Some("record") => crate::cmd::seccomp::Action::Record,
            _ => crate::cmd::seccomp::Action::Explain,
        },
        of: values.texts("of"),
        caps: values.texts("cap"),
        format: format(values),
    }
}

pub(super) fn root_options(values: &Values, no_pivot: bool) -> RootOptions {
    RootOptions { layers: values.paths("layer"), upper: values.text("upper"), no_pivot }
}
