//! The user of an image: `user[:group]`, names or numbers, looked up in the image's passwd and group
//! (image-spec, conversion.md, Config.User).

use crate::tree::view::View;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

/// A user and its groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// Supplementary groups; includes the primary group, unless the text is empty.
    pub groups: Vec<u32>,
    /// The home directory of this uid in the image's passwd.
    pub home: Option<String>,
}

/// The maximum size of passwd or group to read.
const MAX_BYTES: u64 = 8 << 20;

/// The maximum length of a path, including its NUL.
const PATH_MAX: usize = libc::PATH_MAX.cast_unsigned() as usize;

/// Looks a user up.
///
/// # Errors
///
/// If the user or group does not exist in the image.
pub fn find(text: &str, view: &View) -> Result<User> {
    let open = |path: &str| -> Result<Box<dyn BufRead>> {
        Ok(match view.open_file(path.as_bytes())? {
            Some(file) => Box::new(BufReader::new(file.take(MAX_BYTES))),
            None => Box::new(&b""[..]),
        })
    };
    parse(text, open("/etc/passwd")?, open("/etc/group")?)
        .with_context(|| format!("the image's user {text:?}"))
}

/// Calls `see` with the fields of each line; only one line is in memory at a time.
fn each(mut file: impl BufRead, mut see: impl FnMut(&[&[u8]]) -> ControlFlow<()>) -> Result<()> {
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // No more fields are needed, however many there are.
        let fields: Vec<&[u8]> = text.split(|&byte| byte == b':').take(7).collect();
        if see(&fields).is_break() {
            break;
        }
        line.clear();
    }
    Ok(())
}

/// Looks a group up: a name, or a number.
///
/// # Errors
///
/// If the group does not exist in the image.
pub fn group(text: &str, view: &View) -> Result<u32> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    let mut found = None;
    if let Some(file) = view.open_file(b"/etc/group")? {
        each(BufReader::new(file.take(MAX_BYTES)), |fields| {
            match id(fields, 2).filter(|_| fields[0] == text.as_bytes()) {
                Some(gid) => found = Some(gid),
                None => return ControlFlow::Continue(()),
            }
            ControlFlow::Break(())
        })?;
    }
    found.with_context(|| format!("no group {text:?} in the image's /etc/group"))
}

/// A line of passwd.
struct Known {
    name: Vec<u8>,
    uid: u32,
    gid: Option<u32>,
    home: Option<String>,
}

/// The first matching line of passwd: by name or, if that is a number, by uid.
fn known(user: &str, number: Option<u32>, passwd: impl BufRead) -> Result<Option<Known>> {
    let mut known = None;
    each(passwd, |fields| {
        // name, password, uid, gid, comment, home, shell
        let Some(uid) = id(fields, 2) else { return ControlFlow::Continue(()) };
        if number != Some(uid) && fields[0] != user.as_bytes() {
            return ControlFlow::Continue(());
        }
        let home = fields.get(5).and_then(|home| String::from_utf8(home.to_vec()).ok());
        let home = home.filter(|home| home.starts_with('/') && home.len() < PATH_MAX);
        known = Some(Known { name: fields[0].to_vec(), uid, gid: id(fields, 3), home });
        ControlFlow::Break(())
    })?;
    Ok(known)
}

/// The user that `text` names in these files.
///
/// # Errors
///
/// If the user or group does not exist in the files.
pub fn parse(text: &str, passwd: impl BufRead, group: impl BufRead) -> Result<User> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    // An empty user is root, with the data of passwd.
    let number: Option<u32> = if user.is_empty() { Some(0) } else { user.parse().ok() };
    let known = known(user, number, passwd)?;
    let uid = known.as_ref().map(|known| known.uid).or(number);
    let uid = uid.context("no such user in the image's /etc/passwd")?;
    let home = known.as_ref().and_then(|known| known.home.clone());
    // CVE-2022-2989: the process must stay a member of its primary group after setgid, so that it gains
    // nothing where a file's mode grants its group less than others. podman does the same if a user is given.
    let own = |gid| (!text.is_empty()).then_some(gid);
    let Some(wanted) = wanted_group else {
        let gid = known.as_ref().and_then(|known| known.gid).unwrap_or(0);
        let mut groups = BTreeSet::from_iter(own(gid));
        if let Some(known) = known {
            groups.extend(groups_of(&known.name, gid, group)?);
        }
        return Ok(User { uid, gid, groups: groups.into_iter().collect(), home });
    };
    let gid = match wanted.parse() {
        Ok(gid) => gid,
        Err(_) => group_id(wanted, group)?,
    };
    Ok(User { uid, gid, groups: own(gid).into_iter().collect(), home })
}

/// The groups that have this member, except its own.
fn groups_of(name: &[u8], own: u32, group: impl BufRead) -> Result<BTreeSet<u32>> {
    let mut groups = BTreeSet::new();
    each(group, |fields| {
        // name, password, gid, members
        let members = fields.get(3).copied().unwrap_or_default();
        if members.split(|&byte| byte == b',').any(|member| member == name) {
            groups.extend(id(fields, 2).filter(|&gid| gid != own));
        }
        ControlFlow::Continue(())
    })?;
    // NGROUPS_MAX of linux/limits.h.
    ensure!(groups.len() <= 65536, "is in {} groups, more than a process can have", groups.len());
    Ok(groups)
}

fn group_id(name: &str, group: impl BufRead) -> Result<u32> {
    let mut found = None;
    each(group, |fields| {
        if fields[0] != name.as_bytes() {
            return ControlFlow::Continue(());
        }
        found = id(fields, 2);
        ControlFlow::Break(())
    })?;
    found.with_context(|| format!("no group {name:?} in the image's /etc/group"))
}

fn id(line: &[&[u8]], field: usize) -> Option<u32> {
    std::str::from_utf8(line.get(field)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<User> {
        let passwd = "root:x:0:0::/root:/bin/sh\n\nbad\nweb:x:33:44::/:/bin/false\n";
        let group =
            "root:x:0:\nweb:x:44:web\ntape:x:7:bin,web\nwheel:x:10:root\nuser:x:9:web,other";
        parse(text, passwd.as_bytes(), group.as_bytes())
    }

    #[test]
    fn names_are_looked_up_and_numbers_are_taken() {
        let user = |uid, gid, groups: &[u32]| {
            let home = match uid {
                0 => Some("/root".to_owned()),
                33 => Some("/".to_owned()),
                _ => None,
            };
            User { uid, gid, groups: groups.to_vec(), home }
        };
        for (text, expected) in [
            ("", user(0, 0, &[10])),
            ("0", user(0, 0, &[0, 10])),
            ("root:", user(0, 0, &[0, 10])),
            ("web", user(33, 44, &[7, 9, 44])),
            ("33", user(33, 44, &[7, 9, 44])),
            ("99", user(99, 0, &[0])),
            ("web:tape", user(33, 7, &[7])),
            ("33:5", user(33, 5, &[5])),
            ("1000:user", user(1000, 9, &[9])),
            ("web:", user(33, 44, &[7, 9, 44])),
            (":tape", user(0, 7, &[7])),
        ] {
            assert_eq!(parsed(text).unwrap(), expected, "{text}");
        }
        for text in ["nobody", "web:nobody", "-1", "bad", "4294967296"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
