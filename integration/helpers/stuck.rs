//! A filesystem on which a process blocks uninterruptibly: a FUSE daemon that accepts the request to read its
//! only file, and never responds. A process that is killed then stays in state D until the connection is
//! aborted.
//!
//! It is aborted in any case: by `Drop`; by a separate process, after [`MAX_DURATION`]; and by the kernel,
//! when this process exits and its descriptor of /dev/fuse is closed.

use crate::sandbox::on_host;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time limit of tests.
const MAX_DURATION: Duration = Duration::from_secs(90);

/// See the module documentation.
pub struct Stuck {
    /// The mount point.
    pub dir: PathBuf,
    reads: Arc<AtomicUsize>,
    abort: PathBuf,
    watchdog: Child,
    server: Option<JoinHandle<()>>,
}

impl Stuck {
    /// Mounts it below this directory; the error is why this kernel does not support it.
    pub fn new(below: &Path) -> Result<Stuck, String> {
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        if !["fuse", "fusectl"]
            .iter()
            .all(|name| known.lines().any(|line| line.ends_with(&format!("\t{name}"))))
        {
            return Err("this kernel has no FUSE".into());
        }
        let (dir, control) = (below.join("fuse"), below.join("fusectl"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&control).unwrap();
        let mut device = open_device(below)?;
        let none = None::<&str>;
        mount(none, &control, Some("fusectl"), MsFlags::empty(), none).unwrap();
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("stuck"), &dir, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let abort = control.join(connection(&dir)).join("abort");
        let seconds = MAX_DURATION.as_secs().to_string();
        let mut watchdog =
            on_host(&["sleep", &seconds, ";", "write", abort.to_str().unwrap(), "1"]);
        let watchdog = watchdog.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reads);
        let server = std::thread::spawn(move || serve(&mut device, &counter));
        Ok(Stuck { dir, reads, abort, watchdog, server: Some(server) })
    }

    /// The number of blocked reads so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Each step is done whether the previous one failed or not; failures are printed.
        let aborted = fs::write(&self.abort, "1");
        if aborted.is_ok() {
            _ = self.watchdog.kill();
            _ = self.watchdog.wait();
            _ = self.server.take().map(JoinHandle::join);
        }
        let mounts = [&self.dir, self.abort.parent().unwrap().parent().unwrap()]
            .map(|path| umount2(path, MntFlags::MNT_DETACH));
        if aborted.is_err() || mounts.iter().any(Result::is_err) {
            eprintln!("{}: {aborted:?} {mounts:?}", self.dir.display());
        }
    }
}

/// Opens /dev/fuse, or a node created on a private tmpfs if the host has none.
fn open_device(below: &Path) -> Result<File, String> {
    let mut path = PathBuf::from("/dev/fuse");
    if !path.exists() {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let dev = below.join("dev");
        fs::create_dir(&dev).unwrap();
        mount(None::<&str>, &dev, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        path = dev.join("fuse");
        mknod(&path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(10, 229)).unwrap();
        let device = File::options().read(true).write(true).open(&path);
        umount2(&dev, MntFlags::MNT_DETACH).unwrap();
        return device.map_err(|error| format!("{}: {error}", path.display()));
    }
    let device = File::options().read(true).write(true).open(&path);
    device.map_err(|error| format!("{}: {error}", path.display()))
}

/// The fusectl number of a mount: the minor number of its device.
fn connection(dir: &Path) -> String {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().find(|line| line.split(' ').nth(4) == dir.to_str()).unwrap();
    line.split(' ').nth(2).unwrap().split_once(':').unwrap().1.to_owned()
}

/// The opcodes of fuse.h that get more than an errno as response.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;

/// Responds until the connection is aborted.
fn serve(device: &mut File, reads: &AtomicUsize) {
    let mut request = vec![0; 64 << 10];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            // Interrupted, or the request was cancelled before it was read.
            Err(error)
                if [Some(libc::EINTR), Some(libc::ENOENT)].contains(&error.raw_os_error()) =>
            {
                continue;
            }
            Err(_) => return,
        };
        // fuse_in_header: length, opcode, unique, node, …
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert!(length >= 40, "{length}");
        let (opcode, unique, node) = (number(4), &request[8..16], number(16));
        let answer = match opcode {
            FORGET | INTERRUPT => continue,
            READ => {
                reads.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            // Version 7.31, then fields that may be zero, then the maximum write.
            INIT => Ok([&words(&[7, 31, 0, 0, 0, 4096]), &[0; 40][..]].concat()),
            // Node 2, whatever its name; entry and attributes never expire.
            LOOKUP => {
                Ok([&words(&[2, 0, 0, 0, 999, 0, 999, 0, 0, 0]), &attributes(2)[..]].concat())
            }
            GETATTR => Ok([&words(&[999, 0, 0, 0]), &attributes(node)[..]].concat()),
            // FOPEN_DIRECT_IO: each read(2) is one request.
            OPEN => Ok(words(&[0, 0, 1, 0])),
            RELEASE | FLUSH => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        let (errno, body) = answer.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap();
        let answer = [&length.to_ne_bytes()[..], &errno.to_ne_bytes(), unique, &body].concat();
        // The requesting process may have been killed.
        _ = device.write(&answer);
    }
}

/// fuse_attr: node 1 is a directory, all others are files of 4096 bytes.
fn attributes(node: u32) -> Vec<u8> {
    let (mode, links) = if node == 1 { (0o040_755, 2) } else { (0o100_644, 1) };
    let mut words_of = vec![node, 0, 4096, 0, 8, 0];
    // Times, and their nanoseconds.
    words_of.extend([0; 9]);
    // mode, nlink, uid, gid, rdev, blksize, flags
    words_of.extend([mode, links, 0, 0, 0, 4096, 0]);
    words(&words_of)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
