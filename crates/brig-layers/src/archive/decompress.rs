//! Decompresses a layer's blob to a tar archive: gzip, zstd or plain, detected by the first bytes, whatever
//! the media type is. A limit protects against decompression bombs.

use anyhow::{Context, Result};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use std::io::{self, BufRead, BufReader, Read};

/// The maximum memory for a zstd window. zstd(1) requires --long for more than 128 MiB; encoders of images
/// use 8 MiB.
const MAX_WINDOW: u64 = 64 << 20;

const BUFFER: usize = 64 << 10;

/// A decompressed stream.
pub enum Decoder<R> {
    /// Without compression.
    Plain(BufReader<R>),
    /// gzip, of one or more members.
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    /// zstd, of one or more frames.
    Zstd(Box<Zstd<R>>),
}

impl<R: Read> Decoder<R> {
    /// Detects the compression.
    ///
    /// # Errors
    ///
    /// If the beginning of the stream cannot be read, or the zstd decoder cannot be created.
    pub fn new(inner: R) -> Result<Self> {
        let mut inner = BufReader::with_capacity(BUFFER, inner);
        let start = inner.fill_buf()?;
        Ok(match start {
            [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(MultiGzDecoder::new(inner))),
            // A frame, or a skippable frame, with which zstd:chunked may begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Decoder::Zstd(Box::new(Zstd::new(inner)))
            }
            [b'B', b'Z', b'h', ..] => unknown("bzip2")?,
            [0xfd, b'7', b'z', b'X', b'Z', ..] => unknown("xz")?,
            _ => Decoder::Plain(inner),
        })
    }

    /// The name of the compression.
    pub fn name(&self) -> &'static str {
        match self {
            Decoder::Plain(_) => "none",
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        }
    }
}

fn unknown<T>(name: &str) -> Result<T> {
    Err(anyhow::anyhow!("compressed with {name}: supported are gzip, zstd and no compression"))
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(inner) => inner.read(buffer),
            Decoder::Gzip(inner) => inner.read(buffer),
            Decoder::Zstd(inner) => inner.read(buffer),
        }
    }
}

/// Consecutive zstd frames.
pub struct Zstd<R> {
    inner: BufReader<R>,
    decoder: FrameDecoder,
    /// Whether a frame has begun.
    within: bool,
}

impl<R: Read> Zstd<R> {
    fn new(inner: BufReader<R>) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Zstd { inner, decoder, within: false }
    }

    /// Begins the next frame that is not skippable; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.inner.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.inner) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within && self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.within && !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.inner, UptoBlocks(1));
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                continue;
            }
            // A frame's own checksum is not verified, because the digest covers it.
            self.within = self.begin()?;
            if !self.within {
                return Ok(0);
            }
        }
    }
}

/// The size limit of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The maximum number of bytes.
    pub most: u64,
    /// The number of bytes up to which the ratio is not checked.
    pub free: u64,
    /// The maximum ratio to the compressed size.
    pub ratio: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Limit { most: 64 << 30, free: 4 << 30, ratio: 100 }
    }
}

/// Fails when a stream exceeds its limit.
pub(crate) struct Limited<R, F> {
    inner: R,
    limit: Limit,
    /// Returns the number of compressed bytes read so far.
    compressed: F,
    count: u64,
}

impl<R: Read, F: Fn() -> u64> Limited<R, F> {
    /// Limits a stream from which nothing has been read yet.
    pub fn new(inner: R, limit: Limit, compressed: F) -> Self {
        Limited { inner, limit, compressed, count: 0 }
    }
}

impl<R: Read, F: Fn() -> u64> Read for Limited<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count += length as u64;
        let Limit { most, free, ratio } = self.limit;
        if self.count > most {
            let text = format!("unpacks to more than {} GiB", most >> 30);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if self.count > free && self.count / ratio > (self.compressed)() {
            let text = format!(
                "unpacks to more than {} GiB and {ratio} times its compressed size",
                free >> 30
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(length)
    }
}

/// Decompresses a small blob completely.
///
/// # Errors
///
/// If the data is damaged.
pub fn all(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    Decoder::new(bytes)?.read_to_end(&mut text).context("decompress")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let skipped = [b"\x50\x2a\x4d\x18\x03\0\0\0".as_slice(), b"abc"].concat();
        let (a, b) = (vec![b'a'; 300_000], vec![b'b'; 10]);
        let both = [a.clone(), b.clone()].concat();
        assert!(all(&both).unwrap() == both);
        assert!(all(&[gzip(&a), gzip(&b)].concat()).unwrap() == both);
        let frames = [skipped.clone(), zstd(&a), skipped.clone(), zstd(&b), skipped];
        assert!(all(&frames.concat()).unwrap() == both);
        assert!(all(b"").unwrap().is_empty());
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for whole in [gzip(&text), zstd(&text)] {
            assert!(all(&whole).unwrap() == text);
            for end in [5, 20, whole.len() / 2, whole.len() - 1] {
                assert!(all(&whole[..end]).is_err(), "{end} of {}", whole.len());
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped() {
        let bomb = gzip(&vec![0; 2 << 20]);
        let limit = Limit { most: 1 << 30, free: 1 << 20, ratio: 200 };
        let size = bomb.len() as u64;
        let mut limited = Limited::new(Decoder::new(&bomb[..]).unwrap(), limit, || size);
        let error = io::copy(&mut limited, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("200 times"), "{error}");
        let limit = Limit { ratio: 10_000, ..limit };
        let mut limited = Limited::new(Decoder::new(&bomb[..]).unwrap(), limit, || size);
        assert_eq!(io::copy(&mut limited, &mut io::sink()).unwrap(), 2 << 20);
    }
}
