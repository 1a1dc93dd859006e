//! The command lines of checkpoint and restore. Engines pass the flags of checkpoint to restore, too, so
//! restore accepts them all.

use super::describe::{config, flag, id, layers, one_of, option, pidfd_socket, preserve_fds};
use super::read::{number, path, root_options, text};
use crate::cmd::command::Globals;
use crate::criu::options::{
    CGROUP_MODES, CheckpointOptions, Common, NETWORK_LOCKS, RestoreOptions, SWITCHES,
};
use crate::launch::create::Options;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

pub(super) fn describe_checkpoint(command: clap::Command) -> clap::Command {
    of_both(command.about("Write a running container to disk by CRIU, and remove it"))
        .arg(flag("pre-dump", "Write its memory only; the container runs on"))
        .arg(flag("leave-running", "The container runs on"))
        .args(of_checkpoint())
        .arg(id())
}

pub(super) fn describe_restore(command: clap::Command) -> clap::Command {
    of_both(command.about("Restore a container that `brig checkpoint` has written to disk"))
        .arg(option("bundle", "DIR", "Directory with config.json [default: .]").short('b'))
        .arg(config())
        .args(layers())
        .arg(flag("detach", "Do not wait until it ends").short('d'))
        .arg(option("pid-file", "FILE", "Write the pid of the init process to FILE"))
        .arg(option("console-socket", "SOCKET", "Socket that receives the terminal"))
        .arg(pidfd_socket("Socket that receives a pidfd of init"))
        .arg(flag("no-subreaper", "Do not reap orphans of the container"))
        .arg(flag("no-pivot", "No effect: CRIU changes the root").hide(true))
        .arg(flag("no-new-keyring", "Keep the session keyring of the caller"))
        .arg(preserve_fds())
        .arg(text_option("lsm-profile", "TYPE:NAME", "Label: apparmor:PROFILE or selinux:LABEL"))
        .arg(text_option("lsm-mount-context", "CONTEXT", "Other SELinux context of mounts"))
        .arg(text_option("hostname", "NAME", "Host name instead of the one in the image"))
        .arg(flag("trust-image", "Allow privileges beyond config.json"))
        .args(of_checkpoint().map(|arg| arg.hide(true)))
        .args(["leave-running", "pre-dump"].map(|name| flag(name, "").hide(true)))
        .arg(id())
}

fn of_both(command: clap::Command) -> clap::Command {
    let modes = "soft (the default), full, strict or ignore";
    let locks = "iptables, nftables or skip";
    command
        .arg(option("image-path", "DIR", "Image directory [default: ./checkpoint]"))
        .arg(option("work-path", "DIR", "Directory for logs [default: --image-path]"))
        .arg(option("parent-path", "DIR", "Earlier pre-dump, relative to image-path"))
        .args(SWITCHES.map(|(name, help, _)| flag(name, help)))
        .arg(one_of("manage-cgroups-mode", "MODE", &CGROUP_MODES, modes))
        .arg(one_of("network-lock", "METHOD", &NETWORK_LOCKS, locks))
        .arg(
            text_option("empty-ns", "NAMESPACE", "Leave the network namespace out: network")
                .action(ArgAction::Append),
        )
}

fn of_checkpoint() -> [Arg; 2] {
    [
        Arg::new("status-fd")
            .long("status-fd")
            .value_name("FD")
            .value_parser(value_parser!(u32))
            .help("Gets a NUL byte when pages can be served"),
        text_option("page-server", "ADDRESS:PORT", "Send the memory to a page server"),
    ]
}

fn text_option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn common(matches: &ArgMatches, globals: &Globals) -> Common {
    let given = SWITCHES.map(|(name, ..)| Some(name).filter(|name| matches.get_flag(name)));
    Common {
        criu: globals.criu.clone(),
        images: path(matches, "image-path").unwrap_or_else(|| "checkpoint".into()),
        work: path(matches, "work-path"),
        parent: path(matches, "parent-path"),
        switches: given.into_iter().flatten().collect(),
        manage_cgroups: text(matches, "manage-cgroups-mode"),
        network_lock: text(matches, "network-lock"),
        empty_namespaces: matches.get_many("empty-ns").into_iter().flatten().cloned().collect(),
    }
}

pub(super) fn checkpoint(matches: &ArgMatches, globals: &Globals) -> CheckpointOptions {
    CheckpointOptions {
        root: globals.root.clone(),
        id: text(matches, "id").unwrap_or_default(),
        common: common(matches, globals),
        pre_dump: matches.get_flag("pre-dump"),
        leave_running: matches.get_flag("leave-running"),
        status_fd: matches.get_one("status-fd").copied(),
        page_server: text(matches, "page-server"),
    }
}

pub(super) fn restore(matches: &ArgMatches, globals: &Globals) -> RestoreOptions {
    RestoreOptions {
        common: common(matches, globals),
        subreaper: !matches.get_flag("no-subreaper"),
        lsm_profile: text(matches, "lsm-profile"),
        lsm_mount_context: text(matches, "lsm-mount-context"),
        hostname: text(matches, "hostname"),
        trust_image: matches.get_flag("trust-image"),
    }
}

/// The options that restore shares with create. Without `--bundle`, the checkpoint may contain the bundle's
/// path.
pub(super) fn options(matches: &ArgMatches, globals: &Globals) -> Options {
    Options {
        root: globals.root.clone(),
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        id: text(matches, "id").unwrap_or_default(),
        bundle: path(matches, "bundle").unwrap_or_default(),
        config: path(matches, "config"),
        pid_file: path(matches, "pid-file"),
        // CRIU changes the root.
        rootfs: root_options(matches, false),
        no_new_keyring: matches.get_flag("no-new-keyring"),
        preserve_fds: number(matches, "preserve-fds"),
        console_socket: path(matches, "console-socket"),
        pidfd_socket: path(matches, "pidfd-socket"),
        detach: matches.get_flag("detach"),
        own_bundle: false,
        strict: false,
        record_calls: None,
    }
}
