//! Adds the layers of an image to the store: each once, missing ones in parallel, each by a separate process,
//! verified before it becomes visible.

use crate::archive::decompress::{Decoder, Limit, Limited};
use crate::source::digest::{Algorithm, Digest, Hashing};
use crate::source::resolve::{Image, Layer};
use crate::source::{Blob, BlobReader, Source};
use crate::stage::Stage;
use crate::store::{LayerRecord, Lock, Store, record_in, write_record};
use crate::tree;
use crate::tree::view::View;
use crate::unpack::progress::Progress;
use crate::unpack::warnings::Warnings;
use crate::unpack::{self, Rights, Unpacked};
use crate::worker::{self, Reply, Reporter, Worker};
use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::{Mode, umask};
use nix::unistd::syncfs;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// More workers would only compete for the disk.
const MAX_WORKERS: usize = 8;
/// The interval of progress reports in bytes.
const STEP: u64 = 1 << 20;
const BUFFER: usize = 128 << 10;

/// Unpacks missing layers. Warnings are passed to `warn`.
///
/// # Errors
///
/// If a layer is damaged, has another digest, or cannot be unpacked.
pub fn ensure(
    store: &Store,
    image: &Image,
    rights: Rights,
    mut warn: impl FnMut(&str),
) -> Result<Vec<LayerRecord>> {
    let mut missing: Vec<&Layer> = Vec::new();
    for layer in &image.layers {
        let twice = missing.iter().any(|other| other.diff_id == layer.diff_id);
        if !twice && store.layer_record(&layer.diff_id)?.is_none() {
            missing.push(layer);
        }
    }
    if !missing.is_empty() {
        unpack_all(store, image, &missing, rights, &mut warn)?;
    }
    let record = |layer: &Layer| {
        let record = store.layer_record(&layer.diff_id)?;
        record.with_context(|| format!("layer {} has been removed in the meantime", layer.diff_id))
    };
    image.layers.iter().map(record).collect()
}

fn unpack_all(
    store: &Store,
    image: &Image,
    missing: &[&Layer],
    rights: Rights,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let claimed = claim(store, missing)?;
    let size = |own: &Claimed<'_>| {
        own.layer.open(&image.source).map(|blob| blob.size).with_context(|| own.layer.name())
    };
    let size = claimed.iter().map(size).sum::<Result<u64>>()?;
    let mut progress = Progress::new(claimed.len(), size);
    let most = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let mut waiting: VecDeque<&Claimed<'_>> = claimed.iter().collect();
    let mut running: Vec<(Worker, &Claimed<'_>)> = Vec::new();
    let mut done = Vec::new();
    let mut failed = None;
    while failed.is_none() && !(waiting.is_empty() && running.is_empty()) {
        while running.len() < most
            && let Some(own) = waiting.pop_front()
        {
            let work = |reporter: &Reporter| own.unpack(&image.source, None, rights, reporter);
            running.push((worker::spawn(None, work)?, own));
        }
        for index in ready(&running)?.into_iter().rev() {
            match running[index].0.recv() {
                Ok(Reply::Progress(bytes)) => progress.add(bytes),
                Ok(Reply::Warning(text)) => warn(&text),
                Ok(Reply::Done(_)) => {
                    done.push(running.swap_remove(index).1);
                    progress.layer_done();
                }
                Err(error) => {
                    let (_, own) = running.swap_remove(index);
                    failed = Some(error.context(own.layer.name()));
                    break;
                }
            }
        }
    }
    // Kills the workers that are still running.
    drop(running);
    publish(store, &done)?;
    // The others are removed with their claims.
    failed.map_or(Ok(()), Err)
}

/// The indexes of workers with a message.
fn ready(running: &[(Worker, &Claimed<'_>)]) -> Result<Vec<usize>> {
    let fd = |(worker, _): &(Worker, &Claimed<'_>)| worker.fd().try_clone_to_owned();
    let owned = running.iter().map(fd).collect::<Result<Vec<_>, _>>()?;
    let mut fds: Vec<PollFd<'_>> = owned
        .iter()
        .map(|fd| PollFd::new(std::os::fd::AsFd::as_fd(fd), PollFlags::POLLIN))
        .collect();
    sys::poll::wait(&mut fds, None)?;
    let any = |(index, fd): (usize, &PollFd<'_>)| fd.any().unwrap_or(false).then_some(index);
    Ok(fds.iter().enumerate().filter_map(any).collect())
}

/// A layer claimed by this brig, so that no other unpacks it.
struct Claimed<'a> {
    layer: &'a Layer,
    /// Where it is created.
    temp: PathBuf,
    /// Its final path.
    path: PathBuf,
    _lock: Lock,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        // Remove what was not published. The first error is the one to report.
        let _ = tree::remove_path(&self.temp);
    }
}

impl<'a> Claimed<'a> {
    /// Waits for another owner; None if the layer exists then.
    fn new(store: &Store, layer: &'a Layer, name: &str, path: PathBuf) -> Result<Option<Self>> {
        let lock = store.claim(name)?;
        let own = Claimed { layer, temp: store.temp(name), path, _lock: lock };
        Ok(record_in(&own.path)?.is_none().then_some(own))
    }

    /// The work of a worker.
    fn unpack(
        &self,
        source: &Source,
        below: Option<&View>,
        rights: Rights,
        reporter: &Reporter,
    ) -> Result<Vec<u8>> {
        umask(Mode::empty());
        worker::raise_open_files()?;
        unpack_into(&self.temp, source, self.layer, below, rights, reporter).map(|()| Vec::new())
    }
}

/// Claims missing layers in a fixed order, so that two brigs cannot deadlock.
fn claim<'a>(store: &Store, missing: &[&'a Layer]) -> Result<Vec<Claimed<'a>>> {
    let mut missing = missing.to_vec();
    missing.sort_by_key(|layer| layer.diff_id.file_name());
    let mut claimed = Vec::new();
    for layer in missing {
        let name = layer.diff_id.file_name();
        claimed.extend(Claimed::new(store, layer, &name, store.layer(&layer.diff_id))?);
    }
    Ok(claimed)
}

/// Makes layers visible. Visible layers are complete even after a power failure: so all are synced to disk
/// first, together.
fn publish(store: &Store, done: &[&Claimed<'_>]) -> Result<()> {
    if done.is_empty() {
        return Ok(());
    }
    syncfs(File::open(&store.path)?).context("syncfs")?;
    done.iter().try_for_each(|own| store.publish(&own.temp, &own.path))
}

/// Unpacks a layer whose entries lead through links of the layers below, on top of those. `chain_id`: that of
/// the layer and the others.
///
/// # Errors
///
/// If the layer is damaged, has another digest, or cannot be unpacked.
pub fn join(
    store: &Store,
    source: &Source,
    layer: &Layer,
    chain_id: &Digest,
    below: &View,
    rights: Rights,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let name = format!("joined-{}", chain_id.file_name());
    let Some(own) = Claimed::new(store, layer, &name, store.joined(chain_id))? else {
        return Ok(());
    };
    let work = |reporter: &Reporter| own.unpack(source, Some(below), rights, reporter);
    worker::spawn(None, work)?.wait(warn).with_context(|| layer.name())?;
    publish(store, &[&own])
}

fn unpack_into(
    temp: &Path,
    source: &Source,
    layer: &Layer,
    below: Option<&View>,
    rights: Rights,
    reporter: &Reporter,
) -> Result<()> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // Remove what an interrupted brig has left.
    tree::empty(std::os::fd::AsFd::as_fd(&open(temp, flags, Mode::empty())?))?;
    let files = temp.join("fs");
    nix::unistd::mkdir(&files, Mode::from_bits_truncate(0o755))?;
    let root = open(&files, flags, Mode::empty())?;
    let mut warnings = Warnings::default();
    let times = temp.join("times");
    let mut options = File::options();
    let spool = options.read(true).write(true).create_new(true).open(&times)?;
    std::fs::remove_file(&times)?;
    let blob = layer.open(source)?;
    let unpacked = stream(layer, &blob, reporter, |archive| {
        unpack::unpack(archive, root, below, &spool, rights, &mut warnings)
    })?;
    warnings
        .lines()
        .iter()
        .try_for_each(|line| reporter.warn(&format!("{}: {line}", layer.name())))?;
    write_lists(temp, &unpacked)?;
    let record = LayerRecord {
        diff_id: layer.diff_id.clone(),
        bytes: unpacked.bytes,
        entries: unpacked.entries,
        opaque: unpacked.opaque,
        names_root: unpacked.names_root,
        open: !unpacked.implied.is_empty()
            || !unpacked.links.is_empty()
            || !unpacked.whiteouts.is_empty(),
        unpacked: sys::time::now(),
    };
    write_record(&temp.join("layer.json"), &record)
}

fn write_lists(temp: &Path, unpacked: &Unpacked) -> Result<()> {
    let links = unpacked.links.iter().flat_map(|(name, target)| [name, target]);
    for (name, list) in [
        ("implied", unpacked.implied.iter().collect::<Vec<_>>()),
        ("links", links.collect::<Vec<_>>()),
        ("whiteouts", unpacked.whiteouts.iter().collect::<Vec<_>>()),
    ] {
        if !list.is_empty() {
            let text: Vec<u8> = list.iter().flat_map(|path| [path, &b"\0"[..]].concat()).collect();
            sys::file::write_atomically(&temp.join(name), &text)?;
        }
    }
    Ok(())
}

/// Lets `work` read the layer's archive, and verifies its blob and the archive. A damaged blob is reported as
/// such, whatever failed because of it.
fn stream<T>(
    layer: &Layer,
    blob: &Blob,
    reporter: &Reporter,
    work: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let said = layer.descriptor.as_ref().map(|descriptor| &descriptor.digest);
    let kind = said.map_or(Algorithm::Sha256, Digest::kind);
    let decode = |_: &Reporter, out: File| decode(blob, kind, reporter, out);
    let mut stage = Stage::spawn(|_: &str| (), decode)?;
    let (hashed, plain) = Hashing::new(&mut stage, layer.diff_id.kind());
    let mut archive = BufReader::with_capacity(BUFFER, hashed);
    let result = match work(&mut archive) {
        Ok(result) => result,
        Err(error) => return Err(damaged(error, blob, said)?),
    };
    let compressed = Digest::parse(&String::from_utf8(stage.result()?)?)?;
    if let Some(said) = said {
        said.is(&compressed)?;
    }
    layer.diff_id.is(&plain.borrow().digest()).with_context(|| {
        format!("according to the image's config, it is {} without compression", layer.diff_id)
    })?;
    Ok(result)
}

/// In another process: writes the decompressed blob to `out`. Returns the digest of the blob.
fn decode(blob: &Blob, kind: Algorithm, reporter: &Reporter, mut out: File) -> Result<Vec<u8>> {
    let reporting = Reporting { inner: blob.reader()?, reporter, since: 0 };
    let (hashed, compressed) = Hashing::new(reporting, kind);
    let count = std::rc::Rc::clone(&compressed);
    let mut plain = Limited::new(Decoder::new(hashed)?, Limit::default(), || count.borrow().count);
    let mut buffer = vec![0; BUFFER];
    loop {
        match plain.read(&mut buffer)? {
            0 => return Ok(compressed.borrow().digest().to_string().into_bytes()),
            length => out.write_all(&buffer[..length])?,
        }
    }
}

fn damaged(error: anyhow::Error, blob: &Blob, said: Option<&Digest>) -> Result<anyhow::Error> {
    let Some(said) = said else { return Ok(error) };
    let (mut hashed, tally) = Hashing::new(blob.reader()?, said.kind());
    std::io::copy(&mut hashed, &mut std::io::sink())?;
    let found = tally.borrow().digest();
    Ok(match found == *said {
        true => error,
        false => anyhow!("it has digest {found}: damaged ({})", sys::describe(&error)),
    })
}

/// Reports how much has been read.
struct Reporting<'a> {
    inner: BlobReader,
    reporter: &'a Reporter,
    since: u64,
}

impl Read for Reporting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.since += length as u64;
        if self.since >= STEP || length == 0 && self.since > 0 {
            self.reporter.progress(self.since).map_err(std::io::Error::other)?;
            self.since = 0;
        }
        Ok(length)
    }
}
