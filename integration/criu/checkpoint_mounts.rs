//! Parts that do not belong to a container: volumes, devices, layers, terminals.

use super::with::{
    Piped, answers, brig, checkpoint, command, criu_only, end_of, images, nature, restore,
    restored, running, told_after,
};
use crate::sandbox::Sandbox;
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

#[test]
fn volumes_are_the_hosts_again_with_what_is_mounted_below_them() {
    criu_only!();
    let sandbox = Sandbox::new();
    let volume = sandbox.dir.join("volume");
    let below = volume.join("below");
    fs::create_dir_all(&below).unwrap();
    fs::write(sandbox.dir.join("file"), "one").unwrap();
    mount(Some("below"), &below, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
        mounts.push(json!({"destination": "/volume/own", "type": "tmpfs", "source": "own"}));
        let file = sandbox.dir.join("file");
        mounts.push(json!({"destination": "/etc/file", "source": file, "options": ["bind", "ro"]}));
        config["linux"]["readonlyPaths"] = json!(["/etc", "/proc/sys"]);
    });
    running(&sandbox);
    let exec = |script: &str| {
        let words = script.split(' ');
        let args: Vec<&str> = ["exec", &sandbox.id, "/init"].into_iter().chain(words).collect();
        sandbox.brig(&args).ok().stdout
    };
    exec("write /volume/own/kept 1");
    let before = nature(sandbox.pid());
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    assert_eq!(nature(sandbox.pid()), before);
    exec("write /volume/new two");
    exec("write /volume/below/new three");
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "two");
    assert_eq!(fs::read_to_string(below.join("new")).unwrap(), "three");
    assert!(exec("open /volume/own/kept r").contains("ok"));
    assert!(exec("write /etc/file x").contains("EROFS"));
    answers(&sandbox, &sandbox.id, &mut piped);
    sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
    umount(&below).unwrap();
}

#[test]
fn a_volume_that_the_config_has_no_more_is_named() {
    criu_only!();
    let sandbox = Sandbox::new();
    let volume = sandbox.dir.join("volume");
    fs::create_dir_all(&volume).unwrap();
    let config = sandbox.config();
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/volume", "source": volume, "options": ["bind"]}));
    });
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    sandbox.write_config(&config);
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let args = [
        "restore",
        "-d",
        "--image-path",
        &images,
        "--bundle",
        bundle.to_str().unwrap(),
        &sandbox.id,
    ];
    brig(&sandbox, &args).fails_with("bind mount on /volume");
    sandbox.assert_nothing_left();
}

#[test]
fn a_user_namespace_has_its_masks_and_devices_again() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"].as_object_mut().unwrap().remove("resources");
    });
    // With root's ids: for others CRIU needs CAP_SYS_RESOURCE, which is not always available.
    running(&sandbox);
    let before = nature(sandbox.pid());
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    assert_eq!(nature(sandbox.pid()), before);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn layers_with_their_changes_are_mounted_again() {
    criu_only!();
    let sandbox = Sandbox::new();
    let (layer, upper) = (sandbox.dir.join("layer"), sandbox.dir.join("upper"));
    fs::rename(sandbox.rootfs(), &layer).unwrap();
    let probe = sandbox.dir.join("probe");
    fs::create_dir(&probe).unwrap();
    let options =
        format!("lowerdir={},upperdir={1},workdir={1}.work", layer.display(), upper.display());
    fs::create_dir(&upper).unwrap();
    fs::create_dir(sandbox.dir.join("upper.work")).unwrap();
    if mount(Some("overlay"), &probe, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .is_err()
    {
        return crate::sandbox::skip("overlayfs takes no upper here");
    }
    umount(&probe).unwrap();
    sandbox.patch(|config| {
        config["annotations"] = json!({
            "run.brig.overlay.layers": layer, "run.brig.overlay.upper": upper,
        });
    });
    running(&sandbox);
    sandbox.brig(&["exec", &sandbox.id, "/init", "write", "/etc/changed", "1"]).ok();
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    let said =
        sandbox.brig(&["exec", &sandbox.id, "/init", "open", "/etc/changed", "rw"]).ok().stdout;
    assert!(said.contains("ok"), "{said}");
    let diff = sandbox.brig(&["diff", &sandbox.id]).ok().stdout;
    assert!(diff.contains("/etc/changed"), "{diff}");
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn layers_that_create_was_given_are_given_to_restore() {
    criu_only!();
    let sandbox = Sandbox::new();
    let (layer, upper) = (sandbox.dir.join("layer"), sandbox.dir.join("upper"));
    fs::rename(sandbox.rootfs(), &layer).unwrap();
    fs::create_dir(sandbox.rootfs()).unwrap();
    sandbox.script("sigloop 100");
    let (bundle, config) = (sandbox.bundle(), sandbox.dir.join("other.json"));
    fs::rename(bundle.join("config.json"), &config).unwrap();
    let config = ["--config", config.to_str().unwrap()];
    let layers = ["--layer", layer.to_str().unwrap(), "--upper", upper.to_str().unwrap()];
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap()];
    let (mut piped, status) =
        Piped::run(&sandbox, &[&run, &config[..], &layers, &[&sandbox.id]].concat());
    if !status.success() && piped.text().contains("overlay") {
        return crate::sandbox::skip("overlayfs takes no upper here");
    }
    piped.wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    restore(&sandbox, &config).fails_with("had layers, and config.json names none: give --layer");
    restore(&sandbox, &[&config, &layers[..2]].concat()).fails_with("--upper DIR");
    sandbox.assert_nothing_left();
    let mut piped = restored(&sandbox, &[&config[..], &layers].concat());
    sandbox.brig(&["exec", &sandbox.id, "/init", "write", "/etc/changed", "1"]).ok();
    assert!(upper.join("etc/changed").exists());
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn changes_in_memory_are_refused_with_the_way_out() {
    criu_only!();
    let sandbox = Sandbox::new();
    let layer = sandbox.dir.join("layer");
    fs::rename(sandbox.rootfs(), &layer).unwrap();
    sandbox.patch(|config| {
        config["annotations"] = json!({"run.brig.overlay.layers": layer});
    });
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &[]).fails_with("--upper DIR");
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn an_id_mapped_volume_is_id_mapped_again() {
    criu_only!();
    let sandbox = Sandbox::new();
    let data = sandbox.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("five"), "").unwrap();
    std::os::unix::fs::chown(data.join("five"), Some(5), Some(5)).unwrap();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    sandbox.patch(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data", "source": data, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map,
        }));
    });
    let facts = told_after(&sandbox, "stat /data/five");
    assert_eq!(
        (facts.number("stat /data/five", 2), facts.number("stat /data/five", 3)),
        (1005, 1005)
    );
}

#[test]
fn a_volume_gets_the_mounts_of_the_host_again() {
    criu_only!();
    crate::host::enter_private_mount_namespace();
    for option in ["rslave", "rshared", "rprivate"] {
        let sandbox = Sandbox::new();
        let volume = sandbox.dir.join("volume");
        fs::create_dir_all(volume.join("later")).unwrap();
        let none: Option<&str> = None;
        mount(Some(&volume), &volume, none, MsFlags::MS_BIND, none).unwrap();
        mount(none, &volume, none, MsFlags::MS_SHARED, none).unwrap();
        sandbox.patch(|config| {
            config["mounts"].as_array_mut().unwrap().push(json!({
                "destination": "/volume", "source": volume, "options": ["rbind", option],
            }));
            config["linux"]["rootfsPropagation"] = json!("rslave");
        });
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        let mut piped = restored(&sandbox, &[]);
        let later = volume.join("later");
        mount(Some("later"), &later, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
        let theirs = fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.pid())).unwrap();
        assert_eq!(theirs.contains(" /volume/later "), option != "rprivate", "{option}: {theirs}");
        answers(&sandbox, &sandbox.id, &mut piped);
        sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
        umount(&later).unwrap();
        umount(&volume).unwrap();
    }
}

#[test]
fn a_read_only_root_without_tmp_comes_back() {
    criu_only!();
    let sandbox = Sandbox::new();
    fs::remove_dir(sandbox.rootfs().join("tmp")).unwrap();
    sandbox.patch(|config| config["root"]["readonly"] = json!(true));
    let facts = told_after(&sandbox, "write /new x ; mounts");
    assert_eq!(facts.get("write /new"), "EROFS");
    assert!(facts.mount("/").has("ro") && !facts.mount("/dev").has("ro"), "{facts}");
}

#[test]
fn the_socket_of_a_service_manager_is_named() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 100");
    // Abstract, because a path would be too long.
    let address = SocketAddr::from_abstract_name(&sandbox.id).unwrap();
    let _listens = UnixDatagram::bind_addr(&address).unwrap();
    let bundle = sandbox.bundle();
    let create = ["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let mut create = command(&sandbox, &create);
    create.env("NOTIFY_SOCKET", format!("@{}", sandbox.id));
    let (mut piped, child) = Piped::start(create);
    assert!(end_of(child).success());
    sandbox.start();
    piped.wait_for("ready\n");
    checkpoint(&sandbox, &[]).fails_with("/run/notify has the socket by which");
    answers(&sandbox, &sandbox.id, &mut piped);
}

/// Adds a mount to the running container.
fn add(sandbox: &Sandbox, mount: &serde_json::Value) {
    let file = sandbox.dir.join("mounts.json");
    fs::write(&file, json!([mount]).to_string()).unwrap();
    sandbox.brig(&["mounts", "add", &sandbox.id, file.to_str().unwrap()]).ok();
}

#[test]
fn what_mounts_add_has_mounted_is_named_before_it_is_frozen() {
    criu_only!();
    let sandbox = Sandbox::new();
    let (volume, other) = (sandbox.dir.join("volume"), sandbox.dir.join("other"));
    for dir in [&volume.join("below"), &other] {
        fs::create_dir_all(dir).unwrap();
    }
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    });
    // On the root, below a volume, and over it.
    for point in ["/added", "/volume/below", "/volume"] {
        let mut piped = running(&sandbox);
        add(&sandbox, &json!({"destination": point, "source": other, "options": ["bind"]}));
        checkpoint(&sandbox, &[]).fails_with(&format!("{point} is mounted from outside"));
        answers(&sandbox, &sandbox.id, &mut piped);
        sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
    }
    // A tmpfs is part of the checkpoint, whoever has mounted it.
    running(&sandbox);
    add(&sandbox, &json!({"destination": "/memory", "type": "tmpfs"}));
    sandbox.brig(&["exec", &sandbox.id, "/init", "write", "/memory/kept", "1"]).ok();
    checkpoint(&sandbox, &[]).ok();
    restored(&sandbox, &[]);
    let said = sandbox.brig(&["exec", &sandbox.id, "/init", "read", "/memory/kept"]).ok().stdout;
    assert_eq!(said, "read /memory/kept \"1\"\n");
}
