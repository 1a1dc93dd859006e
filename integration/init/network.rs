//! A connection, as long as it lasts.

use crate::facts::errno;
use crate::{Words, say};
use nix::sys::signal::SigSet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Does `name`; false: there is no such act.
pub fn act(name: &str, words: &Words<'_>) -> bool {
    name == "tcp" && tcp(words.number(0))
}

/// Connects to itself over lo, and says for each of `count` signals whether what it sends arrives.
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
