//! The commands and their flags as clap knows them.

mod image;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, value_parser};
use image::{arguments, image_flags, platform};
use std::path::PathBuf;

/// Every command.
pub(super) const COMMANDS: &[&str] = &[
    "bundle", "commit", "create", "delete", "diff", "events", "exec", "export", "features", "gc",
    "images", "kill", "layers", "list", "mounts", "pause", "ps", "resume", "rmi", "run", "spec",
    "start", "state", "stats", "tag", "update",
];

/// Flags of runc and crun that later versions of brig bring: they take a value,
/// and are refused by name.
pub(super) const NOT_YET: &[&str] = &["criu"];

/// What runc takes for `--rootless`: Go's spellings of a boolean, and auto.
const WHETHER: &[&str] =
    &["true", "false", "auto", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False", ""];

/// The global flags that take their value from the next argument.
pub(super) const GLOBAL_VALUES: &[&str] = &[
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--cgroup-manager",
    "--criu",
    "--rootless",
    "--store",
];

/// brig itself, without its commands.
pub(super) fn brig() -> clap::Command {
    clap::Command::new("brig")
        .about("An OCI container runtime: one small static binary, no daemon")
        .arg(flag("version", "Print version, commit and spec version").short('v'))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        // Engines add flags to those that a person has configured: the last one counts.
        .args_override_self(true)
        .arg(option("root", "DIR", "Where states are kept [default: /run/brig]"))
        .arg(option(
            "log",
            "FILE",
            "Write errors and warnings there too; also file:PATH, syslog:NAME, journald:NAME",
        ))
        .arg(one_of(
            "log-level",
            &["error", "warning", "debug"],
            "How much to say [default: warning]",
        ))
        .arg(one_of("log-format", &["text", "json"], "How to write the log [default: text]"))
        .arg(flag("debug", "Say what is done"))
        .arg(flag("systemd-cgroup", "The same as --cgroup-manager=systemd"))
        .arg(one_of(
            "cgroup-manager",
            &["cgroupfs", "systemd", "disabled"],
            "Who makes cgroups [default: cgroupfs]",
        ))
        .arg(option("store", "DIR", "Where layers of images are kept [default: /var/lib/brig]"))
        .arg(
            one_of(
                "rootless",
                WHETHER,
                "Go on without a cgroup where none may be made: true, false or auto [default: auto]",
            )
            .value_name("WHETHER")
            .hide_possible_values(true),
        )
        .args(NOT_YET.iter().map(|&name| Arg::new(name).long(name).hide(true)))
}

/// One of [`COMMANDS`].
pub(super) fn subcommand(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name);
    match name {
        "bundle" | "commit" | "diff" | "export" | "gc" | "images" | "layers" | "rmi" | "tag" => {
            image::subcommand(name, command)
        }
        "events" | "list" | "ps" | "spec" | "state" | "stats" => looking(name, command),
        "features" => command.about("Print what this brig can do as JSON"),
        _ => acting(name, command),
    }
}

/// The commands that change a container.
fn acting(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "create" => creation(command.about("Create a container; it then waits for start")),
        "run" => creation(command.about("Create and start a container, wait for it and delete it"))
            .arg(flag("detach", "Do not wait").short('d'))
            .arg(flag("keep", "Do not delete the container when it has ended"))
            .arg(flag("rm", "Says that it is deleted then, as it is in any case"))
            .arg(flag("no-subreaper", "Do not adopt the orphans of the container")),
        "start" => command.about("Let a created container execute its program").arg(id()),
        "exec" => execution(command.about("Run another process in a running container")),
        "kill" => command
            .about("Send a signal to the container's init")
            .arg(flag("all", "Send it to every process of the container").short('a'))
            .arg(regex())
            .arg(id())
            .arg(
                Arg::new("signal")
                    .value_name("SIGNAL")
                    .default_value("TERM")
                    .allow_hyphen_values(true)
                    .help("Name or number"),
            ),
        "mounts" => command
            .about("Mount more in a container that is there, or take mounts away")
            .arg(positional("action", "add|remove", "What to do").value_parser(["add", "remove"]))
            .arg(id())
            .arg(
                positional("file", "FILE", "JSON: mounts as in config.json, an array of them")
                    .value_parser(value_parser!(PathBuf)),
            ),
        "pause" => command.about("Freeze all processes of a container").arg(id()),
        "resume" => command.about("Let a paused container go on").arg(id()),
        "delete" => command
            .about("Remove a stopped or created container")
            .arg(flag("force", "Kill it first; no error if there is none").short('f'))
            .arg(regex())
            .arg(id()),
        _ => updating(command.about("Change the limits of a container")),
    }
}

/// The commands that change nothing.
fn looking(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "events" => command
            .about("Tell what a container uses up, and when it runs out of memory, until it ends")
            .arg(flag("stats", "What it has used up by now, once"))
            .arg(interval("How often, as 500ms or 1m30s [default: 5s]"))
            .arg(id()),
        "list" => command
            .about("List all containers")
            .arg(
                one_of("format", &["table", "json"], "How to print them [default: table]")
                    .short('f'),
            )
            .arg(flag("quiet", "Only ids").short('q')),
        "ps" => command
            .about("List the processes of a container")
            .arg(
                one_of("format", &["table", "json"], "How to print them [default: table]")
                    .short('f'),
            )
            .arg(id())
            .arg(
                trailing("OPTION").help("For the host's ps, which prints the table [default: -ef]"),
            ),
        "spec" => command
            .about("Write a config.json to start from")
            .arg(option("bundle", "DIR", "Where to write it [default: .]").short('b'))
            .arg(option("file", "FILE", "Write there, from DIR, over what is there").short('f'))
            .arg(flag("rootless", "For an ordinary user, who calls it")),
        "state" => command.about("Print the state of a container as JSON").arg(id()),
        _ => command
            .about("Show what containers use; on a terminal, again and again")
            .arg(one_of("format", &["table", "json"], "How to show it [default: table]").short('f'))
            .arg(flag("no-stream", "Once, on a terminal too"))
            .arg(interval("How long to measure [default: 1s]"))
            .arg(
                id().required(false)
                    .action(ArgAction::Append)
                    .help("The containers [default: all]"),
            ),
    }
}

fn creation(command: clap::Command) -> clap::Command {
    command
        .arg(option("bundle", "DIR", "Directory with config.json [default: .]").short('b'))
        .arg(option("config", "FILE", "Another config than the bundle's").short('f'))
        .arg(option("pid-file", "FILE", "Write the pid of the container's init there"))
        .arg(
            Arg::new("image")
                .long("image")
                .value_name("IMAGE")
                .conflicts_with_all(["bundle", "config", "layer"])
                .help("Instead of a bundle: PATH, PATH:TAG or PATH@DIGEST, as for bundle"),
        )
        .arg(platform().requires("image"))
        .arg(
            option("layer", "DIR", "Layer of an overlay rootfs, lowest first; once for each")
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new("upper")
                .long("upper")
                .value_name("DIR|tmpfs[:SIZE]")
                .help("Where the container's changes go"),
        )
        .arg(option("console-socket", "SOCKET", "Send the master of the terminal there"))
        .arg(pidfd_socket("Send a pidfd of the container's init there"))
        .arg(flag("no-pivot", "Change root without pivot_root (for an initramfs)"))
        .arg(flag("no-new-keyring", "Stay in the caller's session keyring"))
        .arg(preserve_fds())
        .arg(text_option("name", "ID", "The container's name, of an image's [default: made up]"))
        .args(image_flags())
        .arg(id())
        .arg(arguments())
}

fn text_option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn execution(command: clap::Command) -> clap::Command {
    let texts = |name, value, help| {
        Arg::new(name).long(name).value_name(value).help(help).action(ArgAction::Append)
    };
    let text = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    let groups = texts("additional-gids", "GID", "Supplementary group beside the container's");
    command
        .arg(option("process", "FILE", "Read all about the process from there, as JSON").short('p'))
        .arg(text("cwd", "DIR", "Working directory in the container"))
        .arg(texts("env", "NAME=VALUE", "Set beside the container's").short('e'))
        .arg(text("user", "UID[:GID]", "Who runs").short('u').allow_hyphen_values(true))
        .arg(groups.short('g').value_parser(value_parser!(u32)).value_delimiter(','))
        .arg(texts("cap", "CAPABILITY", "Grant beside the container's").short('c'))
        .arg(text("apparmor", "PROFILE", "AppArmor profile instead of the container's"))
        .arg(text("process-label", "LABEL", "SELinux label instead of the container's"))
        .arg(flag("no-new-privs", "execve grants nothing"))
        .arg(flag("detach", "Do not wait").short('d'))
        .arg(option("pid-file", "FILE", "Write the pid of the process there"))
        .arg(texts("cgroup", "[CONTROLLERS:]PATH", "Cgroup below the container's"))
        .arg(flag("ignore-paused", "Even if the container is paused"))
        .arg(preserve_fds())
        .arg(pidfd_socket("Send a pidfd of the process there"))
        .arg(flag("tty", "Give the process a terminal").short('t'))
        .arg(option("console-socket", "SOCKET", "Send the master of the terminal there"))
        .arg(id())
        .arg(trailing("PROGRAM [ARGUMENT]"))
}

fn trailing(value: &'static str) -> Arg {
    Arg::new("args")
        .value_name(value)
        .action(ArgAction::Append)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
}

/// The flags of update that stand for one limit each: runc's and crun's.
pub(super) const LIMITS: &[(&str, &str, &str)] = &[
    ("memory", "BYTES", "Memory, as 64m; -1 is unlimited"),
    ("memory-reservation", "BYTES", "Memory that nothing is reclaimed below if it can be helped"),
    ("memory-swap", "BYTES", "Memory and swap together; -1 is unlimited"),
    ("cpu-share", "SHARES", "Weight against other containers, 2 to 262144"),
    ("cpu-quota", "MICROSECONDS", "CPU time in a period; -1 is unlimited"),
    ("cpu-period", "MICROSECONDS", "Length of a period"),
    ("cpu-burst", "MICROSECONDS", "Unused CPU time that can be saved up"),
    ("cpu-idle", "0|1", "1: run only when nobody else wants to"),
    ("cpu-rt-runtime", "MICROSECONDS", "Real-time processes' time in a period of their own (v1)"),
    ("cpu-rt-period", "MICROSECONDS", "Length of that period (v1)"),
    ("cpuset-cpus", "LIST", "CPUs, as 0-3,7"),
    ("cpuset-mems", "LIST", "Memory nodes, as 0-1"),
    ("pids-limit", "TASKS", "Most tasks; -1 is unlimited"),
    ("blkio-weight", "WEIGHT", "Share of block I/O, 10 to 1000"),
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
            option("resources", "FILE|-", "Read linux.resources from there, as JSON; - is stdin")
                .short('r')
                .allow_hyphen_values(true),
        )
        .args(LIMITS.iter().map(|&(name, value, help)| text(name, value, help)))
        .arg(text("l3-cache-schema", "SCHEMA", "Part of the L3 cache, as L3:0=7f0;1=1f"))
        .arg(text("mem-bw-schema", "SCHEMA", "Part of the memory's bandwidth, as MB:0=20;1=70"))
        .arg(flag("dry-run", "Print what would be written, and write nothing"))
        .arg(id())
}

fn pidfd_socket(help: &'static str) -> Arg {
    option("pidfd-socket", "SOCKET", help)
}

fn preserve_fds() -> Arg {
    Arg::new("preserve-fds")
        .long("preserve-fds")
        .value_name("N")
        .value_parser(value_parser!(u32))
        .help("Let the process inherit N descriptors after stderr")
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    let parser = OsStringValueParser::new().map(PathBuf::from);
    Arg::new(name).long(name).help(help).value_name(value).value_parser(parser)
}

fn one_of(name: &'static str, values: &'static [&'static str], help: &'static str) -> Arg {
    let parser: ValueParser = PossibleValuesParser::new(values).into();
    Arg::new(name).long(name).help(help).value_parser(parser)
}

fn interval(help: &'static str) -> Arg {
    Arg::new("interval").long("interval").value_name("DURATION").help(help)
}

fn format(help: &'static str) -> Arg {
    one_of("format", &["table", "json"], help).short('f')
}

fn regex() -> Arg {
    flag("regex", "ID is a regular expression: all containers that it matches").short('r')
}

fn positional(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).help(help)
}

fn id() -> Arg {
    positional("id", "ID", "The container's name")
}
