//! Flags that a bind mount in a user namespace inherits from its source: root in the namespace must not
//! remove flags that the host's root has set (mount_namespaces(7), Restrictions). The kernel enforces that
//! for mounts copied into the namespace, but brig clones sources as root of the host.

use super::mount_options::{Change, Step};
use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};

/// Decides whether a bind mount may drop flags of its source.
#[derive(Debug, Default)]
pub struct SourceFlags {
    /// Whether changes are forbidden, because the container is in a user namespace.
    pub locked: bool,
    /// The changes that options ask for by name, in order, with the index of the option.
    pub changes: Vec<(usize, Change)>,
}

/// An option asks for a change that a user namespace does not permit.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The index of the option.
    pub option: usize,
    /// The flags of the source.
    pub flag: &'static str,
}

/// Flags that the kernel locks, in addition to the access time mode.
const LOCKED: [(u64, &str); 4] = [
    (MOUNT_ATTR_RDONLY, "ro"),
    (MOUNT_ATTR_NOSUID, "nosuid"),
    (MOUNT_ATTR_NODEV, "nodev"),
    (MOUNT_ATTR_NOEXEC, "noexec"),
];

const ACCESS_TIME: u64 = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

impl SourceFlags {
    /// `steps` without the changes that would drop a flag of a source with the attributes `source`; if an
    /// option asks for such a change by name, that is an error.
    pub fn keep(&self, steps: &[Step], source: u64) -> Result<Vec<Step>, Refused> {
        self.check_access_time(source)?;
        self.keep_of_mount(steps, source)
    }

    /// The same for `steps` that also apply to a mount below the source, with the attributes `source`.
    pub fn keep_of_mount(&self, steps: &[Step], source: u64) -> Result<Vec<Step>, Refused> {
        let mut kept = steps.to_vec();
        for step in &mut kept {
            for (flag, name) in LOCKED {
                if step.attr.clear & source & flag == 0 {
                    continue;
                }
                let named = |(_, change): &&(usize, Change)| *change == Change::Clear(flag);
                if let Some((option, _)) = self.changes.iter().rfind(named) {
                    return Err(Refused { option: *option, flag: name });
                }
                step.attr.clear &= !flag;
            }
            let changed = (step.attr.set | step.attr.clear) & ACCESS_TIME;
            let wanted = source & !step.attr.clear | step.attr.set;
            if changed != 0 && wanted & ACCESS_TIME != source & ACCESS_TIME {
                return Err(self.refuse_access_time(source));
            }
        }
        Ok(kept)
    }

    /// `atime`, `diratime` and the like only revert an earlier option, and do not change a bind mount.
    fn check_access_time(&self, source: u64) -> Result<(), Refused> {
        let opposite = |change: &Change| match change {
            Change::NotAtime(mode) => *mode != 0 && source & MOUNT_ATTR__ATIME == *mode,
            Change::Clear(flag) => source & flag & MOUNT_ATTR_NODIRATIME != 0,
            Change::Set(_) | Change::Atime(_) => false,
        };
        match self.changes.iter().any(|(_, change)| opposite(change)) {
            true => Err(self.refuse_access_time(source)),
            false => Ok(()),
        }
    }

    fn refuse_access_time(&self, source: u64) -> Refused {
        let flag = match source & MOUNT_ATTR__ATIME {
            MOUNT_ATTR_NOATIME => "noatime",
            MOUNT_ATTR_STRICTATIME => "strictatime",
            _ if source & MOUNT_ATTR_NODIRATIME != 0 => "nodiratime",
            _ => "relatime",
        };
        let about = |(_, change): &&(usize, Change)| match change {
            Change::Atime(_) | Change::NotAtime(_) => true,
            Change::Set(flag) | Change::Clear(flag) => *flag == MOUNT_ATTR_NODIRATIME,
        };
        let option = self.changes.iter().rfind(about).map_or(0, |(option, _)| *option);
        Refused { option, flag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mount_options::{parse, steps};
    use libc::MOUNT_ATTR_NOSYMFOLLOW;

    /// The resulting attributes of the bind mount.
    fn flags(options: &str, source: u64, locked: bool) -> Result<u64, Refused> {
        let options: Vec<String> = options.split(' ').map(Into::into).collect();
        let parsed = parse(&options);
        let steps = steps(None, true, true, &parsed);
        let source_flags = SourceFlags { locked, changes: parsed.changes };
        let steps = if locked { source_flags.keep(&steps, source)? } else { steps };
        Ok(steps.iter().fold(source, |flags, step| flags & !step.attr.clear | step.attr.set))
    }

    const RO: u64 = MOUNT_ATTR_RDONLY;
    const NOSUID: u64 = MOUNT_ATTR_NOSUID;
    const NODEV: u64 = MOUNT_ATTR_NODEV;
    const NOEXEC: u64 = MOUNT_ATTR_NOEXEC;
    const NOATIME: u64 = MOUNT_ATTR_NOATIME;

    /// Options, flags of the source, the result outside a user namespace, and the result inside one.
    type Row = (&'static str, u64, u64, Result<u64, (usize, &'static str)>);

    const TABLE: &[Row] = &[
        ("rbind rprivate defaults", RO | NOSUID, RO | NOSUID, Ok(RO | NOSUID)),
        ("bind ro", NOSUID | NODEV | NOEXEC, RO, Ok(RO | NOSUID | NODEV | NOEXEC)),
        ("bind nosuid", RO, NOSUID, Ok(RO | NOSUID)),
        ("bind noatime", NOEXEC, NOATIME, Err((1, "relatime"))),
        ("bind noatime", NOEXEC | NOATIME, NOATIME, Ok(NOEXEC | NOATIME)),
        ("bind noatime", NOATIME | MOUNT_ATTR_NODIRATIME, NOATIME, Err((1, "noatime"))),
        ("bind relatime", NOATIME, 0, Err((1, "noatime"))),
        ("bind atime", NOATIME | NODEV, NOATIME, Err((1, "noatime"))),
        ("bind noatime atime", NODEV, 0, Ok(NODEV)),
        ("bind nodiratime", NOATIME, MOUNT_ATTR_NODIRATIME, Err((1, "noatime"))),
        ("bind rw", RO | NOSUID, 0, Err((1, "ro"))),
        ("bind rw", NOSUID, 0, Ok(NOSUID)),
        ("bind ro rw", RO, 0, Err((2, "ro"))),
        ("bind exec ro", NOEXEC, RO, Err((1, "noexec"))),
        ("bind exec noexec", NOEXEC, NOEXEC, Ok(NOEXEC)),
        ("bind suid", NOSUID, 0, Err((1, "nosuid"))),
        ("bind dev", NODEV, 0, Err((1, "nodev"))),
        ("bind sync", RO | NODEV, 0, Ok(RO | NODEV)),
        ("bind symfollow", MOUNT_ATTR_NOSYMFOLLOW, 0, Ok(0)),
        ("bind ro", MOUNT_ATTR_NOSYMFOLLOW, RO, Ok(RO)),
        ("rbind rro", NOSUID | NODEV, RO | NOSUID | NODEV, Ok(RO | NOSUID | NODEV)),
        ("rbind rrw", RO | NODEV, NODEV, Err((1, "ro"))),
        ("rbind rnoatime", 0, NOATIME, Err((1, "relatime"))),
        ("rbind ratime", NOATIME, 0, Err((1, "noatime"))),
        ("rbind nosuid rro", NODEV, RO | NOSUID, Ok(RO | NOSUID | NODEV)),
    ];

    #[test]
    fn what_becomes_of_a_sources_flags_is_as_the_table_says() {
        for (options, source, expected, locked) in TABLE {
            assert_eq!(flags(options, *source, false), Ok(*expected), "{options}, {source:#x}");
            let locked = locked.map_err(|(option, flag)| Refused { option, flag });
            let kept = flags(options, *source, true);
            assert_eq!(kept, locked, "{options}, {source:#x}, in a user namespace");
        }
    }
}
