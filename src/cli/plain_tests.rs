//! Tests that [`super::plain`] and clap produce the same result.

use super::describe::{BRIG, commands};
use super::table::{Argument, Description, Kind};
use super::tests::parse_line;
use super::*;

/// Pseudo-random numbers: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// Words for any part of a command line, valid or not.
const NOISE: &[&str] =
    &["--", "-", "", "x", "-1", "-x", "--bogus", "-root", "--help", "a=b", "--net=host", "start"];

fn value(random: &mut Random, argument: &Argument) -> String {
    let text = match argument.kind {
        _ if random.below(16) == 0 => random.one_of(NOISE),
        Kind::Switch => random.one_of(&["true", "false", "maybe"]),
        Kind::Text | Kind::Path => random.one_of(&["x", "/a/b", "A=1", "5:6", "-1", "1,2", "ü"]),
        Kind::Number => random.one_of(&["0", "7", "+7", "007", "4294967296", "-1", "a"]),
        Kind::Numbers => random.one_of(&["0", "7,8", "7,,8", ",", "1,-1", "+3"]),
        Kind::OneOf(known) => random.one_of(known),
    };
    text.to_owned()
}

/// An option of a command, in one of its spellings.
fn option(random: &mut Random, command: &Description, line: &mut Vec<String>) {
    let arguments: Vec<_> = command.arguments().filter(|argument| !argument.positional).collect();
    let Some(argument) = (!arguments.is_empty()).then(|| arguments[random.below(arguments.len())])
    else {
        return;
    };
    let value = value(random, argument);
    let name = match argument.short {
        Some(short) if random.below(2) == 0 => format!("-{short}"),
        _ if random.below(16) == 0 => format!("-{}", argument.name),
        _ => format!("--{}", argument.name),
    };
    let attached = if argument.is_switch() { 15 } else { 1 };
    match random.below(16) {
        n if n > attached && argument.is_switch() || n == 0 => line.push(name),
        n if n % 2 == 0 => line.push(format!("{name}={value}")),
        _ if argument.is_switch() => line.push(name),
        _ => line.extend([name, value]),
    }
}

fn random_line(random: &mut Random) -> Vec<String> {
    let mut line = vec!["brig".to_owned()];
    for _ in 0..random.below(3) {
        option(random, &BRIG, &mut line);
    }
    let all: Vec<_> = commands().collect();
    let command = all[random.below(all.len())];
    line.push(command.name.to_owned());
    for _ in 0..random.below(6) {
        match random.below(16) {
            0 => line.push(random.one_of(NOISE).to_owned()),
            1..10 => option(random, command, &mut line),
            _ => line.push(random.one_of(&["web", "9", "add", "diff", "ls"]).to_owned()),
        }
    }
    line
}

#[test]
fn what_is_read_without_clap_is_what_clap_reads() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut plain = 0;
    for _ in 0..20_000 {
        let line = random_line(&mut random);
        let args: Vec<OsString> = line.iter().map(OsString::from).collect();
        if let Some(parsed) = parse_plain(&args) {
            plain += 1;
            assert_eq!(format!("{parsed:?}"), format!("{:?}", parse_by_clap(args)), "{line:?}");
        }
    }
    assert!(plain > 2_000, "only {plain} lines were plain");
}

#[test]
fn what_engines_write_is_read_without_clap() {
    for line in [
        "brig --root /run/containerd/runc/k8s.io --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid x",
        "brig --root /run/runc --log /b/log --log-format json --systemd-cgroup exec --process /p --detach --pid-file /q x",
        "brig --root=/run/crun create --bundle /b --pid-file /p --console-socket /s x",
        "brig --systemd-cgroup --root=/run/crio start x",
        "brig --root /r state x",
        "brig --root /r kill --all x 9",
        "brig --root /r kill x KILL",
        "brig --root /r delete --force x",
        "brig --root /r update --resources - x",
        "brig --root /r ps --format json x",
        "brig run -d --bundle /b x",
        "brig exec -t --user 1:1 --env A=b --cwd / x sh -c exit",
        "brig exec x -- ls -la",
        "brig list --quiet",
        "brig --root /r pause x",
        "brig --root /r events --stats x",
        "brig features",
    ] {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let plain = parse_plain(&args).map(|parsed| format!("{parsed:?}"));
        let known = plain.unwrap_or_else(|| panic!("{line}"));
        assert_eq!(known, format!("{:?}", parse_by_clap(args)), "{line}");
        assert!(matches!(parse_line(line), Parsed::Run(..)), "{line}");
    }
}
