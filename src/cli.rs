//! Arguments become values; no logic.
//!
//! Only the command that is called is described to clap: describing all of them costs every call
//! twice the page faults. All are described for help and for errors.

use crate::cmd::create::How;
use crate::launch::exec;
use crate::launch::parent::Options;
use crate::log::Format;
use crate::plan::rootfs::RootOptions;
use crate::sys::cred;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// What stands before the command.
#[derive(Debug)]
pub struct Globals {
    /// Where states are kept.
    pub root: PathBuf,
    /// The log.
    pub log: Option<PathBuf>,
    /// How it is written.
    pub log_format: Format,
    /// Say what is done.
    pub debug: bool,
}

/// What to do.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Command {
    Create(Options),
    Run(Options, How),
    Start { id: String },
    State { id: String },
    Exec(exec::Options),
    Kill { id: String, signal: String, all: bool },
    Delete { id: String, force: bool },
    List { format: ListFormat, quiet: bool },
    Spec { bundle: PathBuf, rootless: bool },
    Features,
}

/// How `list` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Either something to do, or text to print and an exit code.
#[derive(Debug)]
pub enum Parsed {
    /// Do this.
    Run(Globals, Box<Command>),
    /// Help or version: to stdout.
    Say(String),
    /// The arguments are wrong. The globals, as far as they are known, say where the log is.
    Wrong(Option<Globals>, String),
}

const COMMANDS: [&str; 10] =
    ["create", "delete", "exec", "features", "kill", "list", "run", "spec", "start", "state"];

/// Flags of runc and crun that later versions of brig bring, and whether they take a value. They are
/// refused by name.
const NOT_YET: [(&str, bool); 2] = [("systemd-cgroup", false), ("rootless", true)];
const NOT_YET_EXEC: [(&str, bool); 2] = [("apparmor", true), ("process-label", true)];

/// Reads the arguments, the program's name first.
pub fn parse(args: Vec<OsString>) -> Parsed {
    let called = called(&args);
    let asks_version = |arg: &OsString| arg == "--version" || arg == "-v";
    if called.is_none() && args.iter().any(asks_version) {
        return Parsed::Say(version());
    }
    let mut brig = brig();
    for name in COMMANDS {
        if called.as_deref().is_none_or(|called| called == name) {
            brig = brig.subcommand(subcommand(name));
        }
    }
    if let Some(unknown) = called.filter(|called| !COMMANDS.contains(&called.as_str())) {
        return Parsed::Wrong(None, format!("unknown command {unknown:?}: see brig --help"));
    }
    let args = double_dashes(args, &brig);
    match brig.try_get_matches_from(args) {
        Ok(matches) => read(&matches),
        Err(error) if error.use_stderr() => Parsed::Wrong(None, message(&error)),
        Err(error) => Parsed::Say(error.to_string()),
    }
}

/// clap's first paragraph, without its "error: ".
fn message(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or(&text);
    text.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first argument that is neither a flag nor the value of one.
fn called(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy();
        if ["--root", "--log", "--log-format", "--cgroup-manager", "--rootless"]
            .contains(&arg.as_ref())
        {
            args.next();
        } else if !arg.starts_with('-') {
            return (arg != "help").then(|| arg.into_owned());
        }
    }
    None
}

/// Go's flags may have one dash (containerd's `-no-subreaper`): `-word` becomes `--word` where that
/// is a flag. What exec is to execute is left alone.
fn double_dashes(mut args: Vec<OsString>, brig: &clap::Command) -> Vec<OsString> {
    let mut command = brig;
    let mut i = 1;
    while let Some(arg) = args.get(i).map(|arg| arg.to_string_lossy().into_owned()) {
        i += 1;
        let name = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
        if !arg.starts_with('-') {
            match command.find_subcommand(&arg) {
                Some(called) => command = called,
                None if command.get_name() == "exec" => break,
                None => {}
            }
            continue;
        }
        let by_name = |known: &&Arg| {
            known.get_long() == Some(name)
                || known.get_short().is_some_and(|c| name == c.to_string())
        };
        let Some(known) = command.get_arguments().find(by_name) else { continue };
        if name.len() > 1 && !arg.starts_with("--") {
            args[i - 1] = format!("-{arg}").into();
        }
        i += usize::from(known.get_action().takes_values() && !arg.contains('='));
    }
    args
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).value_name(value).value_parser(value_parser!(PathBuf))
}

fn one_of(name: &'static str, values: &'static [&'static str], help: &'static str) -> Arg {
    let parser: ValueParser = PossibleValuesParser::new(values).into();
    Arg::new(name).long(name).help(help).value_parser(parser)
}

fn id() -> Arg {
    Arg::new("id").value_name("ID").required(true).help("The container's name")
}

fn brig() -> clap::Command {
    clap::Command::new("brig")
        .about("An OCI container runtime: one small static binary, no daemon")
        .arg(flag("version", "Print version, commit and spec version").short('v'))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .arg(option("root", "DIR", "Where states are kept [default: /run/brig]"))
        .arg(option("log", "FILE", "Write errors and warnings there too"))
        .arg(one_of("log-format", &["text", "json"], "How to write the log [default: text]"))
        .arg(flag("debug", "Say what is done"))
        .arg(one_of("cgroup-manager", &["cgroupfs"], "Who makes cgroups [default: cgroupfs]"))
        .args(NOT_YET.iter().map(not_yet))
}

fn not_yet(&(name, takes_value): &(&'static str, bool)) -> Arg {
    let arg = Arg::new(name).long(name).hide(true);
    if takes_value { arg } else { arg.action(ArgAction::SetTrue) }
}

/// go-runc and docker read these lines.
fn version() -> String {
    format!(
        "brig version {}\ncommit: {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        crate::COMMIT,
        crate::SPEC_VERSION
    )
}

fn subcommand(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name);
    match name {
        "create" => creation(command.about("Create a container; it then waits for start")),
        "run" => creation(command.about("Create and start a container, wait for it and delete it"))
            .arg(flag("detach", "Do not wait").short('d'))
            .arg(flag("keep", "Do not delete the container when it has ended"))
            .arg(flag("no-subreaper", "Do not adopt the orphans of the container")),
        "start" => command.about("Let a created container execute its program").arg(id()),
        "state" => command.about("Print the state of a container as JSON").arg(id()),
        "exec" => execution(command.about("Run another process in a running container")),
        "kill" => command
            .about("Send a signal to the container's init")
            .arg(flag("all", "Send it to every process of the container").short('a'))
            .arg(id())
            .arg(
                Arg::new("signal")
                    .value_name("SIGNAL")
                    .default_value("TERM")
                    .allow_hyphen_values(true)
                    .help("Name or number"),
            ),
        "delete" => command
            .about("Remove a stopped or created container")
            .arg(flag("force", "Kill it first; no error if there is none").short('f'))
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
            .arg(flag("rootless", "For an ordinary user, who calls it")),
        _ => command.about("Print what this brig can do as JSON"),
    }
}

fn creation(command: clap::Command) -> clap::Command {
    command
        .arg(option("bundle", "DIR", "Directory with config.json [default: .]").short('b'))
        .arg(option("config", "FILE", "Another config than the bundle's").short('f'))
        .arg(option("pid-file", "FILE", "Write the pid of the container's init there"))
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
        .arg(id())
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
        .arg(flag("no-new-privs", "execve grants nothing"))
        .arg(flag("detach", "Do not wait").short('d'))
        .arg(option("pid-file", "FILE", "Write the pid of the process there"))
        .arg(texts("cgroup", "[CONTROLLERS:]PATH", "Cgroup below the container's"))
        .arg(flag("ignore-paused", "Even if the container is paused"))
        .arg(preserve_fds())
        .arg(pidfd_socket("Send a pidfd of the process there"))
        .arg(flag("tty", "Give the process a terminal").short('t'))
        .arg(option("console-socket", "SOCKET", "Send the master of the terminal there"))
        .args(NOT_YET_EXEC.iter().map(not_yet))
        .arg(id())
        .arg(
            Arg::new("args")
                .value_name("PROGRAM [ARGUMENT]...")
                .action(ArgAction::Append)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
        )
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

fn read(matches: &ArgMatches) -> Parsed {
    let json = text(matches, "log-format").as_deref() == Some("json");
    let globals = Globals {
        root: path(matches, "root").unwrap_or_else(default_root),
        log: path(matches, "log"),
        log_format: if json { Format::Json } else { Format::Text },
        debug: matches.get_flag("debug"),
    };
    let Some((name, matches_of)) = matches.subcommand() else {
        return Parsed::Wrong(Some(globals), "no command: see brig --help".into());
    };
    if let Some(flag) = refused(matches).or_else(|| refused(matches_of)) {
        return Parsed::Wrong(
            Some(globals),
            format!("{name}: --{flag} is not supported by this version of brig"),
        );
    }
    let command = command(name, matches_of, &globals);
    Parsed::Run(globals, Box::new(command))
}

/// /run/brig; for an ordinary user, below the directory that belongs to the session. Who is root only
/// because they have made a user namespace is one too, as with runc.
fn default_root() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let ordinary = || {
        let named = variable("USER").is_some_and(|name| name != "root");
        !nix::unistd::geteuid().is_root() || named && !cred::in_first_user_namespace()
    };
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) if ordinary() => PathBuf::from(dir).join("brig"),
        _ => PathBuf::from("/run/brig"),
    }
}

/// The first flag that is given and not supported. `--rootless=false` and `auto` ask for nothing.
fn refused(matches: &ArgMatches) -> Option<&'static str> {
    let given = |&&(name, takes_value): &&(&'static str, bool)| {
        if !takes_value {
            return matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false);
        }
        let value = matches.try_get_one::<String>(name).ok().flatten();
        value.is_some_and(|value| {
            !(name == "rootless" && ["false", "auto"].contains(&value.as_str()))
        })
    };
    NOT_YET.iter().chain(&NOT_YET_EXEC).find(given).map(|&(name, _)| name)
}

fn command(name: &str, matches: &ArgMatches, globals: &Globals) -> Command {
    let id = || text(matches, "id").unwrap_or_default();
    match name {
        "create" => Command::Create(options(matches, globals, true)),
        "run" => {
            let how = How {
                keep: matches.get_flag("keep"),
                subreaper: !matches.get_flag("no-subreaper"),
            };
            Command::Run(options(matches, globals, matches.get_flag("detach")), how)
        }
        "start" => Command::Start { id: id() },
        "state" => Command::State { id: id() },
        "exec" => Command::Exec(exec_options(matches, globals)),
        "kill" => Command::Kill {
            id: id(),
            signal: text(matches, "signal").unwrap_or_default(),
            all: matches.get_flag("all"),
        },
        "delete" => Command::Delete { id: id(), force: matches.get_flag("force") },
        "list" => Command::List {
            format: match text(matches, "format").as_deref() {
                Some("json") => ListFormat::Json,
                _ => ListFormat::Table,
            },
            quiet: matches.get_flag("quiet"),
        },
        "spec" => Command::Spec {
            bundle: path(matches, "bundle").unwrap_or_else(|| ".".into()),
            rootless: matches.get_flag("rootless"),
        },
        _ => Command::Features,
    }
}

fn options(matches: &ArgMatches, globals: &Globals, detach: bool) -> Options {
    Options {
        root: globals.root.clone(),
        id: text(matches, "id").unwrap_or_default(),
        bundle: path(matches, "bundle").unwrap_or_else(|| ".".into()),
        config: path(matches, "config"),
        pid_file: path(matches, "pid-file"),
        rootfs: RootOptions {
            layers: matches.get_many("layer").into_iter().flatten().cloned().collect(),
            upper: text(matches, "upper"),
            no_pivot: matches.get_flag("no-pivot"),
        },
        no_new_keyring: matches.get_flag("no-new-keyring"),
        preserve_fds: number(matches, "preserve-fds"),
        console_socket: path(matches, "console-socket"),
        pidfd_socket: path(matches, "pidfd-socket"),
        detach,
    }
}

fn exec_options(matches: &ArgMatches, globals: &Globals) -> exec::Options {
    let texts = |name| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    exec::Options {
        root: globals.root.clone(),
        id: text(matches, "id").unwrap_or_default(),
        args: texts("args"),
        process: path(matches, "process"),
        tty: matches.get_flag("tty"),
        console_socket: path(matches, "console-socket"),
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
        pid_file: path(matches, "pid-file"),
        cgroups: texts("cgroup"),
        ignore_paused: matches.get_flag("ignore-paused"),
        pidfd_socket: path(matches, "pidfd-socket"),
        preserve_fds: number(matches, "preserve-fds"),
    }
}

fn number(matches: &ArgMatches, name: &str) -> u32 {
    matches.get_one(name).copied().unwrap_or(0)
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Parsed {
        parse(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_full_description_of_the_commands_is_sound() {
        COMMANDS
            .into_iter()
            .fold(brig(), |brig, name| brig.subcommand(subcommand(name)))
            .debug_assert();
    }

    #[test]
    fn flags_take_their_value_with_and_without_equals_sign() {
        for line in [
            "brig --root /r create --bundle /b --pid-file /p x",
            "brig --root=/r create --bundle=/b -pid-file=/p x",
        ] {
            let Parsed::Run(globals, command) = parse_line(line) else { panic!() };
            let Command::Create(options) = *command else { panic!("{line}") };
            assert_eq!(globals.root, PathBuf::from("/r"));
            assert_eq!(options.bundle, PathBuf::from("/b"));
            assert_eq!(options.pid_file, Some(PathBuf::from("/p")));
            assert_eq!(options.id, "x");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (line, word) in [
            ("brig exec --apparmor p x y", "--apparmor"),
            ("brig --systemd-cgroup start x", "--systemd-cgroup"),
            ("brig checkpoint x", "\"checkpoint\""),
            ("brig create --frobnicate x", "--frobnicate"),
        ] {
            let Parsed::Wrong(_, text) = parse_line(line) else { panic!("{line}") };
            assert!(text.contains(word), "{line}: {text}");
        }
        assert!(matches!(parse_line("brig --rootless=false start x"), Parsed::Run(..)));
    }

    #[test]
    fn what_exec_executes_is_left_alone() {
        let line = "brig exec -user 5:6 -e A=1 x ls -la -debug --user";
        let Parsed::Run(_, command) = parse_line(line) else { panic!() };
        let Command::Exec(options) = *command else { panic!("{line}") };
        assert_eq!(options.args, ["ls", "-la", "-debug", "--user"]);
        assert_eq!(options.user.as_deref(), Some("5:6"));
        let Parsed::Run(_, command) = parse_line("brig exec x -- ls --") else { panic!() };
        let Command::Exec(options) = *command else { panic!() };
        assert_eq!(options.args, ["ls", "--"]);
    }

    #[test]
    fn a_signal_may_look_like_a_flag_and_an_id_like_a_command() {
        let Parsed::Run(_, command) = parse_line("brig kill --all start 9") else { panic!() };
        let Command::Kill { id, signal, all } = *command else { panic!() };
        assert_eq!((id.as_str(), signal.as_str(), all), ("start", "9", true));
    }
}
