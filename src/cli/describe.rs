//! The commands and their arguments.

use super::examples::examples;
use super::table::{Argument, Description, Kind, flag, number, one_of, option, positional, text};
use super::{criu, images};

/// Every command except those of [`images::COMMANDS`].
static COMMANDS: &[Description] = &[
    criu::CHECKPOINT,
    Description::new("create", "Create a container, which then waits for `brig start`", &CREATING)
        .next_line_help(),
    Description::new(
        "delete",
        "Delete a stopped or created container",
        &[&[flag("force", "Kill it first; no error if it does not exist").short('f'), REGEX, ID]],
    ),
    Description::new(
        "doctor",
        "Try what this host and user can do, or what a bundle needs of it",
        &[&[
            FORMAT,
            positional("bundle", "BUNDLE", "Bundle: try only what it needs")
                .kind(Kind::Path)
                .optional(),
        ]],
    ),
    Description::new(
        "events",
        "Print statistics and out-of-memory events until a container ends",
        &[&[
            flag("stats", "Print statistics once"),
            text("interval", "DURATION", "Interval, e.g. 500ms or 1m30s [default: 5s]").hyphens(),
            ID,
        ]],
    ),
    Description::new("exec", "Run a process in a running container", &[EXECUTION]),
    Description::new("features", "Print the supported features as JSON", &[]),
    Description::new(
        "inspect",
        "Show what a container really has, beside what its config asked for",
        &[&[FORMAT, text("syscall", "NAME", "Tell what the filter does with a system call"), ID]],
    ),
    Description::new(
        "kill",
        "Send a signal to the init process of a container",
        &[&[
            flag("all", "Send it to all processes of the container").short('a'),
            REGEX,
            ID,
            positional("signal", "SIGNAL", "Signal name or number").default("TERM").hyphens(),
        ]],
    ),
    Description::new("lint", "Find mistakes in a config.json, without running it", &[LINT]),
    Description::new(
        "list",
        "List containers",
        &[&[FORMAT, flag("quiet", "Print ids only").short('q')]],
    ),
    Description::new(
        "mounts",
        "Add or remove mounts of an existing container",
        &[&[
            positional("action", "add|remove", "Action").kind(Kind::OneOf(&["add", "remove"])),
            ID,
            positional("file", "FILE", "JSON array of mounts as in config.json").kind(Kind::Path),
        ]],
    ),
    Description::new("pause", "Pause a container: freeze its processes", &[&[ID]]),
    Description::new(
        "ps",
        "List the processes of a container",
        &[&[
            FORMAT,
            ID,
            positional("args", "OPTION", "Options for ps(1) [default: -ef]").trailing().hyphens(),
        ]],
    ),
    criu::RESTORE,
    Description::new("resume", "Resume a paused container", &[&[ID]]),
    Description::new(
        "run",
        "Create and start a container, wait until it ends, delete it",
        &CREATING_AND_RUNNING,
    )
    .next_line_help(),
    Description::new(
        "seccomp",
        "Explain what a seccomp filter does, how two differ, or record one",
        &[SECCOMP],
    )
    .next_line_help(),
    Description::new(
        "spec",
        "Write a config.json to start from",
        &[&[
            option("bundle", "DIR", "Directory to write it to [default: .]").short('b'),
            option("file", "FILE", "Write to FILE, relative to DIR; replaces an existing file")
                .short('f'),
            flag("rootless", "For the unprivileged user who calls it"),
        ]],
    ),
    Description::new("start", "Start a created container", &[&[ID]]),
    Description::new("state", "Print the state of a container as JSON", &[&[ID]]),
    Description::new(
        "stats",
        "Show the resource usage of containers; refreshed on a terminal",
        &[&[
            FORMAT,
            flag("no-stream", "Print once, on a terminal too"),
            text("interval", "DURATION", "Measuring interval [default: 1s]").hyphens(),
            ID.many().optional().help("Container ids [default: all]"),
        ]],
    ),
    Description::new(
        "update",
        "Change the resource limits of a container",
        &[RESOURCES, &LIMITS, UPDATING],
    ),
    Description::new("wait", "Wait until containers have ended, and print how", &[WAITING]),
];

/// brig itself, without its commands.
pub(super) static BRIG: Description = Description::new(
    "brig",
    "OCI container runtime: one small static binary, no daemon",
    &[
        &[
            flag("version", "Print the version and exit").short('v'),
            option("root", "DIR", "State directory [default: /run/brig]"),
            option("log", "FILE", "Log file; also syslog:NAME, journald:NAME"),
            one_of(
                "log-level",
                "LEVEL",
                &["error", "warning", "debug"],
                "error, warning (the default) or debug",
            ),
            one_of("log-format", "FORMAT", &["text", "json"], "text (the default) or json"),
            flag("debug", "Enable debug logging"),
            option("trace", "FILE", "Add phases and their times to a Chrome trace"),
            flag("timings", "Print phases and their times to stderr"),
            flag("systemd-cgroup", "Same as --cgroup-manager=systemd"),
            one_of(
                "cgroup-manager",
                "MANAGER",
                &["cgroupfs", "systemd", "disabled"],
                "cgroupfs (the default), systemd, disabled",
            ),
        ],
        images::STORE,
        &[
            one_of("rootless", "WHETHER", WHETHER, "Go without a cgroup: true, false or auto"),
            option("criu", "PROGRAM", "CRIU program [default: criu in PATH]"),
        ],
    ],
);

/// Values that runc accepts for `--rootless`: Go's spellings of a boolean, and auto.
const WHETHER: &[&str] =
    &["true", "false", "auto", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False", ""];

/// The arguments of create.
const CREATING: [&[Argument]; 7] = [
    OF_BUNDLE,
    images::INSTEAD_OF_BUNDLE,
    LAYERS,
    CREATION,
    images::OF_CONTAINER,
    &[ID],
    images::ARGUMENTS,
];

/// The arguments of run.
const CREATING_AND_RUNNING: [&[Argument]; 8] = {
    let [bundle, image, layers, creation, container, id, args] = CREATING;
    [bundle, image, layers, creation, container, id, args, RUNNING]
};

const OF_BUNDLE: &[Argument] = &[
    option("bundle", "DIR", "Directory with config.json [default: .]").short('b'),
    CONFIG,
    flag("strict", "Refuse a config that `brig lint` finds an error in"),
    option("record-calls", "SOCKET", "").hidden(),
    option("pid-file", "FILE", "Write the pid of the init process to FILE"),
];

pub(super) const CONFIG: Argument =
    option("config", "FILE", "Use this file instead of config.json").short('f');

pub(super) const LAYERS: &[Argument] = &[
    option("layer", "DIR", "Overlay layer; repeat it, lowest first").many(),
    text("upper", "DIR|tmpfs[:SIZE]", "Writable overlay layer [default: tmpfs]"),
];

const CREATION: &[Argument] = &[
    option("console-socket", "SOCKET", "Socket that receives the terminal"),
    option("pidfd-socket", "SOCKET", "Socket that receives a pidfd of init"),
    flag("no-pivot", "Do not use pivot_root(2) (for an initramfs)"),
    flag("no-new-keyring", "Keep the session keyring of the caller"),
    PRESERVE_FDS,
];

const RUNNING: &[Argument] = &[
    flag("detach", "Do not wait until it ends").short('d'),
    flag("keep", "Keep the container after it has ended"),
    flag("rm", "Delete the container after it has ended (the default)"),
    flag("no-subreaper", "Do not reap orphans of the container"),
];

const EXECUTION: &[Argument] = &[
    option("process", "FILE", "Read the process from FILE, as JSON").short('p'),
    text("cwd", "DIR", "Working directory in the container"),
    text("env", "NAME=VALUE", "Set an environment variable").short('e').many(),
    text("user", "UID[:GID]", "User (UID[:GID]) to run as").short('u').hyphens(),
    text("additional-gids", "GID", "Additional supplementary group")
        .kind(Kind::Numbers)
        .short('g')
        .many(),
    text("cap", "CAPABILITY", "Add a capability").short('c').many(),
    text("apparmor", "PROFILE", "AppArmor profile of the process"),
    text("process-label", "LABEL", "SELinux label of the process"),
    flag("no-new-privs", "Set no_new_privs"),
    flag("detach", "Do not wait until the process ends").short('d'),
    option("pid-file", "FILE", "Write the pid of the process to FILE"),
    text("cgroup", "[CONTROLLERS:]PATH", "Cgroup below that of the container").many(),
    flag("ignore-paused", "Run it even if the container is paused"),
    PRESERVE_FDS,
    option("pidfd-socket", "SOCKET", "Socket that receives a pidfd of the process"),
    flag("tty", "Allocate a terminal").short('t'),
    option("console-socket", "SOCKET", "Socket that receives the terminal"),
    ID,
    positional("args", "PROGRAM [ARGUMENT]", "").trailing().hyphens(),
];

const LINT: &[Argument] = &[
    one_of(
        "format",
        "FORMAT",
        &["text", "json", "sarif", "github"],
        "text (the default), json, sarif or github",
    ),
    flag("here", "Check against this host and the files of the bundle too"),
    positional("of", "BUNDLE|FILE|-", "Bundle, config.json, or - for stdin")
        .kind(Kind::Path)
        .default("."),
];

const SECCOMP: &[Argument] = &[
    FORMAT,
    text("cap", "CAPABILITY", "Capability that docker's rules depend on").many(),
    positional("action", "explain|diff|record", "Action")
        .kind(Kind::OneOf(&["explain", "diff", "record"])),
    positional(
        "of",
        "BUNDLE|PROFILE [CALL]",
        "Bundle or profile, then CALL(ARGS)...; to record, FILE -- run ...",
    )
    .many(),
];

const WAITING: &[Argument] = &[
    one_of(
        "condition",
        "CONDITION",
        &["created", "running", "stopped", "removed"],
        "created, running, stopped (default) or removed",
    ),
    text("timeout", "DURATION", "Fail after this long, e.g. 10s"),
    FORMAT,
    flag("quiet", "Print the exit statuses only").short('q'),
    ID.many().help("Container ids"),
];

const RESOURCES: &[Argument] =
    &[option("resources", "FILE|-", "Read linux.resources from FILE, as JSON")
        .short('r')
        .hyphens()];

/// The options of update that set one limit each, with the names of runc and crun.
pub(super) static LIMITS: [Argument; 16] = [
    limit("memory", "BYTES", "Memory limit, e.g. 64m; -1 is unlimited"),
    limit("memory-reservation", "BYTES", "Memory soft limit"),
    limit("memory-swap", "BYTES", "Memory and swap; -1 is unlimited"),
    limit("cpu-share", "SHARES", "CPU weight, 2 to 262144"),
    limit("cpu-quota", "MICROSECONDS", "CPU time per period; -1 is unlimited"),
    limit("cpu-period", "MICROSECONDS", "Length of the period"),
    limit("cpu-burst", "MICROSECONDS", "Unused CPU time that can be saved"),
    limit("cpu-idle", "0|1", "1: run only when the CPU is idle"),
    limit("cpu-rt-runtime", "MICROSECONDS", "Real-time CPU time per period (v1)"),
    limit("cpu-rt-period", "MICROSECONDS", "Length of the real-time period (v1)"),
    limit("cpuset-cpus", "LIST", "CPUs, e.g. 0-3,7"),
    limit("cpuset-mems", "LIST", "Memory nodes, e.g. 0-1"),
    limit("pids-limit", "TASKS", "Maximum number of tasks; -1 is unlimited"),
    limit("blkio-weight", "WEIGHT", "Block I/O weight, 10 to 1000"),
    limit("kernel-memory", "BYTES", "").hidden(),
    limit("kernel-memory-tcp", "BYTES", "").hidden(),
];

const UPDATING: &[Argument] = &[
    limit("l3-cache-schema", "SCHEMA", "L3 cache schema, e.g. L3:0=7f0;1=1f"),
    limit("mem-bw-schema", "SCHEMA", "Memory bandwidth, e.g. MB:0=20;1=70"),
    flag("dry-run", "Print the writes without doing them"),
    ID,
];

const fn limit(name: &'static str, value: &'static str, help: &'static str) -> Argument {
    text(name, value, help).hyphens()
}

pub(super) const PRESERVE_FDS: Argument =
    number("preserve-fds", "N", "Pass N additional file descriptors");

pub(super) const FORMAT: Argument =
    one_of("format", "FORMAT", &["table", "json"], "Output format: table (the default) or json")
        .short('f');

const REGEX: Argument =
    flag("regex", "ID is a regular expression: all containers that match").short('r');

pub(super) const ID: Argument = positional("id", "ID", "Container id");

/// All commands.
pub(super) fn commands() -> impl Iterator<Item = &'static Description> {
    COMMANDS.iter().chain(images::COMMANDS)
}

/// The command of this name.
pub(super) fn described(name: &str) -> Option<&'static Description> {
    commands().find(|command| command.name == name)
}

/// brig for clap, without its subcommands.
pub(super) fn brig() -> clap::Command {
    BRIG.for_clap()
        .subcommand_required(true)
        .disable_help_subcommand(true)
        // Engines append options to those from the user's configuration: the last one wins.
        .args_override_self(true)
}

/// A command for clap.
pub(super) fn subcommand(command: &Description) -> clap::Command {
    images::restrict(command.for_clap())
}

/// A command with its examples, which only its help and its manual page show.
pub(super) fn with_examples(command: clap::Command) -> clap::Command {
    let name = command.get_name();
    let lines = examples(name).lines().chain(images::examples(name).lines());
    let lines = lines.map(|line| format!("\n  {line}"));
    let examples = format!("Examples:{}", lines.collect::<String>());
    command.after_help(examples)
}
