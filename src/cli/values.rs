//! The parsed arguments of a command.

use super::table::Description;
use clap::ArgMatches;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Names and values; those of one name are in the order of the command line. A switch has an empty value.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Values(Vec<(&'static str, OsString)>);

impl Values {
    /// Converts clap's result.
    pub fn of_clap(described: &Description, matches: &ArgMatches) -> Self {
        let mut values = Self::default();
        for argument in described.arguments() {
            if argument.is_switch() {
                if matches.get_flag(argument.name) {
                    values.add(argument.name, OsString::new());
                }
                continue;
            }
            for value in matches.get_raw(argument.name).into_iter().flatten() {
                values.add(argument.name, value.to_owned());
            }
        }
        values
    }

    pub fn add(&mut self, name: &'static str, value: OsString) {
        self.0.push((name, value));
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.all(name).next_back().map(|value| value.to_string_lossy().into_owned())
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        self.all(name).map(|value| value.to_string_lossy().into_owned()).collect()
    }

    /// An empty path counts as absent: scripts pass the value of a variable that may be empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.all(name).next_back().filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        self.all(name).map(PathBuf::from).collect()
    }

    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers(name).pop()
    }

    pub fn numbers(&self, name: &str) -> Vec<u32> {
        self.all(name).filter_map(|value| value.to_str()?.parse().ok()).collect()
    }

    fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &OsStr> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_os_str())
    }
}
