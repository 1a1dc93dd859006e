//! `linux.namespaces`, hostname, domainname and sysctl.

use crate::sandbox::{Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;

const ALL: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn host_namespace(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
}

/// `create` in new namespaces as the host's, so that changes there do no harm.
fn apart(sandbox: &Sandbox) -> crate::sandbox::Done {
    let bundle = sandbox.bundle();
    let create = ["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let mut command = sandbox.command(&create);
    crate::sandbox::expendable_host(&mut command);
    sandbox.spawn(command).wait()
}

fn namespaces(sandbox: &Sandbox, list: &[Value]) {
    sandbox.patch(|config| config["linux"]["namespaces"] = json!(list));
}

/// A configuration with only these namespaces, and nothing that requires others.
fn with_namespaces(list: &[Value]) -> Sandbox {
    let sandbox = Sandbox::minimal();
    namespaces(&sandbox, list);
    sandbox
}

#[test]
fn every_namespace_asked_for_is_new() {
    let facts = Sandbox::new().facts("ns ; pid");
    for (_, name) in ALL {
        assert_ne!(facts.get(&format!("ns {name}")), host_namespace(name), "{name}");
    }
    for name in ["user", "time"] {
        assert_eq!(facts.get(&format!("ns {name}")), host_namespace(name), "{name}");
    }
    assert_eq!(facts.get("pid"), "1 ppid 0");
}

#[test]
fn a_namespace_not_asked_for_is_the_hosts() {
    let facts = with_namespaces(&[json!({"type": "mount"})]).facts("ns ; uname");
    for (_, name) in ALL {
        let same = facts.get(&format!("ns {name}")) == host_namespace(name);
        assert_eq!(same, name != "mnt", "{name}");
    }
    assert_eq!(facts.get("hostname"), nix::unistd::gethostname().unwrap().to_str().unwrap());
}

#[test]
fn the_cgroup_namespace_shows_the_containers_cgroup_as_its_root() {
    for line in Sandbox::new().facts("cgroups").all("cgroup") {
        assert!(line.ends_with(":/"), "{line}");
    }
}

#[test]
fn namespaces_are_joined_by_path() {
    let holder = Sandbox::new();
    holder.script("sleep 60").run_with(&["--detach"]).ok();
    let pid = holder.pid();
    for (kind, name) in ALL.into_iter().filter(|(kind, _)| *kind != "mount") {
        let sandbox = with_namespaces(&[
            json!({"type": "mount"}),
            json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}),
        ]);
        let facts = sandbox.facts("ns");
        let held = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(facts.get(&format!("ns {name}")), held.to_str().unwrap());
        assert_ne!(held.to_str().unwrap(), host_namespace(name));
        sandbox.assert_nothing_left();
    }
    assert_eq!(holder.status(), "running");
}

#[test]
fn a_joined_pid_namespace_keeps_its_init() {
    let holder = Sandbox::new();
    holder.script("sleep 60").run_with(&["--detach"]).ok();
    let path = format!("/proc/{}/ns/pid", holder.pid());
    let sandbox =
        with_namespaces(&[json!({"type": "mount"}), json!({"type": "pid", "path": path})]);
    let created = sandbox.script("pid ; exit 3").run();
    assert_eq!(created.code, Some(3), "{created:?}");
    assert_ne!(crate::facts::Facts::parse(&created.stdout).word("pid", 0), "1");
    assert_eq!(holder.status(), "running");
}

#[test]
fn the_state_has_the_hosts_pid_whatever_the_namespace() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    let pid = sandbox.pid();
    let inside = crate::host::status_of(pid, "NSpid").unwrap();
    assert_eq!(inside.split_whitespace().last(), Some("1"));
}

#[test]
fn a_namespace_of_another_type_is_refused() {
    let uts = format!("/proc/{}/ns/uts", std::process::id());
    let sandbox =
        with_namespaces(&[json!({"type": "mount"}), json!({"type": "network", "path": uts})]);
    sandbox.create_with(&[]).fails();
    sandbox.assert_nothing_left();
}

#[test]
fn a_namespace_path_that_is_no_namespace_is_refused() {
    for path in ["/no/such", "/etc/hostname", "/"] {
        let sandbox =
            with_namespaces(&[json!({"type": "mount"}), json!({"type": "network", "path": path})]);
        let message = sandbox.create_with(&[]).fails();
        assert!(message.contains(path) || crate::sandbox::is_peer(), "{message}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_namespace_listed_twice_is_refused() {
    let sandbox = with_namespaces(&[
        json!({"type": "mount"}),
        json!({"type": "pid"}),
        json!({"type": "pid"}),
    ]);
    sandbox.create_with(&[]).fails();
    sandbox.assert_nothing_left();
}

#[test]
fn lo_is_up_in_a_new_network_namespace() {
    let facts = Sandbox::new().facts("ifaces");
    assert!(facts.0.contains(&"iface lo up 127.0.0.1".to_string()), "{facts}");
}

#[test]
fn lo_of_a_joined_network_namespace_is_left_alone() {
    brig_only!();
    let holder = Sandbox::new();
    // Another network namespace, in which lo is down.
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--net", "--"]);
    let sleeper = crate::sandbox::on_host(&["say", "ready", ";", "sleep", "60"]);
    unshare.arg(sleeper.get_program()).args(sleeper.get_args());
    let mut running = holder.spawn(unshare);
    running.wait_for_line("ready");
    let path = format!("/proc/{}/ns/net", running.child.id());
    let sandbox =
        with_namespaces(&[json!({"type": "mount"}), json!({"type": "network", "path": path})]);
    let facts = sandbox.facts("ifaces");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(facts.all("iface").iter().all(|line| line.starts_with("lo down")), "{facts}");
}

#[test]
fn hostname_and_domainname_are_set_in_the_container_only() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["hostname"] = json!("harbour"));
    if !crate::sandbox::is_peer() {
        sandbox.patch(|config| config["domainname"] = json!("example.org"));
    }
    let before = nix::unistd::gethostname().unwrap();
    let facts = sandbox.facts("uname");
    assert_eq!(facts.get("hostname"), "harbour");
    if !crate::sandbox::is_peer() {
        assert_eq!(facts.get("domainname"), "example.org");
    }
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    let before = nix::unistd::gethostname().unwrap();
    for name in ["hostname", "domainname"] {
        let sandbox = Sandbox::minimal();
        if crate::sandbox::is_peer() && name == "domainname" {
            continue;
        }
        sandbox.patch(|config| config[name] = json!("never"));
        let message = apart(&sandbox).fails();
        assert!(message.to_lowercase().contains("uts"), "{message}");
        sandbox.assert_nothing_left();
    }
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

#[test]
fn sysctls_of_the_containers_namespaces_are_set() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["sysctl"] = json!({
            "net.ipv4.ip_forward": "1",
            "net/ipv4/conf/lo.x/forwarding": "1",
            "kernel.shm_rmid_forced": "1",
            "kernel.msgmax": "9000",
            "fs.mqueue.msg_max": "7"
        });
        // Its slash form is an interface name with a dot; the interface does not exist, so only the plain
        // forms stay.
        config["linux"]["sysctl"].as_object_mut().unwrap().remove("net/ipv4/conf/lo.x/forwarding");
    });
    let names =
        ["net/ipv4/ip_forward", "kernel/shm_rmid_forced", "kernel/msgmax", "fs/mqueue/msg_max"];
    let before = names.map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap());
    let script = names.map(|name| format!("read /proc/sys/{name}")).join(" ; ");
    let facts = sandbox.facts(&script);
    for (name, value) in names.into_iter().zip(["1", "1", "9000", "7"]) {
        assert_eq!(
            facts.get(&format!("read /proc/sys/{name}")),
            format!("{:?}", format!("{value}\n"))
        );
    }
    assert_eq!(names.map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap()), before);
}

#[test]
fn a_name_may_be_given_as_a_field_and_as_a_sysctl() {
    let sandbox = Sandbox::new();
    let domain = |name: &str| {
        sandbox.patch(|config| config["linux"]["sysctl"] = json!({"kernel.domainname": name}));
        sandbox.facts("uname").get("domainname").to_owned()
    };
    assert_eq!(domain("one"), "one");
    if !crate::sandbox::is_peer() {
        sandbox.patch(|config| config["domainname"] = json!("one"));
        assert_eq!(domain("one"), "one");
        // The sysctl is written last, as in runc.
        assert_eq!(domain("two"), "two");
        sandbox.patch(|config| config["linux"]["sysctl"] = json!({"kernel.hostname": "harbour"}));
        sandbox.patch(|config| config["hostname"] = json!("harbour"));
        assert_eq!(sandbox.facts("uname").get("hostname"), "harbour");
    }
}

#[test]
fn a_sysctl_of_a_joined_namespace_that_is_the_hosts_is_refused() {
    for (kind, file, name) in [
        ("network", "net", "net.ipv4.ip_forward"),
        ("ipc", "ipc", "kernel.msgmax"),
        ("uts", "uts", "kernel.domainname"),
    ] {
        // runc only checks network namespaces.
        if crate::sandbox::is_peer() && kind != "network" {
            continue;
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).unwrap();
        let sandbox = Sandbox::minimal();
        sandbox.patch(|config| {
            let joined = json!({"type": kind, "path": format!("/proc/self/ns/{file}")});
            config["linux"]["namespaces"].as_array_mut().unwrap().push(joined);
            // The host's current value: harmless if it is not refused.
            config["linux"]["sysctl"] = json!({ name: before.trim() });
        });
        apart(&sandbox).fails_with(name);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn limits_of_a_user_namespace_of_its_own_are_set() {
    brig_only!();
    let name = "user.max_inotify_instances";
    let sandbox = crate::userns::mapped();
    sandbox.patch(|config| config["linux"]["sysctl"] = json!({ name: "7" }));
    let file = "/proc/sys/user/max_inotify_instances";
    let before = fs::read_to_string(file).unwrap();
    assert_eq!(sandbox.facts(&format!("read {file}")).get(&format!("read {file}")), "\"7\\n\"");
    assert_eq!(fs::read_to_string(file).unwrap(), before);
}

#[test]
fn id_maps_without_a_user_namespace_have_no_effect() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    let facts = sandbox.facts("read /proc/self/uid_map");
    assert!(facts.get("read /proc/self/uid_map").contains("4294967295"), "{facts}");
}

#[test]
fn a_sysctl_may_be_written_with_slashes() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["sysctl"] = json!({"net/ipv4/ip_forward": "1"}));
    assert_eq!(
        sandbox
            .facts("read /proc/sys/net/ipv4/ip_forward")
            .get("read /proc/sys/net/ipv4/ip_forward"),
        "\"1\\n\""
    );
}

#[test]
fn a_sysctl_of_the_host_or_without_its_namespace_is_refused() {
    let shared = ["kernel.panic", "vm.swappiness", "kernel.hostname", "fs.file-max"];
    let namespaced =
        ["net.ipv4.ip_forward", "kernel.msgmax", "fs.mqueue.msg_max", "kernel.domainname"];
    for name in shared.into_iter().chain(namespaced) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).unwrap();
        let sandbox = if shared.contains(&name) { Sandbox::new() } else { Sandbox::minimal() };
        // The host's current value: harmless if it is not refused.
        sandbox.patch(|config| config["linux"]["sysctl"] = json!({ name: before.trim() }));
        apart(&sandbox).fails_with(name);
        sandbox.assert_nothing_left();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }
}

#[test]
fn a_sysctl_does_not_leave_proc_sys() {
    // A runtime that followed these would change the container's own host name, which stands for any
    // parameter.
    for name in ["net/../kernel/hostname", "net.//.kernel.hostname", "net.../../../tmp/x"] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| config["linux"]["sysctl"] = json!({name: "1"}));
        sandbox.create_with(&[]).fails();
        sandbox.assert_nothing_left();
    }
}

/// The mounts of a container without its own mount namespace, and of one that joins `list`.
fn mounted_but_not_attached(list: &[Value], shows: &str) {
    let sandbox = with_namespaces(list);
    let outside = sandbox.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "from outside").unwrap();
    sandbox.add_file("etc/secret", "hidden");
    sandbox.patch(|config| {
        config["mounts"] = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/tmp/deep", "source": outside, "options": ["rbind", "ro"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ]);
        config["root"]["readonly"] = json!(true);
        if list.iter().any(|namespace| namespace["type"] == "mount") {
            config["linux"]["maskedPaths"] = json!(["/etc/secret"]);
        }
    });
    // Other tests make mounts meanwhile.
    let own = sandbox.dir.to_str().unwrap().to_owned();
    let mounts = || -> Vec<String> {
        let targets = crate::host::mounts().into_iter().map(|m| m.target);
        targets.filter(|target| target.starts_with(&own) || !target.contains("-bt")).collect()
    };
    let before = mounts();
    let script = "ns ; read /tmp/deep/file ; read /etc/secret ; write /tmp/deep/file no ; \
                  write /etc/new no ; write /tmp/new yes ; say ready ; sleep 60";
    sandbox.script(script).create();
    assert_eq!(before, mounts(), "nothing of it shows on the host");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();

    let facts = sandbox.facts(&script.replace(" ; say ready ; sleep 60", ""));
    assert_eq!(facts.get("ns mnt"), shows);
    assert_eq!(facts.get("read /tmp/deep/file"), r#""from outside""#);
    let joins = list.iter().any(|namespace| namespace["type"] == "mount");
    assert_eq!(facts.get("read /etc/secret"), if joins { r#""""# } else { r#""hidden""# });
    assert_eq!(facts.get("write /tmp/deep/file"), "EROFS");
    assert_eq!(facts.get("write /etc/new"), "EROFS");
    assert_eq!(facts.get("write /tmp/new"), "ok");
    assert!(!sandbox.rootfs().join("tmp/new").exists());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "from outside");
    sandbox.assert_nothing_left();
}

#[test]
fn without_a_mount_namespace_mounts_show_in_the_container_alone() {
    brig_only!();
    mounted_but_not_attached(&[json!({"type": "pid"})], &host_namespace("mnt"));
}

#[test]
fn in_a_joined_mount_namespace_mounts_show_in_the_container_alone() {
    brig_only!();
    let path = format!("/proc/{}/ns/mnt", std::process::id());
    let list = [json!({"type": "pid"}), json!({"type": "mount", "path": path})];
    mounted_but_not_attached(&list, &host_namespace("mnt"));
}

#[test]
fn without_a_mount_namespace_nothing_can_be_hidden() {
    brig_only!();
    for key in ["maskedPaths", "readonlyPaths"] {
        let sandbox = with_namespaces(&[json!({"type": "pid"})]);
        sandbox.patch(|config| {
            config["mounts"] = json!([]);
            config["linux"][key] = json!(["/etc"]);
        });
        let reason = format!("linux.{key}");
        let error = sandbox.create_with(&[]).fails_with(&reason);
        assert!(error.contains("needs a mount namespace"), "{error}");
        sandbox.assert_nothing_left();
    }
}
