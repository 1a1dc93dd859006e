//! Invalid input: every directory in `fixtures/bundles/invalid/` is a bundle that must be refused with
//! exactly the line in its `error.txt`, and leave nothing.
//!
//! A case has the `config.json` for brig. `setup.txt`, if it exists, contains a line for each special
//! condition of the host or the command: see [`Setup`]. In `error.txt`, `{bundle}`, `{root}`, `{dir}` and
//! `{id}` are placeholders.
//!
//! `BRIG_BLESS=1` writes the current messages into `error.txt`, for a human to judge.

use crate::host;
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The special conditions of one case.
#[derive(Default)]
struct Setup {
    /// `id ID`: another id.
    id: Option<String>,
    /// `arg ARG`: a further argument of create.
    args: Vec<String>,
    /// `needs CONTROLLER v1|v2|none`, `needs apparmor|selinux none`: only on such hosts.
    needs: Option<(String, String)>,
    /// `bundle PATH`: another bundle.
    bundle: Option<String>,
    /// `no-config`: config.json does not exist.
    no_config: bool,
    /// `no-syscall NAME`: the kernel does not support it.
    no_syscall: Option<libc::c_long>,
    /// `read-only-cgroup`: the cgroup hierarchies are mounted read-only.
    read_only_cgroup: bool,
    /// `state MOUNT-DATA`: `--root` is a tmpfs with these options; `ro` makes it read-only.
    state: Option<String>,
    /// Other preparations of the sandbox: `file PATH`, `dir PATH`, `link PATH TO` in the bundle, `root-file`
    /// (--root is a file), `first` (the id is in use already).
    steps: Vec<Vec<String>>,
}

impl Setup {
    fn read(case: &Path) -> Setup {
        let mut setup = Setup::default();
        for line in fs::read_to_string(case.join("setup.txt")).unwrap_or_default().lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "id" => setup.id = Some(rest.to_string()),
                "needs" => {
                    let (controller, version) = rest.split_once(' ').unwrap();
                    setup.needs = Some((controller.to_string(), version.to_string()));
                }
                "bundle" => setup.bundle = Some(rest.to_string()),
                "arg" => setup.args.push(rest.to_string()),
                "no-config" => setup.no_config = true,
                "no-syscall" => setup.no_syscall = Some(number(rest)),
                "read-only-cgroup" => setup.read_only_cgroup = true,
                "state" => setup.state = Some(rest.to_string()),
                _ => setup.steps.push(line.split(' ').map(str::to_string).collect()),
            }
        }
        setup
    }

    /// Whether the host satisfies the case's conditions.
    fn suits(&self) -> bool {
        let Some((controller, version)) = &self.needs else { return true };
        if ["apparmor", "selinux"].contains(&controller.as_str()) {
            return !host::has_lsm(controller);
        }
        match host::controller(controller) {
            Some((host::Version::V1, _)) => version == "v1",
            Some((host::Version::V2, _)) => version == "v2",
            None => version == "none",
        }
    }

    /// Prepares bundle and host.
    fn apply(&self, sandbox: &Sandbox) {
        for step in &self.steps {
            let path = |index: usize| sandbox.bundle().join(&step[index]);
            match step[0].as_str() {
                "file" => sandbox.add_file(step[1].strip_prefix("rootfs/").unwrap(), "a file\n"),
                "dir" => fs::create_dir_all(path(1)).unwrap(),
                "remove" => drop(fs::remove_dir(path(1)).or_else(|_| fs::remove_file(path(1)))),
                "link" => symlink(&step[2], path(1)).unwrap(),
                "empty-rootfs" => {
                    fs::rename(sandbox.rootfs(), sandbox.bundle().join("base")).unwrap();
                }
                "root-file" => fs::write(sandbox.state_root(), "").unwrap(),
                "huge" => {
                    let path = sandbox.bundle().join("config.json");
                    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
                    file.write_all(&vec![b' '; 40 << 20]).unwrap();
                }
                "first" => drop(sandbox.create()),
                other => panic!("setup {other:?}"),
            }
        }
        if let Some(data) = &self.state {
            fs::create_dir(sandbox.state_root()).unwrap();
            let (flags, data) = match data.as_str() {
                "ro" => (MsFlags::MS_RDONLY, None),
                data => (MsFlags::empty(), Some(data)),
            };
            mount(Some("tmpfs"), &sandbox.state_root(), Some("tmpfs"), flags, data).unwrap();
        }
    }

    /// The command line, with special arguments.
    fn command(&self, sandbox: &Sandbox) -> Command {
        let (bundle, id) = (sandbox.bundle(), self.id.as_ref().unwrap_or(&sandbox.id));
        let bundle = self.bundle.as_ref().map_or(bundle.clone(), |name| bundle.join(name));
        let mut args = vec!["create", "--bundle", bundle.to_str().unwrap()];
        args.extend(self.args.iter().map(String::as_str));
        args.extend(["--", id]);
        let mut command = sandbox.command(&args);
        crate::sandbox::expendable_host(&mut command);
        if let Some(number) = self.no_syscall {
            before_exec(&mut command, move || crate::tracer::without_syscall(number));
        }
        if self.read_only_cgroup {
            let targets: Vec<PathBuf> =
                host::hierarchies().into_iter().map(|(_, path)| path).collect();
            before_exec(&mut command, move || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let (none, flags) =
                    (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY);
                Ok(targets.iter().try_for_each(|target| mount(none, target, none, flags, none))?)
            });
        }
        command
    }
}

fn number(syscall: &str) -> libc::c_long {
    match syscall {
        "fsopen" => libc::SYS_fsopen,
        "open_tree" => libc::SYS_open_tree,
        "mount_setattr" => libc::SYS_mount_setattr,
        other => panic!("no-syscall {other}"),
    }
}

/// brig's message, with varying parts replaced.
fn normal(text: &str, sandbox: &Sandbox) -> String {
    let replace =
        |text: String, path: PathBuf, name: &str| text.replace(path.to_str().unwrap(), name);
    let text = replace(text.to_string(), sandbox.bundle(), "{bundle}");
    let text = replace(text, sandbox.state_root(), "{root}");
    let text = replace(text, sandbox.dir.clone(), "{dir}");
    let text = text.replace(&sandbox.id, "{id}");
    // Descriptor numbers are irrelevant.
    let mut words = Vec::new();
    for word in text.split(' ') {
        let digits = word.trim_end_matches([',', ')', ':']);
        let is_fd = words.last().is_some_and(|last: &String| last.ends_with("fd"));
        match is_fd && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => words.push(format!("N{}", &word[digits.len()..])),
            false => words.push(word.to_string()),
        }
    }
    words.join(" ")
}

/// Runs one case; returns problems with its result.
fn check(case: &Path) -> Vec<String> {
    let sandbox = Sandbox::new();
    let setup = Setup::read(case);
    match fs::read(case.join("config.json")) {
        Ok(config) => fs::write(sandbox.bundle().join("config.json"), config).unwrap(),
        Err(_) if setup.no_config => fs::remove_file(sandbox.bundle().join("config.json")).unwrap(),
        Err(error) => panic!("{}: {error}", case.display()),
    }
    if !setup.suits() {
        skip(&format!("{} needs {:?}", case.display(), setup.needs));
        return Vec::new();
    }
    setup.apply(&sandbox);
    let before = sandbox.leftovers();
    let done = sandbox.spawn(setup.command(&sandbox)).wait();
    let after = sandbox.leftovers();
    if setup.state.is_some() {
        umount(&sandbox.state_root()).unwrap();
    }
    let said = normal(&done.stderr, &sandbox);
    let file = case.join("error.txt");
    if std::env::var_os("BRIG_BLESS").is_some() {
        fs::write(&file, &said).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let mut wrong = Vec::new();
    let mut expect = |right: bool, what: String| wrong.extend((!right).then_some(what));
    expect(done.code == Some(1), format!("exit {:?}, signal {:?}", done.code, done.signal));
    expect(said == expected, format!("says\n    {said}  instead of\n    {expected}"));
    expect(said.lines().count() == 1, format!("says {} lines: {said}", said.lines().count()));
    // As in runc, invalid arguments print the command's help to stdout.
    let usage = setup.args.iter().any(|arg| arg == "--frobnicate");
    let right =
        if usage { done.stdout.starts_with("Incorrect Usage: ") } else { done.stdout.is_empty() };
    expect(right, format!("prints {:?}", done.stdout));
    expect(before == after, format!("leaves {after:?}"));
    if sandbox.state_root().is_file() {
        fs::remove_file(sandbox.state_root()).unwrap();
    }
    wrong
}

#[test]
fn every_invalid_bundle_is_refused_in_one_exact_line_and_leaves_nothing() {
    brig_only!();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundles/invalid");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(cases).unwrap().map(|case| case.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 100, "only {} cases", cases.len());
    let only = std::env::var("BRIG_CASE").unwrap_or_default();
    let mut report = String::new();
    for case in cases.iter().filter(|case| case.to_string_lossy().contains(&only)) {
        for wrong in check(case) {
            report += &format!("{}: {wrong}\n", case.file_name().unwrap().display());
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
