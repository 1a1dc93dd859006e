//! The environment of one container: a bundle, its own `--root` and id, and the runtime under test. Dropping
//! it deletes what the test created, checks that nothing is left, and removes it.

use crate::facts::Facts;
use crate::{host, tree};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The time limit of all commands of a runtime.
const PATIENCE: Duration = Duration::from_secs(60);

/// The reasons of skipped tests, one line each.
pub static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Skips a test that is not possible with this host or runtime, and prints why: `return skip("no swap")`.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped {}: {why}", thread.name().unwrap_or_default());
    eprintln!("{line}");
    SKIPPED.lock().unwrap().push(line);
}

/// Skips a test of a feature or message that other runtimes do not have.
macro_rules! brig_only {
    () => {
        if crate::sandbox::is_peer() {
            return crate::sandbox::skip("only brig has this");
        }
    };
}
pub(crate) use brig_only;

/// The binary under test.
pub fn runtime() -> PathBuf {
    std::env::var_os("BRIG").map_or_else(|| env!("CARGO_BIN_EXE_brig").into(), PathBuf::from)
}

/// Whether a runtime other than brig is tested, to debug the tests themselves.
pub fn is_peer() -> bool {
    static PEER: OnceLock<bool> = OnceLock::new();
    *PEER.get_or_init(|| {
        let output = Command::new(runtime()).arg("--version").output().unwrap();
        !String::from_utf8_lossy(&output.stdout).starts_with("brig ")
    })
}

/// The static process that runs in the containers.
pub fn init() -> &'static Path {
    static INIT: OnceLock<PathBuf> = OnceLock::new();
    INIT.get_or_init(|| {
        let given = std::env::var_os("BRIG_TEST_INIT");
        let path = given.map_or_else(|| env!("CARGO_BIN_EXE_brig-test-init").into(), PathBuf::from);
        let dynamic = is_dynamic(&fs::read(&path).unwrap());
        assert!(
            !dynamic,
            "{} is not static, no container can run it: make integration",
            path.display()
        );
        path
    })
}

/// Copies a program that is executed soon, by a separate process: a concurrent fork of another test would hold
/// the copy open for writing (ETXTBSY).
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--").args([from, to]).status().unwrap();
    assert!(copied.success(), "cp {} {}: {copied}", from.display(), to.display());
}

/// The test process as a helper on the host, not started.
pub fn on_host(args: &[&str]) -> Command {
    let mut command = Command::new(init());
    command.args(args).env_clear();
    command
}

/// Runs `work` in the new process before execve, e.g. to set what it inherits.
pub fn before_exec(
    command: &mut Command,
    work: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: every caller passes a closure of system calls only, which may run between fork and exec of a
    // multi-threaded program: it neither allocates nor takes locks.
    unsafe { command.pre_exec(work) };
}

/// Runs the command in new network, UTS and IPC namespaces: a brig that wrongly changes the host's does no
/// harm.
pub fn expendable_host(command: &mut Command) {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    before_exec(command, move || Ok(unshare(own)?));
}

/// Whether a 64-bit ELF file needs a dynamic loader (a program header of type PT_INTERP, 3).
pub fn is_dynamic(elf: &[u8]) -> bool {
    let number = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte))
    };
    let (table, entry, entries) = (number(32, 8), number(54, 2), number(56, 2));
    (0..entries).any(|index| number(table + index * entry, 4) == 3)
}

/// See the module documentation.
pub struct Sandbox {
    /// The container's id, different from that of all other tests.
    pub id: String,
    /// The directory of this test.
    pub dir: PathBuf,
    calls: AtomicUsize,
}

impl Sandbox {
    /// A container with the default configuration of engines.
    pub fn new() -> Sandbox {
        Sandbox::with(include_str!("../../fixtures/bundles/full/config.json"))
    }

    /// A container with two namespaces and /proc only.
    pub fn minimal() -> Sandbox {
        Sandbox::with(include_str!("../../fixtures/bundles/minimal/config.json"))
    }

    fn with(config: &str) -> Sandbox {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        host::is_private().unwrap_or_else(|why| panic!("{why}"));
        // All of the same length, so that none is a prefix of another.
        let id = format!("bt{}-{:04}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Without the module, because socket addresses in this directory are limited to 107 bytes.
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("main");
        let test = test.split_once("::").map_or(test, |(_, test)| test).replace("::", "-");
        let dir = crate::guard::test_dir().join(format!("{test}-{id}"));
        let sandbox = Sandbox { id, dir, calls: AtomicUsize::new(0) };
        fs::create_dir_all(sandbox.rootfs().join("bin")).unwrap();
        // Containers with other ids than root must have access as well.
        for dir in ["etc", "proc", "dev", "sys", "tmp"] {
            fs::create_dir(sandbox.rootfs().join(dir)).unwrap();
        }
        sandbox.add_init("init");
        sandbox.write_config(&serde_json::from_str(config).unwrap());
        sandbox
    }

    /// The bundle.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// The bundle's root filesystem.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// The value of `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Copies the test process into the rootfs under another name.
    pub fn add_init(&self, path: &str) {
        let target = self.rootfs().join(path);
        if fs::hard_link(init(), &target).is_err() {
            fs::copy(init(), &target).unwrap();
        }
    }

    /// Writes a file into the rootfs, including its directories.
    pub fn add_file(&self, path: &str, text: &str) {
        let target = self.rootfs().join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, text).unwrap();
    }

    /// The current config.json.
    pub fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.bundle().join("config.json")).unwrap()).unwrap()
    }

    /// Writes config.json, and adds the variable to the container's environment by which its processes are
    /// found.
    pub fn write_config(&self, config: &Value) {
        let mut config = config.clone();
        let mark = Value::from(format!("BRIG_TEST={}", self.id));
        if let Some(Value::Array(env)) = config.pointer_mut("/process/env")
            && !env.contains(&mark)
        {
            env.push(mark);
        }
        fs::write(self.bundle().join("config.json"), serde_json::to_vec_pretty(&config).unwrap())
            .unwrap();
    }

    /// Changes config.json.
    pub fn patch(&self, change: impl FnOnce(&mut Value)) -> &Self {
        let mut config = self.config();
        change(&mut config);
        self.write_config(&config);
        self
    }

    /// Makes the container run this script of the test process, e.g. `ids ; read /proc/uptime`.
    pub fn script(&self, script: &str) -> &Self {
        let args: Vec<&str> = std::iter::once("/init").chain(script.split_whitespace()).collect();
        self.args(&args)
    }

    /// Makes the container run this command.
    pub fn args(&self, args: &[&str]) -> &Self {
        self.patch(|config| config["process"]["args"] = json!(args))
    }

    /// A command with the test's `--root`, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        command.arg("--root").arg(self.state_root()).args(args);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("BRIG_TEST", &self.id);
        command.current_dir(&self.dir);
        command
    }

    /// Starts a command with its output in files, because a created container keeps them open.
    pub fn spawn(&self, mut command: Command) -> Running {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let output = |name: &str| {
            let path = self.dir.join(format!("{name}.{call}"));
            (File::create(&path).unwrap(), path)
        };
        let ((stdout, stdout_path), (stderr, stderr_path)) = (output("stdout"), output("stderr"));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        Running { child, what, stdout: stdout_path, stderr: stderr_path }
    }

    /// Runs a command of the runtime and waits for it.
    pub fn brig(&self, args: &[&str]) -> Done {
        self.spawn(self.command(args)).wait()
    }

    /// `create`, with further arguments before the id.
    pub fn create_with(&self, args: &[&str]) -> Done {
        let bundle = self.bundle();
        self.brig(&[&["create", "--bundle", bundle.to_str().unwrap()], args, &[&self.id]].concat())
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self) -> Done {
        let done = self.create_with(&[]).ok();
        self.audit_descriptors(&["go", "result"]);
        done
    }

    /// Checks that the container's init has no descriptors of the host except its standard streams and these
    /// files in the state directory.
    #[track_caller]
    fn audit_descriptors(&self, allowed: &[&str]) {
        let state = self.state_root();
        if is_peer() {
            return;
        }
        let pid = self.pid();
        let others = || {
            let mut open = host::descriptors_of(pid);
            open.retain(|(fd, path)| {
                let name = path.strip_prefix(state.join(&self.id)).ok().and_then(Path::to_str);
                *fd > 2 && !name.is_some_and(|name| allowed.contains(&name))
            });
            open
        };
        // create ends when it has sent the last message to init, which then closes the channel.
        let closed = host::wait_until(Duration::from_secs(5), || others().is_empty());
        assert!(closed, "init {pid} has open: {:?}", others());
    }

    /// `start`, which must succeed.
    #[track_caller]
    pub fn start(&self) -> Done {
        self.brig(&["start", &self.id]).ok()
    }

    /// `delete`, which must succeed.
    #[track_caller]
    pub fn delete(&self) -> Done {
        self.brig(&["delete", &self.id]).ok()
    }

    /// `run`, with further arguments before the id.
    pub fn run_with(&self, args: &[&str]) -> Done {
        let bundle = self.bundle();
        self.brig(&[&["run", "--bundle", bundle.to_str().unwrap()], args, &[&self.id]].concat())
    }

    /// Foreground `run`; may fail.
    pub fn run(&self) -> Done {
        self.run_with(&[])
    }

    /// Runs a script in the foreground and returns its output; it must succeed.
    #[track_caller]
    pub fn facts(&self, script: &str) -> Facts {
        self.script(script);
        Facts::parse(&self.run().ok().stdout)
    }

    /// The state printed by `state`.
    #[track_caller]
    pub fn state(&self) -> Value {
        let done = self.brig(&["state", &self.id]).ok();
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    }

    /// The status in the state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    /// The host pid of the container's init.
    #[track_caller]
    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().unwrap()
    }

    /// Waits until the container has the status.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        let reached = host::wait_until(Duration::from_secs(10), || self.status() == status);
        assert!(reached, "never {status}: {}", self.state());
    }

    /// State, cgroups, processes and mounts left by this test.
    pub fn leftovers(&self) -> Vec<String> {
        host::leftovers(&self.id, &self.dir, &self.state_root())
    }

    /// Checks that a failed or finished command has left nothing.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let states = fs::read_dir(self.state_root()).into_iter().flatten().flatten();
        for state in states {
            let id = state.file_name();
            let deleted = self.brig(&["delete", "--force", id.to_str().unwrap()]);
            if deleted.code != Some(0) && !std::thread::panicking() {
                panic!("{deleted:?}");
            }
        }
        let left = self.leftovers();
        host::clean_up(&self.id);
        let mounted = left.iter().any(|line| line.starts_with("mount "));
        let removed = if mounted { Err(nix::errno::Errno::EXDEV) } else { tree::remove(&self.dir) };
        if std::thread::panicking() {
            eprintln!("left behind: {left:#?}; files {removed:?}");
        } else {
            assert!(left.is_empty(), "left behind after delete --force: {left:#?}");
            assert!(removed.is_ok(), "{} not removed: {removed:?}", self.dir.display());
        }
    }
}

/// A running command.
pub struct Running {
    /// The process.
    pub child: Child,
    what: String,
    /// The file for its stdout.
    pub stdout: PathBuf,
    /// The file for its stderr.
    pub stderr: PathBuf,
}

impl Running {
    /// Waits until it ends; a command that hangs is killed and fails the test.
    pub fn wait(mut self) -> Done {
        let (start, patience) = (Instant::now(), host::patient(PATIENCE));
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > patience {
                // If this fails, it has exited.
                _ = self.child.kill();
                _ = self.child.wait();
                panic!("hangs: {:?}", self.done(ExitStatus::from_raw(9)));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.done(status)
    }

    fn done(&self, status: ExitStatus) -> Done {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Done {
            what: self.what.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            stdout_path: self.stdout.clone(),
        }
    }

    /// Waits until it has printed a line.
    #[track_caller]
    pub fn wait_for_line(&self, line: &str) {
        wait_for_line(&self.stdout, line);
    }
}

/// Waits until a file contains a line.
#[track_caller]
pub fn wait_for_line(path: &Path, line: &str) {
    let text = || String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let found =
        host::wait_until(Duration::from_secs(10), || text().lines().any(|have| have == line));
    assert!(found, "no line {line:?} in {}: {:?}", path.display(), text());
}

/// The exit status and output of a command.
#[derive(Debug)]
pub struct Done {
    /// The command.
    pub what: String,
    /// The exit code; None after a signal.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
    /// The file to which a container that outlives the command continues to write.
    pub stdout_path: PathBuf,
}

impl Done {
    /// Checks that it has succeeded.
    #[track_caller]
    pub fn ok(self) -> Done {
        assert!((self.code, self.signal) == (Some(0), None), "{}: {self:#?}", self.what);
        self
    }

    /// Checks that it has failed with exit code 1; returns its stderr.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_eq!(self.code, Some(1), "{self:#?}");
        assert!(!self.stderr.trim().is_empty(), "failed without a word: {self:#?}");
        // runc's logger quotes messages.
        if is_peer() { self.stderr.replace("\\\"", "\"") } else { self.stderr }
    }

    /// Checks that it has failed with a message that contains `part`; returns the message.
    #[track_caller]
    pub fn fails_with(self, part: &str) -> String {
        let what = format!("{self:#?}");
        let message = self.fails();
        assert!(message.contains(part), "no {part:?} in {what}");
        message
    }

    /// Waits until the container has printed a line, possibly long after the command.
    #[track_caller]
    pub fn wait_for_line(&self, line: &str) {
        wait_for_line(&self.stdout_path, line);
    }

    /// The facts printed by the container so far.
    pub fn facts_now(&self) -> Facts {
        Facts::parse(&String::from_utf8_lossy(&fs::read(&self.stdout_path).unwrap()))
    }
}
