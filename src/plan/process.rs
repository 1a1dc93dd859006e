//! The container's init and its privileges.

use super::Host;
use super::landlock::Landlock;
use super::lsm::{self, Label};
use super::sched::Scheduling;
use crate::seccomp::Filter;
use crate::spec::{self, At, Place};
use crate::suggest;
use anyhow::{Result, anyhow, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::CString;
use sys::cred;
use sys::tty::Size;

/// `process`, validated.
#[derive(Debug)]
pub struct Process {
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Program and arguments; at least one.
    pub args: Vec<CString>,
    /// `NAME=value`, each name once.
    pub env: Vec<CString>,
    /// The value of PATH, or execvp(3)'s default.
    pub search: String,
    /// Whether HOME is missing in `env`.
    pub needs_home: bool,
    /// Working directory, absolute, in the container.
    pub cwd: String,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode mask; None: the caller's.
    pub umask: Option<u32>,
    /// Resource number, soft and hard limit, place.
    pub rlimits: Vec<(u32, u64, u64, String)>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Set no_new_privs.
    pub no_new_privileges: bool,
    /// It runs in a user namespace other than brig's.
    pub in_user_namespace: bool,
    /// Labels of security modules.
    pub labels: Vec<Label>,
    /// setgroups may not be permitted: brig is in a user namespace itself, or the process will be.
    pub keeps_groups: bool,
    /// The supplementary groups are those of brig's caller ([`KEEP_GROUPS`]), whatever the config says.
    pub original_groups: bool,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The rights that it gives up with Landlock.
    pub landlock: Option<Landlock>,
    /// The number of additional descriptors after stderr to pass on.
    pub preserved_fds: u32,
    /// The first of them are sockets of a service manager.
    pub activation: Option<Activation>,
    /// Scheduling and CPU affinity.
    pub scheduling: Scheduling,
    /// -1000 to 1000, if given.
    pub oom_score_adj: Option<i32>,
}

/// Sockets that a service manager has passed to brig, sd_listen_fds(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// How many, from descriptor 3 on.
    pub count: u32,
    /// Their names, separated by colons.
    pub names: Option<CString>,
}

/// `terminal` and related settings.
#[derive(Debug)]
pub struct Terminal {
    /// Its initial size.
    pub size: Option<Size>,
    /// brig forwards the data, possibly to a file or a pipe: newlines are not translated.
    pub carried: bool,
}

/// The five sets, a bit for each capability.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The bounding set: an upper bound for any executed program.
    pub bounding: u64,
    /// Effective, permitted, inheritable.
    pub sets: cred::CapSets,
    /// Preserved over execve of any file.
    pub ambient: u64,
    /// Requested as ambient, but not both permitted and inheritable.
    pub not_ambient: u64,
}

/// execvp(3) where the environment has no PATH: glibc's confstr(_CS_PATH).
const DEFAULT_SEARCH: &str = "/bin:/usr/bin";

/// crun's annotation that lets an unprivileged user's container keep the caller's groups, e.g. for access to
/// shared files. Any value but 0 enables it.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

impl Process {
    /// Applies [`KEEP_GROUPS`].
    pub fn keeps_original_groups(&mut self, annotations: &BTreeMap<String, String>) {
        self.original_groups = annotations.get(KEEP_GROUPS).is_some_and(|value| value != "0");
    }

    /// Reads `process`; what cannot be granted is added to `warnings`. `in_user_namespace`: the process runs
    /// in a user namespace other than brig's.
    pub fn new(
        spec: &spec::Process,
        in_user_namespace: bool,
        host: &Host,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let args = cstrings("process.args", &spec.args)?;
        // An empty name is treated as not found in PATH: engines derive their exit code from the message.
        if args.is_empty() {
            Err(anyhow!("is empty: give the program to run")).at("process.args")?;
        }
        if !spec.cwd.starts_with('/') || spec.cwd.contains('\0') {
            Err(anyhow!("{:?} is not an absolute path", spec.cwd)).at("process.cwd")?;
        }
        let env = environment(&spec.env)?;
        let value = |name: &str| env.iter().find_map(|entry| entry.strip_prefix(name));
        are_ids(&spec.user)?;
        let oom = spec.oom_score_adj;
        if oom.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            Err(anyhow!("must be from -1000 to 1000")).at("process.oomScoreAdj")?;
        }
        Ok(Process {
            terminal: terminal(spec)?,
            args,
            search: value("PATH=").unwrap_or(DEFAULT_SEARCH).to_owned(),
            needs_home: value("HOME=").is_none_or(str::is_empty),
            env: cstrings("process.env", &env)?,
            cwd: spec.cwd.clone(),
            uid: spec.user.uid,
            gid: spec.user.gid,
            groups: spec.user.additional_gids.clone(),
            // The kernel ignores other bits.
            umask: spec.user.umask.map(|mask| mask & 0o777),
            rlimits: rlimits(&spec.rlimits)?,
            capabilities: Capabilities::new(
                spec.capabilities.as_ref(),
                in_user_namespace,
                host,
                warnings,
            )?,
            no_new_privileges: spec.no_new_privileges,
            in_user_namespace,
            labels: lsm::labels(spec, host)?,
            keeps_groups: in_user_namespace || !host.in_first_user_namespace(),
            original_groups: false,
            filter: None,
            landlock: None,
            preserved_fds: 0,
            activation: None,
            scheduling: Scheduling::new(spec, warnings)?,
            oom_score_adj: oom,
        })
    }
}

impl Process {
    /// Differences from the config for debug messages: engines request these in every container.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let names = Some(self.capabilities.not_ambient).filter(|set| *set != 0).map(names);
        let place = "process.capabilities.ambient";
        names
            .map(|names| format!("{place}: {names} ignored: not both permitted and inheritable"))
            .into_iter()
    }

    /// Whether an agent decides about some of its system calls.
    pub fn notifies(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.listener.is_some())
    }
}

/// config.md: consoleSize must be ignored without a terminal.
fn terminal(spec: &spec::Process) -> Result<Option<Terminal>> {
    if !spec.terminal {
        return Ok(None);
    }
    let place = "process.consoleSize";
    let number = |size: &Value, field| -> Result<u16> {
        let Some(value) = size.get(field).filter(|value| !value.is_null()) else {
            return Err(anyhow!("missing field {field:?}")).at(place);
        };
        value
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| anyhow!("{value} is not a whole number from 0 to {}", u16::MAX))
            .at(format_args!("{place}.{field}"))
    };
    let size = |size: &Value| -> Result<Size> {
        if !size.is_object() {
            Err(anyhow!("{size} is not an object")).at(place)?;
        }
        Ok(Size { rows: number(size, "height")?, columns: number(size, "width")? })
    };
    let size = spec.console_size.as_ref().map(size).transpose()?;
    Ok(Some(Terminal { size, carried: false }))
}

fn cstrings(place: &str, texts: &[String]) -> Result<Vec<CString>> {
    let convert = |(i, text): (usize, &String)| {
        CString::new(text.as_str())
            .map_err(|_| anyhow!("contains a NUL byte"))
            .at(format!("{place}[{i}]"))
    };
    texts.iter().enumerate().map(convert).collect()
}

/// chown(2) and setresuid(2) keep the current id for -1, mostly that of root.
pub(super) fn check_id(id: u32) -> Result<()> {
    ensure!(id != u32::MAX, "{id} is not a valid id: to the kernel it means \"unchanged\"");
    Ok(())
}

/// linux/limits.h: the most supplementary groups of a process.
const NGROUPS_MAX: usize = 65536;

fn are_ids(user: &spec::User) -> Result<()> {
    let many = user.additional_gids.len();
    if many > NGROUPS_MAX {
        Err(anyhow!("are {many}: the kernel allows {NGROUPS_MAX} at most"))
            .at("process.user.additionalGids")?;
    }
    let groups = user.additional_gids.iter().enumerate();
    let groups = groups.map(|(index, gid)| (format!("additionalGids[{index}]"), gid));
    let own = [("uid".to_owned(), &user.uid), ("gid".to_owned(), &user.gid)];
    let mut all = own.into_iter().chain(groups);
    all.try_for_each(|(name, id)| check_id(*id).at(format_args!("process.user.{name}")))
}

/// Each name once: the last entry wins, at its position.
fn environment(entries: &[String]) -> Result<Vec<String>> {
    let mut kept: Vec<String> = Vec::with_capacity(entries.len() + 1);
    let mut names = std::collections::BTreeSet::new();
    for (i, entry) in entries.iter().enumerate().rev() {
        let name = entry.split_once('=').map(|(name, _)| name);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(anyhow!("{entry:?} is not NAME=value")).at(format!("process.env[{i}]"));
        };
        if names.insert(name) {
            kept.push(entry.clone());
        }
    }
    kept.reverse();
    Ok(kept)
}

/// The limits of config.json, and their numbers: asm-generic/resource.h, because each C library gives its constants another type.
pub const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// The limit that was probably meant, if the prefix is missing as in docker's flags, or the name is
/// misspelled.
fn intended<'a>(prefix: &str, given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let upper = given.to_ascii_uppercase();
    let full = if upper.starts_with(prefix) { upper } else { format!("{prefix}{upper}") };
    suggest::hint(&full, known)
}

fn rlimits(spec: &[spec::Rlimit]) -> Result<Vec<(u32, u64, u64, String)>> {
    let mut plan: Vec<(u32, u64, u64, String)> = Vec::with_capacity(spec.len());
    for (i, limit) in spec.iter().enumerate() {
        let place = format!("process.rlimits[{i}]");
        let known = RLIMITS.iter().find(|(name, _)| *name == limit.typ);
        let Some((name, resource)) = known else {
            let hint = intended("RLIMIT_", &limit.typ, RLIMITS.iter().map(|(known, _)| *known));
            return Err(anyhow!("unknown rlimit {:?}{hint}", limit.typ))
                .at(format!("{place}.type"));
        };
        // config.md, POSIX process: duplicated entries MUST be an error.
        if plan.iter().any(|(other, ..)| other == resource) {
            return Err(anyhow!("a second {name}")).at(format!("{place}.type"));
        }
        if limit.soft > limit.hard {
            let (soft, hard) = (limit.soft, limit.hard);
            return Err(anyhow!("is {soft}, above the hard limit of {hard}"))
                .at(format!("{place}.soft"));
        }
        plan.push((*resource, limit.soft, limit.hard, place));
    }
    Ok(plan)
}

impl Capabilities {
    /// Converts names to bits. Unknown names, and capabilities that brig itself does not have, are warnings
    /// (config.md: runtimes SHOULD NOT fail on them).
    fn new(
        spec: Option<&spec::Capabilities>,
        in_user_namespace: bool,
        host: &Host,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let Some(spec) = spec else { return Ok(Capabilities::default()) };
        // A process that enters a user namespace gets all capabilities in it.
        let (own, inherited) = match in_user_namespace {
            true => (u64::MAX, 0),
            false => (host.capabilities()?.permitted, host.capabilities()?.inheritable),
        };
        let mut read = |field: &str, names: &[String]| -> u64 {
            let mut set = 0;
            for (i, name) in names.iter().enumerate() {
                let place = At::new(format!("process.capabilities.{field}[{i}]"));
                match number(name) {
                    None => {
                        let hint = intended("CAP_", name, CAPABILITIES.into_iter());
                        let text = format!("{place}: unknown capability {name:?} ignored{hint}");
                        warnings.push(text);
                    }
                    Some(cap) if own & 1 << cap == 0 => {
                        warnings
                            .push(format!("{place}: {name} ignored: brig itself does not have it"));
                    }
                    Some(cap) => set |= 1 << cap,
                }
            }
            set
        };
        let bounding = read("bounding", &spec.bounding);
        let sets = cred::CapSets {
            effective: read("effective", &spec.effective),
            permitted: read("permitted", &spec.permitted),
            inheritable: read("inheritable", &spec.inheritable),
        };
        let mut ambient = read("ambient", &spec.ambient);
        let excess = sets.effective & !sets.permitted;
        if excess != 0 {
            let names = names(excess);
            Err(anyhow!("{names}: not in permitted, so the kernel refuses it as effective"))
                .at("process.capabilities.effective")?;
        }
        // capabilities(7), capset: no others can be added to the inheritable set.
        let excess = sets.inheritable & !(bounding | inherited);
        if excess != 0 {
            let names = names(excess);
            Err(anyhow!("{names}: not in bounding, so the kernel refuses it as inheritable"))
                .at("process.capabilities.inheritable")?;
        }
        // capabilities(7): ambient is a subset of permitted and inheritable.
        let excess = ambient & !(sets.permitted & sets.inheritable);
        if excess != 0 {
            ambient &= !excess;
        }
        Ok(Capabilities { bounding, sets, ambient, not_ambient: excess })
    }
}

/// Normalises the name of a capability in any letter case, with or without `CAP_`.
///
/// # Errors
///
/// If the name is unknown.
pub fn capability(text: &str) -> Result<String> {
    let upper = text.trim().to_ascii_uppercase();
    let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    let hint = || suggest::hint(&name, CAPABILITIES);
    ensure!(CAPABILITIES.contains(&name.as_str()), "unknown capability{}", hint());
    Ok(name)
}

/// In the kernel's order: the index is the number (linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

fn number(name: &str) -> Option<usize> {
    CAPABILITIES.iter().position(|known| *known == name)
}

fn names(set: u64) -> String {
    let held = (0..).zip(CAPABILITIES).filter(|(cap, _)| set & 1 << cap != 0);
    held.map(|(_, name)| name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_duplicate_variables_wins() {
        let env = ["A=1", "B=2", "A=3", "A=4"].map(String::from);
        assert_eq!(environment(&env).unwrap(), ["B=2", "A=4"]);
        assert!(environment(&["=x".into()]).is_err());
        assert!(environment(&["x".into()]).is_err());
    }

    #[test]
    fn more_groups_than_the_kernel_allows_are_an_error() {
        let user = |groups| spec::User { additional_gids: vec![5; groups], ..Default::default() };
        assert!(are_ids(&user(65536)).is_ok());
        assert_eq!(
            format!("{:#}", are_ids(&user(65537)).unwrap_err()),
            "process.user.additionalGids: are 65537: the kernel allows 65536 at most"
        );
    }

    #[test]
    fn a_duplicate_rlimit_is_an_error() {
        let one = || spec::Rlimit { typ: "RLIMIT_CORE".into(), hard: 1, soft: 1 };
        let error = rlimits(&[one(), one()]).unwrap_err();
        assert_eq!(format!("{error:#}"), "process.rlimits[1].type: a second RLIMIT_CORE");
    }
}
