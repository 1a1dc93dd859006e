//! `exec --user`.

use anyhow::{Result, anyhow, ensure};

/// Parses `UID[:GID]`, decimal and nothing else (CVE-2026-30892: a partly parsed user ran as another one).
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |text: &str| -> Result<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(digits, "is not UID[:GID] in decimal digits");
        let id: u32 = text.parse().map_err(|_| anyhow!("{text} is not a valid id: too large"))?;
        ensure!(id != u32::MAX, "{text} is not a valid id: to the kernel it means \"unchanged\"");
        Ok(id)
    };
    match text.split_once(':') {
        None => Ok((number(text)?, None)),
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_two_plain_numbers_at_most() {
        assert_eq!(parse_user("0").unwrap(), (0, None));
        assert_eq!(parse_user("1000:5").unwrap(), (1000, Some(5)));
        for bad in [
            "",
            ":",
            "1000abc",
            ":5",
            "5:",
            "-1",
            "+1",
            "4294967295",
            "4294967296",
            "1:2:3",
            " 1",
            "root",
            "0x10",
        ] {
            assert!(parse_user(bad).is_err(), "{bad}");
        }
    }
}
