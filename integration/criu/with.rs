//! A sandbox with CRIU: this host's own may be too old, so it is unpacked from a newer Debian suite.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Done, Running, Sandbox, before_exec};
use serde_json::Value;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The directory with `criu`, or why it is not available.
pub fn criu() -> &'static Result<PathBuf, String> {
    static CRIU: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    CRIU.get_or_init(|| {
        let works = |program: &Path| {
            let checked = Command::new(program).arg("check").output();
            checked.is_ok_and(|output| output.status.success())
        };
        let given = std::env::var_os("BRIG_TEST_CRIU").map(PathBuf::from);
        if let Some(given) = given.filter(|dir| works(&dir.join("criu"))) {
            return Ok(given);
        }
        let house = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = house.join("target/criu");
        if works(Path::new("/usr/sbin/criu")) {
            return Ok("/usr/sbin".into());
        }
        let made = Command::new(house.join("scripts/criu.sh")).arg(&dir).output();
        let said = made.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        match works(&dir.join("criu")) {
            true => Ok(dir),
            false => Err(format!("no CRIU that works here: {said:?}")),
        }
    })
}

/// Whether it is older than 3.19, the first that restores no_new_privs.
pub fn is_old() -> bool {
    let output = Command::new(criu().as_ref().unwrap().join("criu")).arg("--version").output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    let minor =
        text.split("3.").nth(1).and_then(|rest| rest.split('.').next()?.trim().parse().ok());
    text.starts_with("Version: 3.") && minor.is_none_or(|minor: u32| minor < 19)
}

/// Skips a test without CRIU, and prints why.
macro_rules! criu_only {
    () => {
        crate::sandbox::brig_only!();
        if let Err(why) = crate::criu::with::criu() {
            return crate::sandbox::skip(why);
        }
    };
}
pub(crate) use criu_only;

/// A command of brig's that finds CRIU.
pub fn command(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.command(args);
    let dir = criu().as_ref().unwrap();
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()));
    command
}

/// Runs it to its end.
pub fn brig(sandbox: &Sandbox, args: &[&str]) -> Done {
    sandbox.spawn(command(sandbox, args)).wait()
}

/// The directory for this test's checkpoint.
pub fn images(sandbox: &Sandbox) -> String {
    sandbox.dir.join("images").to_str().unwrap().to_string()
}

/// `checkpoint`, with more arguments before the id.
pub fn checkpoint(sandbox: &Sandbox, args: &[&str]) -> Done {
    let images = images(sandbox);
    brig(sandbox, &[&["checkpoint", "--image-path", &images], args, &[&sandbox.id]].concat())
}

/// A container whose stdout and stderr are a pipe.
pub struct Piped {
    reader: PipeReader,
    text: String,
}

impl Piped {
    /// Runs a command whose standard streams are `/dev/null` and pipes, to its end.
    #[track_caller]
    pub fn run(sandbox: &Sandbox, args: &[&str]) -> (Piped, std::process::ExitStatus) {
        let (piped, running) = Piped::spawn(sandbox, args);
        (piped, end_of(running))
    }

    /// From an existing pipe.
    pub fn of(reader: PipeReader) -> Piped {
        Piped { reader, text: String::new() }
    }

    /// Like [`Piped::run`], without waiting.
    pub fn spawn(sandbox: &Sandbox, args: &[&str]) -> (Piped, std::process::Child) {
        Piped::start(command(sandbox, args))
    }

    /// Starts any command.
    pub fn start(mut command: Command) -> (Piped, std::process::Child) {
        let (reader, writer): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        (Piped { reader, text: String::new() }, command.spawn().unwrap())
    }

    /// Waits until it has printed this.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        use std::os::fd::AsFd;
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !self.text.contains(text) {
            let ready = sys::poll::readable(self.reader.as_fd(), end).unwrap();
            assert!(ready, "no {text:?} in {:?}", self.text);
            let mut buffer = [0; 4096];
            let length = self.reader.read(&mut buffer).unwrap();
            assert!(length > 0, "no {text:?} in {:?}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    /// Everything it has printed so far.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Waits for a command, with a deadline.
#[track_caller]
pub fn end_of(mut child: std::process::Child) -> std::process::ExitStatus {
    let mut status = None;
    let ended = host::wait_until(Duration::from_secs(60), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        _ = child.kill();
        _ = child.wait();
    }
    assert!(ended, "hangs");
    status.unwrap()
}

/// Starts the container of a sandbox, which then prints each signal.
#[track_caller]
pub fn running(sandbox: &Sandbox) -> Piped {
    sandbox.script("sigloop 100");
    let bundle = sandbox.bundle();
    let args = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let (mut piped, status) = Piped::run(sandbox, &args);
    if !status.success() {
        piped.wait_for("never");
    }
    piped.wait_for("ready\n");
    piped
}

/// Checkpoints and restores it in the middle of this script, and returns the output of the rest.
#[track_caller]
pub fn told_after(sandbox: &Sandbox, script: &str) -> Facts {
    sandbox.script(&format!("sigloop 1 ; {script} ; say done ; sleep 60"));
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let (mut piped, _) = Piped::run(sandbox, &run);
    piped.wait_for("ready\n");
    checkpoint(sandbox, &[]).ok();
    let mut piped = restored(sandbox, &[]);
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    piped.wait_for("done\n");
    Facts::parse(piped.text())
}

/// Passes this descriptor to the command as number 3.
pub fn with_third(command: &mut Command, fd: RawFd) {
    before_exec(command, move || {
        let done = match fd {
            // SAFETY: takes integers only; nothing else uses 3 between fork and exec.
            3 => unsafe { libc::fcntl(3, libc::F_SETFD, 0) },
            // SAFETY: as above.
            fd => unsafe { libc::dup2(fd, 3) },
        };
        if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    });
}

/// `restore --detach` of the bundle, with further arguments before the id; may fail.
pub fn restore(sandbox: &Sandbox, args: &[&str]) -> Done {
    let (images, bundle) = (images(sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let before = ["restore", "--detach", "--image-path", &images, "--bundle", bundle];
    brig(sandbox, &[&before, args, &[&sandbox.id]].concat())
}

/// Restores it, detached, with other pipes.
#[track_caller]
pub fn restored(sandbox: &Sandbox, args: &[&str]) -> Piped {
    restored_as(sandbox, &sandbox.id, args)
}

/// Restores it under another id.
#[track_caller]
pub fn restored_as(sandbox: &Sandbox, id: &str, args: &[&str]) -> Piped {
    let (images, bundle) = (images(sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let before = ["restore", "--detach", "--image-path", &images, "--bundle", bundle];
    let (mut piped, status) = Piped::run(sandbox, &[&before, args, &[id]].concat());
    if !status.success() {
        piped.wait_for("never");
    }
    piped
}

/// Checks that it runs: it prints a signal that it gets.
#[track_caller]
pub fn answers(sandbox: &Sandbox, id: &str, piped: &mut Piped) {
    let before = piped.text().len();
    sandbox.brig(&["kill", id, "USR1"]).ok();
    piped.wait_for("signal SIGUSR1\n");
    piped.text.replace_range(..before, "");
    piped.text.clear();
}

/// The properties of a process that a checkpoint preserves.
pub fn nature(pid: i64) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let kept = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:", "SigBlk:", "Umask:"];
    let status = read("status");
    let status = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    // Without mount ids and order.
    let info = read("mountinfo");
    let mut mounts: Vec<String> = info
        .lines()
        .map(|line| {
            let (mount, filesystem) = line.split_once(" - ").unwrap();
            let mount: Vec<&str> = mount.split(' ').skip(3).take(3).collect();
            // A concurrent CRIU of another test may just have cleared these.
            let taken = [",nsdelegate", ",memory_recursiveprot"];
            let kept = taken.iter().fold(filesystem.to_string(), |all, one| all.replace(one, ""));
            format!("{} - {kept}", mount.join(" "))
        })
        .collect();
    mounts.sort();
    let rest = [read("limits"), read("cgroup"), read("oom_score_adj"), read("environ")];
    format!("{}\n{}\n{}", status.collect::<Vec<_>>().join("\n"), mounts.join("\n"), rest.join("\n"))
}

/// The JSON object printed by `state`.
#[track_caller]
pub fn state_of(sandbox: &Sandbox, id: &str) -> Value {
    serde_json::from_str(&sandbox.brig(&["state", id]).ok().stdout).unwrap()
}

/// Starts a command whose output is appended to an existing file.
pub fn spawn_into(sandbox: &Sandbox, args: &[&str], path: &Path) -> Running {
    let mut command = command(sandbox, args);
    let file = fs::File::options().append(true).create(true).open(path).unwrap();
    before_exec(&mut command, move || {
        nix::unistd::dup2_stdout(&file)
            .and_then(|()| nix::unistd::dup2_stderr(&file))
            .map_err(Into::into)
    });
    sandbox.spawn(command)
}
