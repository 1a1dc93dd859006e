//! The commands and their flags, as described to clap.

use super::examples::examples;
use super::{criu, images};
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, value_parser};
use std::path::PathBuf;

/// Every command except those of [`images::COMMANDS`].
pub(super) const COMMANDS: &[&str] = &[
    "checkpoint",
    "create",
    "delete",
    "doctor",
    "events",
    "exec",
    "features",
    "inspect",
    "kill",
    "lint",
    "list",
    "mounts",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "seccomp",
    "spec",
    "start",
    "state",
    "stats",
    "update",
    "wait",
];

/// Values that runc accepts for `--rootless`: Go's spellings of a boolean, and auto.
const WHETHER: &[&str] =
    &["true", "false", "auto", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False", ""];

/// The global flags that take their value from the next argument.
pub(super) const GLOBAL_VALUES: &[&str] = &[
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--trace",
    "--cgroup-manager",
    "--criu",
    "--rootless",
    "--store",
];

/// The top-level command, without its subcommands.
pub(super) fn brig() -> clap::Command {
    clap::Command::new("brig")
        .about("OCI container runtime: one small static binary, no daemon")
        .arg(flag("version", "Print the version and exit").short('v'))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        // Engines append flags to those from the user's configuration: the last one wins.
        .args_override_self(true)
        .arg(option("root", "DIR", "State directory [default: /run/brig]"))
        .arg(option("log", "FILE", "Log file; also syslog:NAME, journald:NAME"))
        .arg(one_of(
            "log-level",
            "LEVEL",
            &["error", "warning", "debug"],
            "error, warning (the default) or debug",
        ))
        .arg(one_of("log-format", "FORMAT", &["text", "json"], "text (the default) or json"))
        .arg(flag("debug", "Enable debug logging"))
        .arg(option("trace", "FILE", "Add phases and their times to a Chrome trace"))
        .arg(flag("timings", "Print phases and their times to stderr"))
        .arg(flag("systemd-cgroup", "Same as --cgroup-manager=systemd"))
        .arg(one_of(
            "cgroup-manager",
            "MANAGER",
            &["cgroupfs", "systemd", "disabled"],
            "cgroupfs (the default), systemd, disabled",
        ))
        .args(images::store_flag())
        .arg(one_of("rootless", "WHETHER", WHETHER, "Go without a cgroup: true, false or auto"))
        .arg(option("criu", "PROGRAM", "CRIU program [default: criu in PATH]"))
}

/// A command.
pub(super) fn subcommand(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name);
    match name {
        name if images::COMMANDS.contains(&name) => images::subcommand(name, command),
        "doctor" | "events" | "inspect" | "lint" | "list" | "ps" | "spec" | "state" | "stats"
        | "wait" => looking(name, command),
        "checkpoint" => criu::describe_checkpoint(command),
        "restore" => criu::describe_restore(command),
        "seccomp" => filtering(command),
        "features" => command.about("Print the supported features as JSON"),
        _ => acting(name, command),
    }
}

/// A command with its examples, which only its help and its manual page show.
pub(super) fn with_examples(command: clap::Command) -> clap::Command {
    let name = command.get_name();
    let own = if images::COMMANDS.contains(&name) { "" } else { examples(name) };
    let lines = own.lines().chain(images::examples(name).lines());
    let lines = lines.map(|line| format!("\n  {line}"));
    let examples = format!("Examples:{}", lines.collect::<String>());
    command.after_help(examples)
}

/// Describes a command that changes a container.
fn acting(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "create" => {
            creation(command.about("Create a container, which then waits for `brig start`"))
        }
        "run" => {
            creation(command.about("Create and start a container, wait until it ends, delete it"))
                .arg(flag("detach", "Do not wait until it ends").short('d'))
                .arg(flag("keep", "Keep the container after it has ended"))
                .arg(flag("rm", "Delete the container after it has ended (the default)"))
                .arg(flag("no-subreaper", "Do not reap orphans of the container"))
        }
        "start" => command.about("Start a created container").arg(id()),
        "exec" => execution(command.about("Run a process in a running container")),
        "kill" => command
            .about("Send a signal to the init process of a container")
            .arg(flag("all", "Send it to all processes of the container").short('a'))
            .arg(regex())
            .arg(id())
            .arg(
                Arg::new("signal")
                    .value_name("SIGNAL")
                    .default_value("TERM")
                    .allow_hyphen_values(true)
                    .help("Signal name or number"),
            ),
        "mounts" => command
            .about("Add or remove mounts of an existing container")
            .arg(positional("action", "add|remove", "Action").value_parser(["add", "remove"]))
            .arg(id())
            .arg(
                positional("file", "FILE", "JSON array of mounts as in config.json")
                    .value_parser(value_parser!(PathBuf)),
            ),
        "pause" => command.about("Pause a container: freeze its processes").arg(id()),
        "resume" => command.about("Resume a paused container").arg(id()),
        "delete" => command
            .about("Delete a stopped or created container")
            .arg(flag("force", "Kill it first; no error if it does not exist").short('f'))
            .arg(regex())
            .arg(id()),
        _ => updating(command.about("Change the resource limits of a container")),
    }
}

/// Describes a command that only reads.
fn looking(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "events" => command
            .about("Print statistics and out-of-memory events until a container ends")
            .arg(flag("stats", "Print statistics once"))
            .arg(interval("Interval, e.g. 500ms or 1m30s [default: 5s]"))
            .arg(id()),
        "list" => command
            .about("List containers")
            .arg(format())
            .arg(flag("quiet", "Print ids only").short('q')),
        "ps" => command
            .about("List the processes of a container")
            .arg(format())
            .arg(id())
            .arg(trailing("OPTION").help("Options for ps(1) [default: -ef]")),
        "doctor" | "inspect" | "lint" => examining(name, command),
        "spec" => command
            .about("Write a config.json to start from")
            .arg(option("bundle", "DIR", "Directory to write it to [default: .]").short('b'))
            .arg(
                option("file", "FILE", "Write to FILE, relative to DIR; replaces an existing file")
                    .short('f'),
            )
            .arg(flag("rootless", "For the unprivileged user who calls it")),
        "wait" => waiting(command),
        "state" => command.about("Print the state of a container as JSON").arg(id()),
        _ => command
            .about("Show the resource usage of containers; refreshed on a terminal")
            .arg(format())
            .arg(flag("no-stream", "Print once, on a terminal too"))
            .arg(interval("Measuring interval [default: 1s]"))
            .arg(
                id().required(false).action(ArgAction::Append).help("Container ids [default: all]"),
            ),
    }
}

/// Describes a command for diagnosis.
fn examining(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "doctor" => command
            .about("Try what this host and user can do, or what a bundle needs of it")
            .arg(format())
            .arg(
                Arg::new("bundle")
                    .value_name("BUNDLE")
                    .value_parser(value_parser!(PathBuf))
                    .help("Bundle: try only what it needs"),
            ),
        "inspect" => command
            .about("Show what a container really has, beside what its config asked for")
            .arg(format())
            .arg(text_option("syscall", "NAME", "Tell what the filter does with a system call"))
            .arg(id()),
        _ => command
            .about("Find mistakes in a config.json, without running it")
            .arg(one_of(
                "format",
                "FORMAT",
                &["text", "json", "sarif", "github"],
                "text (the default), json, sarif or github",
            ))
            .arg(flag("here", "Check against this host and the files of the bundle too"))
            .arg(
                Arg::new("of")
                    .value_name("BUNDLE|FILE|-")
                    .default_value(".")
                    .value_parser(value_parser!(PathBuf))
                    .help("Bundle, config.json, or - for stdin [default: .]"),
            ),
    }
}

fn waiting(command: clap::Command) -> clap::Command {
    command
        .about("Wait until containers have ended, and print how")
        .arg(one_of(
            "condition",
            "CONDITION",
            &["created", "running", "stopped", "removed"],
            "created, running, stopped (default) or removed",
        ))
        .arg(text_option("timeout", "DURATION", "Fail after this long, e.g. 10s"))
        .arg(format())
        .arg(flag("quiet", "Print the exit statuses only").short('q'))
        .arg(id().action(ArgAction::Append).help("Container ids"))
}

fn creation(command: clap::Command) -> clap::Command {
    command
        // As clap does by itself for the flags of images.
        .next_line_help(true)
        .arg(option("bundle", "DIR", "Directory with config.json [default: .]").short('b'))
        .arg(config())
        .arg(flag("strict", "Refuse a config that `brig lint` finds an error in"))
        .arg(option("record-calls", "SOCKET", "").hide(true))
        .arg(option("pid-file", "FILE", "Write the pid of the init process to FILE"))
        .args(images::instead_of_bundle())
        .args(layers())
        .arg(option("console-socket", "SOCKET", "Socket that receives the terminal"))
        .arg(pidfd_socket("Socket that receives a pidfd of init"))
        .arg(flag("no-pivot", "Do not use pivot_root(2) (for an initramfs)"))
        .arg(flag("no-new-keyring", "Keep the session keyring of the caller"))
        .arg(preserve_fds())
        .args(images::of_container())
        .arg(id())
        .args(images::arguments())
}

pub(super) fn config() -> Arg {
    option("config", "FILE", "Use this file instead of config.json").short('f')
}

pub(super) fn layers() -> [Arg; 2] {
    let layer = option("layer", "DIR", "Overlay layer; repeat it, lowest first");
    let upper = Arg::new("upper").long("upper").value_name("DIR|tmpfs[:SIZE]");
    [layer.action(ArgAction::Append), upper.help("Writable overlay layer [default: tmpfs]")]
}

fn execution(command: clap::Command) -> clap::Command {
    let texts = |name, value, help| {
        Arg::new(name).long(name).value_name(value).help(help).action(ArgAction::Append)
    };
    let text = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    let groups = texts("additional-gids", "GID", "Additional supplementary group");
    command
        .arg(option("process", "FILE", "Read the process from FILE, as JSON").short('p'))
        .arg(text("cwd", "DIR", "Working directory in the container"))
        .arg(texts("env", "NAME=VALUE", "Set an environment variable").short('e'))
        .arg(
            text("user", "UID[:GID]", "User (UID[:GID]) to run as")
                .short('u')
                .allow_hyphen_values(true),
        )
        .arg(groups.short('g').value_parser(value_parser!(u32)).value_delimiter(','))
        .arg(texts("cap", "CAPABILITY", "Add a capability").short('c'))
        .arg(text("apparmor", "PROFILE", "AppArmor profile of the process"))
        .arg(text("process-label", "LABEL", "SELinux label of the process"))
        .arg(flag("no-new-privs", "Set no_new_privs"))
        .arg(flag("detach", "Do not wait until the process ends").short('d'))
        .arg(option("pid-file", "FILE", "Write the pid of the process to FILE"))
        .arg(texts("cgroup", "[CONTROLLERS:]PATH", "Cgroup below that of the container"))
        .arg(flag("ignore-paused", "Run it even if the container is paused"))
        .arg(preserve_fds())
        .arg(pidfd_socket("Socket that receives a pidfd of the process"))
        .arg(flag("tty", "Allocate a terminal").short('t'))
        .arg(option("console-socket", "SOCKET", "Socket that receives the terminal"))
        .arg(id())
        .arg(trailing("PROGRAM [ARGUMENT]"))
}

fn filtering(command: clap::Command) -> clap::Command {
    let of = "Bundle or profile, then CALL(ARGS)...; to record, FILE -- run ...";
    command
        .about("Explain what a seccomp filter does, how two differ, or record one")
        .next_line_help(true)
        .arg(format())
        .arg(
            text_option("cap", "CAPABILITY", "Capability that docker's rules depend on")
                .action(ArgAction::Append),
        )
        .arg(
            positional("action", "explain|diff|record", "Action")
                .value_parser(["explain", "diff", "record"]),
        )
        .arg(positional("of", "BUNDLE|PROFILE [CALL]", of).action(ArgAction::Append))
}

fn trailing(value: &'static str) -> Arg {
    Arg::new("args")
        .value_name(value)
        .action(ArgAction::Append)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
}

/// The flags of update that set one limit each, with the names of runc and crun.
pub(super) const LIMITS: &[(&str, &str, &str)] = &[
    ("memory", "BYTES", "Memory limit, e.g. 64m; -1 is unlimited"),
    ("memory-reservation", "BYTES", "Memory soft limit"),
    ("memory-swap", "BYTES", "Memory and swap; -1 is unlimited"),
    ("cpu-share", "SHARES", "CPU weight, 2 to 262144"),
    ("cpu-quota", "MICROSECONDS", "CPU time per period; -1 is unlimited"),
    ("cpu-period", "MICROSECONDS", "Length of the period"),
    ("cpu-burst", "MICROSECONDS", "Unused CPU time that can be saved"),
    ("cpu-idle", "0|1", "1: run only when the CPU is idle"),
    ("cpu-rt-runtime", "MICROSECONDS", "Real-time CPU time per period (v1)"),
    ("cpu-rt-period", "MICROSECONDS", "Length of the real-time period (v1)"),
    ("cpuset-cpus", "LIST", "CPUs, e.g. 0-3,7"),
    ("cpuset-mems", "LIST", "Memory nodes, e.g. 0-1"),
    ("pids-limit", "TASKS", "Maximum number of tasks; -1 is unlimited"),
    ("blkio-weight", "WEIGHT", "Block I/O weight, 10 to 1000"),
    ("kernel-memory", "BYTES", ""),
    ("kernel-memory-tcp", "BYTES", ""),
];

fn updating(command: clap::Command) -> clap::Command {
    let text = |name, value, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(value).help(help).hide(help.is_empty());
        arg.allow_hyphen_values(true)
    };
    command
        .arg(
            option("resources", "FILE|-", "Read linux.resources from FILE, as JSON")
                .short('r')
                .allow_hyphen_values(true),
        )
        .args(LIMITS.iter().map(|&(name, value, help)| text(name, value, help)))
        .arg(text("l3-cache-schema", "SCHEMA", "L3 cache schema, e.g. L3:0=7f0;1=1f"))
        .arg(text("mem-bw-schema", "SCHEMA", "Memory bandwidth, e.g. MB:0=20;1=70"))
        .arg(flag("dry-run", "Print the writes without doing them"))
        .arg(id())
}

pub(super) fn pidfd_socket(help: &'static str) -> Arg {
    option("pidfd-socket", "SOCKET", help)
}

pub(super) fn preserve_fds() -> Arg {
    Arg::new("preserve-fds")
        .long("preserve-fds")
        .value_name("N")
        .value_parser(value_parser!(u32))
        .help("Pass N additional file descriptors")
}

pub(super) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

pub(super) fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    let parser = OsStringValueParser::new().map(PathBuf::from);
    Arg::new(name).long(name).help(help).value_name(value).value_parser(parser)
}

pub(super) fn text_option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// An argument with fixed values, which its help text lists: clap's own list after it would not fit into the
/// line.
pub(super) fn one_of(
    name: &'static str,
    value: &'static str,
    values: &'static [&'static str],
    help: &'static str,
) -> Arg {
    let parser: ValueParser = PossibleValuesParser::new(values).into();
    let arg = Arg::new(name).long(name).value_name(value).help(help).value_parser(parser);
    arg.hide_possible_values(true)
}

fn interval(help: &'static str) -> Arg {
    Arg::new("interval").long("interval").value_name("DURATION").help(help)
}

pub(super) fn format() -> Arg {
    let help = "Output format: table (the default) or json";
    one_of("format", "FORMAT", &["table", "json"], help).short('f')
}

fn regex() -> Arg {
    flag("regex", "ID is a regular expression: all containers that match").short('r')
}

pub(super) fn positional(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).help(help)
}

pub(super) fn id() -> Arg {
    positional("id", "ID", "Container id")
}
