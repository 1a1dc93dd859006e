//! features: what this build of brig can do, on any host (features.md).

use crate::log;
use crate::plan::mount_options::OPTIONS;
use crate::plan::process::CAPABILITIES;
use crate::plan::sched::{MEMORY_FLAGS, MEMORY_MODES};
use anyhow::Result;
use serde_json::json;

/// Prints the features as JSON. Only what is so is said.
pub fn features() -> Result<()> {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::SPEC_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
        ],
        "mountOptions": names(OPTIONS),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": CAPABILITIES.as_slice(),
            "cgroup": {
                "v1": true, "v2": true, "systemd": false, "systemdUser": false,
                "rdma": true,
            },
            "seccomp": { "enabled": false },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "memoryPolicy": { "modes": names(&MEMORY_MODES), "flags": names(&MEMORY_FLAGS) },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": {
            "run.brig.version": env!("CARGO_PKG_VERSION"),
            "run.brig.commit": crate::COMMIT,
        },
        "potentiallyUnsafeConfigAnnotations": ["run.brig."],
    });
    let mut text = serde_json::to_vec_pretty(&features)?;
    text.push(b'\n');
    log::out(&text)
}

fn names<T>(table: &'static [(&str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}
