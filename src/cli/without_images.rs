//! Stands in for `images` in a brig without that feature: describes no commands, and reads none.

use super::table::{Argument, Description};
use super::values::Values;
use crate::cmd::command::{Command, Globals};
use crate::cmd::images::FromImage;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const COMMANDS: &[Description] = &[];
pub(super) const STORE: &[Argument] = &[];
pub(super) const INSTEAD_OF_BUNDLE: &[Argument] = &[];
pub(super) const OF_CONTAINER: &[Argument] = &[];
pub(super) const ARGUMENTS: &[Argument] = &[];

pub(super) fn restrict(command: clap::Command) -> clap::Command {
    command
}

pub(super) fn examples(_: &str) -> &'static str {
    ""
}

pub(super) fn unnamed(args: Vec<OsString>, _: &clap::Command) -> Vec<OsString> {
    args
}

pub(super) fn store(_: &Values) -> Option<PathBuf> {
    None
}

pub(super) fn id(values: &Values) -> String {
    values.text("id").unwrap_or_default()
}

pub(super) fn contradiction(_: &str, _: &Values) -> Option<String> {
    None
}

pub(super) fn from_image(_: &Values, _: &Globals) -> Option<FromImage> {
    None
}

pub(super) fn command(_: &str, _: &Values) -> Option<Command> {
    None
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::parse_line;
    use crate::cli::{Parsed, UsageError, commands, help};

    #[test]
    fn help_says_nothing_of_images() {
        for name in std::iter::once(None).chain(commands().map(|command| Some(command.name))) {
            // Here "images" are CRIU's image files.
            if matches!(name, Some("checkpoint" | "restore")) {
                continue;
            }
            let help = help(name).to_lowercase();
            for word in ["image", "--store", "commit", "bundle of"] {
                assert!(!help.contains(word), "{name:?}: {help}");
            }
        }
    }

    #[test]
    fn there_is_no_command_and_no_flag_of_images() {
        for (line, word) in [
            ("brig images", "unknown command \"images\""),
            ("brig prune", "unknown command \"prune\""),
            ("brig run --image i x", "unexpected argument '--image'"),
            ("brig create x ls", "unexpected argument 'ls'"),
        ] {
            let Parsed::Wrong(UsageError { text, .. }) = parse_line(line) else { panic!("{line}") };
            assert!(text.contains(word), "{line}: {text}");
        }
    }
}
