//! Who runs an image: `user[:group]`, names or numbers, looked up in the image's own passwd and
//! group (image-spec, conversion.md, Config.User).

use super::view::View;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Who runs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
}

/// What stands after so many bytes of passwd or group is not read.
const MOST: u64 = 8 << 20;

/// A line of passwd or group: its fields.
type Lines = Vec<Vec<Vec<u8>>>;

/// Looks a user up.
pub fn find(text: &str, view: &View) -> Result<User> {
    let read = |path: &str| lines(view.open_file(path.as_bytes())?);
    parse(text, || read("/etc/passwd"), || read("/etc/group"))
        .with_context(|| format!("the image's user {text:?}"))
}

fn lines(file: Option<File>) -> Result<Lines> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let split = |line: Vec<u8>| line.split(|&byte| byte == b':').map(<[u8]>::to_vec).collect();
    let lines = BufReader::new(file.take(MOST)).split(b'\n');
    Ok(lines.map(|line| line.map(split)).collect::<Result<Lines, _>>()?)
}

fn parse(
    text: &str,
    passwd: impl FnOnce() -> Result<Lines>,
    group: impl FnOnce() -> Result<Lines>,
) -> Result<User> {
    if text.is_empty() {
        return Ok(User::default());
    }
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let number: Option<u32> = user.parse().ok();
    let known = passwd()?.into_iter().find(|line| match number {
        // passwd: name, password, uid, gid, …
        Some(uid) => id(line, 2) == Some(uid),
        None => line[0] == user.as_bytes() && id(line, 2).is_some(),
    });
    let uid = match (number, &known) {
        (Some(uid), _) => uid,
        (None, Some(line)) => id(line, 2).unwrap_or_default(),
        (None, None) if user.is_empty() => 0,
        (None, None) => bail!("no such user in the image's /etc/passwd"),
    };
    let own = known.as_ref().and_then(|line| id(line, 3)).unwrap_or(0);
    let Some(wanted) = wanted_group else {
        // group: name, password, gid, members. A number alone brings no other groups.
        let member = |line: &Vec<Vec<u8>>| {
            let members = line.get(3).map(Vec::as_slice).unwrap_or_default();
            members.split(|&byte| byte == b',').any(|name| name == user.as_bytes())
        };
        let mut groups = Vec::new();
        if number.is_none() {
            let lines = group()?.into_iter().filter(member);
            groups = lines.filter_map(|line| id(&line, 2)).filter(|&gid| gid != own).collect();
            groups.sort_unstable();
            groups.dedup();
        }
        return Ok(User { uid, gid: own, groups });
    };
    if let Ok(gid) = wanted.parse() {
        return Ok(User { uid, gid, groups: Vec::new() });
    }
    let line = group()?.into_iter().find(|line| line[0] == wanted.as_bytes());
    let gid = line.and_then(|line| id(&line, 2));
    let gid = gid.with_context(|| format!("no group {wanted:?} in the image's /etc/group"))?;
    Ok(User { uid, gid, groups: Vec::new() })
}

fn id(line: &[Vec<u8>], field: usize) -> Option<u32> {
    std::str::from_utf8(line.get(field)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Lines {
        let split = |line: &str| line.split(':').map(|field| field.as_bytes().to_vec()).collect();
        text.lines().map(split).collect()
    }

    fn parsed(text: &str) -> Result<User> {
        let passwd = "root:x:0:0::/root:/bin/sh\n\nbad\nweb:x:33:44::/:/bin/false\n";
        let group = "root:x:0:\nweb:x:44:web\ntape:x:7:bin,web\nuser:x:9:web,other\n";
        parse(text, || Ok(read(passwd)), || Ok(read(group)))
    }

    #[test]
    fn names_are_looked_up_and_numbers_are_taken() {
        let user = |uid, gid, groups: &[u32]| User { uid, gid, groups: groups.to_vec() };
        for (text, expected) in [
            ("", user(0, 0, &[])),
            ("web", user(33, 44, &[7, 9])),
            ("33", user(33, 44, &[])),
            ("99", user(99, 0, &[])),
            ("web:tape", user(33, 7, &[])),
            ("33:5", user(33, 5, &[])),
            ("1000:user", user(1000, 9, &[])),
            ("web:", user(33, 44, &[7, 9])),
            (":tape", user(0, 7, &[])),
        ] {
            assert_eq!(parsed(text).unwrap(), expected, "{text}");
        }
        for text in ["nobody", "web:nobody", "-1", "bad", "4294967296"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
