//! Parses simple command lines, such as those of engines, without clap, which takes a seventh of the CPU time
//! of `brig state`. Everything else is left to clap: mistakes, help, Go's spellings, values that begin with a
//! dash or are empty. A fuzzer and a test check that both produce the same result.

use super::describe::{BRIG, described};
use super::table::{Argument, Description, Kind};
use super::values::Values;
use std::ffi::OsString;

/// A command line: global options, the command, and its arguments.
pub(super) struct Line {
    pub globals: Values,
    pub command: &'static Description,
    pub values: Values,
}

/// Parses a command line; the first argument is the program's name. None if it needs clap.
pub(super) fn read(args: &[OsString]) -> Option<Line> {
    let words: Vec<&str> = args.iter().skip(1).map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let mut words = words.into_iter();
    let mut globals = Values::default();
    let name = loop {
        let word = words.next()?;
        if !is_option(word) {
            break word;
        }
        option(&BRIG, word, &mut words, &mut globals)?;
    };
    let command = described(name)?;
    let values = arguments(command, &mut words)?;
    Some(Line { globals, command, values })
}

/// Whether it is an option; a single dash is a value: stdin.
fn is_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// The arguments of a command.
fn arguments<'a>(
    command: &'static Description,
    words: &mut impl Iterator<Item = &'a str>,
) -> Option<Values> {
    let mut values = Values::default();
    let mut places = command.arguments().filter(|argument| argument.positional).peekable();
    while let Some(word) = words.next() {
        if is_option(word) {
            option(command, word, words, &mut values)?;
            continue;
        }
        let place = *places.peek()?;
        add(place, word, &mut values)?;
        if !place.many {
            places.next();
        }
        // As in runc, everything after the id belongs to the program of exec, options included; and to ps(1).
        if let Some(rest) = places.peek().filter(|next| next.trailing && next.hyphens) {
            let mut words = words.by_ref().peekable();
            words.next_if_eq(&"--");
            words.for_each(|word| values.add(rest.name, word.into()));
        }
    }
    for left in places {
        match left.default {
            Some(default) => values.add(left.name, default.into()),
            None if left.is_required() && !values.has(left.name) => return None,
            None => {}
        }
    }
    Some(values)
}

/// Parses `--name value`, `--name=value`, `--switch`, `-n value` or `-s`.
fn option<'a>(
    command: &Description,
    word: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
    values: &mut Values,
) -> Option<()> {
    let (long, short, attached) = match (word.strip_prefix("--"), word.as_bytes()) {
        (Some(long), _) => match long.split_once('=') {
            Some((long, value)) => (long, None, Some(value)),
            None => (long, None, None),
        },
        (None, [_, short]) => ("", Some(char::from(*short)), None),
        _ => return None,
    };
    let is_named = |known: &&Argument| {
        !known.positional && (known.name == long || short.is_some() && known.short == short)
    };
    let argument = command.arguments().find(is_named)?;
    if !argument.is_switch() {
        return add(argument, attached.or_else(|| words.next())?, values);
    }
    values.add(argument.name, OsString::new());
    attached.is_none().then_some(())
}

/// Adds a value if it is simple, and valid.
fn add(argument: &Argument, value: &str, values: &mut Values) -> Option<()> {
    if value.is_empty() || is_option(value) || argument.restricted {
        return None;
    }
    let valid = match argument.kind {
        Kind::Number => value.parse::<u32>().is_ok(),
        Kind::OneOf(known) => known.contains(&value),
        Kind::Numbers => {
            for number in value.split(',') {
                number.parse::<u32>().ok()?;
                values.add(argument.name, number.into());
            }
            return Some(());
        }
        Kind::Switch | Kind::Text | Kind::Path => !argument.trailing,
    };
    values.add(argument.name, value.into());
    valid.then_some(())
}
