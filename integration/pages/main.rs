//! Man pages and completions are generated from the description that brig itself uses for parsing. They are
//! committed in docs/man and docs/completions, so that `make install` only copies them: this test fails if
//! they are out of date, and with BRIG_BLESS=1 writes them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(clippy::disallowed_methods, reason = "not brig: half a file is written again")]

use clap_mangen::Man;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod completions;
mod shells;
mod texts;

/// A page: synopsis and options from clap, the rest from [`texts`].
fn page(command: &clap::Command, man: &Man) -> std::io::Result<Vec<u8>> {
    let name = command.get_name();
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    section(&mut page, "DESCRIPTION", texts::description(name));
    man.render_options_section(&mut page)?;
    if name == "brig" {
        man.render_subcommands_section(&mut page)?;
    }
    let examples = command.get_after_help().unwrap().to_string();
    let examples: Vec<_> = examples.lines().skip(1).map(str::trim).collect();
    let lines: String = examples.iter().map(|line| format!("# {}\n", escaped(line))).collect();
    page.extend(format!(".SH EXAMPLES\n.nf\n.RS\n{lines}.RE\n.fi\n").as_bytes());
    section(&mut page, "EXIT STATUS", texts::exit_status(name));
    let more = if name == "brig" { texts::MORE } else { &[] };
    for (title, terms) in more {
        page.extend(format!(".SH {title}\n").as_bytes());
        for (term, meaning) in *terms {
            page.extend(
                format!(".TP\n\\fB{}\\fR\n{}\n", escaped(term), escaped(meaning)).as_bytes(),
            );
        }
    }
    let see = match name {
        "brig" => "podman(1), docker(1), containers.conf(5), cgroups(7), namespaces(7)",
        _ => "brig(8)",
    };
    section(&mut page, "SEE ALSO", see);
    Ok(page)
}

fn section(page: &mut Vec<u8>, title: &str, text: &str) {
    page.extend(format!(".SH \"{title}\"\n").as_bytes());
    let paragraphs: Vec<_> = text.split("\n\n").map(escaped).collect();
    page.extend(format!("{}\n", paragraphs.join("\n.PP\n")).as_bytes());
}

/// Formats `code` in bold; escapes characters with a meaning in roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(i, part)| if i % 2 == 1 { format!("\\fB{part}\\fR") } else { part.to_owned() });
    parts.collect()
}

fn pages() -> BTreeMap<String, Vec<u8>> {
    let mut brig = brig::cli::definition();
    brig.build();
    let of = |command: &clap::Command| {
        let version = concat!("brig ", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command.clone()).section("8").source(version).manual("brig");
        (format!("man/{}", man.get_filename()), page(command, &man).unwrap())
    };
    std::iter::once(&brig).chain(brig.get_subcommands()).map(of).collect()
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// The committed files.
fn kept() -> Vec<String> {
    let mut kept = Vec::new();
    for directory in ["man", "completions"] {
        for entry in fs::read_dir(docs().join(directory)).unwrap() {
            kept.push(format!("{directory}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    kept.sort();
    kept
}

#[test]
fn what_is_installed_is_what_brig_parses_by() {
    let made: BTreeMap<_, _> = pages().into_iter().chain(completions::all()).collect();
    if std::env::var_os("BRIG_BLESS").is_some() {
        for name in kept().iter().filter(|name| !made.contains_key(*name)) {
            fs::remove_file(docs().join(name)).unwrap();
        }
        made.iter().for_each(|(name, text)| fs::write(docs().join(name), text).unwrap());
    }
    let names: Vec<String> = made.keys().cloned().collect();
    assert_eq!(names, kept(), "BRIG_BLESS=1 cargo test --test pages what_is");
    for (name, text) in &made {
        let same = fs::read(docs().join(name)).unwrap() == *text;
        assert!(same, "docs/{name} is out of date: BRIG_BLESS=1 cargo test --test pages what_is");
    }
}

#[test]
fn each_command_has_a_page_with_each_of_its_flags() {
    let pages = pages();
    let definition = brig::cli::definition();
    for command in definition.get_subcommands() {
        let name = command.get_name();
        let page = String::from_utf8_lossy(&pages[&format!("man/brig-{name}.8")]).into_owned();
        assert!(page.contains(&format!("brig\\-{name} \\- ")), "{page}");
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let Some(long) = flag.get_long() else { continue };
            assert!(
                page.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))),
                "{name}: {long}"
            );
        }
        let main = String::from_utf8_lossy(&pages["man/brig.8"]).into_owned();
        assert!(main.contains(&format!("brig\\-{name}(8)")), "{main}");
    }
}

/// Runs a checker, if installed, on each of its files.
fn checked_by(program: &str, args: &[&str], names: impl Iterator<Item = String>) {
    for name in names {
        let path = docs().join(&name);
        let output = match Command::new(program).args(args).arg(&path).env("LC_ALL", "C").output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: no {program} here to check docs/{name}");
                return;
            }
            output => output.unwrap(),
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{program} {name}: {said}");
    }
}

#[test]
fn formatters_and_shells_have_nothing_to_say_against_them() {
    checked_by("groff", &["-man", "-Tutf8", "-ww", "-z"], pages().into_keys());
    checked_by("mandoc", &["-Tlint", "-Werror"], pages().into_keys());
    for (shell, name) in [("bash", "brig.bash"), ("zsh", "_brig"), ("fish", "brig.fish")] {
        checked_by(shell, &["-n"], std::iter::once(format!("completions/{name}")));
    }
}

/// `make install` with another binary than the release's, so that it need not be built here.
fn make(target: &str, destination: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("make")
        .args([target, "BRIG=Makefile", "PREFIX=/usr"])
        .arg(format!("DESTDIR={}", destination.display()))
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.append(&mut files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn install_puts_all_of_it_where_it_is_looked_for_and_uninstall_takes_it_away() {
    let destination = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
    // Left by an earlier failure.
    make("uninstall", &destination);
    make("install", &destination);
    let usr = destination.join("usr");
    for name in [
        "bin/brig",
        "share/man/man8/brig.8",
        "share/man/man8/brig-create.8",
        "share/bash-completion/completions/brig",
        "share/zsh/site-functions/_brig",
        "share/fish/vendor_completions.d/brig.fish",
    ] {
        assert!(usr.join(name).is_file(), "{name}: {:#?}", files(&destination));
    }
    assert_eq!(files(&destination).len(), 1 + pages().len() + 3);
    make("uninstall", &destination);
    assert_eq!(files(&destination), Vec::<PathBuf>::new());
}
