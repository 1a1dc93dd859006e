//! features: what this build of brig can do, on any host (features.md).

use crate::log;
use crate::plan::mount_options::OPTIONS;
use crate::plan::process::CAPABILITIES;
use crate::plan::sched::{MEMORY_FLAGS, MEMORY_MODES};
use anyhow::Result;
use serde_json::json;

const SECCOMP_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

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
            "namespaces": [
                "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
            ],
            "capabilities": CAPABILITIES.as_slice(),
            "cgroup": {
                "v1": true, "v2": true, "systemd": true, "systemdUser": true,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
                    "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_X32",
                    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
                ],
                "knownFlags": SECCOMP_FLAGS,
                "supportedFlags": SECCOMP_FLAGS,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": { "modes": names(&MEMORY_MODES), "flags": names(&MEMORY_FLAGS) },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": {
            "run.brig.version": env!("CARGO_PKG_VERSION"),
            "run.brig.commit": crate::COMMIT,
            // podman and CRI-O ask under runc's and crun's names.
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "run.oci.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": [
            "org.systemd.property.", "run.brig.", "run.oci.delegate-cgroup",
            "run.oci.hooks.stderr", "run.oci.hooks.stdout", "run.oci.keep_original_groups",
            "run.oci.mount_context_type", "run.oci.pidfd_receiver", "run.oci.seccomp_bpf_data",
            "run.oci.systemd.subgroup",
        ],
    });
    let mut text = serde_json::to_vec_pretty(&features)?;
    text.push(b'\n');
    log::out(&text)
}

fn names<T>(table: &'static [(&str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}
