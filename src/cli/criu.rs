//! The command lines of checkpoint and restore. Engines pass the flags of checkpoint to restore, too, so
//! restore accepts them all.

use super::describe::{CONFIG, ID, LAYERS, PRESERVE_FDS};
use super::read::root_options;
use super::table::{Argument, Description, flag, number, one_of, option, text};
use super::values::Values;
use crate::cmd::command::Globals;
use crate::criu::options::{
    CGROUP_MODES, CheckpointOptions, Common, NETWORK_LOCKS, RestoreOptions, SWITCHES,
};
use crate::launch::create::Options;

pub(super) const CHECKPOINT: Description = Description::new(
    "checkpoint",
    "Write a running container to disk by CRIU, and remove it",
    &[
        DIRECTORIES,
        &SWITCHES_OF_CRIU,
        CHOICES,
        &[
            flag("pre-dump", "Write its memory only; the container runs on"),
            flag("leave-running", "The container runs on"),
            STATUS_FD,
            PAGE_SERVER,
            ID,
        ],
    ],
);

pub(super) const RESTORE: Description = Description::new(
    "restore",
    "Restore a container that `brig checkpoint` has written to disk",
    &[
        DIRECTORIES,
        &SWITCHES_OF_CRIU,
        CHOICES,
        &[option("bundle", "DIR", "Directory with config.json [default: .]").short('b'), CONFIG],
        LAYERS,
        &[
            flag("detach", "Do not wait until it ends").short('d'),
            option("pid-file", "FILE", "Write the pid of the init process to FILE"),
            option("console-socket", "SOCKET", "Socket that receives the terminal"),
            option("pidfd-socket", "SOCKET", "Socket that receives a pidfd of init"),
            flag("no-subreaper", "Do not reap orphans of the container"),
            flag("no-pivot", "No effect: CRIU changes the root").hidden(),
            flag("no-new-keyring", "Keep the session keyring of the caller"),
            PRESERVE_FDS,
            text("lsm-profile", "TYPE:NAME", "Label: apparmor:PROFILE or selinux:LABEL"),
            text("lsm-mount-context", "CONTEXT", "Other SELinux context of mounts"),
            text("hostname", "NAME", "Host name instead of the one in the image"),
            flag("trust-image", "Allow privileges beyond config.json"),
            STATUS_FD.hidden(),
            PAGE_SERVER.hidden(),
            flag("leave-running", "").hidden(),
            flag("pre-dump", "").hidden(),
            ID,
        ],
    ],
);

const DIRECTORIES: &[Argument] = &[
    option("image-path", "DIR", "Image directory [default: ./checkpoint]"),
    option("work-path", "DIR", "Directory for logs [default: --image-path]"),
    option("parent-path", "DIR", "Earlier pre-dump, relative to image-path"),
];

const CHOICES: &[Argument] = &[
    one_of(
        "manage-cgroups-mode",
        "MODE",
        &CGROUP_MODES,
        "soft (the default), full, strict or ignore",
    ),
    one_of("network-lock", "METHOD", &NETWORK_LOCKS, "iptables, nftables or skip"),
    text("empty-ns", "NAMESPACE", "Leave the network namespace out: network").many(),
];

const STATUS_FD: Argument = number("status-fd", "FD", "Gets a NUL byte when pages can be served");
const PAGE_SERVER: Argument =
    text("page-server", "ADDRESS:PORT", "Send the memory to a page server");

const SWITCHES_OF_CRIU: [Argument; SWITCHES.len()] = {
    let mut all = [flag("", ""); SWITCHES.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = flag(SWITCHES[i].0, SWITCHES[i].1);
        i += 1;
    }
    all
};

fn common(values: &Values, globals: &Globals) -> Common {
    let given = SWITCHES.map(|(name, ..)| Some(name).filter(|name| values.has(name)));
    Common {
        criu: globals.criu.clone(),
        images: values.path("image-path").unwrap_or_else(|| "checkpoint".into()),
        work: values.path("work-path"),
        parent: values.path("parent-path"),
        switches: given.into_iter().flatten().collect(),
        manage_cgroups: values.text("manage-cgroups-mode"),
        network_lock: values.text("network-lock"),
        empty_namespaces: values.texts("empty-ns"),
    }
}

pub(super) fn checkpoint(values: &Values, globals: &Globals) -> CheckpointOptions {
    CheckpointOptions {
        root: globals.root.clone(),
        id: values.text("id").unwrap_or_default(),
        common: common(values, globals),
        pre_dump: values.has("pre-dump"),
        leave_running: values.has("leave-running"),
        status_fd: values.number("status-fd"),
        page_server: values.text("page-server"),
    }
}

pub(super) fn restore(values: &Values, globals: &Globals) -> RestoreOptions {
    RestoreOptions {
        common: common(values, globals),
        subreaper: !values.has("no-subreaper"),
        lsm_profile: values.text("lsm-profile"),
        lsm_mount_context: values.text("lsm-mount-context"),
        hostname: values.text("hostname"),
        trust_image: values.has("trust-image"),
    }
}

/// The options that restore shares with create. Without `--bundle`, the checkpoint may contain the bundle's
/// path.
pub(super) fn options(values: &Values, globals: &Globals) -> Options {
    Options {
        root: globals.root.clone(),
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        id: values.text("id").unwrap_or_default(),
        bundle: values.path("bundle").unwrap_or_default(),
        config: values.path("config"),
        pid_file: values.path("pid-file"),
        // CRIU changes the root.
        rootfs: root_options(values, false),
        no_new_keyring: values.has("no-new-keyring"),
        preserve_fds: values.number("preserve-fds").unwrap_or(0),
        console_socket: values.path("console-socket"),
        pidfd_socket: values.path("pidfd-socket"),
        detach: values.has("detach"),
        own_bundle: false,
        strict: false,
        record_calls: None,
    }
}
