//! Kernels without the system calls that brig prefers: containers are the same, with fallbacks.

use crate::facts::Facts;
use crate::host;
use crate::rootless::as_user;
use crate::sandbox::{Sandbox, before_exec, brig_only};
use crate::tracer::{fails, without_syscall};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The newest calls for root filesystems: Linux 5.2, 5.6 and 5.12.
const CALLS: [libc::c_long; 7] = [
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_openat2,
    libc::SYS_mount_setattr,
];

/// Each of them missing alone, then all together, as before Linux 5.2.
fn kernels() -> Vec<Vec<libc::c_long>> {
    CALLS.into_iter().map(|call| vec![call]).chain([CALLS.to_vec()]).collect()
}

fn run_without(sandbox: &Sandbox, missing: &[libc::c_long], args: &[&str]) -> Facts {
    let bundle = sandbox.bundle();
    let args = [&["run", "--bundle", bundle.to_str().unwrap()], args, &[&sandbox.id]].concat();
    let mut command = sandbox.command(&args);
    for &call in missing {
        before_exec(&mut command, move || without_syscall(call));
    }
    Facts::parse(&sandbox.spawn(command).wait().ok().stdout)
}

/// brig in a container of an older engine, whose filter does not know these calls.
#[test]
fn a_filter_that_refuses_the_newer_calls_with_eperm_does_not_stop_a_container() {
    brig_only!();
    let sandbox = varied();
    let bundle = sandbox.script("mounts").bundle();
    for refused in [&[libc::SYS_mount_setattr][..], &CALLS] {
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        for &call in refused {
            before_exec(&mut command, move || fails(call, libc::EPERM));
        }
        let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
        assert_eq!(facts.mount("/mnt/ro").options[0], "ro", "{refused:?}");
    }
}

/// All mounts, in an order that does not depend on the method.
fn mounts(facts: &Facts) -> Vec<String> {
    let line = |mount: &crate::facts::Mount| {
        let ours = mount.propagation.iter().map(|tag| tag.split(':').next().unwrap_or_default());
        let propagation = ours.collect::<Vec<_>>();
        format!("{} {} {:?} {propagation:?}", mount.target, mount.fstype, mount.options)
    };
    let mut mounts: Vec<String> = facts.mounts().iter().map(line).collect();
    mounts.sort();
    mounts
}

fn varied() -> Sandbox {
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.join("outside");
    fs::create_dir_all(outside.join("below")).unwrap();
    fs::write(outside.join("file"), "in outside").unwrap();
    let source = outside.to_str().unwrap();
    let file = outside.join("file");
    sandbox.add_file("etc/covered", "still here");
    sandbox.patch(|config| {
        let more = json!([
            {"destination": "/mnt/plain", "source": source, "options": ["rbind"]},
            {"destination": "/mnt/ro", "source": source, "options": ["bind", "ro", "noatime"]},
            {"destination": "/mnt/own", "source": source,
             "options": ["rbind", "nosuid", "nodev", "rprivate"]},
            {"destination": "/mnt/file", "source": file, "options": ["bind", "nosymfollow"]},
            {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "ro", "size=1m"]},
            {"destination": "/tmp/shared", "type": "tmpfs", "options": ["shared", "strictatime"]},
            {"destination": "/tmp/shared", "type": "tmpfs", "options": ["remount", "size=2m"]},
        ]);
        config["mounts"].as_array_mut().unwrap().extend_from_slice(more.as_array().unwrap());
        config["root"]["readonly"] = json!(true);
    });
    sandbox
}

const SCRIPT: &str = "mounts ; read /mnt/plain/file ; read /mnt/file ; read /etc/covered ; \
     write /mnt/ro/x x ; write /etc/x x ; write /x x ; write /proc/sys/kernel/x x ; write /dev/null x";

#[test]
fn mounts_are_the_same_without_the_calls_that_make_them() {
    brig_only!();
    let sandbox = varied();
    for flags in [&[][..], &["--no-pivot"]] {
        sandbox.script(SCRIPT);
        let usual = run_without(&sandbox, &[], flags);
        for missing in kernels() {
            let facts = run_without(&sandbox, &missing, flags);
            assert_eq!(mounts(&facts), mounts(&usual), "without {missing:?} {flags:?}");
            for command in SCRIPT.split(" ; ").filter(|command| *command != "mounts") {
                let name = command.rsplit_once(" x").map_or(command, |(name, _)| name);
                assert_eq!(facts.get(name), usual.get(name), "without {missing:?}");
            }
        }
    }
}

#[test]
fn cgroups_are_shown_the_same_without_the_calls_that_mount_them() {
    brig_only!();
    let sandbox = Sandbox::new();
    for own in [true, false] {
        if !own {
            sandbox.patch(|config| {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != "cgroup");
            });
        }
        sandbox.script("mounts");
        let usual = run_without(&sandbox, &[], &[]);
        for missing in kernels() {
            let facts = run_without(&sandbox, &missing, &[]);
            assert_eq!(mounts(&facts), mounts(&usual), "without {missing:?}, own {own}");
        }
    }
}

#[test]
fn layers_are_mounted_the_same_without_the_calls_that_mount_the_rest() {
    brig_only!();
    let sandbox = Sandbox::new();
    fs::rename(sandbox.rootfs(), sandbox.bundle().join("base")).unwrap();
    sandbox.patch(|config| {
        config["annotations"] = json!({
            "run.brig.overlay.layers": "base",
            "run.brig.overlay.upper": "tmpfs:1m"
        });
    });
    sandbox.script("mounts ; fill /big 4000000");
    let usual = run_without(&sandbox, &[], &[]);
    for missing in kernels() {
        let facts = run_without(&sandbox, &missing, &[]);
        assert_eq!(mounts(&facts), mounts(&usual), "without {missing:?}");
        assert_eq!(facts.word("fill /big", 1), "ENOSPC");
    }
    assert_eq!(host::leftovers(&sandbox.id, &sandbox.dir, &sandbox.state_root()), [""; 0]);
}

#[test]
fn a_read_only_mount_is_read_only_whoever_exchanges_its_target() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (shared, source) = (sandbox.dir.join("shared"), sandbox.dir.join("source"));
    fs::create_dir_all(shared.join("x")).unwrap();
    fs::create_dir(&source).unwrap();
    symlink("/dev/shm", shared.join("link")).unwrap();
    sandbox.patch(|config| {
        let more = json!([
            {"destination": "/mnt/vol", "source": shared, "options": ["rbind"]},
            {"destination": "/mnt/vol/x", "source": source, "options": ["rbind", "ro"]},
        ]);
        config["mounts"].as_array_mut().unwrap().extend_from_slice(more.as_array().unwrap());
    });
    sandbox.script("mounts");
    let stop = Arc::new(AtomicBool::new(false));
    let exchange = {
        let (stop, x, link) = (stop.clone(), shared.join("x"), shared.join("link"));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &x, AT_FDCWD, &link, flags).unwrap();
                std::thread::sleep(Duration::from_micros(300));
            }
        })
    };
    let run = || {
        let bundle = sandbox.bundle();
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        for call in CALLS {
            before_exec(&mut command, move || without_syscall(call));
        }
        sandbox.spawn(command).wait()
    };
    let mut read_only = 0;
    let mut seen = Vec::new();
    for _ in 0..40 {
        let done = run();
        if done.code == Some(0) {
            let facts = Facts::parse(&done.stdout);
            let mounts = facts.mounts();
            let mount = mounts.iter().find(|mount| {
                mount.target == "/mnt/vol/x"
                    || mount.target == "/mnt/vol/link"
                    || mount.target == "/dev/shm" && mount.fstype != "tmpfs"
            });
            match mount {
                Some(mount) if mount.options.contains(&"ro".to_owned()) => read_only += 1,
                other => seen.push(format!("{other:?} {facts}")),
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    exchange.join().unwrap();
    assert!(seen.is_empty(), "{seen:?}");
    assert!(read_only > 0, "no container has started");
}

#[test]
fn recursive_options_reach_what_is_mounted_below() {
    brig_only!();
    let sandbox = varied();
    let below = sandbox.dir.join("outside/below");
    let deep = sandbox.rootfs().join("deep");
    fs::create_dir(&deep).unwrap();
    sandbox.patch(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": "/deep", "source": sandbox.dir.join("outside"),
             "options": ["rbind", "rro", "rnosuid"]}
        ));
    });
    crate::rootless::in_own_mounts(move || {
        let none = None::<&str>;
        mount(Some("a b"), &below, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        sandbox.script(
            "mounts ; write /deep/x x ; write /deep/below/x x ; write /mnt/plain/below/x x",
        );
        let usual = run_without(&sandbox, &[], &[]);
        let facts = run_without(&sandbox, &CALLS, &[]);
        assert_eq!(mounts(&facts), mounts(&usual));
        for (path, result) in
            [("deep", "EROFS"), ("deep/below", "EROFS"), ("mnt/plain/below", "ok")]
        {
            assert_eq!(facts.get(&format!("write /{path}/x")), result, "{facts}");
        }
        umount2(&below, MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn all_of_the_hosts_sysfs_is_read_only_for_an_unprivileged_user() {
    brig_only!();
    as_user(false, |user| {
        user.patch(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "network");
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
            mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}));
        });
        user.sandbox.script("mounts");
        let mut command = user.run_command();
        before_exec(&mut command, || {
            nix::sys::prctl::set_no_new_privs()?;
            CALLS.into_iter().try_for_each(without_syscall)
        });
        let facts = Facts::parse(&user.sandbox.spawn(command).wait().ok().stdout);
        let mounts = facts.mounts();
        let sys = mounts.iter().filter(|mount| mount.target.starts_with("/sys"));
        let writable: Vec<_> =
            sys.clone().filter(|mount| !mount.options.contains(&"ro".to_owned())).collect();
        assert!(sys.count() > 0 && writable.is_empty(), "{writable:?}");
    });
}
