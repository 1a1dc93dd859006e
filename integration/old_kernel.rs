//! Kernels without the system calls that brig likes best: containers are the same, by other ways.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, before_exec, brig_only};
use crate::tracer::without_syscall;
use serde_json::json;
use std::fs;

/// The newest that root file systems are built with: Linux 5.2, 5.6 and 5.12.
const CALLS: [libc::c_long; 7] = [
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_openat2,
    libc::SYS_mount_setattr,
];

/// Each of them missing alone, then all at once, as before Linux 5.2.
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

/// All that is mounted, in an order that does not depend on how.
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
