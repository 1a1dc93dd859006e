//! The probes, in the order of the output.

use super::namespaces::{self, HostFilesystem};
use super::{Answer, Finding, Status, Subject, Trouble, cgroups, files, others};
use sys::Errno;
use sys::calls::{self, Call};

/// Whether something is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Not at all: it is not tried.
    No,
    /// By some containers.
    Sometimes,
    /// By the bundle's container; without a bundle, by that of the config of `brig spec`.
    Yes,
}

/// One probe.
pub(super) struct Probe {
    name: &'static str,
    ask: Ask,
}

/// How to probe.
enum Ask {
    /// Whether a system call exists, without which slower ones are used.
    Call(&'static Call),
    /// A namespace, by its `CLONE_NEW*` bit.
    Namespace(libc::c_int),
    /// A kernel filesystem.
    Mount(&'static HostFilesystem),
    /// Anything else: whether it is needed, and the probe.
    Other(fn(&Subject<'_>) -> Wanted, fn(&Subject<'_>) -> Answer),
}

impl Probe {
    const fn new(name: &'static str, ask: Ask) -> Probe {
        Probe { name, ask }
    }

    /// Whether it is tried in the user namespace of an unprivileged user.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.ask, Ask::Namespace(_) | Ask::Mount(_)) || self.name == "overlay"
    }

    /// None if it is not needed.
    pub(super) fn finding(&self, subject: &Subject<'_>) -> Option<Finding> {
        let wanted = self.wanted(subject);
        if wanted == Wanted::No {
            return None;
        }
        let (status, trouble) = match self.answer(subject) {
            Answer::Works(message) => {
                return Some(Finding { check: self.name, status: Status::Ok, message, mend: None });
            }
            Answer::Worse(trouble) => (Status::Warn, trouble),
            Answer::Lacks(trouble) if wanted == Wanted::Sometimes => (Status::Warn, trouble),
            Answer::Lacks(trouble) => (Status::Fail, trouble),
        };
        let Trouble { why, mend } = trouble;
        Some(Finding { check: self.name, status, message: why, mend })
    }

    fn wanted(&self, subject: &Subject<'_>) -> Wanted {
        match &self.ask {
            Ask::Call(_) => Wanted::Yes,
            Ask::Namespace(kind) => namespaces::wanted(*kind, subject),
            Ask::Mount(filesystem) => filesystem.wanted(subject),
            Ask::Other(wanted, _) => wanted(subject),
        }
    }

    fn answer(&self, subject: &Subject<'_>) -> Answer {
        match &self.ask {
            Ask::Call(call) => ask_call(call),
            Ask::Namespace(kind) => namespaces::ask(*kind, subject),
            Ask::Mount(filesystem) => filesystem.ask(subject),
            Ask::Other(_, ask) => ask(subject),
        }
    }
}

fn ask_call(call: &Call) -> Answer {
    let Call { name, since, .. } = call;
    let why = match call.answer() {
        Errno::ENOSYS => format!(
            "the kernel does not support {name}(2) (Linux {since}), or a seccomp filter around brig hides it: brig \
             uses older calls"
        ),
        // The call itself never returns this for these arguments; a filter does.
        Errno::EPERM if ["openat2", "close_range", "clone3"].contains(name) => {
            format!("a seccomp filter around brig refuses {name}(2)")
        }
        _ => return Answer::Works(format!("{name}(2)")),
    };
    Answer::Worse(Trouble::mend(why, "docker run --security-opt seccomp=unconfined …"))
}

/// All probes.
pub(super) const PROBES: &[Probe] = &[
    Probe::new("kernel", Ask::Other(|_| Wanted::Yes, others::kernel)),
    Probe::new("user-namespace", Ask::Namespace(libc::CLONE_NEWUSER)),
    Probe::new("id-maps", Ask::Other(namespaces::wants_maps, namespaces::id_maps)),
    Probe::new("mount-namespace", Ask::Namespace(libc::CLONE_NEWNS)),
    Probe::new("pid-namespace", Ask::Namespace(libc::CLONE_NEWPID)),
    Probe::new("network-namespace", Ask::Namespace(libc::CLONE_NEWNET)),
    Probe::new("ipc-namespace", Ask::Namespace(libc::CLONE_NEWIPC)),
    Probe::new("uts-namespace", Ask::Namespace(libc::CLONE_NEWUTS)),
    Probe::new("cgroup-namespace", Ask::Namespace(libc::CLONE_NEWCGROUP)),
    Probe::new("time-namespace", Ask::Namespace(libc::CLONE_NEWTIME)),
    Probe::new("mount-proc", Ask::Mount(&namespaces::PROC)),
    Probe::new("mount-sysfs", Ask::Mount(&namespaces::SYSFS)),
    Probe::new("mount-tmpfs", Ask::Mount(&namespaces::TMPFS)),
    Probe::new("mount-devpts", Ask::Mount(&namespaces::DEVPTS)),
    Probe::new("mount-mqueue", Ask::Mount(&namespaces::MQUEUE)),
    Probe::new("overlay", Ask::Other(files::wants_overlay, files::overlay)),
    Probe::new("idmap", Ask::Other(files::wants_id_maps, files::id_mapped_mounts)),
    Probe::new("clone3", Ask::Call(&calls::OTHERS[0])),
    Probe::new("openat2", Ask::Call(&calls::OTHERS[1])),
    Probe::new("close_range", Ask::Call(&calls::OTHERS[2])),
    Probe::new("open_tree", Ask::Call(&calls::MOUNTS[0])),
    Probe::new("fsopen", Ask::Call(&calls::MOUNTS[2])),
    Probe::new("mount_setattr", Ask::Call(&calls::MOUNTS[5])),
    Probe::new("pidfd", Ask::Other(|_| Wanted::Yes, others::pidfd)),
    Probe::new("cgroup", Ask::Other(cgroups::wanted, cgroups::made)),
    Probe::new("clone-into-cgroup", Ask::Other(cgroups::wants_birth, cgroups::birth)),
    Probe::new("systemd", Ask::Other(cgroups::wants_systemd, cgroups::systemd)),
    Probe::new("seccomp", Ask::Other(others::wants_filter, others::filter)),
    Probe::new("seccomp-notify", Ask::Other(others::wants_notify, others::notify)),
    Probe::new("keyring", Ask::Other(|_| Wanted::Yes, others::keyring)),
    Probe::new("security-modules", Ask::Other(others::wants_labels, others::labels)),
    Probe::new("proc", Ask::Other(|_| Wanted::Yes, others::proc)),
    Probe::new("rootfs", Ask::Other(files::wants_rootfs, files::rootfs)),
    Probe::new("state-directory", Ask::Other(|_| Wanted::Yes, files::state_directory)),
    Probe::new("pressure", Ask::Other(others::without_bundle, others::pressure)),
    Probe::new("criu", Ask::Other(others::without_bundle, others::criu)),
];
