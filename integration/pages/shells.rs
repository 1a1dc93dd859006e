//! What the shells offer after TAB: queries the completion of each shell. Instead of brig, a script prints
//! the output that the test expects from it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Containers, one more in another root, and images whose names contain shell metacharacters.
const BRIG: &str = r#"#!/bin/sh
case "$*" in
    "--root /other list --quiet" | "--root=/other list --quiet") echo other ;;
    "list --quiet") printf 'web-1\nweb-2\ndb\n' ;;
    "images --format json") printf '[\n  {\n    "name": "/i:a",\n    "id": "x"\n  },\n  {\n    "name": "/i:$(touch evil)"\n  }\n]\n' ;;
    *) echo "unexpected: $*" ;;
esac
"#;

const BASH: &str = r#"
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
read -ra COMP_WORDS <<<"${2//=/ = }"
[[ $2 != *[\ =] ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_brig "${COMP_WORDS[0]}" "${COMP_WORDS[-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

struct Shells {
    dir: PathBuf,
    completions: PathBuf,
}

impl Shells {
    fn new(name: &str) -> Shells {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shells-{name}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("brig"), BRIG).unwrap();
        fs::set_permissions(dir.join("brig"), fs::Permissions::from_mode(0o755)).unwrap();
        Shells { dir, completions: super::docs().join("completions") }
    }

    /// What `shell` offers at the end of `line`; None if it is not installed.
    fn offers(&self, shell: &str, line: &str) -> Option<Vec<String>> {
        let file = |name: &str| self.completions.join(name).display().to_string();
        let ask = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/pages/completions/ask.zsh");
        let bash = file("brig.bash");
        let fish = format!("source {}; complete -C '{line}'", file("brig.fish"));
        let args: Vec<&str> = match shell {
            "bash" => vec!["--norc", "-c", BASH, "bash", &bash, line],
            "zsh" => vec!["-f", ask, self.completions.to_str().unwrap(), line],
            _ => vec!["--no-config", "-c", &fish],
        };
        let path = format!("{}:{}", self.dir.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("timeout");
        command.args(["30", shell]).args(args).env("PATH", path).current_dir(&self.dir);
        command.env("TERM", "dumb").env("HOME", &self.dir);
        let output = command.output().unwrap();
        if output.status.code() == Some(127) {
            eprintln!("skipped: no {shell} here to ask what it completes");
            return None;
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let mut offered: Vec<String> = said
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .filter(|word| !word.is_empty())
            .collect();
        offered.sort();
        offered.dedup();
        Some(offered)
    }

    /// Each shell offers exactly these.
    fn all_offer(&self, line: &str, expected: &[&str]) {
        for shell in ["bash", "zsh", "fish"] {
            if let Some(offered) = self.offers(shell, line) {
                assert_eq!(offered, expected, "{shell}: {line:?}");
            }
        }
    }

    /// Each shell offers these among others, and no hidden ones.
    fn all_have(&self, line: &str, words: &[&str]) {
        for shell in ["bash", "zsh", "fish"] {
            let Some(offered) = self.offers(shell, line) else { continue };
            for word in words {
                assert!(
                    offered.iter().any(|known| known == word),
                    "{shell}: {line:?}: {offered:?}"
                );
            }
            for hidden in ["--publish", "-p", "--kernel-memory", "--kernel-memory-tcp"] {
                let is_visible = line.contains("exec") && hidden == "-p";
                assert!(
                    is_visible || !offered.iter().any(|known| known == hidden),
                    "{shell}: {hidden}"
                );
            }
        }
    }
}

#[test]
fn shells_offer_containers_where_one_is_expected() {
    let shells = Shells::new("containers");
    let containers = ["db", "web-1", "web-2"];
    for command in ["kill", "start", "state", "exec --user 0", "delete -f", "mounts add", "stats"] {
        shells.all_offer(&format!("brig {command} "), &containers);
    }
    shells.all_offer("brig kill we", &["web-1", "web-2"]);
    shells.all_offer("brig --root /other kill ", &["other"]);
    shells.all_offer("brig --root=/other kill ", &["other"]);
    // A new container needs a new name.
    shells.all_offer("brig create ", &[]);
}

#[test]
fn shells_offer_signals_capabilities_managers_and_images() {
    let shells = Shells::new("words");
    shells.all_have("brig kill web-1 ", &["HUP", "KILL", "TERM", "USR1"]);
    shells.all_offer("brig kill web-1 USR", &["USR1", "USR2"]);
    shells.all_offer("brig --cgroup-manager ", &["cgroupfs", "disabled", "systemd"]);
    shells.all_offer("brig mounts ", &["add", "remove"]);
    let audit = ["CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE"];
    shells.all_offer("brig run --cap-add CAP_AUDIT_", &audit);
    shells.all_have("brig exec --cap ", &["CAP_KILL"]);
    // Offered literally: nothing in a name is executed.
    shells.all_have("brig rmi ", &["/i:$(touch evil)", "/i:a"]);
    shells.all_have("brig images --inspect ", &["/i:a"]);
    assert!(!shells.dir.join("evil").exists());
}

#[test]
fn shells_offer_commands_and_flags_but_nothing_hidden() {
    let shells = Shells::new("flags");
    shells.all_offer("brig mou", &["mounts"]);
    shells.all_have("brig --", &["--root", "--cgroup-manager", "--debug", "--store"]);
    shells.all_have("brig run --", &["--image", "--cap-add", "--memory", "--volume"]);
    shells.all_have("brig update --", &["--memory", "--pids-limit"]);
    shells.all_have("brig exec --pid", &["--pid-file", "--pidfd-socket"]);
}
