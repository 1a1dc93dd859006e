//! The description of a command and its arguments, shared by clap and [`super::plain`].

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, value_parser};
use std::path::PathBuf;

/// A command.
pub(super) struct Description {
    pub name: &'static str,
    pub about: &'static str,
    /// Its arguments in the order of its help, in groups that commands share.
    pub arguments: &'static [&'static [Argument]],
    /// Whether its help shows the description of an argument on the next line.
    pub next_line_help: bool,
}

/// An option, a switch, or a positional argument.
#[derive(Clone, Copy)]
pub(super) struct Argument {
    pub name: &'static str,
    pub kind: Kind,
    pub short: Option<char>,
    pub positional: bool,
    /// Whether it may be given several times and all values count; otherwise, the last one counts.
    pub many: bool,
    /// Whether a value may begin with a dash.
    pub hyphens: bool,
    /// Whether it is a positional argument that takes everything after its first value.
    pub trailing: bool,
    /// Whether it conflicts with or requires others, which is left to clap.
    pub restricted: bool,
    pub default: Option<&'static str>,
    required: bool,
    hidden: bool,
    value: &'static str,
    help: &'static str,
}

/// The kind of values of an argument.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// No value.
    Switch,
    Text,
    Path,
    Number,
    /// Numbers, separated by commas.
    Numbers,
    OneOf(&'static [&'static str]),
}

impl Description {
    pub const fn new(
        name: &'static str,
        about: &'static str,
        arguments: &'static [&'static [Argument]],
    ) -> Self {
        Self { name, about, arguments, next_line_help: false }
    }

    pub const fn next_line_help(mut self) -> Self {
        self.next_line_help = true;
        self
    }

    /// All arguments, in order.
    pub fn arguments(&self) -> impl Iterator<Item = &'static Argument> {
        self.arguments.iter().copied().flatten()
    }

    /// Describes it for clap.
    pub fn for_clap(&self) -> clap::Command {
        let command = clap::Command::new(self.name).about(self.about);
        let command = command.args(self.arguments().map(Argument::for_clap));
        // Not set to false, because clap enables it itself for long lines.
        if self.next_line_help { command.next_line_help(true) } else { command }
    }
}

pub(super) const fn flag(name: &'static str, help: &'static str) -> Argument {
    Argument {
        name,
        kind: Kind::Switch,
        short: None,
        positional: false,
        many: false,
        hyphens: false,
        trailing: false,
        restricted: false,
        default: None,
        required: false,
        hidden: false,
        value: "",
        help,
    }
}

const fn valued(
    name: &'static str,
    kind: Kind,
    value: &'static str,
    help: &'static str,
) -> Argument {
    Argument { kind, value, ..flag(name, help) }
}

/// An option whose value is a path.
pub(super) const fn option(
    name: &'static str,
    value: &'static str,
    help: &'static str,
) -> Argument {
    valued(name, Kind::Path, value, help)
}

/// An option whose value is text.
pub(super) const fn text(name: &'static str, value: &'static str, help: &'static str) -> Argument {
    valued(name, Kind::Text, value, help)
}

pub(super) const fn number(
    name: &'static str,
    value: &'static str,
    help: &'static str,
) -> Argument {
    valued(name, Kind::Number, value, help)
}

/// An option whose values are listed in its help text: clap's own list after it would not fit into the line.
pub(super) const fn one_of(
    name: &'static str,
    value: &'static str,
    values: &'static [&'static str],
    help: &'static str,
) -> Argument {
    valued(name, Kind::OneOf(values), value, help)
}

/// A required positional argument.
pub(super) const fn positional(
    name: &'static str,
    value: &'static str,
    help: &'static str,
) -> Argument {
    Argument { positional: true, required: true, ..text(name, value, help) }
}

impl Argument {
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    pub const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    pub const fn hyphens(mut self) -> Self {
        self.hyphens = true;
        self
    }

    pub const fn trailing(mut self) -> Self {
        self.trailing = true;
        self.many().optional()
    }

    #[cfg_attr(not(feature = "images"), expect(dead_code))]
    pub const fn restricted(mut self) -> Self {
        self.restricted = true;
        self
    }

    pub const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self.optional()
    }

    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub const fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }

    pub const fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Switch)
    }

    /// Whether it must be given.
    pub const fn is_required(&self) -> bool {
        self.required
    }

    fn for_clap(&self) -> Arg {
        let mut arg = Arg::new(self.name).hide(self.hidden).required(self.required);
        if !self.help.is_empty() {
            arg = arg.help(self.help);
        }
        if !self.positional {
            arg = arg.long(self.name);
        }
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        if self.is_switch() {
            return arg.action(ArgAction::SetTrue);
        }
        if !self.value.is_empty() {
            arg = arg.value_name(self.value);
        }
        if let Some(default) = self.default {
            arg = arg.default_value(default);
        }
        if self.many {
            arg = arg.action(ArgAction::Append);
        }
        if matches!(self.kind, Kind::Numbers) {
            arg = arg.value_delimiter(',');
        }
        arg.allow_hyphen_values(self.hyphens)
            .trailing_var_arg(self.trailing)
            .hide_possible_values(!self.positional)
            .value_parser(self.parser())
    }

    fn parser(&self) -> ValueParser {
        match self.kind {
            Kind::Switch | Kind::Text => ValueParser::string(),
            Kind::Path if self.positional => value_parser!(PathBuf),
            // Unlike clap's parser of paths, this one accepts an empty value.
            Kind::Path => OsStringValueParser::new().map(PathBuf::from).into(),
            Kind::Number | Kind::Numbers => value_parser!(u32).into(),
            Kind::OneOf(values) => PossibleValuesParser::new(values).into(),
        }
    }
}
