//! Creates OCI image layouts: a layer contains exactly the entries of the test, valid or not.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// A layer's archive.
#[derive(Default, Clone)]
pub struct Archive(Vec<u8>);

impl Archive {
    pub fn new() -> Archive {
        Archive::default()
    }

    /// Appends the entries of another archive.
    pub fn then(mut self, other: &Archive) -> Archive {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// Adds any entry: the name is written as given.
    pub fn raw(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Archive {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        // The numbers of /dev/null, for devices.
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.push(&header, content);
        self
    }

    /// Adds a complete header and its content.
    pub fn push(&mut self, header: &Header, content: &[u8]) {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub fn dir(self, name: &str) -> Archive {
        self.raw(b'5', name.as_bytes(), b"", 0o755, b"")
    }

    pub fn file(self, name: &str, content: &[u8]) -> Archive {
        self.raw(b'0', name.as_bytes(), b"", 0o644, content)
    }

    pub fn program(self, name: &str, content: &[u8]) -> Archive {
        self.raw(b'0', name.as_bytes(), b"", 0o755, content)
    }

    pub fn symlink(self, name: &str, to: &str) -> Archive {
        self.raw(b'2', name.as_bytes(), to.as_bytes(), 0o777, b"")
    }

    pub fn hard_link(self, name: &str, to: &str) -> Archive {
        self.raw(b'1', name.as_bytes(), to.as_bytes(), 0o644, b"")
    }

    /// Adds extended headers for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let record = |(key, value): &(&str, &[u8])| {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let mut length = body.len() + 1;
            while length.to_string().len() + body.len() != length {
                length += 1;
            }
            [length.to_string().into_bytes(), body].concat()
        };
        let text: Vec<u8> = records.iter().flat_map(record).collect();
        self.raw(b'x', b"pax", b"", 0o644, &text)
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layout in a directory, with a single image.
pub struct Layout {
    pub dir: PathBuf,
    pub layers: Vec<Value>,
    diff_ids: Vec<String>,
}

impl Layout {
    pub fn new(dir: &Path) -> Layout {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { dir: dir.to_owned(), layers: Vec::new(), diff_ids: Vec::new() }
    }

    /// Writes a blob and returns its descriptor.
    pub fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.path(&digest), bytes).unwrap();
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": digest,
            "size": bytes.len()
        })
    }

    /// The path of a blob.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs").join(digest.replace(':', "/"))
    }

    /// Adds a layer, compressed by gzip.
    pub fn layer(&mut self, archive: Archive) -> &mut Layout {
        let plain = archive.bytes();
        self.layer_of(&plain, &gzip(&plain))
    }

    /// Adds a layer with this blob.
    pub fn layer_of(&mut self, plain: &[u8], blob: &[u8]) -> &mut Layout {
        self.layer_known(&digest(plain), blob)
    }

    /// Adds a layer with this blob and diff id.
    pub fn layer_known(&mut self, diff_id: &str, blob: &[u8]) -> &mut Layout {
        let descriptor = self.blob("layer.v1.tar+gzip", blob);
        self.diff_ids.push(diff_id.to_owned());
        self.layers.push(descriptor);
        self
    }

    /// The digest of a layer's blob.
    pub fn layer_digest(&self, index: usize) -> String {
        self.layers[index]["digest"].as_str().unwrap().to_owned()
    }

    /// Writes the image's config and manifest, and an index that contains only it. `config`: settings to run
    /// it with.
    pub fn finish(&self, tag: &str, config: &Value) -> String {
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids}
        });
        let config = self.blob("config.v1+json", &serde_json::to_vec(&config).unwrap());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": self.layers});
        let mut manifest = self.blob("manifest.v1+json", &serde_json::to_vec(&manifest).unwrap());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(self.dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
        format!("{}:{tag}", self.dir.display())
    }
}
