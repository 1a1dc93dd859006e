//! A checkpoint does not grant privileges beyond the config.

use super::with::{
    Piped, answers, brig, checkpoint, criu_only, images, is_old, restore, restored, running,
};
use crate::host;
use crate::process::landlock::{self, abi};
use crate::sandbox::{Sandbox, skip};
use crate::seccomp::agent::{self, Agent};
use serde_json::{Value, json};
use std::fs;

fn refused(loose: impl FnOnce(&mut Value), said: &str) {
    let sandbox = Sandbox::new();
    let strict = sandbox.config();
    sandbox.patch(loose);
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    sandbox.write_config(&strict);
    sandbox.script("sigloop 100");
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
    brig(&sandbox, &args).fails_with(said);
    sandbox.assert_nothing_left();
    let mut piped = restored(&sandbox, &["--trust-image"]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn capabilities_are_not_more_than_the_configs() {
    criu_only!();
    let more = |config: &mut Value| {
        for set in ["bounding", "effective", "permitted"] {
            let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
            set.push(json!("CAP_SYS_ADMIN"));
        }
    };
    refused(more, "capabilities 0x200000 (CapBnd) beyond process.capabilities");
}

#[test]
fn a_namespace_of_its_own_is_not_lost() {
    criu_only!();
    for kind in ["network", "uts", "ipc"] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| drop(config.as_object_mut().unwrap().remove("hostname")));
        let strict = sandbox.config();
        sandbox.patch(|config| {
            let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.retain(|namespace| namespace["type"] != kind);
            if kind == "ipc" {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| mount["type"] != "mqueue");
            }
        });
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        sandbox.write_config(&strict);
        restore(&sandbox, &[]).fails_with(&format!(" is in the host's {kind} namespace"));
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_user_namespace_has_no_more_ids() {
    criu_only!();
    let with = |size: u32| {
        move |config: &mut Value| {
            let map = json!([{"containerID": 0, "hostID": 0, "size": size}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.retain(|namespace| namespace["type"] != "user");
            kinds.push(json!({"type": "user"}));
            config["linux"].as_object_mut().unwrap().remove("resources");
        }
    };
    let sandbox = Sandbox::new();
    sandbox.patch(with(65536));
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    sandbox.patch(with(1000));
    restore(&sandbox, &[]).fails_with("its uid_map has ids of the host beyond");
    sandbox.assert_nothing_left();
    sandbox.patch(with(65536));
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn nor_has_one_of_its_threads() {
    criu_only!();
    let sandbox = Sandbox::new();
    let strict = sandbox.config();
    sandbox.patch(|config| {
        for set in ["bounding", "effective", "permitted"] {
            let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
            set.extend([json!("CAP_SYS_ADMIN"), json!("CAP_SETPCAP")]);
        }
    });
    sandbox.script("weaken 21 ; weaken 8 ; sigloop 100");
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let (mut piped, _) = Piped::run(&sandbox, &run);
    piped.wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    sandbox.write_config(&strict);
    restore(&sandbox, &[]).fails_with("(CapBnd) beyond process.capabilities");
    sandbox.assert_nothing_left();
    let mut piped = restored(&sandbox, &["--trust-image"]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_checkpoint_does_not_choose_files_of_the_host() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let secret = sandbox.dir.join("secret");
    fs::write(&secret, "").unwrap();
    let record = format!("{}/brig.json", images(&sandbox));
    let mut changed: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let external = json!({"point": secret, "name": "/tmp", "origin": "device"});
    changed["external"].as_array_mut().unwrap().push(external);
    fs::write(&record, changed.to_string()).unwrap();
    restore(&sandbox, &[]).fails_with(&format!("the device {}", secret.display()));
    sandbox.assert_nothing_left();
}

#[test]
fn a_landlock_domain_is_not_lost() {
    criu_only!();
    if abi() < 1 {
        return skip("this kernel has no Landlock");
    }
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    landlock::annotate(&sandbox, &json!({"handledAccessFs": ["make_sock"]}));
    restore(&sandbox, &[]).fails_with("CRIU cannot restore a process in a Landlock");
    sandbox.assert_nothing_left();
    let mut piped = restored(&sandbox, &["--trust-image"]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn no_new_privileges_is_not_lost() {
    criu_only!();
    let without = |config: &mut Value| config["process"]["noNewPrivileges"] = json!(false);
    if is_old() {
        // It restores no_new_privs of no process, so brig sets it for all.
        let sandbox = Sandbox::new();
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        restored(&sandbox, &[]);
        let bound = host::status_of(sandbox.pid(), "NoNewPrivs");
        return assert_eq!(bound.as_deref(), Some("1"));
    }
    refused(without, "it lacks process.noNewPrivileges");
}

#[test]
fn the_filter_is_not_lost() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    sandbox.patch(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO"},
        ]});
    });
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
    brig(&sandbox, &args).fails_with("it lacks the filter of linux.seccomp");
    sandbox.assert_nothing_left();
}

#[test]
fn a_filter_comes_back() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO"},
        ]});
    });
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_filter_that_asks_an_agent_is_refused_before_it_is_frozen() {
    criu_only!();
    let sandbox = agent::sandbox(&["mkdir"], true);
    let _agent = Agent::new(&sandbox, &[]);
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &[]).fails_with("linux.seccomp: an agent decides about system calls");
    answers(&sandbox, &sandbox.id, &mut piped);
}
