//! `diff` and other reports about a container's changes, while it runs and after.

use crate::facts::Facts;
use crate::host::wait_until;
use crate::images::{Images, base};
use crate::images_commit::{SCRIPT, entries, manifest, top_layer};
use crate::layout::Layout;
use crate::rootless::as_user;
use crate::sandbox::brig_only;
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

#[test]
fn diff_is_exactly_what_the_script_changed() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, SCRIPT);
    let expected = [
        "A /deep",
        "A /deep/er",
        "D /dir",
        "C /etc",
        "D /etc/base",
        "C /etc/both",
        "A /etc/new",
        "A /fifo",
        "C /gone",
        "A /gone/q",
        "D /gone/z",
        "A /hard",
        "A /moved",
        "A /moved/sub",
        "A /moved/sub/x",
        "A /moved/y",
        "C /perm",
        "A /perm2",
        "C /tmp",
        "A /with\\nnewline",
    ];
    assert_eq!(images.diff(&id), expected);
    let done = images.brig(&["diff", "--format", "json", &id]).ok();
    let lines: Value = serde_json::from_str(&done.stdout).unwrap();
    let find = |path: &str| {
        let line = lines.as_array().unwrap().iter().find(|line| line["path"] == path);
        line.unwrap_or_else(|| panic!("no {path:?} in {lines}")).clone()
    };
    assert_eq!(lines.as_array().unwrap().len(), expected.len());
    assert_eq!(find("/with\nnewline")["kind"], "A");
    assert_eq!(find("/perm")["what"], "metadata");
    assert_eq!(find("/etc/both")["what"], "content");
}

#[test]
fn a_container_that_changed_nothing_has_no_diff() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "cat /etc/both; ls /dir; echo x >/data/x; echo y >>/etc/hostname");
    assert_eq!(images.diff(&id), [""; 0]);
}

#[test]
fn a_running_container_is_looked_at_and_goes_on() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.start(&[], &image, "echo x >/new; rm /perm; echo ready; exec sleep 1000");
    assert_eq!(images.diff(&id), ["A /new", "D /perm"]);
    for option in [&[][..], &["--no-pause"]] {
        images.brig(&[&["commit"], option, &[&id, "out:v2"]].concat()).ok();
        assert_eq!(images.sandbox.status(), "running");
    }
    images.sandbox.brig(&["pause", &id]).ok();
    images.brig(&["commit", &id, "out:v3"]).ok();
    assert_eq!(images.sandbox.status(), "paused");
    images.sandbox.brig(&["resume", &id]).ok();
    images.sandbox.brig(&["kill", &id, "KILL"]).ok();
    images.sandbox.wait_for_status("stopped");
    assert_eq!(images.diff(&id), ["A /new", "D /perm"]);
    let out = images.sandbox.dir.join("out");
    let (v2, v3) = (manifest(&out, "v2").0, manifest(&out, "v3").0);
    assert_eq!(v2["layers"], v3["layers"]);
    assert_eq!(images.prints("out:v2", "cat /new; ls / | cat; :").lines().next(), Some("x"));
}

#[test]
fn changes_in_memory_are_there_while_the_container_runs() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    let script = "echo x >/new; rm /perm; mkdir /dir/z; echo ready; exec sleep 1000";
    images.start(&["--upper", "tmpfs:4m"], &image, script);
    assert_eq!(images.diff(&id), ["C /dir", "A /dir/z", "A /new", "D /perm"]);
    images.brig(&["commit", &id, "out:v2"]).ok();
    assert_eq!(
        images.prints("out:v2", "cat /new; ls /perm 2>&1; ls /dir").lines().next(),
        Some("x")
    );
    let exported = images.sandbox.dir.join("exported.tar");
    images.brig(&["export", "--output", exported.to_str().unwrap(), &id]).ok();
    assert!(entries(&fs::read(exported).unwrap()).contains_key("dir/z/"));
    images.sandbox.brig(&["kill", &id, "KILL"]).ok();
    images.sandbox.wait_for_status("stopped");
    for args in [&["diff", id.as_str()][..], &["commit", &id, "out:v3"], &["export", &id]] {
        let said = images.brig(args).fails();
        assert!(said.contains("lost when it ends"), "{said}");
    }
}

#[test]
fn one_directory_has_no_layers_to_compare() {
    brig_only!();
    let images = Images::new();
    let sandbox = &images.sandbox;
    sandbox.script("sleep 100").create();
    images.brig(&["diff", &sandbox.id]).fails_with("a single directory, not layers");
    images.brig(&["commit", &sandbox.id, "out"]).fails_with("not created from an image");
    assert!(!sandbox.dir.join("out").exists());
    // Its tree can be written anyway.
    std::os::unix::fs::symlink("/etc", sandbox.rootfs().join("link")).unwrap();
    let exported = sandbox.dir.join("exported.tar");
    images.brig(&["export", "-o", exported.to_str().unwrap(), &sandbox.id]).ok();
    let entries = entries(&fs::read(exported).unwrap());
    assert!(entries.contains_key("init") && entries.contains_key("etc/"), "{entries:?}");
    assert!(!entries.keys().any(|name| name.starts_with("link/")), "{entries:?}");
    images.brig(&["diff", "no-such"]).fails_with("does not exist");
}

#[test]
fn layers_of_the_command_line_have_a_diff_but_no_image() {
    brig_only!();
    let images = Images::new();
    let sandbox = &images.sandbox;
    let (low, upper) = (sandbox.dir.join("low"), sandbox.dir.join("upper"));
    fs::rename(sandbox.rootfs(), &low).unwrap();
    fs::write(low.join("etc/low"), "low").unwrap();
    sandbox.script("write /etc/low other ; mkdir /new ; unlink /bin/extra");
    fs::write(low.join("bin/extra"), "").unwrap();
    let layer = format!("--layer={}", low.display());
    sandbox.run_with(&["--keep", &layer, &format!("--upper={}", upper.display())]).ok();
    let expected = ["C /bin", "D /bin/extra", "C /etc", "C /etc/low", "A /new"];
    assert_eq!(images.diff(&sandbox.id), expected);
    images.brig(&["commit", &sandbox.id, "out"]).fails_with("not created from an image");
    let exported = sandbox.dir.join("exported.tar");
    images.brig(&["export", "-o", exported.to_str().unwrap(), &sandbox.id]).ok();
    let entries = entries(&fs::read(exported).unwrap());
    assert!(entries.contains_key("etc/low") && entries.contains_key("new/"), "{entries:?}");
    assert!(!entries.contains_key("bin/extra"), "{entries:?}");
}

#[test]
fn what_becomes_something_else_has_changed() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    let script = "
        rm -r /dir; echo f >/dir
        rm /perm; mkdir /perm; echo i >/perm/inside
        rm /etc/both; ln -s base /etc/both
        touch -d @5 /gone/z
        chmod 700 /kept
        rm /kept/k; echo k2 >/kept/k
    ";
    images.keep(&image, &id, script);
    let expected = [
        "C /dir",
        "C /etc",
        "C /etc/both",
        "C /gone",
        "C /gone/z",
        "C /kept",
        "C /kept/k",
        "C /perm",
        "A /perm/inside",
    ];
    assert_eq!(images.diff(&id), expected);
    images.brig(&["commit", &id, "out:v2"]).ok();
    let script = "cd /; cat dir perm/inside etc/both kept/k; ls -l -d kept | cut -c1-10";
    assert_eq!(images.prints("out:v2", script), "f\ni\nbasek2\ndrwx------\n");
}

#[test]
fn a_commit_changes_how_the_image_is_run() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "echo x >/new");
    let nonsense = ["commit", "--change", "RUN x", &id, "out:v2"];
    images.brig(&nonsense).fails_with("--change \"RUN x\"");
    assert!(!images.sandbox.dir.join("out").exists());
    let cmd = r#"CMD ["sh", "-c", "cat /new; echo $A; pwd"]"#;
    let changes =
        ["--change", "ENTRYPOINT []", "-c", cmd, "-c", "ENV A=\"b c\"", "-c", "WORKDIR /etc"];
    images.brig(&[&["commit"], &changes[..], &[&id, "out:v2"]].concat()).ok();
    let done = images.brig(&["run", "--image", "out:v2", &format!("{id}-again")]).ok();
    assert_eq!(done.stdout, "x\nb c\n/etc\n");
}

#[test]
fn a_socket_is_left_out_with_a_warning() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "mkdir /run; echo x >/run/file");
    let socket = images.own_bundle(&id).join("data/upper/run/socket");
    // Short enough for a socket address.
    let parent = fs::File::open(socket.parent().unwrap()).unwrap();
    let short = format!("/proc/self/fd/{}/socket", parent.as_raw_fd());
    drop(std::os::unix::net::UnixListener::bind(short).unwrap());
    assert_eq!(images.diff(&id), ["A /run", "A /run/file", "A /run/socket"]);
    let done = images.brig(&["commit", &id, "out:v2"]).ok();
    assert!(done.stderr.contains("run/socket: socket not included"), "{done:?}");
    let top = top_layer(&images.sandbox.dir.join("out"), "v2");
    assert_eq!(top.keys().collect::<Vec<_>>(), ["run/", "run/file"]);
}

#[test]
fn an_unprivileged_user_commits_and_runs_what_was_committed() {
    brig_only!();
    for granted in [false, true] {
        as_user(granted, |user| {
            let mut layout = Layout::new(Path::new("/mnt/image"));
            layout.layer(base().dir("dir/").file("dir/y", b"y"));
            let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
            let id = user.sandbox.id.as_str();
            let brig = |args: &[&str]| {
                let store = ["--store", "/mnt/store", "--cgroup-manager", "disabled"];
                user.brig(&[&store[..], args].concat()).ok().stdout
            };
            let script =
                "write /new x ; unlink /etc/base ; unlink /dir/y ; rmdir /dir ; mkdir /dir";
            let run = ["run", "--keep", "--image", &image, id, "--"];
            brig(&[&run[..], &script.split(' ').collect::<Vec<_>>()].concat());
            assert_eq!(brig(&["diff", id]), "C /dir\nD /dir/y\nC /etc\nD /etc/base\nA /new\n");
            brig(&["commit", id, "/mnt/out:v2"]);
            let top = top_layer(Path::new("/mnt/out"), "v2");
            assert_eq!((top["new"].2, top["new"].3), (0, 0));
            assert!(top.contains_key("dir/.wh..wh..opq"), "{top:?}");
            brig(&["export", "--output", "/mnt/out.tar", id]);
            assert!(entries(&fs::read("/mnt/out.tar").unwrap()).contains_key("new"));
            brig(&["delete", id]);
            let said = brig(&[
                "run",
                "--image",
                "/mnt/out:v2",
                id,
                "--",
                "list",
                "/dir",
                ";",
                "read",
                "/new",
            ]);
            let facts = Facts::parse(&said);
            assert_eq!((facts.all("entry /dir").len(), facts.get("read /new")), (0, "\"x\""));
        });
    }
}

#[test]
fn an_unprivileged_user_sees_changes_in_memory() {
    brig_only!();
    as_user(true, |user| {
        let mut layout = Layout::new(Path::new("/mnt/image"));
        layout.layer(base());
        let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
        let id = user.sandbox.id.as_str();
        let brig = |args: &[&str]| {
            let store = ["--store", "/mnt/store", "--cgroup-manager", "disabled"];
            user.brig(&[&store[..], args].concat()).ok().stdout
        };
        let run = ["run", "--detach", "--upper", "tmpfs", "--image", &image, id, "--"];
        brig(&[&run[..], &["write", "/new", "x", ";", "sleep", "100"]].concat());
        let written = || brig(&["diff", id]) == "A /new\n";
        assert!(wait_until(Duration::from_secs(10), written), "{}", brig(&["diff", id]));
        brig(&["export", "--output", "/mnt/out.tar", id]);
        assert!(entries(&fs::read("/mnt/out.tar").unwrap()).contains_key("new"));
        let commit = |more: &[&str]| {
            let args = ["--store", "/mnt/store", "commit", id, "/mnt/out:v2"];
            user.brig(&[&args[..], more].concat()).ok().stderr
        };
        assert!(commit(&[]).contains("has no cgroup, so it is not paused"));
        assert_eq!(commit(&["--no-pause"]), "");
        assert!(top_layer(Path::new("/mnt/out"), "v2").contains_key("new"));
        brig(&["delete", "--force", id]);
    });
}
