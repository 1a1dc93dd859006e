//! The phases of a process: what it does, one after the other, and how long each takes. `--debug` prints them.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Records the phases of one process. Switched off, it never reads the clock.
#[derive(Debug, Default)]
pub struct Phases(Cell<Option<Marks>>);

#[derive(Debug, Clone, Copy)]
struct Marks {
    start: Instant,
    last: Instant,
}

/// When a phase began, counted from the start of the recording, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Phases {
    /// Starts recording.
    pub fn recording() -> Phases {
        let now = Instant::now();
        Phases(Cell::new(Some(Marks { start: now, last: now })))
    }

    /// In a new process: its recording starts now, and by its own clock, because a time namespace has another one.
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

    /// How long it has been recording.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.get().map(|marks| marks.start.elapsed())
    }

    /// When the current phase began, where something is recorded.
    pub fn began(&self) -> Option<Duration> {
        self.0.get().map(|marks| marks.last - marks.start)
    }
}

impl Span {
    /// As text that [`Span::unpack`] reads, with the name of the phase.
    pub fn pack(&self, name: &str) -> String {
        format!("{} {} {name}", self.began.as_nanos(), self.took.as_nanos())
    }

    /// The span and the name of the phase.
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
