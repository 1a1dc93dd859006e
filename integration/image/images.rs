//! `bundle` and `run --image`: from images on disk to containers with shared layers.

use crate::facts::Facts;
use crate::layout::{Archive, Layout, gzip};
use crate::sandbox::{Done, Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A store and images in a sandbox.
pub struct Images {
    pub sandbox: Sandbox,
}

impl Images {
    pub fn new() -> Images {
        Images { sandbox: Sandbox::new() }
    }

    pub fn store(&self) -> PathBuf {
        self.sandbox.dir.join("store")
    }

    pub fn layout(&self, name: &str) -> Layout {
        Layout::new(&self.sandbox.dir.join(name))
    }

    /// brig with the store.
    pub fn brig(&self, args: &[&str]) -> Done {
        let store = self.store();
        self.sandbox.brig(&[&["--store", store.to_str().unwrap()], args].concat())
    }

    /// `bundle`, which must succeed; returns the bundle's directory.
    #[track_caller]
    pub fn bundle(&self, image: &str, name: &str) -> PathBuf {
        let bundle = self.sandbox.dir.join(name);
        self.brig(&["bundle", image, bundle.to_str().unwrap()]).ok();
        bundle
    }

    /// The config of a bundle.
    pub fn config(&self, bundle: &Path) -> Value {
        serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap()
    }

    /// Runs a script of the test process in a bundle.
    #[track_caller]
    pub fn facts(&self, bundle: &Path, script: &str) -> Facts {
        let mut config = self.config(bundle);
        let args: Vec<&str> = std::iter::once("/init").chain(script.split_whitespace()).collect();
        config["process"]["args"] = json!(args);
        mark(&mut config, &self.sandbox.id);
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let args = ["run", "--bundle", bundle.to_str().unwrap(), &self.sandbox.id];
        Facts::parse(&self.brig(&args).ok().stdout)
    }

    /// Directories of a bundle's overlay that are in the store, lowest first.
    pub fn layers(&self, bundle: &Path) -> Vec<PathBuf> {
        let config = self.config(bundle);
        let layers = config["annotations"]["run.brig.overlay.layers"].as_str().unwrap();
        layers.split(':').map(PathBuf::from).filter(|layer| layer.is_absolute()).collect()
    }
}

/// Adds the variable by which the sandbox finds processes.
fn mark(config: &mut Value, id: &str) {
    let mark = Value::from(format!("BRIG_TEST={id}"));
    if let Some(env) = config["process"]["env"].as_array_mut()
        && !env.contains(&mark)
    {
        env.push(mark);
    }
}

/// A base layer with the test process, and the usual files of images.
pub fn base() -> Archive {
    let init = std::env::var_os("BRIG_TEST_INIT").map(PathBuf::from);
    let init = init.unwrap_or_else(|| env!("CARGO_BIN_EXE_brig-test-init").into());
    Archive::new()
        .dir("./")
        .program("init", &fs::read(init).unwrap())
        .dir("etc/")
        .file("etc/passwd", b"root:x:0:0::/root:/init\nweb:x:33:44::/:/init\n")
        .file("etc/group", b"root:x:0:\nweb:x:44:\ntape:x:7:web\n")
        .file("etc/both", b"base")
        .file("etc/base", b"base")
        .dir("tmp/")
}

#[test]
fn an_image_becomes_a_bundle_that_runs() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().dir("etc/").file("etc/both", b"top"));
    let image = layout.finish(
        "v1",
        &json!({
            "Entrypoint": ["/init"], "Cmd": ["env", ";", "ids", ";", "cwd"], "User": "web",
            "Env": ["A=b"], "WorkingDir": "/tmp", "Labels": {"l": "m"}, "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGINT", "Volumes": {"/data": {}}
        }),
    );
    let bundle = images.bundle(&image, "bundle-of-image");
    let config = images.config(&bundle);
    assert_eq!(config["process"]["args"], json!(["/init", "env", ";", "ids", ";", "cwd"]));
    assert_eq!(config["process"]["user"], json!({"uid": 33, "gid": 44, "additionalGids": [7, 44]}));
    assert_eq!(config["process"]["cwd"], "/tmp");
    let annotations = &config["annotations"];
    assert_eq!(annotations["l"], "m");
    assert_eq!(annotations["org.opencontainers.image.exposedPorts"], "80/tcp");
    assert_eq!(annotations["org.opencontainers.image.stopSignal"], "SIGINT");
    let facts = images.facts(&bundle, "ids ; cwd ; read /etc/both ; read /etc/base ; mounts ; env");
    assert_eq!(facts.get("read /etc/both"), "\"top\"");
    assert_eq!(facts.get("read /etc/base"), "\"base\"");
    assert_eq!(facts.mount("/").fstype, "overlay");
    assert_eq!(facts.mount("/data").fstype, "tmpfs");
    images.sandbox.assert_nothing_left();
}

#[test]
fn the_second_bundle_unpacks_nothing_and_shares_all() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({}));
    let first = images.bundle(&image, "first");
    // The blob is not read any more.
    fs::remove_file(layout.path(&layout.layer_digest(0))).unwrap();
    let second = images.bundle(&image, "second");
    assert_eq!(images.layers(&first), images.layers(&second));
    assert!(second.join("rootfs").read_dir().unwrap().next().is_none());
}

#[test]
fn ten_containers_share_one_base() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base().file("big", &vec![b'x'; 8 << 20]));
    let image = layout.finish("v1", &json!({}));
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let bundle = images.bundle(&image, &format!("bundle-{number}"));
        let facts = images.facts(&bundle, "stat /big ; write /mine x");
        assert!(!facts.get("stat /big").contains("ENOENT"));
        let meta = fs::metadata(images.layers(&bundle)[0].join("big")).unwrap();
        seen.push((meta.dev(), meta.ino()));
        sizes.push(used(&bundle) + used(&images.store()));
    }
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:?}");
    assert!(sizes[0] > 8 << 20);
    // Each further one only uses space for its own small files.
    let bundle = used(&images.sandbox.dir.join("bundle-9"));
    assert!(bundle < 1 << 17, "{bundle}");
}

/// Bytes on disk.
fn used(dir: &Path) -> u64 {
    let mut sum = 0;
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        sum += meta.blocks() * 512;
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    sum
}

#[test]
fn containers_of_one_image_grow_the_disk_by_their_changes_alone() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base().file("big", &vec![b'x'; 8 << 20]));
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    images.bundle(&image, "first");
    let before = used(&images.store());
    assert!(before > 8 << 20, "{before}");
    let change = "y".repeat(10_000);
    let id = |number: u32| format!("{}-{number}", images.sandbox.id);
    for number in 0..10 {
        let args =
            ["run", "--keep", "--image", &image, &id(number), "--", "write", "/mine", &change];
        images.brig(&args).ok();
    }
    let each = (used(&images.store()) - before) / 10;
    // The change, and the small files and directories of a container in the store.
    assert!((10_000..1 << 17).contains(&each), "{each}");
    (0..10).for_each(|number| drop(images.brig(&["delete", &id(number)]).ok()));
    assert!(used(&images.store()) < before + (1 << 16), "{before}");
}

/// The number of a file's pages in the page cache.
fn resident(file: &fs::File) -> usize {
    use std::os::fd::AsRawFd;
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: a new mapping of a file that is not changed, which is never read.
    let pages =
        unsafe { libc::mmap(std::ptr::null_mut(), length, read, shared, file.as_raw_fd(), 0) };
    assert_ne!(pages, libc::MAP_FAILED);
    let mut here = vec![0_u8; length.div_ceil(4096)];
    // SAFETY: the mapping above, and one byte for each of its pages.
    assert_eq!(unsafe { libc::mincore(pages, length, here.as_mut_ptr()) }, 0);
    // SAFETY: the mapping above, which nothing refers to.
    unsafe { libc::munmap(pages, length) };
    here.iter().filter(|page| **page & 1 == 1).count()
}

#[test]
fn containers_of_one_image_share_the_page_cache() {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base().file("big", &[b'x'; 20 * 4096]));
    let image = layout.finish("v1", &json!({}));
    let (first, second) = (images.bundle(&image, "first"), images.bundle(&image, "second"));
    let file = fs::File::open(images.layers(&first)[0].join("big")).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    if resident(&file) > 0 {
        return crate::sandbox::skip("the store's filesystem keeps files in memory");
    }
    // Pages read by one container are cached for all, because they belong to the lower file.
    images.facts(&first, "read /big");
    assert_eq!(resident(&file), 20);
    let before = file.metadata().unwrap().ino();
    images.facts(&second, "read /big");
    let again = fs::metadata(images.layers(&second)[0].join("big")).unwrap().ino();
    assert_eq!((resident(&file), before), (20, again));
}

#[test]
fn two_directories_are_joined() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout
        .layer(base().dir("joined/").file("joined/low", b"from below"))
        .layer(Archive::new().dir("joined/").file("joined/high", b"from above"));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let facts = images.facts(&bundle, "list /joined ; read /joined/low ; read /joined/high");
    let mut names = facts.all("entry /joined");
    names.sort_unstable();
    assert_eq!(names, ["high", "low"]);
    assert_eq!(facts.get("read /joined/low"), "\"from below\"");
    assert_eq!(facts.get("read /joined/high"), "\"from above\"");
}

#[test]
fn the_upper_wins() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().file("etc/both", b"top"));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let facts = images.facts(&bundle, "read /etc/both ; write /etc/both mine");
    assert_eq!(facts.get("read /etc/both"), "\"top\"");
    // The container's own layer is the highest.
    assert_eq!(images.facts(&bundle, "read /etc/both").get("read /etc/both"), "\"mine\"");
}

#[test]
fn a_write_to_a_lower_file_leaves_the_lower_untouched() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let lower = images.layers(&bundle)[0].join("etc/both");
    let was = fs::metadata(&lower).unwrap();
    let facts = images.facts(&bundle, "write /etc/both mine ; read /etc/both");
    assert_eq!(facts.get("read /etc/both"), "\"mine\"");
    assert_eq!(fs::read_to_string(&lower).unwrap(), "base");
    let is = fs::metadata(&lower).unwrap();
    assert_eq!((was.mtime(), was.mode(), was.ino()), (is.mtime(), is.mode(), is.ino()));
    assert_eq!(fs::read_to_string(bundle.join("data/upper/etc/both")).unwrap(), "mine");
}

#[test]
fn deletion_is_a_whiteout() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    let top = Archive::new().dir("etc/").file("etc/.wh.both", b"").file("tmp/.wh..wh..opq", b"");
    layout.layer(base().file("tmp/below", b"")).layer(top.file("tmp/above", b""));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    // In the image.
    let whiteout = fs::symlink_metadata(images.layers(&bundle)[1].join("etc/both")).unwrap();
    assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
    // And in the container.
    let facts = images.facts(&bundle, "stat /etc/both ; unlink /etc/base ; list /tmp");
    assert_eq!(facts.get("stat /etc/both"), "ENOENT");
    assert_eq!(facts.all("entry /tmp"), ["above"]);
    let whiteout = fs::symlink_metadata(bundle.join("data/upper/etc/base")).unwrap();
    assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
}

#[test]
fn run_of_an_image_is_one_step_and_leaves_nothing() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"], "Cmd": ["exit", "9"]}));
    let id = images.sandbox.id.clone();
    let done = images.brig(&["run", "--image", &image, &id]);
    assert_eq!(done.code, Some(9), "{done:?}");
    let args =
        ["run", "--image", &image, &id, "--", "read", "/etc/hostname", ";", "write", "/x", "y"];
    let done = images.brig(&args).ok();
    assert_eq!(Facts::parse(&done.stdout).get("read /etc/hostname"), format!("\"{id}\\n\""));
    let containers = images.store().join("containers");
    assert_eq!(fs::read_dir(&containers).unwrap().count(), 0);
    images.sandbox.assert_nothing_left();
}

#[test]
fn what_a_container_of_an_image_changes_stays_until_it_is_deleted() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let id = images.sandbox.id.clone();
    images.brig(&["run", "--keep", "--image", &image, &id, "--", "write", "/mine", "x"]).ok();
    let state = images.sandbox.state();
    assert_eq!(state["status"], "stopped");
    let bundle = PathBuf::from(state["bundle"].as_str().unwrap());
    assert_eq!(fs::read_to_string(bundle.join("data/upper/mine")).unwrap(), "x");
    images.sandbox.delete();
    assert!(!bundle.exists());
    // An explicit upper is kept.
    let upper = images.sandbox.dir.join("kept");
    let kept = upper.to_str().unwrap();
    images
        .brig(&["run", "--upper", kept, "--image", &image, &id, "--", "write", "/mine", "x"])
        .ok();
    assert_eq!(fs::read_to_string(upper.join("mine")).unwrap(), "x");
    images
        .brig(&["run", "--upper", "tmpfs:1m", "--image", &image, &id, "--", "write", "/m", "x"])
        .ok();
}

#[test]
fn with_a_user_namespace_layers_are_shared_and_show_container_ids() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let mut config = images.config(&bundle);
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let facts = images
        .facts(&bundle, "ids ; stat /etc/both ; write /etc/both x ; write /new y ; stat /new");
    for path in ["/etc/both", "/new"] {
        let stat = facts.get(&format!("stat {path}"));
        assert!(stat.contains("uid 0") || stat.contains(" 0 0"), "{path}: {stat}");
    }
    let lower = fs::metadata(images.layers(&bundle)[0].join("etc/both")).unwrap();
    assert_eq!((lower.uid(), lower.gid()), (0, 0));
    // The upper contains container ids, too.
    let upper = fs::metadata(bundle.join("data/upper/new")).unwrap();
    assert_eq!((upper.uid(), upper.gid()), (0, 0));
}

#[test]
fn three_hundred_layers_of_an_image() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    for number in 1..300 {
        let name = format!("etc/{number}");
        layout
            .layer(Archive::new().file(&name, b"").file("etc/both", number.to_string().as_bytes()));
    }
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let facts = images.facts(&bundle, "read /etc/both ; stat /etc/1 ; stat /etc/299");
    assert_eq!(facts.get("read /etc/both"), "\"299\"");
    assert_ne!(facts.get("stat /etc/1"), "ENOENT");
}

#[test]
fn a_directory_that_a_layer_does_not_name_keeps_its_attributes() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout
        .layer(base().raw(b'5', b"private/", b"", 0o2750, b"").file("private/a", b""))
        .layer(Archive::new().file("private/b", b""));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let patch = fs::metadata(images.layers(&bundle).last().unwrap().join("private")).unwrap();
    assert_eq!((patch.mode() & 0o7777, patch.mtime()), (0o2750, 1_700_000_000));
    let facts = images.facts(&bundle, "stat /private ; stat /private/a ; stat /private/b");
    assert!(facts.get("stat /private").contains("2750"), "{facts}");
}

#[test]
fn a_hard_link_to_a_file_of_a_layer_below_is_that_file() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().hard_link("etc/linked", "etc/both"));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    assert_eq!(images.facts(&bundle, "read /etc/linked").get("read /etc/linked"), "\"base\"");
}

#[test]
fn layers_are_plain_or_compressed_by_gzip_or_zstd() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let plain = Archive::new().file("plain", b"p").bytes();
    layout.layer_of(&plain, &plain);
    let zstd = Archive::new().file("zstd", b"z").bytes();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    layout.layer_of(&zstd, &ruzstd::encoding::compress_to_vec(&zstd[..], level));
    let gz = Archive::new().file("gz", b"g").bytes();
    // Two members, as in estargz.
    let (head, tail) = gz.split_at(512);
    layout.layer_of(&gz, &[gzip(head), gzip(tail)].concat());
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let facts = images.facts(&bundle, "read /plain ; read /zstd ; read /gz");
    let read = ["plain", "zstd", "gz"].map(|name| facts.get(&format!("read /{name}")).to_owned());
    assert_eq!(read, ["\"p\"", "\"z\"", "\"g\""]);
}

#[test]
fn a_terminal_shows_progress_and_a_pipe_nothing() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({}));
    let (store, bundle) = (images.store(), images.sandbox.dir.join("bundle-of-image"));
    let args = ["--store", store.to_str().unwrap(), "bundle", &image, bundle.to_str().unwrap()];
    let pty = nix::pty::openpty(None, None).unwrap();
    let status = images.sandbox.command(&args).stderr(pty.slave).status().unwrap();
    assert!(status.success());
    let mut shown = Vec::new();
    // EIO is the end of a terminal's output.
    let _ = std::io::Read::read_to_end(&mut fs::File::from(pty.master), &mut shown);
    let shown = String::from_utf8_lossy(&shown).into_owned();
    for words in ["layer 1/1 [####################]", "MiB/s", "\r\x1b[K"] {
        assert!(shown.contains(words), "{shown:?}");
    }
    // The progress line is cleared at the end.
    assert!(shown.ends_with("\r\x1b[K"), "{shown:?}");
    let (store, bundle) = (images.sandbox.dir.join("store-2"), images.sandbox.dir.join("bundle-2"));
    let args = ["--store", store.to_str().unwrap(), "bundle", &image, bundle.to_str().unwrap()];
    let done = images.sandbox.brig(&args).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
}
