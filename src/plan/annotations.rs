//! Annotations of other runtimes: brig implements them, or reports that it does not.

use super::resources::Optional;
use super::{PIDFD_RECEIVER, delegate, hooks, overlay, process, time};
use crate::seccomp;
use crate::spec::{Place, Spec};
use anyhow::{Result, anyhow};

/// crun's handlers: the program is not native but for a virtual machine or wasm.
const HANDLER: &str = "run.oci.handler";
/// Libraries that crun would load to decide about system calls.
const SECCOMP_PLUGINS: &str = "run.oci.seccomp.plugins";

/// A cgroup v1 hierarchy for an old systemd, mounted over a path of the container.
const FORCE_CGROUP_V1: &str = "run.oci.systemd.force_cgroup_v1";

/// Annotations that begin with `run.oci.` and have an effect, in the order of `features`.
pub const OF_CRUN: [&str; 11] = [
    delegate::ANNOTATION,
    hooks::STDERR,
    hooks::STDOUT,
    process::KEEP_GROUPS,
    "run.oci.mount_context_type",
    PIDFD_RECEIVER,
    seccomp::RECEIVER,
    "run.oci.seccomp_bpf_data",
    seccomp::FAIL_UNKNOWN,
    "run.oci.systemd.subgroup",
    time::ANNOTATION,
];

/// Further annotations that an engine must not accept from untrusted users; a name that ends with a dot is a
/// prefix.
const UNSAFE: [&str; 10] = [
    "io.kubernetes.cri.container-type",
    "org.criu.config",
    "org.systemd.property.",
    overlay::LAYERS,
    overlay::UPPER,
    overlay::WORK,
    overlay::IDMAP,
    overlay::IMAGE,
    // Lets a container run without limits that its engine has set.
    Optional::ANNOTATION,
    // Where it is honored, the container runs natively; otherwise it does not run.
    HANDLER,
];

/// The annotations that an engine must not accept from untrusted users, sorted.
pub fn unsafe_names() -> Vec<&'static str> {
    let mut all: Vec<_> = UNSAFE.into_iter().chain(OF_CRUN).collect();
    all.sort_unstable();
    all
}

/// Whether it is one of [`unsafe_names`].
pub fn is_unsafe(name: &str) -> bool {
    let is = |known: &&str| name == *known || known.ends_with('.') && name.starts_with(*known);
    UNSAFE.iter().chain(&OF_CRUN).any(is)
}

/// Refuses annotations that the container must not run without; unknown ones are a warning, because the
/// specification forbids an error (config.md, Annotations).
pub fn check(spec: &Spec, warnings: &mut Vec<String>) -> Result<()> {
    let annotations = &spec.annotations;
    if annotations.contains_key("") {
        Err(anyhow!("has an empty key (config.md, Annotations)")).at("annotations")?;
    }
    // As in crun, the sandbox of a pod runs natively, whatever its containers ask for.
    let sandbox = annotations.get("io.kubernetes.cri.container-type");
    if let (Some(handler), false) =
        (annotations.get(HANDLER), sandbox.is_some_and(|kind| kind == "sandbox"))
    {
        Err(anyhow!("handler {handler:?} is not supported: brig only runs native programs"))
            .at(format_args!("annotations[{HANDLER:?}]"))?;
    }
    if annotations.contains_key(SECCOMP_PLUGINS) {
        let instead = "brig does not support plugins: use SCMP_ACT_NOTIFY with listenerPath";
        Err(anyhow!(instead)).at(format_args!("annotations[{SECCOMP_PLUGINS:?}]"))?;
    }
    if annotations.contains_key(FORCE_CGROUP_V1) {
        let instead = "not supported: brig does not mount cgroup v1 hierarchies; bind mount the host's /sys/fs/cgroup/systemd instead, if it exists";
        Err(anyhow!(instead)).at(format_args!("annotations[{FORCE_CGROUP_V1:?}]"))?;
    }
    let known = |name: &&String| name == &HANDLER || OF_CRUN.contains(&name.as_str());
    let unknown = annotations.keys().filter(|name| name.starts_with("run.oci.") && !known(name));
    warnings.extend(
        unknown.map(|name| format!("annotations[{name:?}]: unknown to brig, has no effect")),
    );
    Ok(())
}
