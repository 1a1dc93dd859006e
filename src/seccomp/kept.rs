//! A compiled program, cached in the container's state directory so that not every exec has to compile it
//! again. It is used only as long as everything it depends on is unchanged. A truncated program could still
//! be valid, and allow more, so the file is only used if its checksum matches.

use super::Filter;
use anyhow::Result;
use oci_seccomp::{MAX_INSTRUCTIONS, sock_filter};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The name of the file.
pub const FILE: &str = "seccomp";

/// The header: checksum of everything after it, key, flags.
const HEAD: usize = 8 + 8 + 4;
/// `struct sock_filter` (linux/filter.h).
const INSTRUCTION: usize = 8;

/// The key of everything that a program depends on: the profile as written in config.json, brig, and the
/// kernel.
///
/// # Errors
///
/// If the kernel's version cannot be read.
pub fn key(profile: &str) -> Result<u64> {
    let kernel = nix::sys::utsname::uname()?;
    let brig = (env!("CARGO_PKG_VERSION"), crate::COMMIT, std::env::consts::ARCH);
    let mut hasher = DefaultHasher::new();
    (brig, kernel.release(), profile).hash(&mut hasher);
    Ok(hasher.finish())
}

/// The file's contents. None for a filter that notifies an agent: the path of its socket can come from
/// elsewhere.
pub fn write(filter: &Filter, key: u64) -> Option<Vec<u8>> {
    if filter.listener.is_some() {
        return None;
    }
    let mut bytes = vec![0; 8];
    bytes.extend(key.to_ne_bytes());
    bytes.extend(filter.flags.to_ne_bytes());
    for &sock_filter { code, jt, jf, k } in &filter.program {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
    }
    let sum = sum(&bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_ne_bytes());
    Some(bytes)
}

/// Reads the cached filter; None if anything has changed since.
pub fn read(bytes: &[u8], key: u64) -> Option<Filter> {
    let (head, program) = bytes.split_at_checked(HEAD)?;
    let (instructions, rest) = program.as_chunks::<INSTRUCTION>();
    let whole = rest.is_empty() && (1..=MAX_INSTRUCTIONS).contains(&instructions.len());
    let same = head[..8] == sum(&bytes[8..]).to_ne_bytes() && head[8..16] == key.to_ne_bytes();
    if !(whole && same) {
        return None;
    }
    let flags = u32::from_ne_bytes(head[16..].try_into().ok()?);
    let program = instructions.iter().map(super::instruction).collect();
    Some(Filter { program, flags, listener: None, place: super::PLACE })
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::{Listener, NATIVE, Receiver};
    use super::*;
    use oci_seccomp::default_profile;

    const KEY: u64 = 0x0102_0304_0506_0708;

    fn kept() -> (Filter, Vec<u8>) {
        let (filter, _) =
            Filter::new(&default_profile::<&str>(&[], NATIVE), Receiver::Config).unwrap();
        let bytes = write(&filter, KEY).unwrap();
        (filter, bytes)
    }

    #[test]
    fn what_is_kept_is_what_was_compiled() {
        let (filter, bytes) = kept();
        let again = read(&bytes, KEY).unwrap();
        let parts = |filter: &Filter| {
            let fields = |it: &sock_filter| (it.code, it.jt, it.jf, it.k);
            (filter.program.iter().map(fields).collect::<Vec<_>>(), filter.flags, filter.place)
        };
        assert_eq!(parts(&again), parts(&filter));
        assert!(filter.program.len() > 100 && filter.flags != 0);
    }

    #[test]
    fn what_is_cut_anywhere_or_longer_is_none() {
        let (_, mut bytes) = kept();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], KEY).is_none(), "{length}");
        }
        bytes.extend([0; INSTRUCTION]);
        assert!(read(&bytes, KEY).is_none());
    }

    #[test]
    fn what_is_changed_anywhere_is_none() {
        let (_, bytes) = kept();
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert!(read(&changed, KEY).is_none(), "{at}");
            }
        }
    }

    #[test]
    fn what_another_brig_or_another_profile_has_made_is_none() {
        let (_, bytes) = kept();
        assert!(read(&bytes, KEY + 1).is_none());
        assert_eq!(key("{}").unwrap(), key("{}").unwrap());
        assert_ne!(key("{}").unwrap(), key("{ }").unwrap());
    }

    #[test]
    fn what_notifies_an_agent_is_not_kept() {
        let (filter, _) = kept();
        let (path, receiver) = ("/agent".into(), Receiver::Config);
        let listener = Some(Listener { path, metadata: None, receiver });
        assert!(write(&Filter { listener, ..filter }, KEY).is_none());
    }
}
