//! Applies the flags of exec to the container's own process, and remembers which flag has set which value.

use super::{ProcessOptions, parse_user};
use crate::spec;
use anyhow::{Context, Result, ensure};

/// The flags that have set a value: the field of `process`, the first index in it, and the flag.
#[derive(Debug, Default)]
pub struct Flags(Vec<(&'static str, usize, &'static str)>);

impl Flags {
    /// The flag that has set the value at this place: `--env` for the last of `process.env`. None if it is
    /// the container's own.
    pub fn of_place(&self, place: &str) -> Option<&'static str> {
        let field = place.strip_prefix("process.")?;
        let (field, index) = match field.strip_suffix(']').and_then(|f| f.rsplit_once('[')) {
            Some((list, index)) => (list, index.parse().ok()?),
            None => (field, 0),
        };
        let set = |(of, first, _): &&(&str, usize, _)| *of == field && index >= *first;
        self.0.iter().find(set).map(|(.., flag)| *flag)
    }

    /// Sets a text, unless the flag is missing or empty.
    fn set(
        &mut self,
        value: &mut Option<String>,
        by: Option<&String>,
        (field, flag): (&'static str, &'static str),
    ) {
        if let Some(text) = by.filter(|text| !text.is_empty()) {
            *value = Some(text.clone());
            self.0.push((field, 0, flag));
        }
    }

    /// Appends to a list.
    fn append<T: Clone>(
        &mut self,
        list: &mut Vec<T>,
        by: &[T],
        (field, flag): (&'static str, &'static str),
    ) {
        if !by.is_empty() {
            self.0.push((field, list.len(), flag));
            list.extend_from_slice(by);
        }
    }
}

/// Applies the flags to the config.
pub fn changed(
    mut process: spec::Process,
    options: &ProcessOptions,
) -> Result<(spec::Process, Flags)> {
    ensure!(!options.args.is_empty(), "no program given: give PROGRAM, or --process FILE");
    let mut flags = Flags::default();
    process.args.clone_from(&options.args);
    process.terminal = options.tty;
    flags.0.extend(options.tty.then_some(("terminal", 0, "--tty")));
    process.no_new_privileges |= options.no_new_privileges;
    flags.append(&mut process.env, &options.env, ("env", "--env"));
    let gids = ("user.additionalGids", "--additional-gids");
    flags.append(&mut process.user.additional_gids, &options.additional_gids, gids);
    let profile = ("apparmorProfile", "--apparmor");
    flags.set(&mut process.apparmor_profile, options.apparmor.as_ref(), profile);
    let label = ("selinuxLabel", "--process-label");
    flags.set(&mut process.selinux_label, options.process_label.as_ref(), label);
    let mut cwd = None;
    flags.set(&mut cwd, options.cwd.as_ref(), ("cwd", "--cwd"));
    process.cwd = cwd.unwrap_or(process.cwd);
    if let Some(user) = &options.user {
        let (uid, gid) = parse_user(user).with_context(|| format!("--user {user:?}"))?;
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
        flags.0.extend(["user.uid", "user.gid"].map(|field| (field, 0, "--user")));
    }
    if !options.capabilities.is_empty() {
        // Never inheritable unless the config says so (CVE-2022-29162), and ambient only if inheritable.
        let sets = process.capabilities.get_or_insert_default();
        if !sets.inheritable.is_empty() {
            let ambient = ("capabilities.ambient", "--cap");
            flags.append(&mut sets.ambient, &options.capabilities, ambient);
        }
        for (set, field) in [
            (&mut sets.bounding, "capabilities.bounding"),
            (&mut sets.effective, "capabilities.effective"),
            (&mut sets.permitted, "capabilities.permitted"),
        ] {
            flags.append(set, &options.capabilities, (field, "--cap"));
        }
    }
    Ok((process, flags))
}
