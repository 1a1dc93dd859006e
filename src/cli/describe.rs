//! The commands and their flags as clap knows them.

use crate::image::flags::FLAGS;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, value_parser};
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
        "create" => creation(command.about("Create a container; it then waits for start")),
        "run" => creation(command.about("Create and start a container, wait for it and delete it"))
            .arg(flag("detach", "Do not wait").short('d'))
            .arg(flag("keep", "Do not delete the container when it has ended"))
            .arg(flag("rm", "Says that it is deleted then, as it is in any case"))
            .arg(flag("no-subreaper", "Do not adopt the orphans of the container")),
        "diff" => command
            .about("List what a container has changed in its layers: A added, C changed, D deleted")
            .arg(format("How to print it [default: table]"))
            .arg(id()),
        "commit" => command
            .about("Write an image with what a container has changed as its top layer")
            .arg(
                Arg::new("author").long("author").short('a').value_name("NAME").help("Who made it"),
            )
            .arg(
                Arg::new("message")
                    .long("message")
                    .short('m')
                    .value_name("TEXT")
                    .help("For its history"),
            )
            .arg(
                Arg::new("change")
                    .long("change")
                    .short('c')
                    .value_name("INSTRUCTION")
                    .action(ArgAction::Append)
                    .help("CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR as in a Dockerfile"),
            )
            .arg(one_of("compression", &["gzip", "zstd", "none"], "Of the layer [default: gzip]"))
            .arg(flag("no-pause", "Let a running container go on meanwhile"))
            .arg(id())
            .arg(
                Arg::new("image")
                    .value_name("DIR[:TAG]")
                    .required(true)
                    .help("An OCI image layout, new or not; the tag is latest unless given"),
            ),
        "export" => command
            .about("Write a container's whole tree as a tar archive, without what is mounted in it")
            .arg(option("output", "FILE", "Instead of stdout").short('o'))
            .arg(id()),
        "images" => command
            .about("List the images whose layers are in the store")
            .arg(format("How to print them [default: table]"))
            .arg(text_option(
                "inspect",
                "IMAGE",
                "Print config, layers, sizes and history of this one as JSON",
            )),
        "rmi" => command
            .about("Remove names of images, and with their last one the images, from the store")
            .arg(
                positional("image", "IMAGE", "By name, as images shows it, or by id")
                    .action(ArgAction::Append),
            ),
        "tag" => command
            .about("Give an image of a layout on disk one more name there")
            .arg(positional("image", "IMAGE", "PATH, PATH:TAG or PATH@DIGEST of an OCI layout"))
            .arg(positional("name", "TAG", "The new name, which is no other's any more")),
        "layers" => command
            .about("List the layers in the store, and who uses them")
            .arg(format("How to print them [default: table]")),
        "gc" => command
            .about("Remove what nobody uses from the store of layers")
            .arg(flag("all", "Also images that no bundle and no container uses").short('a'))
            .arg(flag("dry-run", "Only tell what would be removed")),
        "bundle" => command
            .about("Make a bundle of an image on disk, its layers shared")
            .args(image_flags())
            .arg(platform())
            .arg(
                Arg::new("image")
                    .value_name("IMAGE")
                    .required(true)
                    .help("OCI layout or docker save's tar: PATH, PATH:TAG or PATH@DIGEST"),
            )
            .arg(
                Arg::new("bundle")
                    .value_name("DIR")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("Where to make it"),
            )
            .arg(arguments()),
        "start" => command.about("Let a created container execute its program").arg(id()),
        "state" => command.about("Print the state of a container as JSON").arg(id()),
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
        "delete" => command
            .about("Remove a stopped or created container")
            .arg(flag("force", "Kill it first; no error if there is none").short('f'))
            .arg(regex())
            .arg(id()),
        "list" => command
            .about("List all containers")
            .arg(
                one_of("format", &["table", "json"], "How to print them [default: table]")
                    .short('f'),
            )
            .arg(flag("quiet", "Only ids").short('q')),
        "spec" => command
            .about("Write a config.json to start from")
            .arg(option("bundle", "DIR", "Where to write it [default: .]").short('b'))
            .arg(option("file", "FILE", "Write there, from DIR, over what is there").short('f'))
            .arg(flag("rootless", "For an ordinary user, who calls it")),
        "events" => command
            .about("Tell what a container uses up, and when it runs out of memory, until it ends")
            .arg(flag("stats", "What it has used up by now, once"))
            .arg(interval("How often, as 500ms or 1m30s [default: 5s]"))
            .arg(id()),
        "stats" => command
            .about("Show what containers use; on a terminal, again and again")
            .arg(one_of("format", &["table", "json"], "How to show it [default: table]").short('f'))
            .arg(flag("no-stream", "Once, on a terminal too"))
            .arg(interval("How long to measure [default: 1s]"))
            .arg(
                id().required(false)
                    .action(ArgAction::Append)
                    .help("The containers [default: all]"),
            ),
        "update" => updating(command.about("Change the limits of a container")),
        _ => command.about("Print what this brig can do as JSON"),
    }
}

fn platform() -> Arg {
    Arg::new("platform")
        .long("platform")
        .value_name("OS/ARCH[/VARIANT]")
        .help("Which of the image's platforms [default: this machine's]")
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

fn arguments() -> Arg {
    Arg::new("args")
        .value_name("ARGUMENT")
        .action(ArgAction::Append)
        .trailing_var_arg(true)
        .help("Instead of the image's default arguments")
}

/// What is asked of a container of an image: with --image, and for bundle.
fn image_flags() -> impl Iterator<Item = Arg> {
    let known = FLAGS.iter().map(|known| {
        let arg = Arg::new(known.name).long(known.name).help(known.help);
        let arg = known.short.into_iter().fold(arg, Arg::short);
        match known.value {
            "" => arg.action(ArgAction::SetTrue),
            value => arg.value_name(value).action(ArgAction::Append).allow_hyphen_values(true),
        }
    });
    // Refused with a word about what there is instead.
    let publish = Arg::new("publish").long("publish").short('p').hide(true);
    known
        .map(|arg| match arg.get_id().as_str() {
            "network" => arg.alias("net"),
            _ => arg,
        })
        .chain([publish.action(ArgAction::Append)])
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
