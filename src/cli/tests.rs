//! Command lines as engines write them.

use super::*;
use std::path::PathBuf;

pub(super) fn parse_line(line: &str) -> Parsed {
    parse(line.split(' ').map(OsString::from).collect())
}

#[test]
fn the_full_description_of_the_commands_is_sound() {
    definition().debug_assert();
}

#[test]
fn flags_take_their_value_with_and_without_equals_sign() {
    for line in [
        "brig --root /r create --bundle /b --pid-file /p x",
        "brig --root=/r create --bundle=/b -pid-file=/p x",
    ] {
        let Parsed::Run(globals, command) = parse_line(line) else { panic!() };
        let Command::Create(options, _) = *command else { panic!("{line}") };
        assert_eq!(globals.root, PathBuf::from("/r"));
        assert_eq!(options.bundle, PathBuf::from("/b"));
        assert_eq!(options.pid_file, Some(PathBuf::from("/p")));
        assert_eq!(options.id, "x");
    }
}

#[test]
fn the_last_of_two_counts_and_what_is_empty_is_none() {
    let line = "brig --root /a --root= -root /r create -b /a -b= --pid-file  --pid-file=/p x";
    let Parsed::Run(globals, command) = parse_line(line) else { panic!() };
    let Command::Create(options, _) = *command else { panic!() };
    assert_eq!(globals.root, PathBuf::from("/r"));
    assert_eq!(options.bundle, PathBuf::from("."));
    assert_eq!(options.pid_file, Some(PathBuf::from("/p")));
}

#[test]
fn switches_take_gos_values() {
    for (line, expected) in [
        ("brig delete --force=true x", true),
        ("brig delete -force=1 x", true),
        ("brig delete -f=true x", true),
        ("brig delete --force=false x", false),
        ("brig --debug=false --debug delete -force --force x", true),
    ] {
        let Parsed::Run(_, command) = parse_line(line) else { panic!("{line}") };
        let Command::Delete { force, .. } = *command else { panic!("{line}") };
        assert_eq!(force, expected, "{line}");
    }
    assert!(matches!(parse_line("brig delete --force=maybe x"), Parsed::Wrong(..)));
}

#[test]
fn wrong_arguments_still_say_where_the_log_is() {
    for line in ["brig --log /l create", "brig --log /l frobnicate", "brig --log /l run --bogus x"]
    {
        let Parsed::Wrong(UsageError { globals, .. }) = parse_line(line) else { panic!("{line}") };
        assert_eq!(globals.unwrap().log, Some(PathBuf::from("/l")), "{line}");
    }
}

#[test]
fn help_is_a_command_too() {
    for line in ["brig help", "brig h", "brig --root /r help run", "brig run --help"] {
        assert!(matches!(parse_line(line), Parsed::Say(_)), "{line}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (line, word) in [
        ("brig --cgroup-manager=init start x", "init"),
        ("brig rm x", "did you mean delete? see"),
        ("brig Start x", "did you mean start? see"),
        ("brig create --frobnicate x", "--frobnicate"),
    ] {
        let Parsed::Wrong(UsageError { text, .. }) = parse_line(line) else { panic!("{line}") };
        assert!(text.contains(word), "{line}: {text}");
    }
    assert!(matches!(parse_line("brig --rootless=false start x"), Parsed::Run(..)));
}

#[test]
fn what_exec_executes_is_left_alone() {
    let line = "brig exec -user 5:6 -e A=1 x ls -la -debug --user";
    let Parsed::Run(_, command) = parse_line(line) else { panic!() };
    let Command::Exec(options) = *command else { panic!("{line}") };
    assert_eq!(options.process.args, ["ls", "-la", "-debug", "--user"]);
    assert_eq!(options.process.user.as_deref(), Some("5:6"));
    let Parsed::Run(_, command) = parse_line("brig exec x -- ls --") else { panic!() };
    let Command::Exec(options) = *command else { panic!() };
    assert_eq!(options.process.args, ["ls", "--"]);
    let Parsed::Run(_, command) = parse_line("brig exec --detach=false x -t --user 5 true") else {
        panic!()
    };
    let Command::Exec(options) = *command else { panic!() };
    assert_eq!(options.process.args, ["-t", "--user", "5", "true"]);
    assert!(!options.process.tty && options.process.user.is_none());
}

#[test]
fn what_follows_the_id_is_for_ps() {
    for (line, expected) in [
        ("brig ps x -f", &["-f"][..]),
        ("brig ps --format json x -f json", &["-f", "json"]),
        ("brig ps x -- -o pid", &["-o", "pid"]),
        ("brig ps x aux --format=2", &["aux", "--format=2"]),
    ] {
        for parsed in
            [parse_line(line), parse_by_clap(line.split(' ').map(OsString::from).collect())]
        {
            let Parsed::Run(_, command) = parsed else { panic!("{line}") };
            let Command::Ps { options, .. } = *command else { panic!("{line}") };
            assert_eq!(options, expected, "{line}");
        }
    }
}

#[test]
fn a_signal_may_look_like_a_flag_and_an_id_like_a_command() {
    let Parsed::Run(_, command) = parse_line("brig kill --all start 9") else { panic!() };
    let Command::Kill { id, signal, all, .. } = *command else { panic!() };
    assert_eq!((id.as_str(), signal.as_str(), all), ("start", "9", true));
}

#[test]
fn limits_may_look_like_flags_and_stdin_like_a_dash() {
    for line in [
        "brig update --memory -1 --cpu-quota=-1 -r - x",
        "brig update -memory=-1 -cpu-quota -1 --resources=- x",
    ] {
        let Parsed::Run(_, command) = parse_line(line) else { panic!("{line}") };
        let Command::Update(options) = *command else { panic!("{line}") };
        assert_eq!(options.resources, Some(PathBuf::from("-")));
        let limits: Vec<(&str, &str)> =
            options.limits.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
        assert_eq!(limits, [("memory", "-1"), ("cpu-quota", "-1")]);
    }
}

#[test]
fn stats_are_of_any_number_of_containers() {
    for (line, expected) in [("brig stats", &[][..]), ("brig stats -f json a b", &["a", "b"])] {
        let Parsed::Run(_, command) = parse_line(line) else { panic!("{line}") };
        let Command::Stats(options) = *command else { panic!("{line}") };
        assert_eq!(options.ids, expected);
    }
}

#[test]
fn two_dashes_may_stand_before_the_id() {
    let Parsed::Run(_, command) = parse_line("brig create --bundle /b -- x") else { panic!() };
    let Command::Create(options, _) = *command else { panic!() };
    assert_eq!(options.id, "x");
    assert!(matches!(parse_line("brig create x y"), Parsed::Wrong(..)));
}

#[test]
fn help_fits_into_80_columns_and_shows_examples_that_brig_takes() {
    for name in std::iter::once(None).chain(commands().map(|command| Some(command.name))) {
        let help = help(name);
        let long = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{name:?}");
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        let calls: Vec<_> =
            examples.lines().map(str::trim).filter(|line| line.starts_with("brig ")).collect();
        assert!(!calls.is_empty(), "{name:?}");
        for call in calls {
            // The arguments as split by a shell.
            let script = format!("printf '%s\\0' {}", call.split(" | ").next().unwrap());
            let words = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let words = String::from_utf8(words.stdout).unwrap();
            let args = words.trim_end_matches('\0').split('\0').map(OsString::from).collect();
            let Parsed::Run(_, command) = parse(args) else { panic!("{call}") };
            assert!(name.is_none_or(|name| name == command.name()), "{call}");
        }
    }
}

#[test]
fn what_is_mistyped_is_named_and_not_done() {
    for (line, words) in [
        ("brig creat x", "unknown command \"creat\": did you mean create? see `brig --help`"),
        (
            "brig create --bundel b x",
            "unexpected argument '--bundel' found: did you mean --bundle?",
        ),
        ("brig --log-levle debug list", "found: did you mean --log-level? see `brig --help`"),
        (
            "brig --log-levle=debug list",
            "unexpected argument '--log-levle' found: did you mean --log-level?",
        ),
        ("brig --debugg creat", "unexpected argument '--debugg' found: did you mean --debug?"),
        ("brig --help creat", "unknown command \"creat\""),
        ("brig list --root /x", "'--root' found: global options go before the command"),
        ("brig list --format josn", ": did you mean json?"),
        ("brig --cgroup-manager systmd list", ": did you mean systemd?"),
    ] {
        let Parsed::Wrong(UsageError { text, .. }) = parse_line(line) else { panic!("{line}") };
        assert!(text.contains(words), "{line}: {text}");
    }
}
