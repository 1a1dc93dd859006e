//! Completions: bash's is a script with tables, zsh's and fish's are clap_complete's, in which placeholders become
//! calls of functions that ask brig for containers and images.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate};
use std::collections::BTreeMap;

/// What may stand for the value of a flag, or as an argument.
enum Kind {
    Words(Vec<String>),
    Containers,
    Images,
    Directories,
    Files,
    Any,
}

/// Commands whose ID is a new one.
const NAMING: [&str; 3] = ["create", "restore", "run"];

fn kind(command: &str, arg: &Arg) -> Kind {
    let values: Vec<String> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let value_name =
        arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match (command, arg.get_id().as_str()) {
        (_, "id") if !NAMING.contains(&command) => Kind::Containers,
        ("kill", "signal") | (_, "stop-signal") => Kind::Words(
            brig::process::signals::NAMES.iter().map(|(name, _)| (*name).into()).collect(),
        ),
        (_, "cap" | "cap-add" | "cap-drop") => {
            Kind::Words(brig::plan::process::CAPABILITIES.map(String::from).to_vec())
        }
        _ if !values.is_empty() => Kind::Words(values),
        (_, "inspect" | "image") if command != "commit" => Kind::Images,
        _ => match value_name {
            Some("DIR" | "DIR[:TAG]") => Kind::Directories,
            Some("FILE" | "FILE|-" | "SOCKET") => Kind::Files,
            _ => Kind::Any,
        },
    }
}

/// Brig's description without what is hidden, and with what clap_complete is to offer.
fn described(command: &Command, shell: Shell) -> Command {
    let name: &'static str = command.get_name().to_owned().leak();
    let marked = |arg: &Arg| {
        let arg = arg.clone();
        let mark = |mark: &'static str| PossibleValuesParser::new([mark]);
        let names: Vec<&'static str> = arg
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(|name| {
                // A colon ends the name in zsh's description of an argument.
                let name =
                    if shell == Shell::Zsh { name.replace(':', "\\:") } else { name.to_string() };
                &*name.leak()
            })
            .collect();
        if !arg.get_action().takes_values() {
            return arg;
        }
        let kind = kind(name, &arg);
        let is_list = matches!(arg.get_action(), clap::ArgAction::Append);
        let arg = if arg.is_positional() && is_list { arg.num_args(1..) } else { arg };
        let arg = if names.is_empty() { arg } else { arg.value_names(names) };
        match kind {
            Kind::Words(words) => {
                let values = words.into_iter().map(|word| PossibleValue::new(&*word.leak()));
                arg.value_parser(PossibleValuesParser::new(
                    values.filter(|word| !word.get_name().is_empty()),
                ))
            }
            Kind::Containers => arg.value_parser(mark("@containers")),
            Kind::Images => arg.value_parser(mark("@images")),
            Kind::Directories => arg.value_hint(ValueHint::DirPath),
            Kind::Files => arg.value_hint(ValueHint::FilePath),
            Kind::Any => arg.value_hint(ValueHint::Other),
        }
    };
    let about = command.get_about().cloned().unwrap_or_default();
    Command::new(name)
        .about(about)
        .disable_help_subcommand(true)
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).map(marked))
        .subcommands(command.get_subcommands().map(|command| described(command, shell)))
}

fn generated(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut described(&brig::cli::definition(), shell), "brig", &mut text);
    String::from_utf8(text).unwrap()
}

fn flags(arg: &Arg) -> Vec<String> {
    let short = arg.get_short().map(|short| format!("-{short}"));
    short.into_iter().chain(arg.get_long().map(|long| format!("--{long}"))).collect()
}

/// The tables of the script: see its top.
fn bash() -> String {
    let mut brig = brig::cli::definition();
    brig.build();
    let commands = brig.get_subcommands().map(Command::get_name).collect::<Vec<_>>().join(" ");
    let mut names = String::from("declare -gA _brig_flags=(\n");
    let mut values = format!("declare -gA _brig_values=(\n    ['brig 0']='{commands}'\n");
    for command in std::iter::once(&brig).chain(brig.get_subcommands()) {
        let name = command.get_name();
        let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
        let all: Vec<String> = shown().flat_map(flags).collect();
        names += &format!("    [{name}]='{}'\n", all.join(" "));
        for arg in shown().filter(|arg| arg.get_action().takes_values()) {
            let kind = match kind(name, arg) {
                Kind::Words(words) => words.join(" ").trim().to_owned(),
                Kind::Containers => "@containers".into(),
                Kind::Images => "@images".into(),
                Kind::Directories => "@directories".into(),
                Kind::Files => "@files".into(),
                Kind::Any => "@any".into(),
            };
            let is_list = matches!(arg.get_action(), clap::ArgAction::Append);
            let places = match arg.get_index() {
                Some(_) if is_list => vec!["*".into()],
                Some(index) => vec![(index - 1).to_string()],
                None => flags(arg),
            };
            places.iter().for_each(|place| values += &format!("    ['{name} {place}']='{kind}'\n"));
        }
    }
    let tables = format!("{names})\n{values})\n");
    include_str!("completions/brig.bash").replace("@TABLES@\n", &tables)
}

fn zsh() -> String {
    let text = generated(Shell::Zsh);
    let start = "_brig() {\n";
    let (before, after) = text.split_once(start).unwrap();
    let line = "    local -a _brig_line=(\"${(@)words}\")\n";
    let text = format!("{before}{}{start}{line}{after}", include_str!("completions/brig.zsh"));
    text.replace("(@containers)", "_brig_containers").replace("(@images)", "_brig_images")
}

fn fish() -> String {
    let mut text = generated(Shell::Fish);
    for kind in ["containers", "images"] {
        text = text.replace(&format!("\"@{kind}\\t''\""), &format!("\"(__brig_{kind})\""));
    }
    // A value is still missing: of a flag of brig's own, because what follows the command is not looked at.
    let (stops, goes_on) =
        ("-- $cmd 2>/dev/null\n    or return\n", "-- $cmd 2>/dev/null\n    or return 0\n");
    assert!(text.contains(stops), "{text}");
    text = text.replacen(stops, goes_on, 1);
    let mut brig = brig::cli::definition();
    brig.build();
    let mut specs = String::new();
    let mut lines = String::new();
    for command in brig.get_subcommands() {
        let name = command.get_name();
        let spec = |arg: &Arg| {
            let names = [arg.get_short().map(String::from), arg.get_long().map(String::from)];
            let names: Vec<String> = names.into_iter().flatten().collect();
            let value = if arg.get_action().takes_values() { "=+" } else { "" };
            (!names.is_empty()).then(|| format!("{}{value}", names.join("/")))
        };
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let all: Vec<String> = shown.filter_map(spec).collect();
        specs += &format!("        case {name}\n            string join \\n {}\n", all.join(" "));
        for arg in command.get_positionals() {
            let offered = match kind(name, arg) {
                Kind::Words(words) => words.join(" "),
                Kind::Containers => "(__brig_containers)".into(),
                Kind::Images => "(__brig_images)".into(),
                _ if arg.get_id() == "id" => String::new(),
                _ => continue,
            };
            let list =
                if matches!(arg.get_action(), clap::ArgAction::Append) { " or more" } else { "" };
            let place = arg.get_index().unwrap() - 1;
            let files = if offered == "(__brig_images)" { "" } else { "-f " };
            lines += &format!(
                "complete -c brig -n \"__brig_at {name} {place}{list}\" {files}-a \"{offered}\"\n"
            );
        }
    }
    let helpers = include_str!("completions/brig.fish").replace("@SPECS@\n", &specs);
    format!("{helpers}\n{text}{lines}")
}

/// What is kept in docs/completions.
pub fn all() -> BTreeMap<String, Vec<u8>> {
    let made = [("brig.bash", bash()), ("_brig", zsh()), ("brig.fish", fish())];
    made.map(|(name, text)| (format!("completions/{name}"), text.into_bytes())).into()
}
