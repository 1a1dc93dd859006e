//! A root filesystem made of layers: annotations `run.brig.overlay.*`, flags `--layer` and `--upper`.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: &str = "run.brig.overlay.layers";
const UPPER: &str = "run.brig.overlay.upper";

/// A bundle whose rootfs was moved to `layers/base` and is empty, with a second layer above it.
fn layered() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.bundle().join("layers")).unwrap();
    fs::rename(sandbox.rootfs(), layer(&sandbox, "base")).unwrap();
    fs::create_dir_all(layer(&sandbox, "top").join("etc")).unwrap();
    fs::write(layer(&sandbox, "base").join("etc/both"), "base").unwrap();
    fs::write(layer(&sandbox, "base").join("etc/base"), "base").unwrap();
    fs::write(layer(&sandbox, "top").join("etc/both"), "top").unwrap();
    annotate(&sandbox, LAYERS, "layers/base:layers/top");
    sandbox
}

fn layer(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.bundle().join("layers").join(name)
}

fn annotate(sandbox: &Sandbox, name: &str, value: &str) {
    sandbox.patch(|config| {
        if !config["annotations"].is_object() {
            config["annotations"] = json!({});
        }
        config["annotations"][name] = json!(value);
    });
}

/// Everything about a tree that a write could change.
fn fingerprint(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        found.push(format!(
            "{path:?} {:o} {} {} {:?}",
            meta.mode(),
            meta.uid(),
            meta.size(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_root_is_the_layers_with_the_last_on_top() {
    brig_only!();
    let sandbox = layered();
    let facts = sandbox.facts("read /etc/both ; read /etc/base ; mounts");
    assert_eq!(facts.get("read /etc/both"), "\"top\"");
    assert_eq!(facts.get("read /etc/base"), "\"base\"");
    assert_eq!(facts.mount("/").fstype, "overlay");
    sandbox.assert_nothing_left();
}

#[test]
fn what_is_written_leaves_the_layers_as_they_were() {
    brig_only!();
    let sandbox = layered();
    let before = fingerprint(&sandbox.bundle().join("layers"));
    let facts = sandbox.facts(
        "write /etc/base changed ; unlink /etc/both ; rename /etc/base /etc/moved ; mkdir /new ; \
         read /etc/moved ; stat /etc/both ; stat /etc/base ; append /init x ; list /",
    );
    assert_eq!(facts.get("read /etc/moved"), "\"changed\"");
    assert_eq!(facts.get("stat /etc/both"), "ENOENT");
    assert_eq!(facts.get("stat /etc/base"), "ENOENT");
    assert!(facts.all("entry /").contains(&"new"), "{facts}");
    assert_eq!(fingerprint(&sandbox.bundle().join("layers")), before);
    // An upper in memory ends with the container.
    let facts = sandbox.facts("read /etc/both ; stat /new");
    assert_eq!(facts.get("read /etc/both"), "\"top\"");
    assert_eq!(facts.get("stat /new"), "ENOENT");
}

#[test]
fn a_whiteout_of_a_layer_hides_the_file_below() {
    brig_only!();
    let sandbox = layered();
    let (mode, device) = (nix::sys::stat::Mode::empty(), nix::sys::stat::makedev(0, 0));
    fs::remove_file(layer(&sandbox, "top").join("etc/both")).unwrap();
    let whiteout = layer(&sandbox, "top").join("etc/both");
    nix::sys::stat::mknod(&whiteout, nix::sys::stat::SFlag::S_IFCHR, mode, device).unwrap();
    let facts = sandbox.facts("stat /etc/both ; read /etc/base");
    assert_eq!(facts.get("stat /etc/both"), "ENOENT");
    assert_eq!(facts.get("read /etc/base"), "\"base\"");
}

#[test]
fn an_upper_that_is_a_directory_outlives_the_container() {
    brig_only!();
    let sandbox = layered();
    annotate(&sandbox, UPPER, "upper");
    sandbox.facts("write /etc/mine kept ; unlink /etc/base");
    sandbox.assert_nothing_left();
    let upper = sandbox.bundle().join("upper");
    assert_eq!(fs::read_to_string(upper.join("etc/mine")).unwrap(), "kept");
    let facts = sandbox.facts("read /etc/mine ; stat /etc/base");
    assert_eq!(facts.get("read /etc/mine"), "\"kept\"");
    assert_eq!(facts.get("stat /etc/base"), "ENOENT");
}

#[test]
fn an_upper_in_memory_is_full_at_its_size() {
    brig_only!();
    let sandbox = layered();
    annotate(&sandbox, UPPER, "tmpfs:1m");
    let facts = sandbox.facts("fill /big 4000000");
    let written = facts.number("fill /big", 0);
    assert_eq!(facts.word("fill /big", 1), "ENOSPC");
    assert!((700_000..=1 << 20).contains(&written), "{written}");
}

#[test]
fn three_hundred_layers_are_no_problem() {
    brig_only!();
    let sandbox = layered();
    let mut layers = vec!["layers/base".to_string()];
    for number in 0..300 {
        // Long names: together far more than a page of mount options.
        let name = format!(
            "a-layer-with-a-name-that-is-rather-long-so-that-all-of-them-need-many-pages-{number:04}"
        );
        fs::create_dir_all(layer(&sandbox, &name).join("etc")).unwrap();
        fs::write(layer(&sandbox, &name).join("etc/both"), number.to_string()).unwrap();
        fs::write(layer(&sandbox, &name).join(format!("etc/{number}")), "").unwrap();
        layers.push(format!("layers/{name}"));
    }
    annotate(&sandbox, LAYERS, &layers.join(":"));
    let facts = sandbox.facts("read /etc/both ; list /etc ; write /etc/0 x");
    assert_eq!(facts.get("read /etc/both"), "\"299\"");
    assert_eq!(facts.get("list /etc"), "302");
    assert_eq!(facts.get("write /etc/0"), "ok");
    sandbox.assert_nothing_left();
}

#[test]
fn one_layer_is_enough_and_names_may_have_any_character() {
    brig_only!();
    let sandbox = layered();
    let odd = "a b,c=d\\e\"f$g";
    fs::create_dir_all(layer(&sandbox, odd).join("etc")).unwrap();
    fs::write(layer(&sandbox, odd).join("etc/odd"), "odd").unwrap();
    fs::create_dir_all(layer(&sandbox, "co:lon").join("etc")).unwrap();
    fs::write(layer(&sandbox, "co:lon").join("etc/colon"), "colon").unwrap();
    annotate(
        &sandbox,
        LAYERS,
        &format!("layers/base:layers/{}:layers/co\\:lon", odd.replace('\\', "\\\\")),
    );
    let facts = sandbox.facts("read /etc/odd ; read /etc/colon");
    assert_eq!(facts.get("read /etc/odd"), "\"odd\"");
    assert_eq!(facts.get("read /etc/colon"), "\"colon\"");
    annotate(&sandbox, LAYERS, "layers/base");
    assert_eq!(sandbox.facts("read /etc/both").get("read /etc/both"), "\"base\"");
}

#[test]
fn a_root_path_that_is_missing_is_made() {
    brig_only!();
    let sandbox = layered();
    assert!(!sandbox.rootfs().exists());
    sandbox.facts("true");
    assert!(fs::read_dir(sandbox.rootfs()).unwrap().next().is_none());
}

#[test]
fn a_root_path_that_is_not_empty_is_never_replaced() {
    brig_only!();
    let sandbox = layered();
    fs::create_dir(sandbox.rootfs()).unwrap();
    fs::write(sandbox.rootfs().join("prepared"), "by an engine").unwrap();
    sandbox.create_with(&[]).fails_with("not empty");
    sandbox.assert_nothing_left();
    assert_eq!(fs::read_to_string(sandbox.rootfs().join("prepared")).unwrap(), "by an engine");
}

#[test]
fn nothing_of_the_overlay_shows_on_the_host() {
    brig_only!();
    let sandbox = layered();
    sandbox.script("sleep 60").create();
    let shows = || {
        host::mounts().iter().any(|mount| mount.target.starts_with(sandbox.dir.to_str().unwrap()))
    };
    assert!(!shows(), "created");
    assert!(fs::read_dir(sandbox.rootfs()).unwrap().next().is_none());
    sandbox.start();
    assert!(!shows(), "running");
}

#[test]
fn the_container_does_not_see_its_upper_or_its_layers() {
    brig_only!();
    for upper in ["tmpfs", "upper"] {
        let sandbox = layered();
        annotate(&sandbox, UPPER, upper);
        let facts = sandbox.facts("mounts ; umount /proc ; list /proc/1/fd ; fds");
        assert_eq!(facts.get("umount /proc"), "EPERM");
        assert!(!facts.all("fd").iter().any(|fd| fd.contains("bundle/layers")), "{facts}");
    }
}

#[test]
fn an_upper_in_memory_can_be_reached_while_the_container_lives() {
    brig_only!();
    let sandbox = layered();
    sandbox.script("write /etc/mine kept ; say ready ; sleep 60");
    sandbox.run_with(&["--detach"]).ok().wait_for_line("ready");
    let mountinfo = fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.pid())).unwrap();
    let upper = mountinfo
        .lines()
        .filter_map(crate::facts::Mount::parse)
        .find(|m| m.fstype == "tmpfs" && m.source == "upper");
    assert!(
        upper.is_some(),
        "the upper is not mounted in the container's mount namespace: {mountinfo}"
    );
}

#[test]
fn flags_override_annotations() {
    brig_only!();
    let sandbox = layered();
    annotate(&sandbox, LAYERS, "layers/missing");
    annotate(&sandbox, UPPER, "never");
    let (base, top) = (layer(&sandbox, "base"), layer(&sandbox, "top"));
    let upper = sandbox.dir.join("elsewhere");
    sandbox.script("read /etc/both ; write /etc/mine kept");
    let done = sandbox.run_with(&[
        "--layer",
        base.to_str().unwrap(),
        "--layer",
        top.to_str().unwrap(),
        &format!("--upper={}", upper.display()),
    ]);
    assert_eq!(Facts::parse(&done.ok().stdout).get("read /etc/both"), "\"top\"");
    assert_eq!(fs::read_to_string(upper.join("etc/mine")).unwrap(), "kept");
    assert!(!sandbox.bundle().join("never").exists());
}

#[test]
fn flags_work_without_annotations() {
    brig_only!();
    let sandbox = layered();
    sandbox.patch(|config| drop(config.as_object_mut().unwrap().remove("annotations")));
    let base = layer(&sandbox, "base");
    sandbox.script("read /etc/both ; fill /x 4000000");
    let done = sandbox.run_with(&["--layer", base.to_str().unwrap(), "--upper", "tmpfs:2m"]).ok();
    let facts = Facts::parse(&done.stdout);
    assert_eq!(facts.get("read /etc/both"), "\"base\"");
    assert_eq!(facts.word("fill /x", 1), "ENOSPC");
}

#[test]
fn a_readonly_root_is_readonly_also_of_layers() {
    brig_only!();
    let sandbox = layered();
    sandbox.patch(|config| config["root"]["readonly"] = json!(true));
    let facts = sandbox.facts("read /etc/both ; write /etc/both x");
    assert_eq!(facts.get("read /etc/both"), "\"top\"");
    assert_eq!(facts.get("write /etc/both"), "EROFS");
}

#[test]
fn mounts_go_into_the_overlay_and_their_points_into_its_upper() {
    brig_only!();
    let sandbox = layered();
    annotate(&sandbox, UPPER, "upper");
    let before = fingerprint(&sandbox.bundle().join("layers"));
    sandbox.patch(|config| {
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/made/here", "type": "tmpfs", "source": "tmpfs"}));
    });
    assert_eq!(sandbox.facts("list /made/here").get("list /made/here"), "0");
    assert!(sandbox.bundle().join("upper/made/here").is_dir());
    assert_eq!(fingerprint(&sandbox.bundle().join("layers")), before);
}

#[test]
fn without_a_pivot_the_overlay_is_the_same() {
    brig_only!();
    let sandbox = layered();
    sandbox.script("read /etc/both ; stat /work");
    let facts = Facts::parse(&sandbox.run_with(&["--no-pivot"]).ok().stdout);
    assert_eq!(facts.get("read /etc/both"), "\"top\"");
    assert_eq!(facts.get("stat /work"), "ENOENT");
}

#[test]
fn the_same_layers_serve_many_containers() {
    brig_only!();
    let sandbox = layered();
    let bundle = sandbox.bundle();
    sandbox.script("write /etc/mine x ; sleep 60");
    for number in 0..5 {
        let id = format!("{}-{number}", sandbox.id);
        sandbox.brig(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &id]).ok();
    }
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout.lines().count(), 5);
    assert!(!layer(&sandbox, "base").join("etc/mine").exists());
}

#[test]
fn an_upper_that_another_container_lives_in_is_refused() {
    brig_only!();
    let (first, second) = (layered(), layered());
    let upper = first.dir.join("upper");
    for sandbox in [&first, &second] {
        annotate(sandbox, UPPER, upper.to_str().unwrap());
        sandbox.script("sleep 60");
    }
    // Under another name: the directory's identity counts.
    let link = second.dir.join("link");
    std::os::unix::fs::symlink(&upper, &link).unwrap();
    annotate(&second, "run.brig.overlay.work", second.dir.join("work").to_str().unwrap());
    let create = || {
        let (root, bundle) = (first.state_root(), second.bundle());
        let mut command = std::process::Command::new(crate::sandbox::runtime());
        command.arg("--root").arg(root).args(["create", "--bundle"]).arg(bundle).arg(&second.id);
        second.spawn(command).wait()
    };
    first.create();
    for name in [&upper, &link] {
        annotate(&second, UPPER, name.to_str().unwrap());
        let error = create().fails();
        let part = format!("is the upper of container {}, which is created", first.id);
        assert!(error.contains(&part) && error.contains(UPPER), "{error}");
    }
    assert_eq!(fs::read_dir(first.state_root()).unwrap().count(), 1);
    first.start();
    create().fails_with("which is running");
    // After its container has exited, an upper can be reused.
    first.brig(&["kill", &first.id, "KILL"]).ok();
    first.wait_for_status("stopped");
    create().ok();
    first.brig(&["delete", "--force", &second.id]).ok();
}

#[test]
fn without_one_of_the_layers_no_directory_is_created() {
    brig_only!();
    let sandbox = layered();
    for args in [
        &["--layer", "nosuch", "--upper", "upper"][..],
        &["--layer", "bundle/layers/base", "--upper", "nosuch/upper"],
    ] {
        sandbox.create_with(args).fails_with("nosuch");
        assert!(!sandbox.rootfs().exists(), "{args:?}");
        assert!(!sandbox.dir.join("upper").exists(), "{args:?}");
    }
}
