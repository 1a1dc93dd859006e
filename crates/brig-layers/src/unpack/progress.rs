//! A progress line on the terminal: which layer, how much of it, how fast. Nothing if stderr is not a
//! terminal.

use std::io::Write as _;
use std::time::{Duration, Instant};
use sys::fd::STANDARD_FDS;
use sys::tty;

/// The progress so far.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    layers: usize,
    done_layers: usize,
    total: u64,
    done: u64,
    begun: Instant,
    drawn: Option<Instant>,
}

/// The interval between updates.
const EVERY: Duration = Duration::from_millis(100);
const WIDTH: u64 = 20;

impl Progress {
    /// Starts with this number of layers and bytes.
    pub fn new(layers: usize, total: u64) -> Progress {
        let shown = nix::unistd::isatty(STANDARD_FDS[2]).unwrap_or(false);
        let begun = Instant::now();
        Progress { shown, layers, done_layers: 0, total, done: 0, begun, drawn: None }
    }

    /// Adds processed bytes.
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            self.draw();
        }
    }

    /// Counts a finished layer.
    pub(crate) fn layer_done(&mut self) {
        self.done_layers += 1;
        self.draw();
    }

    fn draw(&mut self) {
        self.drawn = Some(Instant::now());
        if self.shown {
            // A terminal of unknown size reports 0.
            let columns = tty::size(STANDARD_FDS[2]).map_or(0, |size| usize::from(size.columns));
            let columns = if columns == 0 { 80 } else { columns };
            let line = self.line(self.begun.elapsed());
            let line: String = line.chars().take(columns.saturating_sub(1)).collect();
            say(&format!("\r{line}\x1b[K"));
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = self.done.saturating_mul(1000) / millis;
        let filled = (self.done * WIDTH).checked_div(self.total).unwrap_or(WIDTH).min(WIDTH);
        let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
        let layer = (self.done_layers + 1).min(self.layers);
        format!(
            "layer {layer}/{} [{bar}] {} of {} MiB, {} MiB/s",
            self.layers,
            mebibytes(self.done),
            mebibytes(self.total),
            mebibytes(rate)
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.drawn.is_some() {
            say("\r\x1b[K");
        }
    }
}

/// With one decimal digit.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn say(text: &str) {
    // A closed terminal is not an error.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_layer_bytes_and_rate() {
        let mut progress = Progress::new(4, 100 << 20);
        progress.shown = false;
        progress.add(25 << 20);
        progress.layer_done();
        let line = progress.line(Duration::from_secs(2));
        assert_eq!(line, "layer 2/4 [#####...............] 25.0 of 100.0 MiB, 12.5 MiB/s");
        let nothing = Progress::new(0, 0).line(Duration::ZERO);
        assert!(nothing.starts_with("layer 0/0 [####################] 0.0 of 0.0"), "{nothing}");
    }
}
