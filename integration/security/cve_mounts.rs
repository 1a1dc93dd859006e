//! What images and volumes have done to runtimes that mount, each by its CVE: nothing outside the container's
//! root is touched, and no path is masked or protected in the wrong place.

use crate::facts::Facts;
use crate::sandbox::{Done, Sandbox, before_exec, brig_only};
use crate::tracer::without_syscall;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory of the host that must not be changed.
struct Outside(PathBuf);

impl Outside {
    fn new(sandbox: &Sandbox) -> Outside {
        let outside = Outside(sandbox.dir.join("outside"));
        fs::create_dir_all(outside.0.join("dir")).unwrap();
        fs::write(outside.0.join("file"), "of the host").unwrap();
        outside
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    /// An absolute and a relative path to it, as in links of an image.
    fn ways(&self, name: &str) -> [String; 2] {
        let path = self.path(name);
        [path.clone(), format!("{}{path}", "../".repeat(40).trim_end_matches('/'))]
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        let mut names = Vec::new();
        for dir in [&self.0, &self.0.join("dir")] {
            names.extend(fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()));
        }
        names.sort();
        assert_eq!(names, ["dir", "file"], "{what}: something was made or removed outside");
        assert_eq!(fs::read_to_string(self.path("file")).unwrap(), "of the host", "{what}");
        let file = fs::metadata(self.path("file")).unwrap();
        assert_eq!((file.uid(), file.mode() & 0o777), (0, 0o644), "{what}");
        let here = self.0.to_str().unwrap();
        let mounts = crate::host::mounts();
        assert!(mounts.iter().all(|mount| !mount.target.starts_with(here)), "{what}: mounted");
    }
}

/// Replaces a directory of the image with a link.
fn replace_by_link(sandbox: &Sandbox, name: &str, to: &str) {
    let path = sandbox.rootfs().join(name);
    _ = fs::remove_dir(&path);
    _ = fs::remove_file(&path);
    symlink(to, path).unwrap();
}

fn without_mounts_below(sandbox: &Sandbox, path: &str) {
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with(path));
    });
}

#[test]
fn cve_2026_41579_cve_2026_47766_cve_2019_18837_links_in_the_place_of_directories() {
    // With a filesystem mounted there, and without: then devices, links and console are created in the
    // image's own directory.
    for name in ["dev", "proc", "sys", "tmp"] {
        for mounted in [true, false] {
            for way in 0..2 {
                let sandbox = Sandbox::new();
                let outside = Outside::new(&sandbox);
                replace_by_link(&sandbox, name, &outside.ways("dir")[way]);
                if !mounted {
                    without_mounts_below(&sandbox, &format!("/{name}"));
                }
                sandbox.script("true").run();
                outside.assert_untouched(&format!("{name}, mounted {mounted}, way {way}"));
                sandbox.assert_nothing_left();
            }
        }
    }
}

#[test]
fn cve_2026_41579_links_in_the_place_of_devices() {
    for name in ["null", "zero", "ptmx", "console", "fd", "stdin", "core"] {
        let sandbox = Sandbox::new();
        let outside = Outside::new(&sandbox);
        without_mounts_below(&sandbox, "/dev");
        for to in [outside.path("file"), outside.path("made")] {
            replace_by_link(&sandbox, &format!("dev/{name}"), &to);
            sandbox.script("true").run();
            outside.assert_untouched(name);
            sandbox.assert_nothing_left();
        }
    }
}

#[test]
fn cve_2019_19921_cve_2023_27561_cve_2023_28642_proc_and_sys_are_no_links() {
    brig_only!();
    for name in ["proc", "sys"] {
        for to in ["fake", "/fake", "../fake", "tmp/../fake"] {
            let sandbox = Sandbox::new();
            fs::create_dir(sandbox.rootfs().join("fake")).unwrap();
            replace_by_link(&sandbox, name, to);
            let error = sandbox.create_with(&[]).fails();
            assert!(
                error.contains("the destination is a symbolic link"),
                "{name} -> {to}: {error}"
            );
            sandbox.assert_nothing_left();
        }
    }
}

#[test]
fn cve_2019_16884_cve_2025_52881_nothing_is_mounted_over_proc() {
    brig_only!();
    let source = |sandbox: &Sandbox| Outside::new(sandbox).path("dir");
    for target in
        ["/proc", "/proc/", "/tmp/../proc", "/proc/self/attr", "/proc/sys", "/link", "/link/1"]
    {
        for bind in [true, false] {
            let sandbox = Sandbox::new();
            symlink("proc", sandbox.rootfs().join("link")).unwrap();
            let mount = match bind {
                true => json!({"destination": target, "source": source(&sandbox),
                    "options": ["bind"]}),
                false => json!({"destination": target, "type": "tmpfs", "source": "tmpfs"}),
            };
            sandbox.patch(|config| config["mounts"].as_array_mut().unwrap().push(mount));
            let error = sandbox.create_with(&[]).fails();
            let said = ["only a proc filesystem can be mounted on /proc", "is inside /proc"];
            assert!(said.iter().any(|said| error.contains(said)), "{target}: {error}");
            sandbox.assert_nothing_left();
        }
    }
}

#[test]
fn cve_2025_52881_sysctls_do_not_go_astray_in_a_joined_namespace() {
    brig_only!();
    let sandbox = Sandbox::new();
    let fake = sandbox.dir.join("fake");
    let parameter = "sys/net/ipv4/ip_forward";
    fs::create_dir_all(fake.join(parameter).parent().unwrap()).unwrap();
    fs::write(fake.join(parameter), "of the host").unwrap();
    let (told, ids) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let source = fake.clone();
    // A mount namespace with a manipulated /proc.
    let thread = std::thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let (none, bind) = (None::<&str>, MsFlags::MS_BIND);
        mount(Some(&source), "/proc", none, bind, none).unwrap();
        told.send(nix::unistd::gettid()).unwrap();
        ended.recv().unwrap_err();
    });
    let thread_id = ids.recv().unwrap();
    sandbox.script("say hello").patch(|config| {
        config["mounts"] = json!([]);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "mount" {
                let path = format!("/proc/{}/task/{thread_id}/ns/mnt", std::process::id());
                namespace["path"] = json!(path);
            }
        }
    });
    let done = sandbox.run();
    drop(end);
    thread.join().unwrap();
    assert_eq!(fs::read_to_string(fake.join(parameter)).unwrap(), "of the host", "{done:?}");
    assert_eq!(done.stdout, "hello\n", "{done:?}");
}

#[test]
fn cve_2022_0811_a_sysctl_writes_to_one_parameter() {
    let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = pattern();
    for (name, value) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/tmp/x"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/tmp/x"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "x"),
        ("net.ipv4/../../kernel.core_pattern", "x"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| config["linux"]["sysctl"] = json!({ name: value }));
        // The second is parsed as a number by the kernel, with trailing text.
        sandbox.script("true").run();
        assert_eq!(pattern(), before, "{name}={value}");
        sandbox.assert_nothing_left();
    }
}

/// Creates a /dev/null.
type Put = fn(&Path, &Outside);

/// A container with the image's own /dev, in which `put` creates /dev/null.
fn with_null(put: impl FnOnce(&Path, &Outside)) -> (Sandbox, Outside) {
    let sandbox = Sandbox::new();
    let outside = Outside::new(&sandbox);
    without_mounts_below(&sandbox, "/dev");
    put(&sandbox.rootfs().join("dev/null"), &outside);
    (sandbox, outside)
}

#[test]
fn cve_2025_31133_cve_2025_62161_a_false_dev_null_hides_nothing_and_shows_nothing() {
    brig_only!();
    let makes: [(&str, Put); 5] = [
        ("link", |null, outside| symlink(outside.path("file"), null).unwrap()),
        ("link inside", |null, _| symlink("/proc/sys/kernel/core_pattern", null).unwrap()),
        ("file", |null, _| fs::write(null, "false").unwrap()),
        ("directory", |null, _| fs::create_dir(null).unwrap()),
        ("zero", |null, _| {
            use nix::sys::stat::{Mode, SFlag, makedev, mknod};
            mknod(null, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap();
        }),
    ];
    for (what, put) in makes {
        let (sandbox, outside) = with_null(put);
        sandbox.add_file("etc/secret", "a secret");
        sandbox.patch(|config| config["linux"]["maskedPaths"] = json!(["/etc/secret"]));
        let done = sandbox.script("read /etc/secret ; write /etc/secret lost").run();
        assert_eq!(done.code, Some(1), "{what}: {done:?}");
        assert_eq!(done.stdout, "", "{what}");
        outside.assert_untouched(what);
        let secret = fs::read_to_string(sandbox.rootfs().join("etc/secret")).unwrap();
        assert_eq!(secret, "a secret", "{what}");
        sandbox.assert_nothing_left();
        _ = fs::remove_file(sandbox.rootfs().join("dev/null"));
    }
}

#[test]
fn cve_2026_88265_standard_streams_are_not_reopened_in_the_container() {
    let (sandbox, outside) = with_null(|null, _| symlink("/etc/secret", null).unwrap());
    sandbox.add_file("etc/secret", "a secret");
    // Nothing to mask, and no device to create in place of the link.
    sandbox.script("fds").patch(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let bundle = sandbox.bundle();
    let args = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let mut command = sandbox.command(&args);
    before_exec(&mut command, || {
        // SAFETY: nothing in this child uses its stdin any more.
        unsafe { libc::close(0) };
        Ok(())
    });
    let done = sandbox.spawn(command).wait();
    let facts = Facts::parse(&done.stdout);
    assert!(facts.all("fd").iter().all(|fd| !fd.contains("secret")), "{done:?}");
    let secret = fs::metadata(sandbox.rootfs().join("etc/secret")).unwrap();
    assert_eq!((secret.uid(), secret.len()), (0, 8));
    outside.assert_untouched("stdin");
}

/// The duration of a race: `BRIG_TEST_RACE` seconds, or 30.
fn race_time() -> Duration {
    let seconds = std::env::var("BRIG_TEST_RACE").map_or(30, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Exchanges two names in a directory as fast as possible while `test` runs.
fn exchanging(dir: &Path, test: impl FnOnce()) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let (over, exchanged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (one, two) = (dir.join("swap"), dir.join("swap2"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &one, AT_FDCWD, &two, flags).unwrap();
                exchanged.fetch_add(1, Ordering::Relaxed);
            }
        });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = caught {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(exchanged.into_inner() > 100, "hardly a race");
}

/// What to mount in the volume, and which call the kernel does not support. Without mount_setattr(2), a mount
/// is made read-only by two calls, between which a path could be exchanged.
const RACES: [(Option<&str>, Option<libc::c_long>); 4] = [
    (Some("/vol/swap/dir"), None),
    (Some("/vol/swap/dir"), Some(libc::SYS_openat2)),
    (Some("/vol/swap/made/deep"), None),
    (None, Some(libc::SYS_mount_setattr)),
];

/// A container with a volume in which `/vol/swap` alternates between a directory and a link to the host. The
/// link is also valid inside the root, so that the container can run in both cases.
fn with_volume(volume: &Path, outside: &Path, mounted: Option<&str>) -> Sandbox {
    let sandbox = Sandbox::new();
    let inside = sandbox.rootfs().join(outside.strip_prefix("/").unwrap());
    fs::create_dir_all(inside.join("dir")).unwrap();
    fs::write(inside.join("file"), "of the image").unwrap();
    sandbox.script("mounts").patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/vol", "source": volume, "options": ["bind"]}));
        mounts.extend(
            mounted.map(|path| json!({"destination": path, "type": "tmpfs", "source": "tmpfs"})),
        );
        config["linux"]["maskedPaths"] = json!(["/vol/swap/file", "/vol/swap/dir"]);
        config["linux"]["readonlyPaths"] = json!(["/vol/swap/dir"]);
    });
    sandbox
}

#[test]
fn cve_2021_30465_cve_2024_45310_ghsa_3q8j_pf29_vwv8_paths_that_are_exchanged_all_the_time() {
    let home = Sandbox::new();
    let outside = Outside::new(&home);
    let volume = home.dir.join("volume");
    fs::create_dir_all(volume.join("swap/dir")).unwrap();
    fs::write(volume.join("swap/file"), "of the volume").unwrap();
    symlink(&outside.0, volume.join("swap2")).unwrap();
    let containers = RACES.map(|(mounted, missing)| {
        (with_volume(&volume, &outside.0, mounted), missing, std::cell::Cell::new(0))
    });
    exchanging(&volume, || {
        let end = Instant::now() + race_time();
        let mut tried = 0;
        for (sandbox, missing, won) in containers.iter().cycle() {
            let done = run_without(sandbox, *missing);
            tried += 1;
            won.set(won.get() + usize::from(done.code == Some(0)));
            outside.assert_untouched("race");
            // Recreated by the next one. One of the two is the link, to a path that does not exist.
            let inside = sandbox.rootfs().join(outside.0.strip_prefix("/").unwrap());
            for place in [volume.join("swap"), volume.join("swap2"), inside] {
                _ = fs::remove_dir(place.join("made/deep"));
                _ = fs::remove_dir(place.join("made"));
            }
            if Instant::now() > end {
                break;
            }
        }
        let won: Vec<usize> = containers.iter().map(|(_, _, won)| won.get()).collect();
        eprintln!("of {tried} containers ran {won:?}");
        assert!(won.iter().all(|won| *won > 0), "some never ran, of {tried}: {won:?}");
    });
}

/// No CVE has been assigned: with runc 1.1 a file that is exchanged while it is copied into a tmpfs gets the owner
/// and mode of a setuid program.
#[test]
fn what_is_copied_into_a_tmpfs_keeps_its_owner_and_mode_whoever_exchanges_it() {
    let sandbox = Sandbox::new();
    let data = sandbox.rootfs().join("data");
    fs::create_dir(&data).unwrap();
    for (name, text, mode, uid) in
        [("swap", "of root", 0o4755, 0), ("swap2", "of a user", 0o644, 1000)]
    {
        fs::write(data.join(name), text).unwrap();
        std::os::unix::fs::chown(data.join(name), Some(uid), None).unwrap();
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    sandbox.script("stat /data/swap ; stat /data/swap2").patch(|config| {
        let mount = json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    exchanging(&data, || {
        let end = Instant::now() + race_time() / 4;
        while Instant::now() < end {
            let done = sandbox.run();
            let right = |line: &str| {
                line.contains("file 4755 0 0 0:0 7") || line.contains("file 0644 1000 0 0:0 9")
            };
            // A name can be missing, or be copied twice.
            assert!(done.stdout.lines().all(right), "{done:?}");
        }
    });
}

fn run_without(sandbox: &Sandbox, missing: Option<libc::c_long>) -> Done {
    let bundle = sandbox.bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    if let Some(call) = missing {
        before_exec(&mut command, move || without_syscall(call));
    }
    sandbox.spawn(command).wait()
}
