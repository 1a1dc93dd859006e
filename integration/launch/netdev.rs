//! `linux.netDevices`, with veth pairs in a network namespace of the test.

use crate::sandbox::{Sandbox, brig_only};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::process::Command;

/// Runs the test in a thread with a new network namespace, which brig and `ip` inherit.
pub fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let name = std::thread::current().name().unwrap_or("netdev").to_string();
    let thread = std::thread::Builder::new().name(name).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the test's namespace; returns its JSON output, if any.
#[track_caller]
pub fn ip(args: &str) -> Value {
    told(Command::new("ip").arg("-json").args(args.split(' ')))
}

/// Runs `ip` in the container's network namespace.
#[track_caller]
pub fn ip_in(sandbox: &Sandbox, args: &str) -> Value {
    let namespace = format!("--net=/proc/{}/ns/net", sandbox.pid());
    told(Command::new("nsenter").args([&namespace, "ip", "-json"]).args(args.split(' ')))
}

#[track_caller]
fn told(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// `prefix/length` of every address with global scope, and whether the device is up.
pub fn seen(device: &Value) -> (bool, Vec<String>) {
    let addresses = device[0]["addr_info"].as_array().unwrap();
    let global = addresses.iter().filter(|address| address["scope"] == "global");
    let text = |a: &Value| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]);
    let mut global: Vec<String> = global.map(text).collect();
    global.sort();
    let flags = device[0]["flags"].as_array().unwrap();
    (flags.contains(&json!("UP")), global)
}

/// A pair of devices: `NAME` and `NAME-peer`.
pub fn veth(name: &str) {
    ip(&format!("link add {name} type veth peer name {name}-peer"));
}

pub fn is_here(name: &str) -> bool {
    Command::new("ip").args(["link", "show", name]).output().unwrap().status.success()
}

fn with_devices(devices: &Value) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["netDevices"] = devices.clone());
    sandbox.script("sleep 60");
    sandbox
}

#[test]
fn a_device_is_moved_with_its_addresses_and_set_up() {
    in_own_network(|| {
        veth("left");
        ip("addr add 10.7.0.1/24 dev left");
        ip("addr add 10.8.0.1/32 peer 10.8.0.2/32 dev left");
        ip("addr add fd00:7::1/64 dev left nodad");
        ip("addr add 169.254.7.1/16 scope link dev left");
        ip("link set left mtu 1400 up");
        let mac = ip("link show left")[0]["address"].clone();
        let sandbox = with_devices(&json!({"left": {}}));
        sandbox.create();
        assert!(!is_here("left") && is_here("left-peer"));
        let device = ip_in(&sandbox, "addr show left");
        let addresses = ["10.7.0.1/24", "10.8.0.1/32", "fd00:7::1/64"].map(String::from);
        assert_eq!(seen(&device), (true, addresses.to_vec()), "{device:#}");
        assert_eq!((&device[0]["mtu"], &device[0]["address"]), (&json!(1400), &mac));
        let peer =
            device[0]["addr_info"].as_array().unwrap().iter().find(|a| a["local"] == "10.8.0.1");
        assert_eq!(peer.unwrap()["address"], "10.8.0.2", "{device:#}");
        sandbox.start();
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    });
}

#[test]
fn a_device_gets_the_name_it_is_to_have() {
    in_own_network(|| {
        veth("left");
        veth("one");
        veth("two");
        let sandbox = with_devices(&json!({
            "left": {"name": "eth0"}, "one": {"name": "net%d"}, "two": {"name": "net%d"},
        }));
        sandbox.create();
        for name in ["eth0", "net0", "net1"] {
            assert!(seen(&ip_in(&sandbox, &format!("addr show {name}"))).0, "{name}");
        }
        assert!(!is_here("left") && !is_here("one") && !is_here("two"));
    });
}

#[test]
fn devices_of_a_user_namespace_are_given_by_root_outside() {
    brig_only!();
    in_own_network(|| {
        veth("left");
        ip("addr add 10.7.0.1/24 dev left");
        let sandbox = with_devices(&json!({"left": {"name": "inner"}}));
        sandbox.patch(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            // A parameter of the device, so the device must exist before.
            config["linux"]["sysctl"] = json!({"net.ipv4.conf.inner.forwarding": "1"});
        });
        let facts = sandbox.facts("ifaces ; read /proc/sys/net/ipv4/conf/inner/forwarding");
        assert!(facts.all("iface").contains(&"inner up 10.7.0.1"), "{facts}");
        assert_eq!(facts.get("read /proc/sys/net/ipv4/conf/inner/forwarding"), "\"1\\n\"");
    });
}

#[test]
fn a_joined_namespace_gets_devices_unless_it_has_such_names() {
    in_own_network(|| {
        let holder = with_devices(&json!({}));
        holder.run_with(&["--detach"]).ok();
        let joining = |devices: Value| {
            let path = format!("/proc/{}/ns/net", holder.pid());
            let sandbox = with_devices(&devices);
            sandbox.patch(|config| {
                let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
                kinds.retain(|namespace| namespace["type"] != "network");
                kinds.push(json!({"type": "network", "path": path}));
            });
            sandbox
        };
        veth("left");
        veth("right");
        let first = joining(json!({"left": {"name": "eth0"}}));
        first.create();
        assert!(seen(&ip_in(&holder, "addr show eth0")).0);
        // The namespace is not the container's own: devices moved there stay.
        first.delete();
        assert!(seen(&ip_in(&holder, "addr show eth0")).0 && !is_here("left"));
        let second = joining(json!({"right": {"name": "eth0"}}));
        second.create_with(&[]).fails_with("eth0");
        second.assert_nothing_left();
        assert!(is_here("right"));
        second.patch(|config| config["linux"]["netDevices"]["right"]["name"] = json!("eth%d"));
        second.create();
        assert!(seen(&ip_in(&holder, "addr show eth1")).0);
    });
}

#[test]
fn a_device_that_is_not_there_is_named() {
    brig_only!();
    in_own_network(|| {
        let sandbox = with_devices(&json!({"nowhere": {}}));
        sandbox.create_with(&[]).fails_with("linux.netDevices[\"nowhere\"]");
        sandbox.assert_nothing_left();
        let loopback = with_devices(&json!({"lo": {"name": "other"}}));
        loopback.create_with(&[]).fails_with("linux.netDevices[\"lo\"]");
        loopback.assert_nothing_left();
        assert!(is_here("lo"));
    });
}

#[test]
fn when_create_fails_the_host_has_its_devices_back() {
    brig_only!();
    in_own_network(|| {
        veth("left");
        veth("right");
        for address in ["10.7.0.1/24", "fd00:7::1/64"] {
            ip(&format!("addr add {address} dev left"));
        }
        ip("link set left up");
        let before = seen(&ip("addr show left"));
        for change in [
            json!({"netDevices": {"left": {"name": "eth0"}, "nowhere": {}}}),
            json!({"netDevices": {"left": {"name": "eth0"}, "right": {}}, "hook": true}),
        ] {
            let sandbox = with_devices(&change["netDevices"]);
            if change["hook"] == true {
                sandbox.patch(|config| {
                    config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
                });
            }
            sandbox.create_with(&[]).fails();
            sandbox.assert_nothing_left();
            assert_eq!(seen(&ip("addr show left")), before, "{change}");
            assert!(!seen(&ip("addr show right")).0, "{change}");
        }
    });
}
