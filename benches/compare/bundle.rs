//! The bundles, one set for each peer with one common rootfs, and their removal.

use crate::config;
use crate::host::{Host, cgroup_name};
use crate::measure;
use crate::peer::{Peer, Verb};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Everything that a measurement needs.
pub struct World {
    pub host: Host,
    pub peers: Vec<Peer>,
    /// The program that starts what is measured.
    pub tiny: PathBuf,
}

impl World {
    /// Makes all bundles.
    pub fn new(out: &Path, host: Host, peers: Vec<Peer>) -> Result<World> {
        let tiny = env::current_exe()?.with_file_name("tiny");
        let world = World { host, peers, tiny };
        world.host.remove_cgroups(false);
        let rootfs = out.join("work/rootfs");
        for dir in ["proc", "sys", "dev"] {
            fs::create_dir_all(rootfs.join(dir))?;
        }
        for name in ["true", "pause"] {
            let target = rootfs.join(name);
            fs::copy(&world.tiny, &target).with_context(|| target.display().to_string())?;
        }
        for peer in &world.peers {
            let bundles = [
                ("minimal", minimal("/true")),
                ("full", full("/true")),
                ("full-pause", full("/pause")),
                ("full-seccomp", seccomp("/pause")),
                ("list", minimal("/pause")),
                ("memory", minimal("/true")),
            ];
            world.prepare(peer, bundles)?;
        }
        Ok(world)
    }

    /// Creates the bundle for calling a peer many times concurrently.
    pub fn prepare_nth(&self, peer: &Peer) -> Result<()> {
        self.prepare(peer, [("minimal", minimal("/true"))])
    }

    fn prepare<const N: usize>(&self, peer: &Peer, bundles: [(&str, Value); N]) -> Result<()> {
        self.clear(peer)?;
        for (name, config) in bundles {
            fs::create_dir_all(peer.bundle(name))?;
            write(peer, name, &peer.cgroup(), config)?;
        }
        Ok(())
    }

    /// Deletes all containers of a peer.
    pub fn clear(&self, peer: &Peer) -> Result<()> {
        let states = peer.states();
        for entry in fs::read_dir(&states).into_iter().flatten().flatten() {
            if peer.is_floor() {
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
                continue;
            }
            let id = entry.file_name().to_string_lossy().into_owned();
            // A container that cannot be deleted leaves a cgroup, which is reported.
            let _ = measure::call(self, peer, Verb::Force, "full", &id);
        }
        fs::create_dir_all(&states).with_context(|| states.display().to_string())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.host.forget_interrupt();
        for peer in &self.peers {
            if let Err(error) = self.clear(peer) {
                eprintln!("{}: {error:#}", peer.name);
            }
        }
        let left = self.host.remove_cgroups(true);
        if let Some(first) = left.first() {
            eprintln!(
                "{} cgroups were left and are removed, the first {}",
                left.len(),
                first.display()
            );
        }
    }
}

/// The rootfs of all bundles, seen from a peer's directory.
pub fn rootfs(dir: &Path) -> PathBuf {
    dir.with_file_name("rootfs")
}

/// Writes a bundle's config.json with its place and cgroup.
pub fn write(peer: &Peer, name: &str, cgroup: &str, mut config: Value) -> Result<()> {
    config["root"]["path"] = json!(rootfs(&peer.dir));
    config["linux"]["cgroupsPath"] = json!(format!("/{cgroup}"));
    let path = peer.bundle(name).join("config.json");
    fs::write(&path, serde_json::to_vec_pretty(&config)?)
        .with_context(|| path.display().to_string())
}

/// For the n-th of many containers.
pub fn write_nth(peer: &Peer, n: usize) -> Result<()> {
    let mut config = minimal("/pause");
    // Creating and removing a network namespace takes a millisecond and a half.
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    write(peer, "list", &cgroup_name(&format!("{}-{n}", peer.name)), config)
}

/// With a memory limit in bytes.
pub fn write_memory(peer: &Peer, limit: u64) -> Result<()> {
    let mut config = minimal("/true");
    config["linux"]["resources"]["memory"]["limit"] = json!(limit);
    write(peer, "memory", &peer.cgroup(), config)
}

/// The minimum for a container.
fn minimal(program: &str) -> Value {
    json!({
        // Debian's crun 1.8.1 supports no later version.
        "ociVersion": "1.0.2",
        "root": {},
        "process": { "args": [program], "cwd": "/", "env": ["PATH=/"], "user": { "uid": 0, "gid": 0 } },
        "mounts": [mount("/proc", "proc", "proc", &[]), dev()],
        "linux": { "namespaces": namespaces(&["pid", "mount", "uts", "ipc", "network"]) },
    })
}

fn namespaces(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "type": name })).collect()
}

/// Limits, devices, all mounts, masked paths, capabilities: as requested by engines, without seccomp.
fn full(program: &str) -> Value {
    let number = |text: &str| text.parse::<i64>().unwrap_or_default();
    let capabilities: Vec<&str> = config::CAPABILITIES.iter().map(|&(name, _)| name).collect();
    let mut config = minimal(program);
    config["hostname"] = json!(config::HOSTNAME);
    config["process"]["noNewPrivileges"] = json!(true);
    config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": config::NOFILE, "hard": config::NOFILE }]);
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(capabilities);
    }
    config["mounts"] = mounts();
    config["linux"] = json!({
        "namespaces": namespaces(&["pid", "mount", "uts", "ipc", "network", "cgroup"]),
        "resources": {
            "devices": [{ "allow": false, "access": "rwm" }],
            "memory": { "limit": number(config::MEMORY) },
            "cpu": { "quota": number(config::QUOTA), "period": number(config::PERIOD) },
            "pids": { "limit": number(config::PIDS) },
        },
        "maskedPaths": config::MASKED,
        "readonlyPaths": config::READONLY,
    });
    config
}

/// The full one, with the default profile of engines.
fn seccomp(program: &str) -> Value {
    let mut config = full(program);
    let names: Vec<&str> = config::CAPABILITIES.iter().map(|&(name, _)| name).collect();
    if let Some(native) = oci_seccomp::Arch::NATIVE {
        config["linux"]["seccomp"] = json!(oci_seccomp::default_profile(&names, native));
    }
    config
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// The container's own /dev, so that a runtime's device nodes do not stay in the rootfs.
fn dev() -> Value {
    mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])
}

fn mounts() -> Value {
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |options: &[&'static str]| [&safe[..], options].concat();
    json!([
        mount("/proc", "proc", "proc", &[]),
        dev(),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &with(&["mode=1777", "size=65536k"])),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
        mount("/sys", "sysfs", "sysfs", &with(&["ro"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &with(&["relatime", "ro"])),
    ])
}
