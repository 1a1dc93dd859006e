//! Writes the changes of a container as an image layer, in an OCI image layout.

pub mod change;
pub mod guard;
mod ids;
pub mod layout;
mod put;
pub mod written;

pub use ids::Ids;
pub use put::export;

use crate::archive::decompress::Decoder;
use crate::archive::tar_writer::{Holes, Writer, ensure_no_whiteout};
use crate::commit::layout::Layout;
use crate::commit::put::{Packer, Put};
use crate::commit::written::{Digesting, Written};
use crate::runtime::Documents;
use crate::source::digest::{Algorithm, Digest, Hashing};
use crate::source::manifest::Descriptor;
use crate::source::reference::{self, Kind};
use crate::source::resolve::{self, Image, Layer};
use crate::source::{Blob, Source};
use crate::stage::Stage;
use crate::store::{ImageRecord, Store};
use crate::tree::changes::{Change, Node, Upper, is};
use crate::tree::live::unless_gone;
use crate::tree::whiteout::{OPAQUE, PREFIX};
use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use ruzstd::encoding::{CompressionLevel, compress};
use serde_json::{Value, json};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// None.
    Plain,
}

/// Metadata of the new image.
#[derive(Debug, Default)]
pub struct About {
    /// Its author.
    pub author: Option<String>,
    /// The message for its history.
    pub message: Option<String>,
    /// Instructions that change its config: see [`crate::commit::change`].
    pub changes: Vec<String>,
}

/// A layer that was written to a layout.
#[derive(Debug)]
pub struct PackedLayer {
    /// The descriptor of its blob.
    pub descriptor: Descriptor,
    /// Its digest without compression.
    pub diff_id: Digest,
}

/// The image that a container was created from.
#[derive(Debug)]
pub struct Base {
    /// The store's record of it.
    pub record: ImageRecord,
    /// The image with its blobs.
    pub image: Image,
}

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the upper as an archive with the image-spec's whiteouts.
fn archive<W: Write>(upper: &Upper, ids: &Ids, out: W, warn: &mut dyn FnMut(&str)) -> Result<W> {
    let writer = Writer::new(out, Holes::Zeros);
    let mut packer = Packer { writer, ids, nobody: false, warn };
    let mut here = Here { path: b".".to_vec(), dir: upper.root.try_clone()? };
    upper.each(&mut |node| {
        add(upper, &node, &mut here, &mut packer)
            .with_context(|| node.path.escape_ascii().to_string())
    })?;
    packer.writer.finish()
}

/// The last opened directory: the next entry is often in the same one.
struct Here {
    path: Vec<u8>,
    dir: OwnedFd,
}

fn add<W: Write>(
    upper: &Upper,
    node: &Node,
    here: &mut Here,
    packer: &mut Packer<'_, W>,
) -> Result<()> {
    let (dir, name) = match node.path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&node.path[..at], &node.path[at + 1..]),
        None => (&b"."[..], &node.path[..]),
    };
    let beside = |name: &[u8]| match dir {
        b"." => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    };
    let whiteout = || beside(&[PREFIX, name].concat());
    let (stat, opaque) = match &node.change {
        Change::Deleted => return packer.writer.empty(&whiteout()),
        Change::Added(stat) => (stat, false),
        Change::Changed { stat, what, opaque } => (
            stat,
            *opaque
                && !node.in_opaque
                && is(stat, SFlag::S_IFDIR)
                && *what != crate::tree::changes::Difference::Content,
        ),
    };
    ensure_no_whiteout(&node.path)?;
    if here.path != dir {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        // Without its directory it does not exist either.
        let Some(opened) = unless_gone(upper.open(dir, flags))? else { return Ok(()) };
        *here = Here { path: dir.to_vec(), dir: opened };
    }
    match packer.put((here.dir.as_fd(), name), &node.path, *stat)? {
        Put::Written if opaque => packer.writer.empty(&[&node.path, &b"/"[..], OPAQUE].concat()),
        Put::Whiteout if matches!(node.change, Change::Changed { .. }) => {
            packer.writer.empty(&whiteout())
        }
        _ => Ok(()),
    }
}

/// Writes the upper as an archive, and returns its digest.
fn archived(
    upper: &Upper,
    ids: &Ids,
    out: Written,
    warn: &mut dyn FnMut(&str),
) -> Result<(Digest, u64)> {
    let out = io::BufWriter::with_capacity(1 << 16, Digesting::new(out));
    let out = archive(upper, ids, out, warn)?;
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?.finish())
}

/// Writes the changes of a container as a layer of the layout. One process reads the files, another one
/// compresses.
///
/// # Errors
///
/// If the container's files cannot be read, or the layer cannot be written.
pub fn layer(
    layout: &Layout,
    upper: &Upper,
    ids: &Ids,
    packed: Packed,
    warn: &mut dyn FnMut(&str),
) -> Result<PackedLayer> {
    let (name, file) = layout.temp()?;
    let (file, failure) = Written::new(Box::new(file));
    let done = write_layer(file, upper, ids, packed, warn);
    let (media_type, digest, size, diff_id) =
        failure.of(&name.path().display().to_string(), done)?;
    layout.publish(&name, &digest)?;
    Ok(PackedLayer { descriptor: Layout::descriptor(media_type, digest, size), diff_id })
}

/// Writes the layer, and returns its media type, digest, size and diff id.
fn write_layer(
    file: Written,
    upper: &Upper,
    ids: &Ids,
    packed: Packed,
    warn: &mut dyn FnMut(&str),
) -> Result<(&'static str, Digest, u64, Digest)> {
    if packed == Packed::Plain {
        let (diff_id, size) = archived(upper, ids, file, warn)?;
        return Ok((PLAIN, diff_id.clone(), size, diff_id));
    }
    let mut plain = Stage::spawn(warn, |reporter, out| {
        let (out, _) = Written::new(Box::new(out));
        // If the receiver of warnings has exited, nothing reads the archive either.
        let (diff_id, _) = archived(upper, ids, out, &mut |text| drop(reporter.warn(text)))?;
        Ok(diff_id.to_string().into_bytes())
    })?;
    let mut out = io::BufWriter::with_capacity(1 << 16, Digesting::new(file));
    let media_type = match packed {
        Packed::Zstd => {
            zstd(&mut plain, &mut out)?;
            ZSTD
        }
        _ => {
            let mut gzip = GzBuilder::new().write(&mut out, Compression::new(6));
            io::copy(&mut plain, &mut gzip)?;
            gzip.finish()?;
            GZIP
        }
    };
    let diff_id = Digest::parse(&String::from_utf8(plain.result()?)?)?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (digest, size) = out.finish();
    Ok((media_type, digest, size, diff_id))
}

/// The encoder panics on I/O errors, so errors are kept here and hidden from it.
struct Patient<T> {
    inner: T,
    failed: Option<io::Error>,
}

impl<T: Read> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.inner.read(buffer).unwrap_or_else(|error| {
            self.failed = Some(error);
            0
        }))
    }
}

impl<T: Write> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = self.inner.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn zstd(plain: impl Read, out: &mut impl Write) -> Result<()> {
    let mut plain = Patient { inner: plain, failed: None };
    let mut out = Patient { inner: out, failed: None };
    compress(&mut plain, &mut out, CompressionLevel::Fastest);
    plain.failed.or(out.failed).map_or(Ok(()), |error| Err(error.into()))
}

/// The image that the container was created from, with its blobs.
///
/// # Errors
///
/// If the store does not contain the image, or its blobs do not exist any more.
pub fn base(store: &Store, id: &Digest, json: &Documents) -> Result<Base> {
    let record = store.image_record(id)?;
    let record = record.with_context(|| format!("the store does not contain its image {id}"))?;
    let mut why = anyhow::anyhow!("it has no name");
    let names: Vec<String> =
        record.names.iter().cloned().chain([record.source.display().to_string()]).collect();
    for name in names {
        let found = reference::parse(&name).and_then(|known| resolve::resolve(&known, None, json));
        match found {
            Ok(image) if image.id == *id => return Ok(Base { record, image }),
            Ok(_) => why = anyhow::anyhow!("{name} now refers to another image"),
            Err(error) => why = error,
        }
    }
    // Its name may belong to another image by now, e.g. after a commit with the same tag, but its blobs may
    // still exist.
    if let Ok(image) = by_blobs(&record, json) {
        return Ok(Base { record, image });
    }
    Err(why.context("the packed layers of its image must still exist"))
}

/// The recorded image, if the layout has all its blobs.
fn by_blobs(record: &ImageRecord, json: &Documents) -> Result<Image> {
    let source = Source::open(&record.source, Kind::Any)?;
    ensure!(source.is_layout() && record.blobs.len() == record.layers.len(), "no layout");
    let layer = |(blob, diff_id): (&Descriptor, &Digest)| Layer {
        diff_id: diff_id.clone(),
        file: format!("blobs/{}/{}", blob.digest.algorithm(), blob.digest.hex()),
        descriptor: Some(blob.clone()),
    };
    let layers: Vec<Layer> = record.blobs.iter().zip(&record.layers).map(layer).collect();
    for layer in &layers {
        layer.open(&source)?;
    }
    Ok(Image {
        source,
        name: None,
        manifest: record.manifest.clone(),
        id: record.id.clone(),
        config_text: record.config.clone().into_bytes(),
        config: (json.config)("config", record.config.as_bytes())?.0,
        layers,
    })
}

/// Copies a layer of the base unchanged.
fn copy_layer(layout: &Layout, image: &Image, layer: &Layer) -> Result<Descriptor> {
    let blob = layer.open(&image.source)?;
    let media_type = media_type(&blob)?;
    if let Some(known) = &layer.descriptor
        && layout.has(&known.digest, known.size)
    {
        return Ok(Layout::descriptor(media_type, known.digest.clone(), known.size));
    }
    let (name, mut file) = layout.temp()?;
    blob.copy_to(&mut file).with_context(|| format!("copy to {}", name.path().display()))?;
    // Verify the copy.
    file.rewind()?;
    let kind = layer.descriptor.as_ref().map_or(Algorithm::Sha256, |known| known.digest.kind());
    let (mut hashed, tally) = Hashing::new(file, kind);
    io::copy(&mut hashed, &mut io::sink())?;
    let (digest, size) = (tally.borrow().digest(), tally.borrow().count);
    if let Some(known) = &layer.descriptor {
        known.digest.is(&digest)?;
    }
    layout.publish(&name, &digest)?;
    Ok(Layout::descriptor(media_type, digest, size))
}

/// The media type of a layer's copy, determined from its contents, not from the base image: docker's types
/// have equivalents, some images have none, and a foreign layer is not foreign any more in the layout.
fn media_type(blob: &Blob) -> Result<&'static str> {
    Ok(match Decoder::new(blob.reader()?)? {
        Decoder::Gzip(_) => GZIP,
        Decoder::Zstd(_) => ZSTD,
        Decoder::Plain(_) => PLAIN,
    })
}

/// SOURCE_DATE_EPOCH, or the current time.
fn created() -> Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) if !seconds.is_empty() => {
            let seconds =
                seconds.parse().context("SOURCE_DATE_EPOCH is not a number of seconds")?;
            Ok(sys::time::rfc3339(std::time::Duration::from_secs(seconds)))
        }
        _ => Ok(sys::time::now()),
    }
}

/// Copies all layers of the base.
///
/// # Errors
///
/// If a blob cannot be copied, or has another digest than expected.
pub fn copy_layers(layout: &Layout, image: &Image) -> Result<Vec<Descriptor>> {
    let one = |layer| copy_layer(layout, image, layer).with_context(|| layer.name());
    image.layers.iter().map(one).collect()
}

/// Writes the image with the base's layers and a further one, whose diff id is known; returns the store's
/// record of it.
///
/// # Errors
///
/// If the image's config is not valid, or the layout cannot be written.
pub fn finish(
    layout: &Layout,
    tag: &str,
    base: &ImageRecord,
    mut layers: Vec<Descriptor>,
    top: PackedLayer,
    about: &About,
) -> Result<ImageRecord> {
    layers.push(top.descriptor);
    let config = config(&base.config, &top.diff_id, about)?;
    let text = serde_json::to_string(&config)?;
    let described = layout.add(CONFIG, text.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers,
    });
    let manifest = layout.add(MANIFEST, &serde_json::to_vec(&manifest)?)?;
    layout.name(tag, &manifest)?;
    let diff_ids = base.layers.iter().cloned().chain([top.diff_id]).collect();
    Ok(ImageRecord {
        id: described.digest,
        manifest: Some(manifest.digest),
        names: vec![format!("{}:{tag}", layout.path().display())],
        source: layout.path().to_owned(),
        config: text,
        layers: diff_ids,
        blobs: layers,
        created: config["created"].as_str().map(str::to_owned),
    })
}

/// The image's config with a further layer.
fn config(base: &str, diff_id: &Digest, about: &About) -> Result<Value> {
    let mut config: Value = serde_json::from_str(base).context("the image's config")?;
    ensure!(config.is_object(), "the image's config is not an object");
    let created = created()?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut();
    diff_ids.context("the image's config has no rootfs.diff_ids")?.push(json!(diff_id));
    let mut entry = json!({"created": created, "created_by": "brig commit"});
    for (key, value) in [("author", &about.author), ("comment", &about.message)] {
        if let Some(value) = value {
            entry[key] = json!(value);
        }
    }
    if let Some(author) = &about.author {
        config["author"] = json!(author);
    }
    config["created"] = json!(created);
    match config["history"].as_array_mut() {
        Some(history) => history.push(entry),
        None => config["history"] = json!([entry]),
    }
    Ok(config)
}
