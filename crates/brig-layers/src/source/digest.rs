//! Digests of the image-spec, `sha256:hex`, and readers that compute them.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// The hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    fn parse(name: &str) -> Result<Algorithm> {
        match name {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => bail!("unknown digest algorithm {name:?}: brig supports sha256 and sha512"),
        }
    }

    /// Its name, e.g. `sha256`.
    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The number of hex digits.
    fn length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The digest of some content: a supported algorithm, and hex digits of its length. So it is also safe as a
/// file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Parses `sha256:hex`.
    ///
    /// # Errors
    ///
    /// If the algorithm is not supported, or the rest is not the right number of lower-case hex digits.
    pub fn parse(text: &str) -> Result<Digest> {
        let (name, hex) =
            text.split_once(':').with_context(|| format!("{text:?} is not a digest"))?;
        let algorithm = Algorithm::parse(name).with_context(|| format!("{text:?}"))?;
        let length = algorithm.length();
        let sound = hex.len() == length && is_lower_hex(hex);
        ensure!(sound, "{text:?} is not a digest: it needs {length} lower-case hex digits");
        Ok(Digest { algorithm, hex: hex.to_owned() })
    }

    /// The SHA-256 of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The name of the algorithm, e.g. `sha256`.
    pub(crate) fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    /// The algorithm.
    pub fn kind(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first hex digits, for people; [`Prefix`] parses them.
    pub fn short(&self) -> &str {
        &self.hex[..SHORT]
    }

    /// Its name in the store: `sha256-hex`.
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.algorithm(), self.hex)
    }

    /// Parses a name in the store.
    pub(crate) fn of_file_name(name: &str) -> Option<Digest> {
        Digest::parse(&name.replacen('-', ":", 1)).ok()
    }

    /// Checks that these bytes have this digest.
    ///
    /// # Errors
    ///
    /// If the digests differ.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        self.is(&hasher.finish())
    }

    /// Checks that another digest is the same.
    ///
    /// # Errors
    ///
    /// If the digests differ.
    pub fn is(&self, found: &Digest) -> Result<()> {
        ensure!(self == found, "it has digest {found}");
        Ok(())
    }
}

/// The number of hex digits that docker and podman show.
const SHORT: usize = 12;
/// Shorter prefixes could match by accident.
const MIN_PREFIX: usize = 6;

/// A digest, or the beginning of one, e.g. `sha256:0864608f1956` or `0864608f1956`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    algorithm: Option<Algorithm>,
    hex: String,
}

impl Prefix {
    /// Parses it, with or without an algorithm.
    ///
    /// # Errors
    ///
    /// If it is too short or too long, or does not consist of lower-case hex digits.
    pub fn parse(text: &str) -> Result<Prefix> {
        let (algorithm, hex) = match text.split_once(':') {
            Some((name, hex)) => {
                (Some(Algorithm::parse(name).with_context(|| format!("{text:?}"))?), hex)
            }
            None => (None, text),
        };
        let longest = algorithm.unwrap_or(Algorithm::Sha512).length();
        let sound = (MIN_PREFIX..=longest).contains(&hex.len()) && is_lower_hex(hex);
        ensure!(
            sound,
            "{text:?} is not a digest: it needs {MIN_PREFIX} to {longest} lower-case hex digits"
        );
        Ok(Prefix { algorithm, hex: hex.to_owned() })
    }

    /// Whether it is complete, so that it can match one digest only.
    pub(crate) fn is_whole(&self) -> bool {
        self.algorithm.is_some_and(|algorithm| algorithm.length() == self.hex.len())
    }

    /// Whether the digest begins with it.
    pub fn matches(&self, digest: &Digest) -> bool {
        digest.hex.starts_with(&self.hex)
            && self.algorithm.is_none_or(|algorithm| algorithm == digest.algorithm)
    }

    /// The only one of those that match. The same digest twice counts as one.
    ///
    /// # Errors
    ///
    /// If several match; the error lists them.
    pub fn only<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        digest: impl Fn(&T) -> &Digest,
    ) -> Result<Option<T>> {
        let mut found: Vec<T> = all.into_iter().filter(|one| self.matches(digest(one))).collect();
        found.sort_by(|a, b| digest(a).cmp(digest(b)));
        found.dedup_by(|a, b| digest(a) == digest(b));
        if found.len() > 1 {
            let named: Vec<_> = found.iter().map(|one| digest(one).to_string()).collect();
            bail!("{self} is ambiguous: {}", named.join(", "));
        }
        Ok(found.pop())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm {
            Some(algorithm) => write!(f, "{}:{}", algorithm.name(), self.hex),
            None => write!(f, "{}", self.hex),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex)
    }
}

impl TryFrom<String> for Digest {
    /// serde shows the outermost message of an error only, so this is all of them.
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        Digest::parse(&text).map_err(|error| format!("{error:#}"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A digest being computed.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Starts without any bytes.
    pub fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Adds these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self {
            Hasher::Sha256(hasher) => (Algorithm::Sha256, hasher.finalize().to_vec()),
            Hasher::Sha512(hasher) => (Algorithm::Sha512, hasher.finalize().to_vec()),
        };
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest { algorithm, hex }
    }
}

/// The result of a `Hashing` reader.
#[derive(Debug)]
pub struct Tally {
    hasher: Hasher,
    /// The number of bytes.
    pub count: u64,
}

/// Hashes and counts what is read through it. The tally is shared with its creator, because the reader itself
/// is moved into a decoder.
#[derive(Debug)]
pub(crate) struct Hashing<R> {
    inner: R,
    tally: Rc<RefCell<Tally>>,
}

impl<R: Read> Hashing<R> {
    /// Hashes a stream from which nothing has been read yet.
    pub fn new(inner: R, algorithm: Algorithm) -> (Self, Rc<RefCell<Tally>>) {
        let tally = Tally { hasher: Hasher::new(algorithm), count: 0 };
        let tally = Rc::new(RefCell::new(tally));
        (Hashing { inner, tally: Rc::clone(&tally) }, tally)
    }
}

impl Tally {
    /// The digest of everything read so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let mut tally = self.tally.borrow_mut();
        tally.hasher.update(&buffer[..length]);
        tally.count += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_a_sound_file_name_or_none_at_all() {
        let empty = Digest::of(b"");
        assert_eq!(empty.to_string(), EMPTY);
        assert_eq!(Digest::of_file_name(&empty.file_name()), Some(empty));
        for wrong in ["", "sha256", "sha256:", "md5:0", "sha256:../../etc", &EMPTY.to_uppercase()] {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Digest::parse(&EMPTY.replace("sha256", "sha512")).is_err());
    }

    #[test]
    fn a_short_digest_means_the_only_one_that_begins_so() {
        let made = |hex: &str| Digest::parse(&format!("sha256:{hex:0<64}")).unwrap();
        let all = [made("abcdef1"), made("abcdef2"), made("123456"), made("abcdef1")];
        let only = |text: &str| Prefix::parse(text).unwrap().only(all.iter(), |digest| digest);
        assert_eq!(only("abcdef1").unwrap(), Some(&all[0]), "the same digest twice is one");
        assert_eq!(only("sha256:123456").unwrap(), Some(&all[2]));
        assert_eq!(only(&all[1].to_string()).unwrap(), Some(&all[1]));
        assert_eq!(only("sha512:123456").unwrap(), None);
        assert_eq!(only(all[0].short()).unwrap(), Some(&all[0]));
        let error = only("abcdef").unwrap_err().to_string();
        assert!(
            error.contains(&all[0].to_string()) && error.contains(&all[1].to_string()),
            "{error}"
        );
        for wrong in ["12345", "sha256:", "md5:123456", "ABCDEF", "123456/", &"a".repeat(129)] {
            assert!(Prefix::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reader_hashes_what_passes_through_it() {
        let (mut reader, tally) = Hashing::new(&b"abc"[..], Algorithm::Sha512);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(tally.borrow().count, 3);
        let digest = tally.borrow().digest();
        assert!(digest.hex().starts_with("ddaf35a193617abacc417349ae204131"), "{digest}");
        digest.check(b"abc").unwrap();
        assert!(digest.check(b"abd").is_err());
    }
}
