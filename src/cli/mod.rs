//! Turns arguments into values; no logic.
//!
//! One table describes all commands (`describe`). `plain` parses simple command lines with it; everything
//! else is parsed by clap, for which only the command in use is described: describing all of them doubles the
//! page faults of each call. Help and errors describe all of them.

mod criu;
mod describe;
mod examples;
#[cfg_attr(not(feature = "images"), path = "without_images.rs")]
mod images;
mod plain;
#[cfg(test)]
mod plain_tests;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod values;

use crate::cmd::command::{Command, Globals};
use crate::suggest;
use clap::Arg;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use describe::{BRIG, brig, commands, described, subcommand, with_examples};
use std::ffi::OsString;
use table::Description;
use values::Values;

/// The result: a command, or text to print and an exit code.
#[derive(Debug)]
pub enum Parsed {
    /// Run this command.
    Run(Globals, Box<Command>),
    /// Help or version, for stdout.
    Say(String),
    /// The arguments are invalid.
    Wrong(UsageError),
}

/// A usage error.
#[derive(Debug)]
pub struct UsageError {
    /// The global options as far as they could be parsed: they name the log file.
    pub globals: Option<Globals>,
    /// The error message.
    pub text: String,
    /// The help text for stdout, as runc prints it.
    pub help: Option<String>,
    /// The exit code.
    pub code: i32,
}

/// runc's exit code for an unknown command.
const UNKNOWN_COMMAND: i32 = 3;

/// brig with all of its commands and their examples, for help, manual pages and completions.
pub fn definition() -> clap::Command {
    let mut commands: Vec<&Description> = commands().collect();
    commands.sort_unstable_by_key(|command| command.name);
    let described = commands.into_iter().map(|command| with_examples(subcommand(command)));
    with_examples(brig()).subcommands(described)
}

/// Parses the arguments; the first one is the program's name.
pub fn parse(args: Vec<OsString>) -> Parsed {
    parse_plain(&args).unwrap_or_else(|| parse_by_clap(args))
}

/// Parses arguments without clap. None if they need clap.
pub fn parse_plain(args: &[OsString]) -> Option<Parsed> {
    let line = plain::read(args)?;
    Some(read::read(&line.globals, line.command.name, &line.values))
}

/// Parses any arguments, with clap.
pub fn parse_by_clap(args: Vec<OsString>) -> Parsed {
    let args = help_as_flag(args);
    let place = place_of_command(&args);
    let called = place.map(|place| args[place].to_string_lossy().into_owned());
    let asks_version = |arg: &OsString| arg == "--version" || arg == "-v";
    if called.is_none() && args.iter().any(asks_version) {
        return Parsed::Say(version());
    }
    let mut brig = brig();
    for command in commands() {
        if called.as_deref().is_none_or(|called| called == command.name) {
            brig = brig.subcommand(subcommand(command));
        }
    }
    let before = place.map_or(args.len(), |place| place);
    let wrong = |text, before: &[OsString], help, code| {
        Parsed::Wrong(UsageError { globals: globals_alone(before), text, help, code })
    };
    if called.is_none() && globals_alone(&args).is_some() {
        return Parsed::Say(help(None));
    }
    if let Some(option) = unknown_option(&args[..before], &brig).filter(|_| called.is_some()) {
        let flags = brig.get_arguments().filter_map(Arg::get_long);
        let meant = suggest::nearest(option.trim_start_matches('-'), flags);
        let meant = meant.map(|name| format!("did you mean --{name}? ")).unwrap_or_default();
        let text = format!("unexpected argument '{option}' found: {meant}see `brig --help`");
        return wrong(text, &args[..before], Some(help(None)), 1);
    }
    if let Some(unknown) = called.as_ref().filter(|called| described(called).is_none()) {
        let text = format!("unknown command {unknown:?}: {}see `brig --help`", suggestion(unknown));
        return wrong(text, &args[..before], None, UNKNOWN_COMMAND);
    }
    let args = double_dashes(args, &brig);
    let args = match place {
        Some(place) if CREATING.contains(&args[place].to_string_lossy().as_ref()) => {
            images::unnamed(args, &brig)
        }
        _ => args,
    };
    match brig.try_get_matches_from_mut(&args) {
        Ok(matches) => {
            let globals = Values::of_clap(&BRIG, &matches);
            let found = matches.subcommand().and_then(|(name, of)| Some((described(name)?, of)));
            found.map_or_else(
                || Parsed::Say(help(None)),
                |(command, of)| read::read(&globals, command.name, &Values::of_clap(command, of)),
            )
        }
        Err(error) if !error.use_stderr() => Parsed::Say(help(called.as_deref())),
        Err(error) => {
            let described = called.as_ref().map_or(Some(&brig), |name| brig.find_subcommand(name));
            let command = called.as_ref().map(|called| format!("{called}: ")).unwrap_or_default();
            let text = format!("{command}{}", message(&error, described));
            wrong(text, &args[..before.min(args.len())], Some(help(called.as_deref())), 1)
        }
    }
}

/// The first argument that looks like an option but is not one, without its value: what follows it was taken
/// for the command.
fn unknown_option(args: &[OsString], brig: &clap::Command) -> Option<String> {
    let name_of = |arg: &str| arg.split('=').next().unwrap_or_default().to_owned();
    let is_known = |arg: &str| {
        let name = name_of(arg.trim_start_matches('-'));
        if ["help", "h"].contains(&name.as_str()) {
            return true;
        }
        let mut known = brig.get_arguments();
        known.any(|known| {
            known.get_long() == Some(&name)
                || known.get_short().is_some_and(|short| name == short.to_string())
        })
    };
    let mut options = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    options
        .find(|arg| arg.starts_with('-') && arg != "-" && !is_known(arg))
        .map(|arg| name_of(&arg))
}

/// Commands that can create a container from an image.
const CREATING: [&str; 2] = ["create", "run"];

/// A hint for docker's command names and for typing errors.
fn suggestion(unknown: &str) -> String {
    const ELSEWHERE: &[(&str, &str)] = &[
        ("container", "list"),
        ("history", "layers"),
        ("load", "bundle"),
        ("ls", "list"),
        ("prune", "gc"),
        ("rm", "delete"),
        ("untag", "rmi"),
        ("stop", "kill"),
        ("top", "ps"),
        ("unpause", "resume"),
    ];
    let lower = unknown.to_ascii_lowercase();
    let known =
        ELSEWHERE.iter().find(|(theirs, ours)| *theirs == lower && described(ours).is_some());
    let known = known.map(|(_, ours)| *ours);
    let known = known.or_else(|| suggest::nearest(unknown, commands().map(|command| command.name)));
    known.map(|name| format!("did you mean {name}? ")).unwrap_or_default()
}

/// The global options of a command line that is otherwise invalid. None if the part before the command is
/// invalid, too.
fn globals_alone(args: &[OsString]) -> Option<Globals> {
    let alone = brig().subcommand_required(false);
    let matches = alone.try_get_matches_from(args).ok()?;
    Some(read::globals(&Values::of_clap(&BRIG, &matches)))
}

/// The help text of a command, or of brig.
fn help(command: Option<&str>) -> String {
    let mut brig = definition();
    brig.build();
    let found =
        command.and_then(|name| brig.find_subcommand_mut(name)).map(clap::Command::render_help);
    found.unwrap_or_else(|| brig.render_help()).to_string()
}

/// The first paragraph of clap's message without its "error: ", and a suggestion.
fn message(error: &clap::Error, command: Option<&clap::Command>) -> String {
    if let Some(option) = without_value(error) {
        // runc's message, by which podman (4.3 too) detects that it can restore pods.
        return format!("flag needs an argument: {option}");
    }
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<_> = text.trim_start_matches("error: ").split_whitespace().collect();
    format!("{}{}", words.join(" "), hint(error, command).unwrap_or_default())
}

/// The option whose value is missing.
fn without_value(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let missing = error.kind() == ErrorKind::InvalidValue
        && text(ContextKind::InvalidValue).is_some_and(|value| value.is_empty());
    text(ContextKind::InvalidArg).filter(|_| missing)
}

/// Suggests the flag, or the value of a flag, that is closest to the given one.
fn hint(error: &clap::Error, command: Option<&clap::Command>) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let name = text(ContextKind::InvalidArg)?.strip_prefix("--")?;
            let flags = command?.get_arguments().filter(|flag| !flag.is_hide_set());
            if brig().get_arguments().any(|global| global.get_long() == Some(name)) {
                return Some(": global options go before the command".into());
            }
            let known = suggest::nearest(name, flags.filter_map(Arg::get_long))?;
            Some(format!(": did you mean --{known}?"))
        }
        ErrorKind::InvalidValue => {
            let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) else {
                return None;
            };
            let given = text(ContextKind::InvalidValue)?;
            Some(suggest::hint(given, known.iter().map(String::as_str)))
        }
        _ => None,
    }
}

/// The position of the first argument that is neither a flag nor a flag's value.
fn place_of_command(args: &[OsString]) -> Option<usize> {
    let mut args = args.iter().enumerate().skip(1);
    while let Some((place, arg)) = args.next() {
        let arg = arg.to_string_lossy();
        if is_global_with_value(&arg) {
            args.next();
        } else if !arg.starts_with('-') {
            return Some(place);
        }
    }
    None
}

/// Whether it is a global option, with one dash or two, whose value is the next argument.
fn is_global_with_value(arg: &str) -> bool {
    let name = arg.trim_start_matches('-');
    let mut known = BRIG.arguments().filter(|known| !known.is_switch());
    arg.starts_with('-') && known.any(|known| known.name == name)
}

/// Rewrites `brig help`, `brig help COMMAND`, and `h`, as in runc.
fn help_as_flag(mut args: Vec<OsString>) -> Vec<OsString> {
    if let Some(place) = place_of_command(&args)
        && (args[place] == "help" || args[place] == "h")
    {
        args.remove(place);
        args.truncate(place + 1);
        args.push("--help".into());
    }
    args
}

/// Go's flags accept a single dash (containerd's `-no-subreaper`): `-word` becomes `--word` if that is a
/// flag. The program of exec and the options of ps are left alone.
fn double_dashes(mut args: Vec<OsString>, brig: &clap::Command) -> Vec<OsString> {
    let mut command = brig;
    let mut i = 1;
    while let Some(arg) = args.get(i).map(|arg| arg.to_string_lossy().into_owned()) {
        i += 1;
        if arg == "--" {
            break;
        }
        let name = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
        if !arg.starts_with('-') || arg == "-" {
            match command.find_subcommand(&arg) {
                Some(called) => command = called,
                // As in runc, everything after the id belongs to the program, or to ps(1), options included.
                None if ["exec", "ps"].contains(&command.get_name()) => {
                    if args.get(i).is_some_and(|next| next != "--") {
                        args.insert(i, "--".into());
                    }
                    break;
                }
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
        if known.get_action().takes_values() {
            continue;
        }
        match switched(&args[i - 1].to_string_lossy()) {
            Some((flag, true)) => args[i - 1] = flag.into(),
            Some((_, false)) => {
                i -= 1;
                args.remove(i);
            }
            None => {}
        }
    }
    args
}

/// Go's boolean flags accept a value: `--detach=true` is `--detach`, `--detach=false` is dropped.
fn switched(arg: &str) -> Option<(String, bool)> {
    let (flag, value) = arg.split_once('=')?;
    match value {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Some((flag.to_owned(), true)),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Some((flag.to_owned(), false)),
        _ => None,
    }
}

/// The version, in the format that go-runc and docker parse.
fn version() -> String {
    format!(
        "brig version {}\ncommit: {}\nspec: {}\nlibc: {}\n",
        env!("CARGO_PKG_VERSION"),
        crate::COMMIT,
        crate::SPEC_VERSION,
        crate::LIBC
    )
}
