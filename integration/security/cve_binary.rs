//! CVE-2019-5736: a container opens brig's executable, and writes to it. Each attack is on a copy of brig,
//! which would be overwritten.

use crate::sandbox::{Sandbox, before_exec, brig_only, copy_program, is_dynamic, runtime, skip};
use crate::tracer::without_syscall;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of brig.
pub(super) fn copy(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    copy_program(&runtime(), &path);
    path
}

/// A command with this copy.
pub(super) fn command(sandbox: &Sandbox, brig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(brig);
    command.arg("--root").arg(sandbox.state_root()).args(args);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("BRIG_TEST", &sandbox.id);
    command.current_dir(&sandbox.dir);
    command
}

/// How brig protects its executable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kernel {
    /// With an overlay, from which it continues.
    New,
    /// With a copy in memory, which it executes, because fsopen(2) is missing.
    Old,
}

pub(super) fn on(kernel: Kernel, mut command: Command) -> Command {
    if kernel == Kernel::Old {
        before_exec(&mut command, || without_syscall(libc::SYS_fsopen));
    }
    command
}

/// Everything that root may have in a container: "privileged" in engines.
fn privileged(config: &mut Value) {
    let names = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
                 LINUX_IMMUTABLE SYS_CHROOT SYS_PTRACE SYS_ADMIN MKNOD SETFCAP";
    let names: Vec<String> = names.split_whitespace().map(|name| format!("CAP_{name}")).collect();
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(names);
    }
    config["process"]["noNewPrivileges"] = json!(false);
}

/// A container whose init hunts, and contains a fifo on which a brig that opens its log blocks.
fn hunter(change: impl FnOnce(&mut Value)) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("hunt 20");
    sandbox.patch(change);
    let fifo = sandbox.rootfs().join("tmp/log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    sandbox
}

/// An executable whose loader is `/proc/self/exe`, i.e. brig when it is executed. brig locates its own
/// thread-local data with the program headers of the file being loaded: so those are copied from brig.
fn loaded_by_proc_self_exe(brig: &[u8]) -> Vec<u8> {
    const INTERPRETER: &[u8] = b"/proc/self/exe\0";
    let number = |at: usize, len: usize| {
        brig[at..at + len].iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte))
    };
    let headers = (0..number(56, 2)).map(|index| number(32, 8) + index * 56);
    // PT_TLS and PT_GNU_RELRO.
    let copied = headers.filter(|at| [7, 0x6474_e552].contains(&number(*at, 4)));
    let copied: Vec<&[u8]> = copied.map(|at| &brig[at..at + 56]).collect();
    let count = 2 + copied.len();
    let (after, size) = (64 + 56 * count, 64 + 56 * count + INTERPRETER.len());
    // brig's class, byte order and machine; position independent (3); no sections.
    let mut file = brig[..16].to_vec();
    file.extend([3, 0]);
    file.extend(&brig[18..24]);
    [0_u64, 64, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [64, 56, u16::try_from(count).unwrap(), 0, 0, 0]
        .iter()
        .for_each(|half| file.extend(half.to_le_bytes()));
    let mut header = |kind: u32, offset: usize, size: usize, align: u64| {
        [kind, 4].iter().for_each(|word| file.extend(word.to_le_bytes()));
        let [offset, size] = [offset, size].map(|number| number as u64);
        let words = [offset, offset, offset, size, size, align];
        words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    };
    header(3, after, INTERPRETER.len(), 1);
    header(1, 0, size, 0x1000);
    copied.iter().for_each(|header| file.extend(*header));
    file.extend(INTERPRETER);
    file
}

/// Checks brig's executable after a hunting container was made to execute this.
#[track_caller]
fn attack(sandbox: &Sandbox, kernel: Kernel, program: &[&str]) {
    let brig = copy(sandbox, "brig");
    let before = fs::read(&brig).unwrap();
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let hunting = sandbox.spawn(on(kernel, command(sandbox, &brig, &run))).wait().ok();
    hunting.wait_for_line("hunting");
    let exec = [&["exec", &sandbox.id], program].concat();
    // A short-lived one may not be caught immediately.
    for _ in 0..200 {
        sandbox.spawn(on(kernel, command(sandbox, &brig, &exec))).wait();
        if !hunting.facts_now().all("caught").is_empty() {
            break;
        }
    }
    sandbox.wait_for_status("stopped");
    let facts = hunting.facts_now();
    assert!(!facts.all("caught").is_empty(), "{facts}");
    assert!(fs::read(&brig).unwrap() == before, "{program:?} {kernel:?}: brig is lost: {facts}");
    let refused = facts.all("refused").iter().any(|errnos| errnos.starts_with('E'));
    assert!(refused, "{program:?} {kernel:?}: {facts}");
    for call in ["mount_setattr", "open_tree", "fspick"] {
        assert!(facts.all(call).is_empty(), "{program:?} {kernel:?}: {facts}");
    }
    sandbox.brig(&["delete", &sandbox.id]).ok();
}

/// brig, which blocks until its log is read.
const WAITING: [&str; 4] = ["/proc/self/exe", "--log", "/tmp/log", "list"];

#[test]
fn cve_2019_5736_exec_of_proc_self_exe() {
    brig_only!();
    for kernel in [Kernel::New, Kernel::Old] {
        attack(&hunter(|_| {}), kernel, &WAITING);
        attack(&hunter(privileged), kernel, &WAITING);
    }
}

#[test]
fn cve_2019_5736_script_with_proc_self_exe_as_its_interpreter() {
    brig_only!();
    for kernel in [Kernel::New, Kernel::Old] {
        let sandbox = hunter(|_| {});
        sandbox.add_file("bin/script", "#!/proc/self/exe list\n");
        let script = sandbox.rootfs().join("bin/script");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        attack(&sandbox, kernel, &["/bin/script"]);
    }
}

#[test]
fn cve_2019_5736_program_with_proc_self_exe_as_its_loader() {
    brig_only!();
    let brig = fs::read(runtime()).unwrap();
    if is_dynamic(&brig) {
        return skip("this brig is not static: make integration");
    }
    for kernel in [Kernel::New, Kernel::Old] {
        let sandbox = hunter(privileged);
        sandbox.script("hunt-mapped 20");
        let loaded = sandbox.rootfs().join("bin/loaded");
        fs::write(&loaded, loaded_by_proc_self_exe(&brig)).unwrap();
        fs::set_permissions(&loaded, fs::Permissions::from_mode(0o755)).unwrap();
        let program = [&["/bin/loaded"], &WAITING[1..]].concat();
        attack(&sandbox, kernel, &program);
    }
}

#[test]
fn cve_2019_5736_link_to_proc_self_exe() {
    brig_only!();
    let sandbox = hunter(privileged);
    std::os::unix::fs::symlink("/proc/self/exe", sandbox.rootfs().join("bin/sh")).unwrap();
    attack(&sandbox, Kernel::New, &["/bin/sh", "--log", "/tmp/log", "list"]);
}

#[test]
fn cve_2019_5736_entrypoint_proc_self_exe_watched_by_another_container() {
    brig_only!();
    let watcher = hunter(privileged);
    let brig = copy(&watcher, "brig");
    let before = fs::read(&brig).unwrap();
    let bundle = watcher.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &watcher.id];
    let hunting = watcher.spawn(command(&watcher, &brig, &run)).wait().ok();
    hunting.wait_for_line("hunting");
    // As in a pod: both see each other's processes.
    let pid = watcher.pid();
    let victim = Sandbox::new();
    nix::unistd::mkfifo(&victim.rootfs().join("tmp/log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    victim.args(&WAITING).patch(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "pid" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
    });
    let bundle = victim.bundle();
    let run = ["run", "--bundle", bundle.to_str().unwrap(), &victim.id];
    let done = victim.spawn(command(&victim, &brig, &run)).wait();
    watcher.wait_for_status("stopped");
    let facts = hunting.facts_now();
    assert!(!facts.all("caught").is_empty(), "{facts}: {done:?}");
    assert!(facts.all("refused").iter().any(|errnos| errnos.starts_with('E')), "{facts}");
    assert!(fs::read(&brig).unwrap() == before, "brig is lost: {facts}");
}

#[test]
fn cve_2019_5736_loader_of_the_image_is_not_loaded() {
    brig_only!();
    if is_dynamic(&fs::read(runtime()).unwrap()) {
        return skip("this brig is not static: make integration");
    }
    let sandbox = Sandbox::new();
    for file in ["lib64/ld-linux-x86-64.so.2", "lib/ld-musl-x86_64.so.1", "lib/libc.so.6"] {
        fs::create_dir_all(sandbox.rootfs().join(file).parent().unwrap()).unwrap();
        sandbox.add_init(file);
    }
    sandbox.patch(|config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.push(json!("LD_PRELOAD=/lib/libc.so.6"));
    });
    let done = sandbox.args(&["/proc/self/exe", "--version"]).run().ok();
    assert!(done.stdout.starts_with("brig "), "{done:?}");
}

#[test]
fn without_a_way_to_seal_brig_there_is_no_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("say hello").bundle();
    let brig = copy(&sandbox, "brig");
    let run = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let without = |calls: &'static [libc::c_long]| {
        let mut command = command(&sandbox, &brig, &run);
        before_exec(&mut command, || calls.iter().try_for_each(|call| without_syscall(*call)));
        sandbox.spawn(command).wait()
    };
    // One is enough.
    assert_eq!(without(&[libc::SYS_memfd_create]).ok().stdout, "hello\n");
    assert_eq!(without(&[libc::SYS_fsopen]).ok().stdout, "hello\n");
    let error = without(&[libc::SYS_memfd_create, libc::SYS_fsopen]).fails();
    assert!(error.contains("an overlay (fsopen") && error.contains("memfd_create"), "{error}");
    sandbox.assert_nothing_left();
}
