//! features: what this build of brig supports, independent of the host (features.md).

use crate::log;
use crate::plan::annotations;
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

/// Architectures that a profile can name. Rules apply to those of this machine: 64-bit and 32-bit.
const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Prints the features as JSON. Only what is supported is listed.
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
                "archs": ARCHITECTURES,
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
            // podman and CRI-O look for runc's and crun's names.
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "run.oci.crun.checkpoint.enabled": "true",
        },
        "potentiallyUnsafeConfigAnnotations": annotations::unsafe_names(),
    });
    let mut text = serde_json::to_vec_pretty(&features)?;
    text.push(b'\n');
    log::out(&text)
}

fn names<T>(table: &'static [(&str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}
