//! Each system call of brig fails once, with each of the errors of a loaded or failing host: the result must
//! be an error or a success, and never a hang, a panic, leftovers, or a false success.
//!
//! `BRIG_FAULT_STRIDE=n` tries only every n-th call (default 11; 1 takes long), with a different start in
//! each run.
#![cfg(target_arch = "x86_64")]

use crate::host::{self, wait_until};
use crate::images::{Images, base};
use crate::sandbox::{Sandbox, brig_only};
use crate::tracer::{self, Faulted, Strike, Whose, run_with_fault};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ERRORS: [i32; 5] = [libc::ENOMEM, libc::EIO, libc::ENOSPC, libc::EMFILE, libc::EINTR];

/// Calls that do not fail (umask: nix panics if it does), or without which no program can run (a process
/// without memory is killed: crash.rs); close, which closes even if it returns an error; and recvfrom, which
/// std calls when it spawns a hook: it panics if that fails, which does not happen for a socket pair.
const SPARED: [i64; 19] = [
    libc::SYS_umask,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_execve,
    libc::SYS_recvfrom,
];

/// Makes every call fail in turn, until there are no more; `around` runs the command, and checks the result.
fn each(least: usize, mut around: impl FnMut(usize, i32) -> Faulted) {
    let stride = std::env::var("BRIG_FAULT_STRIDE").map_or(11, |stride| stride.parse().unwrap());
    let start = usize::try_from(std::process::id()).unwrap() % stride;
    let (mut failed, mut tried) = (0, 0);
    for at in (1 + start..).step_by(stride) {
        let errno = ERRORS[(at / stride + start) % ERRORS.len()];
        let faulted = around(at, errno);
        let what =
            || format!("call {:?}, the {at}th, failed with {errno}: {faulted:?}", faulted.call);
        assert!(faulted.code.is_some(), "ended by a signal: {}", what());
        assert!(!faulted.stderr.contains("internal error"), "a panic: {}", what());
        if faulted.code != Some(0) {
            assert!(!faulted.stderr.trim().is_empty(), "failed without a word: {}", what());
            failed += 1;
        }
        tried += 1;
        if faulted.call.is_none() {
            assert_eq!(faulted.code, Some(0), "fails under the tracer alone: {faulted:?}");
            assert!(at > least, "only {at} calls");
            eprintln!("{at} calls, {tried} tried, {failed} of them errors of the command");
            return;
        }
    }
}

/// A configuration that uses most features of create.
fn eventful() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 600").patch(|config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        config["linux"]["resources"]["pids"] = json!({"limit": 20});
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    });
    sandbox
}

fn delete(sandbox: &Sandbox, what: &dyn std::fmt::Debug) {
    let deleted = sandbox.brig(&["delete", "--force", &sandbox.id]);
    assert_eq!((deleted.code, deleted.stderr.as_str()), (Some(0), ""), "after {what:?}");
    // Killed processes may still be exiting.
    let gone = wait_until(Duration::from_secs(5), || sandbox.leftovers().is_empty());
    assert!(gone, "after {what:?} delete leaves {:#?}", sandbox.leftovers());
}

fn create_with_faults(whose: Whose, least: usize) {
    let sandbox = eventful();
    let bundle = sandbox.bundle();
    each(least, |at, errno| {
        let args = ["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        let faulted = run_with_fault(&sandbox, sandbox.command(&args), (whose, at), errno, &SPARED);
        if faulted.code != Some(0) {
            let gone = wait_until(Duration::from_secs(5), || sandbox.leftovers().is_empty());
            assert!(gone, "{at} {errno} {faulted:?} leaves {:#?}", sandbox.leftovers());
            return faulted;
        }
        // After create's last message, the child reads it, prepares to wait, and waits: a fault of these calls
        // is one of a created container, which create may see or not.
        let late = [Some(libc::SYS_read), Some(libc::SYS_prctl)].contains(&faulted.call);
        let status = sandbox.status();
        let ended = whose == Whose::Child && late && status == "stopped";
        assert!(status == "created" || ended, "{status} {at} {errno} {faulted:?}");
        let started = sandbox.brig(&["start", &sandbox.id]);
        if started.code == Some(0) {
            assert_eq!(sandbox.status(), "running", "{at} {errno} {faulted:?}");
        } else {
            assert_eq!(whose, Whose::Child, "{at} {errno} {faulted:?} {started:?}");
        }
        delete(&sandbox, &(at, errno, &faulted));
        faulted
    });
}

#[test]
fn create_survives_a_fault_in_any_of_its_calls() {
    brig_only!();
    create_with_faults(Whose::Parent, 100);
}

#[test]
fn create_survives_a_fault_in_any_call_of_its_child() {
    brig_only!();
    create_with_faults(Whose::Child, 100);
}

#[test]
fn start_survives_a_fault_in_any_of_its_calls() {
    brig_only!();
    let sandbox = eventful();
    each(10, |at, errno| {
        sandbox.create();
        let command = sandbox.command(&["start", &sandbox.id]);
        let faulted = run_with_fault(&sandbox, command, (Whose::Parent, at), errno, &SPARED);
        if faulted.code == Some(0) {
            assert_eq!(sandbox.status(), "running", "{at} {errno} {faulted:?}");
        }
        delete(&sandbox, &(at, errno, &faulted));
        faulted
    });
}

/// The processes of the container besides init that are alive: zombies are left to the host's init, which
/// may take its time.
fn others(sandbox: &Sandbox) -> Vec<i64> {
    let ps = sandbox.brig(&["ps", "--format", "json", &sandbox.id]).ok().stdout;
    let mut pids: Vec<i64> = serde_json::from_str(&ps).unwrap();
    let init = sandbox.pid();
    let alive = |pid| host::status_of(pid, "State").is_some_and(|state| !state.starts_with('Z'));
    pids.retain(|&pid| pid != init && alive(pid));
    pids
}

#[test]
fn exec_survives_a_fault_in_any_of_its_calls() {
    brig_only!();
    let sandbox = eventful();
    sandbox.create();
    sandbox.start();
    let file = sandbox.dir.join("pid");
    for whose in [Whose::Parent, Whose::Child] {
        each(20, |at, errno| {
            _ = fs::remove_file(&file);
            let args = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &sandbox.id];
            let command = sandbox.command(&[&args[..], &["/init", "sleep", "60"]].concat());
            let faulted = run_with_fault(&sandbox, command, (whose, at), errno, &SPARED);
            if faulted.code == Some(0) {
                let pid: i64 = fs::read_to_string(&file).unwrap().parse().unwrap();
                assert!(host::status_of(pid, "State").is_some(), "{at} {errno} {faulted:?}");
                let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
            let alone = wait_until(Duration::from_secs(5), || others(&sandbox).is_empty());
            assert!(alone, "{at} {errno} {faulted:?} leaves {:?}", others(&sandbox));
            faulted
        });
    }
}

#[test]
fn delete_survives_a_fault_in_any_of_its_calls() {
    brig_only!();
    let sandbox = eventful();
    each(50, |at, errno| {
        sandbox.create();
        sandbox.start();
        let command = sandbox.command(&["delete", "--force", &sandbox.id]);
        let faulted = run_with_fault(&sandbox, command, (Whose::Parent, at), errno, &SPARED);
        if faulted.code == Some(0) {
            let gone = wait_until(Duration::from_secs(2), || sandbox.leftovers().is_empty());
            assert!(gone, "{at} {errno} {faulted:?} leaves {:#?}", sandbox.leftovers());
        }
        delete(&sandbox, &(at, errno, &faulted));
        faulted
    });
}

fn run_of_an_image_with_faults(whose: Whose, least: usize) {
    let images = Images::new();
    let sandbox = &images.sandbox;
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"], "Volumes": {"/tmp": {}}}));
    let (store, mark) = (images.store(), format!("BRIG_TEST={}", sandbox.id));
    each(least, |at, errno| {
        let args = ["--store", store.to_str().unwrap(), "run", "--detach", "--image", &image];
        let rest = ["--env", &mark, &sandbox.id, "--", "sleep", "60"];
        let command = sandbox.command(&[&args[..], &rest].concat());
        let faulted = run_with_fault(sandbox, command, (whose, at), errno, &SPARED);
        let what = (at, errno, &faulted);
        if faulted.code == Some(0) {
            assert_eq!(sandbox.status(), "running", "{what:?}");
            delete(sandbox, &what);
        }
        let bundles = || fs::read_dir(store.join("containers")).map_or(0, Iterator::count);
        let gone =
            wait_until(Duration::from_secs(5), || sandbox.leftovers().is_empty() && bundles() == 0);
        assert!(gone, "{what:?} leaves {:#?}, {} bundles", sandbox.leftovers(), bundles());
        // Whatever is left in the store is usable, or does not matter.
        let again = images.brig(&["run", "--image", &image, &sandbox.id, "--", "say", "again"]);
        assert_eq!(
            (again.code, again.stdout.as_str(), again.stderr.as_str()),
            (Some(0), "again\n", ""),
            "after {what:?}"
        );
        crate::tree::remove(&store).unwrap();
        faulted
    });
}

#[test]
fn run_of_an_image_survives_a_fault_in_any_of_its_calls() {
    brig_only!();
    run_of_an_image_with_faults(Whose::Parent, 200);
}

#[test]
fn run_of_an_image_survives_a_fault_in_any_call_of_what_unpacks_it() {
    brig_only!();
    run_of_an_image_with_faults(Whose::Child, 50);
}

/// The files below a directory, and their contents.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.append(&mut files(&entry.path())),
            // Removed meanwhile, if it cannot be read.
            false => drop(fs::read(entry.path()).map(|text| found.insert(entry.path(), text))),
        }
    }
    found
}

/// A container of an image, of which images are made in a layout.
struct Commits {
    images: Images,
    out: PathBuf,
    /// The files of the layout.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Commits {
    fn new() -> Commits {
        let images = Images::new();
        let sandbox = &images.sandbox;
        let mut layout = images.layout("image");
        layout.layer(base());
        let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
        let (id, mark) = (sandbox.id.as_str(), format!("BRIG_TEST={}", sandbox.id));
        let start = ["run", "--detach", "--image", &image, "--env", &mark, id, "--"];
        let script = ["write", "/etc/new", "new", ";", "say", "ready", ";", "sleep", "600"];
        images.brig(&[&start[..], &script].concat()).ok().wait_for_line("ready");
        images.brig(&["commit", id, "out:first"]).ok();
        let out = sandbox.dir.join("out");
        Commits { files: files(&out), out, images }
    }

    fn command(&self, at: usize) -> Command {
        let (tag, message) = (format!("out:at-{at}"), format!("message {at}"));
        let store = self.images.store();
        let (store, id) = (store.to_str().unwrap(), self.images.sandbox.id.as_str());
        let args = ["--store", store, "commit", "--message", &message, id, &tag];
        self.images.sandbox.command(&args)
    }

    fn tags(&self) -> Vec<String> {
        let index: Value =
            serde_json::from_slice(&fs::read(self.out.join("index.json")).unwrap()).unwrap();
        let manifests = index["manifests"].as_array().unwrap().clone();
        let tag = |manifest: &Value| {
            manifest["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned)
        };
        manifests.iter().filter_map(tag).collect()
    }

    /// One call fails: the image is complete, or nothing of it is left.
    fn with_fault(&mut self, whose: Whose, at: usize, errno: i32) -> Faulted {
        let sandbox = &self.images.sandbox;
        let faulted = run_with_fault(sandbox, self.command(at), (whose, at), errno, &SPARED);
        let what = (at, errno, &faulted);
        let runs = wait_until(Duration::from_secs(5), || sandbox.status() == "running");
        assert!(runs, "{what:?} leaves it {}", sandbox.status());
        if self.tags().contains(&format!("at-{at}")) {
            let bundle = self.images.bundle(&format!("out:at-{at}"), "of-commit");
            let layers = self.images.layers(&bundle);
            let new = layers.iter().filter(|layer| layer.join("etc/new").exists());
            assert_eq!(new.count(), 1, "{what:?} {layers:?}");
            crate::tree::remove(&bundle).unwrap();
        } else {
            assert_ne!(faulted.code, Some(0), "{what:?}");
            let same = wait_until(Duration::from_secs(5), || files(&self.out) == self.files);
            let left: Vec<_> =
                files(&self.out).into_keys().filter(|p| !self.files.contains_key(p)).collect();
            assert!(same, "{what:?} leaves {left:?}");
        }
        assert!(self.tags().contains(&"first".to_string()), "{what:?}: {:?}", self.tags());
        self.files = files(&self.out);
        faulted
    }
}

fn commit_with_faults(whose: Whose, least: usize) {
    let mut commits = Commits::new();
    each(least, |at, errno| commits.with_fault(whose, at, errno));
    delete(&commits.images.sandbox, &"all of it");
}

/// The index is written last. Whatever fails then, no tag refers to what was removed.
#[test]
fn commit_that_fails_at_its_end_is_complete_or_leaves_nothing() {
    brig_only!();
    let mut commits = Commits::new();
    let sandbox = &commits.images.sandbox;
    let traced =
        tracer::run(sandbox, commits.command(0), Whose::Parent, usize::MAX, Strike::Parent);
    let calls: Vec<_> = traced.calls.into_iter().filter(|call| !SPARED.contains(call)).collect();
    commits.files = files(&commits.out);
    let index = calls.iter().rposition(|call| *call == libc::SYS_syncfs).unwrap();
    for at in index + 1..=calls.len() {
        commits.with_fault(Whose::Parent, at, libc::EIO);
    }
    delete(&commits.images.sandbox, &"all of it");
}

#[test]
fn commit_survives_a_fault_in_any_of_its_calls() {
    brig_only!();
    commit_with_faults(Whose::Parent, 100);
}

#[test]
fn commit_survives_a_fault_in_any_call_of_what_stands_guard() {
    brig_only!();
    commit_with_faults(Whose::Child, 5);
}
