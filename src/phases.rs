//! The phases of a process: its steps in sequence, and the duration of each. `--debug` prints them.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Records the phases of one process. Disabled, it never reads the clock.
#[derive(Debug, Default)]
pub struct Phases(Cell<Option<Marks>>);

#[derive(Debug, Clone, Copy)]
struct Marks {
    start: Instant,
    last: Instant,
}

/// A phase: its start, relative to that of the recording, and its duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub began: Duration,
    /// Its duration.
    pub took: Duration,
}

impl Phases {
    /// Starts recording.
    pub fn recording() -> Phases {
        let now = Instant::now();
        Phases(Cell::new(Some(Marks { start: now, last: now })))
    }

    /// In a new process: restarts the recording with its own clock, because a time namespace has another one.
    pub fn restart(&self) {
        if self.0.get().is_some() {
            self.0.set(Phases::recording().0.get());
        }
    }

    /// Ends the current phase and begins the next one. None if nothing is recorded.
    pub fn end(&self) -> Option<Span> {
        let Marks { start, last } = self.0.get()?;
        let now = Instant::now();
        self.0.set(Some(Marks { start, last: now }));
        Some(Span { began: last - start, took: now - last })
    }

    /// The duration of the recording so far.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.get().map(|marks| marks.start.elapsed())
    }

    /// When the current phase began, if recording is enabled.
    pub fn began(&self) -> Option<Duration> {
        self.0.get().map(|marks| marks.last - marks.start)
    }
}

impl Span {
    /// Formats it with the name of the phase, for [`Span::unpack`].
    pub fn pack(&self, name: &str) -> String {
        format!("{} {} {name}", self.began.as_nanos(), self.took.as_nanos())
    }

    /// Parses the span and the name of the phase.
    pub fn unpack(text: &str) -> Option<(Span, &str)> {
        let mut parts = text.splitn(3, ' ');
        let mut duration = || Some(Duration::from_nanos(parts.next()?.parse().ok()?));
        let span = Span { began: duration()?, took: duration()? };
        Some((span, parts.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_nothing_is_recorded_unless_it_is_asked_for() {
        let off = Phases::default();
        off.restart();
        assert_eq!((off.end(), off.began()), (None, None));
        let on = Phases::recording();
        let (first, second) = (on.end().unwrap(), on.end().unwrap());
        assert_eq!((first.began, second.began), (Duration::ZERO, first.took));
        assert_eq!(on.began(), Some(second.began + second.took));
        on.restart();
        assert_eq!(on.end().unwrap().began, Duration::ZERO);
    }

    #[test]
    fn a_span_survives_the_way_to_another_process() {
        let span = Span { began: Duration::from_nanos(5), took: Duration::from_secs(1) };
        assert_eq!(Span::unpack(&span.pack("root filesystem")), Some((span, "root filesystem")));
        assert_eq!(Span::unpack("5 x y"), None);
    }
}
