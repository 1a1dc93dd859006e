//! A long-lived connection.

use crate::facts::errno;
use crate::{Words, say};
use nix::sys::signal::SigSet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Performs `name`; false if it is unknown.
pub fn act(name: &str, words: &Words<'_>) -> bool {
    name == "tcp" && tcp(words.number(0))
}

/// Connects to itself over lo, and prints for each of `count` signals whether data arrives.
fn tcp(count: u64) -> bool {
    let pair = || -> io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        Ok((near, listener.accept()?.0))
    };
    let (mut near, mut far) = match pair() {
        Ok(pair) => pair,
        Err(error) => {
            say!("tcp {}", errno(&error));
            return true;
        }
    };
    let mut over = || -> io::Result<()> {
        near.write_all(b"x")?;
        far.read_exact(&mut [0])
    };
    let all = SigSet::all();
    if let Err(error) = all.thread_block() {
        say!("tcp {error:?}");
        return true;
    }
    say!("ready");
    for _ in 0..count {
        _ = all.wait();
        match over() {
            Ok(()) => say!("tcp ok"),
            Err(error) => say!("tcp {}", errno(&error)),
        }
    }
    true
}
