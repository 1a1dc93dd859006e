//! One stage of processing a stream, in a separate process, whose output is read here concurrently: uses two
//! cores without threads.

use crate::worker::{self, LISTEN, Reply, Reporter, Worker};
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{close, pipe2};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;
use sys::signal::{self, ABORT};

/// The output of a stage as a stream. It ends when the stage has succeeded; a failure is an error of the last
/// read.
#[derive(Debug)]
pub struct Stage<F> {
    worker: Worker,
    pipe: File,
    warn: F,
    result: Option<Vec<u8>>,
}

/// The buffer between two stages: large enough for few context switches, small enough for the CPU's cache.
const PIPE: i32 = 256 << 10;

impl<F: FnMut(&str)> Stage<F> {
    /// Runs `work`, whose output is read here. Its warnings are passed to `warn`.
    ///
    /// # Errors
    ///
    /// If the pipe or the process cannot be created.
    pub fn spawn(
        warn: F,
        work: impl FnOnce(&Reporter, File) -> Result<Vec<u8>>,
    ) -> Result<Stage<F>> {
        let (from, to) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
        // If a larger buffer is not permitted, the default is used.
        let _ = fcntl(&to, FcntlArg::F_SETPIPE_SZ(PIPE));
        let reader = from.as_raw_fd();
        let worker = worker::spawn(None, move |reporter| {
            // Close the read end, so that writing fails after brig has exited.
            close(reader).context("close")?;
            work(reporter, File::from(to))
        })?;
        Ok(Stage { worker, pipe: from.into(), warn, result: None })
    }

    /// The result of the stage, after its output was read to the end.
    ///
    /// # Errors
    ///
    /// If the stream was not read to its end.
    pub fn result(self) -> Result<Vec<u8>> {
        self.result.context("a stream was not read to its end")
    }

    /// Waits for output. Warnings must be received in the meantime, because the stage blocks until they are.
    fn wait(&mut self) -> Result<()> {
        loop {
            let said = {
                let mut fds = [
                    PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.worker.fd(), PollFlags::POLLIN),
                ];
                sys::poll::wait(&mut fds, Instant::now() + LISTEN)?;
                if fds[0].any().unwrap_or(false) {
                    return Ok(());
                }
                fds[1].any().unwrap_or(false)
            };
            if said {
                self.recv()?;
            } else if let Some(signal) = signal::pending(&ABORT)? {
                anyhow::bail!("interrupted by signal {signal}");
            }
        }
    }

    fn recv(&mut self) -> Result<()> {
        match self.worker.recv()? {
            Reply::Progress(_) => {}
            Reply::Warning(text) => (self.warn)(&text),
            Reply::Done(result) => self.result = Some(result),
        }
        Ok(())
    }
}

impl<F: FnMut(&str)> Read for Stage<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let other = |error: anyhow::Error| io::Error::other(sys::describe(&error));
        if self.result.is_some() || buffer.is_empty() {
            return Ok(0);
        }
        self.wait().map_err(other)?;
        let length = self.pipe.read(buffer)?;
        while length == 0 && self.result.is_none() {
            self.recv().map_err(other)?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_stream_ends_with_its_stage_and_brings_what_that_has_said() {
        let warned = std::cell::RefCell::new(Vec::new());
        let warn = |text: &str| warned.borrow_mut().push(text.to_owned());
        let mut stage = Stage::spawn(warn, |reporter, mut out| {
            for _ in 0..1000 {
                // More than the socket can hold, before anything is read.
                reporter.warn(&"w".repeat(1000))?;
            }
            out.write_all(&vec![7; 3 << 20])?;
            Ok(b"done".to_vec())
        })
        .unwrap();
        let mut bytes = Vec::new();
        stage.read_to_end(&mut bytes).unwrap();
        assert!(bytes == vec![7; 3 << 20]);
        assert_eq!(stage.read(&mut [0; 10]).unwrap(), 0);
        assert_eq!(stage.result().unwrap(), b"done");
        assert_eq!(warned.borrow().len(), 1000);
    }

    #[test]
    fn a_stage_that_fails_or_dies_is_an_error_and_not_an_end() {
        for (text, dies) in [("no luck", false), ("died", true)] {
            let mut stage = Stage::spawn(
                |_| (),
                |_, mut out| {
                    out.write_all(b"begun")?;
                    if dies {
                        sys::exit(3);
                    }
                    anyhow::bail!("no luck")
                },
            )
            .unwrap();
            let mut bytes = Vec::new();
            let error = stage.read_to_end(&mut bytes).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert_eq!(bytes, b"begun");
            assert!(stage.result().is_err());
        }
    }

    #[test]
    fn a_stage_of_which_nobody_reads_any_more_is_ended() {
        let stage = Stage::spawn(
            |_| (),
            |_, mut out| Ok(out.write_all(&vec![0; 8 << 20]).map(|()| Vec::new())?),
        );
        drop(stage.unwrap());
    }
}
