//! `process`.

use super::Rules;
use crate::plan::destination::clean;
use crate::plan::process::CAPABILITIES;
use crate::spec::{Capabilities, Process, Spec};
use std::os::unix::ffi::OsStrExt;

pub(super) fn check(spec: &Spec, rules: &mut Rules) {
    let Some(process) = &spec.process else { return };
    terminal(spec, process, rules);
    environment(process, rules);
    limits(process, rules);
    if let Some(capabilities) = &process.capabilities {
        names(capabilities, rules);
        lost(process, capabilities, rules);
    }
    if process.selinux_label.is_some() && spec.linux.mount_label.is_none() {
        let text = "without linux.mountLabel the container's own mounts keep the host's label";
        rules.note("label-of-mounts", "process.selinuxLabel", text);
    }
}

fn terminal(spec: &Spec, process: &Process, rules: &mut Rules) {
    let is_devpts = |mount: &crate::spec::Mount| {
        mount.typ.as_deref() == Some("devpts")
            && clean(mount.destination.as_os_str().as_bytes()) == b"/dev/pts"
    };
    let bound =
        |mount: &crate::spec::Mount| clean(mount.destination.as_os_str().as_bytes()) == b"/dev";
    if process.terminal
        && !spec
            .mounts
            .iter()
            .any(|mount| is_devpts(mount) || bound(mount) && mount.typ.as_deref() != Some("tmpfs"))
    {
        let text = "no devpts is mounted on /dev/pts, which the terminal comes from";
        rules.warn("terminal-without-devpts", "process.terminal", text);
    }
    if !process.terminal && process.console_size.is_some() {
        rules.note("no-effect", "process.consoleSize", "has no effect without process.terminal");
    }
}

fn environment(process: &Process, rules: &mut Rules) {
    let name = |entry: &str| entry.split_once('=').map(|(name, _)| name.to_owned());
    for (index, entry) in process.env.iter().enumerate() {
        let Some(name_of) = name(entry) else { continue };
        let later =
            process.env.iter().skip(index + 1).any(|other| name(other).as_ref() == Some(&name_of));
        if later {
            let text = format!("{name_of} is set again further down: this value has no effect");
            rules.warn("duplicate-variable", format_args!("process.env[{index}]"), text);
        }
    }
    let relative =
        process.args.first().is_some_and(|program| !program.is_empty() && !program.contains('/'));
    if relative && !process.env.iter().any(|entry| entry.starts_with("PATH=")) {
        let text = "process.env has no PATH: the program is looked for in /bin and /usr/bin only";
        rules.note("no-path", "process.args[0]", text);
    }
}

fn limits(process: &Process, rules: &mut Rules) {
    for (index, limit) in process.rlimits.iter().enumerate() {
        if limit.typ == "RLIMIT_NOFILE" && limit.soft < 16 {
            let text = format!("{} open files are too few for most programs to start", limit.soft);
            rules.warn("tiny-limit", format_args!("process.rlimits[{index}].soft"), text);
        }
    }
}

/// The sets by their names in the config.
fn sets(capabilities: &Capabilities) -> [(&'static str, &[String]); 5] {
    [
        ("bounding", &capabilities.bounding),
        ("effective", &capabilities.effective),
        ("inheritable", &capabilities.inheritable),
        ("permitted", &capabilities.permitted),
        ("ambient", &capabilities.ambient),
    ]
}

fn names(capabilities: &Capabilities, rules: &mut Rules) {
    for (set, names) in sets(capabilities) {
        for (index, name) in names.iter().enumerate() {
            if CAPABILITIES.contains(&name.as_str())
                && names.iter().take(index).any(|earlier| earlier == name)
            {
                let place = format!("process.capabilities.{set}[{index}]");
                rules.note("duplicate-capability", place, format!("{name} is in this set already"));
            }
        }
    }
}

/// capabilities(7), Transformation of capabilities during execve(): a user other than root keeps what is ambient, and
/// root gets what is in the bounding set.
fn lost(process: &Process, capabilities: &Capabilities, rules: &mut Rules) {
    let root = process.user.uid == 0;
    for (index, name) in capabilities.effective.iter().enumerate() {
        let place = format!("process.capabilities.effective[{index}]");
        if root && !capabilities.bounding.contains(name) {
            let text = format!("{name} is not in bounding, so that execve(2) takes it from root");
            rules.warn("capability-lost", place, text);
        } else if !root && !capabilities.ambient.contains(name) {
            let text = format!(
                "{name} is lost at execve(2): the user is not root, and it is not in ambient"
            );
            rules.warn("capability-lost", place, text);
        }
    }
}
