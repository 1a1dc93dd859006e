//! AppArmor and SELinux: labels of processes. Enforcement needs a kernel with AppArmor enabled and
//! apparmor_parser, as in the guest of `make test-vm-systemd`.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// A loaded profile that allows everything except files below /denied.
struct Profile(String);

impl Profile {
    /// None: not on this host.
    fn load(sandbox: &Sandbox) -> Option<Profile> {
        if !host::has_lsm("apparmor") {
            skip("AppArmor is not in force");
            return None;
        }
        let profile = Profile(format!("brig-test-{}", sandbox.id));
        match profile.parser("--add") {
            Ok(true) => Some(profile),
            failed => panic!("apparmor_parser: {failed:?}"),
        }
    }

    fn parser(&self, action: &str) -> std::io::Result<bool> {
        let mut parser = Command::new("apparmor_parser");
        parser.args([action, "--skip-cache"]).stdin(Stdio::piped());
        let mut parser = parser.spawn()?;
        let flags = "flags=(attach_disconnected,mediate_deleted)";
        let rules = "file, capability, network, signal, ptrace, unix, mount, umount, \
                     deny /denied/** rwklx,";
        let text = format!("profile {} {flags} {{ {rules} }}\n", self.0);
        parser.stdin.take().unwrap().write_all(text.as_bytes())?;
        Ok(parser.wait()?.success())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let removed = self.parser("--remove");
        assert!(std::thread::panicking() || matches!(removed, Ok(true)), "{removed:?}");
    }
}

/// A container with this profile, and files that it denies and allows.
fn sandbox(profile: &str, no_new_privileges: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["apparmorProfile"] = json!(profile);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    });
    sandbox.add_file("denied/file", "x");
    sandbox.add_file("allowed/file", "x");
    sandbox
}

const LOOK: &str = "open /denied/file r ; open /allowed/file r ; lsm";

fn exec(sandbox: &Sandbox, flags: &[&str]) -> Done {
    let words: Vec<&str> = LOOK.split(' ').collect();
    sandbox.brig(&[&["exec"], flags, &[sandbox.id.as_str(), "/init"], &words].concat())
}

#[track_caller]
fn assert_confined(seen: &Facts, profile: &str) {
    assert_eq!(seen.get("lsm"), format!("{profile} (enforce)"));
    assert_eq!(seen.get("open /denied/file"), "EACCES");
    assert_eq!(seen.get("open /allowed/file"), "ok");
}

#[test]
fn a_profile_confines_the_container_and_what_is_executed_in_it() {
    for no_new_privileges in [true, false] {
        let base = Sandbox::new();
        let Some(profile) = Profile::load(&base) else { return };
        let sandbox = sandbox(&profile.0, no_new_privileges);
        let created = sandbox.script(&format!("{LOOK} ; say done ; sleep 60")).create();
        sandbox.start();
        created.wait_for_line("done");
        assert_confined(&created.facts_now(), &profile.0);
        assert_confined(&Facts::parse(&exec(&sandbox, &[]).ok().stdout), &profile.0);
    }
}

#[test]
fn a_profile_confines_root_of_a_user_namespace() {
    let base = Sandbox::new();
    let Some(profile) = Profile::load(&base) else { return };
    let sandbox = sandbox(&profile.0, true);
    sandbox.patch(|config| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    });
    let created = sandbox.script(&format!("{LOOK} ; say done ; sleep 60")).create();
    sandbox.start();
    created.wait_for_line("done");
    assert_confined(&created.facts_now(), &profile.0);
    assert_confined(&Facts::parse(&exec(&sandbox, &[]).ok().stdout), &profile.0);
}

#[test]
fn exec_has_the_profile_that_it_asks_for() {
    let base = Sandbox::new();
    let Some(profile) = Profile::load(&base) else { return };
    let sandbox = sandbox("unconfined", false);
    let created = sandbox.script("lsm ; say done ; sleep 60").create();
    sandbox.start();
    created.wait_for_line("done");
    assert_eq!(created.facts_now().get("lsm"), "unconfined");
    let seen = exec(&sandbox, &["--apparmor", &profile.0]).ok();
    assert_confined(&Facts::parse(&seen.stdout), &profile.0);
    assert_eq!(Facts::parse(&exec(&sandbox, &[]).ok().stdout).get("open /denied/file"), "ok");
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error_by_name() {
    if !host::has_lsm("apparmor") {
        return skip("AppArmor is not in force");
    }
    for no_new_privileges in [true, false] {
        let none = sandbox("brig-test-no-such", no_new_privileges);
        let text = none.create_with(&[]).fails();
        assert!(text.contains("brig-test-no-such"), "{text}");
        if !crate::sandbox::is_peer() {
            // podman matches the quoted path.
            let part = "`/proc/thread-self/attr/apparmor/exec`: No such file or directory";
            assert!(text.contains(part) && text.contains("process.apparmorProfile"), "{text}");
        }
        none.assert_nothing_left();
        let sandbox = sandbox("unconfined", no_new_privileges);
        sandbox.script("sleep 60").create();
        sandbox.start();
        let done = exec(&sandbox, &["--apparmor", "brig-test-no-such"]);
        assert_eq!(done.code, Some(255), "{done:?}");
        assert!(done.stderr.contains("brig-test-no-such"), "{done:?}");
        assert_eq!(host::processes_of(&sandbox.id).len(), 1);
    }
}

/// CVE-2019-16884, CVE-2025-52881: files in place of the container's /proc get no label.
#[test]
fn a_false_proc_of_the_image_takes_no_profile_away() {
    let base = Sandbox::new();
    let Some(profile) = Profile::load(&base) else { return };
    let sandbox = sandbox(&profile.0, true);
    sandbox.patch(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        for hidden in ["maskedPaths", "readonlyPaths"] {
            config["linux"][hidden] = json!([]);
        }
    });
    let files = ["thread-self/attr/apparmor/exec", "thread-self/attr/exec", "self/attr/exec"];
    files.iter().for_each(|file| sandbox.add_file(&format!("proc/{file}"), ""));
    sandbox.script("sleep 60").create();
    sandbox.start();
    let current = fs::read_to_string(format!("/proc/{}/attr/current", sandbox.pid())).unwrap();
    assert_eq!(current.trim_end(), format!("{} (enforce)", profile.0));
    for file in files {
        assert_eq!(fs::read_to_string(sandbox.rootfs().join("proc").join(file)).unwrap(), "");
    }
}

#[test]
fn exec_cannot_have_a_label_of_a_module_that_is_not_there() {
    brig_only!();
    for (module, flag, place) in [
        ("apparmor", "--apparmor", "--apparmor: \"a:b\" has no effect"),
        ("selinux", "--process-label", "--process-label: \"a:b\" has no effect"),
    ] {
        if host::has_lsm(module) {
            skip(&format!("{module} is in force"));
            continue;
        }
        let sandbox = Sandbox::new();
        sandbox.script("sleep 60").create();
        sandbox.start();
        let done = exec(&sandbox, &[flag, "a:b"]);
        assert_eq!(done.code, Some(255), "{done:?}");
        assert!(done.stderr.contains(place), "{done:?}");
    }
}
