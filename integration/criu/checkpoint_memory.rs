//! Checkpoints that not every machine supports: iterative memory dumps, processes of users other than root,
//! scopes of systemd.

use super::with::{
    Piped, answers, brig, checkpoint, command, criu, criu_only, images, nature, restored, running,
};
use crate::host;
use crate::sandbox::{Sandbox, skip};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// The size of the memory in this part of a checkpoint.
fn pages(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap().flatten();
    let pages = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn what_changed_after_a_pre_dump_is_all_that_a_checkpoint_adds() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("hog 8388608 keep ; sigloop 100");
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let (mut piped, _) = Piped::run(&sandbox, &run);
    piped.wait_for("ready\n");
    let part = |name: &str| sandbox.dir.join(name);
    let dump = |name: &str, args: &[&str]| {
        let dir = part(name);
        let before = ["checkpoint", "--image-path", dir.to_str().unwrap()];
        brig(&sandbox, &[&before, args, &[&sandbox.id]].concat())
    };
    let first = dump("one", &["--pre-dump"]);
    if first.stderr.contains("CONFIG_MEM_SOFT_DIRTY") {
        assert_eq!(sandbox.status(), "running");
        return skip("the kernel does not tell which memory has changed");
    }
    first.ok();
    answers(&sandbox, &sandbox.id, &mut piped);
    let bundle = bundle.to_str().unwrap();
    let (one, other) = (part("one"), format!("{}-b", sandbox.id));
    let args = ["restore", "-d", "--image-path", one.to_str().unwrap(), "--bundle", bundle, &other];
    brig(&sandbox, &args).fails_with("there is only memory, as --pre-dump writes it");
    dump("two", &["--pre-dump", "--parent-path", "../one"]).ok();
    answers(&sandbox, &sandbox.id, &mut piped);
    dump("images", &["--parent-path", "../two"]).ok();
    sandbox.assert_nothing_left();
    let [one, two, three] = ["one", "two", "images"].map(|name| pages(&part(name)));
    assert!(one > 8 << 20 && two < 2 << 20 && three < 2 << 20, "{one} {two} {three}");
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

/// CRIU must set limits of other users' processes.
fn may_set_limits() -> bool {
    const CAP_SYS_RESOURCE: u64 = 24;
    let own = host::status_of(i64::from(std::process::id()), "CapEff").unwrap();
    let may = u64::from_str_radix(&own, 16).unwrap() >> CAP_SYS_RESOURCE & 1 == 1;
    if !may {
        skip("no CAP_SYS_RESOURCE here");
    }
    may
}

#[test]
fn processes_of_an_unprivileged_user_come_back() {
    criu_only!();
    if !may_set_limits() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
        config["process"]["capabilities"] = json!({});
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    });
    running(&sandbox);
    let before = nature(sandbox.pid());
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    assert_eq!(nature(sandbox.pid()), before);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_user_namespace_with_ids_of_its_own_comes_back() {
    criu_only!();
    if !may_set_limits() {
        return;
    }
    let sandbox = Sandbox::new();
    for dir in ["", "dev", "proc", "sys", "tmp"] {
        std::os::unix::fs::chown(sandbox.rootfs().join(dir), Some(100_000), Some(100_000)).unwrap();
    }
    sandbox.patch(|config| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["process"]["user"] = json!({"uid": 7, "gid": 8});
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    });
    running(&sandbox);
    let before = nature(sandbox.pid());
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    assert_eq!(nature(sandbox.pid()), before);
    answers(&sandbox, &sandbox.id, &mut piped);
}

/// CRIU clears them; of several, one may start while those of another have cleared them.
#[test]
fn the_host_keeps_the_options_of_cgroup2() {
    criu_only!();
    let kept = || {
        let mut mounts = host::mounts().into_iter();
        mounts.any(|mount| mount.fstype == "cgroup2" && mount.has("nsdelegate"))
    };
    // The guest's cgroup2 has it, though a CRIU of another test may just have cleared it.
    let guest = std::env::var_os("BRIG_TEST_EXPENDABLE").is_some()
        && host::mounts().iter().any(|mount| mount.fstype == "cgroup2");
    if !guest && !kept() {
        return skip("no cgroup2 with nsdelegate");
    }
    assert!(host::wait_until(Duration::from_secs(20), kept), "lost already");
    // The first CRIU ends only when the second brig has looked at the options, and the second CRIU starts
    // only when the first brig has put them back.
    let [first, second] = [Sandbox::new(), Sandbox::new()];
    let held = |sandbox: &Sandbox, around: [&str; 2]| {
        let (real, dir) = (criu().as_ref().unwrap(), sandbox.dir.join("bin"));
        let wait = "until [ -e go ]; do sleep 0.05; done";
        let [before, after] = around.map(|when| when.replace("WAIT", wait));
        fs::create_dir(&dir).unwrap();
        let program = dir.join("criu");
        let home = sandbox.dir.display();
        let text = format!(
            "#!/bin/sh\ncd {home}; : >started; {before}\n{}/criu \"$@\"; {after}\n",
            real.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let images = images(sandbox);
        let args = ["checkpoint", "--leave-running", "--image-path", &images, &sandbox.id];
        let mut command = command(sandbox, &args);
        let path = format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display(), real.display());
        command.env("PATH", path);
        sandbox.spawn(command)
    };
    let until = |what: &dyn Fn() -> bool| host::wait_until(Duration::from_secs(20), what);
    running(&first);
    running(&second);
    let one = held(&first, ["", "WAIT"]);
    assert!(until(&|| !kept()), "this CRIU does not clear them");
    let other = held(&second, ["WAIT", ""]);
    assert!(until(&|| second.dir.join("started").exists()));
    fs::write(first.dir.join("go"), "").unwrap();
    one.wait().ok();
    assert!(until(&kept), "lost by one");
    fs::write(second.dir.join("go"), "").unwrap();
    other.wait().ok();
    assert!(until(&kept), "lost by the other");
}

#[test]
fn a_scope_of_systemds_is_made_again() {
    criu_only!();
    if !Path::new("/run/systemd/private").exists()
        || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    {
        return skip("no systemd here, or not with cgroup2 alone");
    }
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 100");
    sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 77}));
    let scope = Path::new("/sys/fs/cgroup/system.slice").join(format!("brig-{}.scope", sandbox.id));
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let common = ["--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let start = |verb: &[&str]| {
        let (mut piped, status) =
            Piped::run(&sandbox, &[&["--systemd-cgroup"], verb, &common].concat());
        if !status.success() {
            piped.wait_for("never");
        }
        assert_eq!(fs::read_to_string(scope.join("pids.max")).unwrap(), "77\n");
        let pids = fs::read_to_string(scope.join("cgroup.procs")).unwrap();
        assert!(pids.lines().any(|pid| pid == sandbox.pid().to_string()), "{pids}");
        piped
    };
    start(&["run"]).wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    assert!(host::wait_until(Duration::from_secs(20), || !scope.exists()));
    let mut piped = start(&["restore", "--image-path", &images]);
    answers(&sandbox, &sandbox.id, &mut piped);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(host::wait_until(Duration::from_secs(20), || !scope.exists()));
}
