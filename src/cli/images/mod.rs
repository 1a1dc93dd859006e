//! The commands about images and layers, and `--image` of create and run: their description, and their
//! parsing.

mod describe;

use super::describe::text_option;
use super::read::{format, path, text};
use crate::cmd::command::{Command, Globals};
use crate::cmd::images::bundle::BundleOptions;
use crate::cmd::images::commit::CommitOptions;
use crate::cmd::images::store::Listing;
use crate::cmd::images::{FromImage, ImageCommand};
use crate::image::flags::{FLAGS, Flags, no_ports};
use brig_layers::commit::{About, Packed};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches};
use std::ffi::OsString;
use std::path::PathBuf;
use sys::random;

pub(super) use describe::{store_flag, subcommand};

/// The commands.
pub(super) const COMMANDS: &[&str] =
    &["bundle", "commit", "diff", "export", "gc", "images", "layers", "rmi", "tag"];

/// The examples of a command, one per line.
pub(super) fn examples(command: &str) -> &'static str {
    match command {
        "bundle" => {
            "brig bundle images:busybox /tmp/bundle\n\
             brig bundle --memory 64m --read-only images:debian:12 /tmp/bundle"
        }
        "commit" => {
            "brig commit web images:mine\n\
             brig commit --change 'CMD [\"nginx\"]' --message 'add nginx' web images:mine"
        }
        "diff" => "brig diff web\nbrig diff --format json web",
        "export" => "brig export web | tar -t\nbrig export --output web.tar web",
        "gc" => "brig gc --dry-run\nbrig gc --all",
        "images" => "brig images --no-trunc\nbrig images --inspect images:busybox",
        "layers" => "brig layers\nbrig layers --format json",
        "rmi" => "brig rmi images:busybox",
        "run" => "brig run --image images:busybox -- ls /",
        "tag" => "brig tag images:busybox stable",
        _ => "",
    }
}

/// The flags of create and run that replace a bundle.
pub(super) fn instead_of_bundle() -> Vec<Arg> {
    let image = Arg::new("image")
        .long("image")
        .value_name("IMAGE")
        .conflicts_with_all(["bundle", "config", "layer"])
        .help("Image instead of a bundle: PATH, PATH:TAG or PATH@DIGEST");
    vec![image, describe::platform().requires("image")]
}

/// The flags of create and run for the container of an image.
pub(super) fn of_container() -> Vec<Arg> {
    let name = text_option("name", "ID", "Container id, with --image [default: generated]");
    std::iter::once(name).chain(describe::image_flags()).collect()
}

/// The arguments of create and run after the id.
pub(super) fn arguments() -> Option<Arg> {
    Some(describe::arguments())
}

/// Placeholder for a missing id: no argument can contain a NUL byte.
const UNNAMED: &str = "\0";

/// With --image, the words after `--` are the program and its arguments: if no word precedes `--`, the
/// container gets a generated name.
pub(super) fn unnamed(mut args: Vec<OsString>, brig: &clap::Command) -> Vec<OsString> {
    let is_image = |arg: &OsString| arg.to_string_lossy().starts_with("--image");
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    if !args[..end].iter().any(is_image) {
        return args;
    }
    let before = brig.clone().try_get_matches_from(&args[..end]);
    if before.is_err_and(|error| error.kind() == ErrorKind::MissingRequiredArgument) {
        args.insert(end, UNNAMED.into());
    }
    args
}

/// `--store`.
pub(super) fn store(matches: &ArgMatches) -> Option<PathBuf> {
    path(matches, "store")
}

/// The container's id: the first word, the value of `--name`, or a generated one.
pub(super) fn id(matches: &ArgMatches) -> String {
    match text(matches, "id") {
        Some(id) if id == UNNAMED => text(matches, "name").unwrap_or_else(random::random_name),
        id => id.unwrap_or_default(),
    }
}

/// Flags that need --image, and flags that exclude each other.
pub(super) fn contradiction(name: &str, matches: &ArgMatches) -> Option<String> {
    let creates = ["create", "run"].contains(&name);
    if !creates && name != "bundle" {
        return None;
    }
    let given = creates && text(matches, "image").is_none();
    // For a bundle, config.json names the program.
    if let Some(argument) = given.then(|| text(matches, "args")).flatten() {
        return Some(format!(
            "unexpected argument {argument:?}: a program can only be given with --image"
        ));
    }
    if matches.contains_id("publish") {
        return Some(no_ports());
    }
    let of_image = || flags(matches).given.first().map(|(name, _)| *name);
    let named = || text(matches, "name").map(|_| "name");
    if let Some(flag) = given.then(|| of_image().or_else(named)).flatten() {
        return Some(format!("--{flag} needs --image: for a bundle, set it in config.json"));
    }
    let two = creates && text(matches, "name").is_some() && text(matches, "id")? != UNNAMED;
    two.then(|| "give either --name or an ID, not both".into())
}

/// The flags of an image that were given.
fn flags(matches: &ArgMatches) -> Flags {
    let mut given = Vec::new();
    for flag in FLAGS {
        match flag.value {
            "" if matches.get_flag(flag.name) => given.push((flag.name, String::new())),
            "" => {}
            _ => {
                let values = matches.get_many::<String>(flag.name).into_iter().flatten();
                given.extend(values.map(|value| (flag.name, value.clone())));
            }
        }
    }
    Flags { given }
}

/// `--image` of create and run.
pub(super) fn from_image(matches: &ArgMatches, globals: &Globals) -> Option<FromImage> {
    Some(FromImage {
        image: text(matches, "image")?,
        platform: text(matches, "platform"),
        args: matches.get_many("args").into_iter().flatten().cloned().collect(),
        store: globals.store.clone(),
        flags: flags(matches),
        id_is_word: text(matches, "id").is_some_and(|id| id != UNNAMED),
    })
}

/// Reads the arguments of one of [`COMMANDS`].
pub(super) fn command(name: &str, matches: &ArgMatches) -> Option<Command> {
    let id = || text(matches, "id").unwrap_or_default();
    let command = match name {
        "diff" => ImageCommand::Diff { id: id(), format: format(matches) },
        "commit" => ImageCommand::Commit(CommitOptions {
            id: id(),
            image: text(matches, "image").unwrap_or_default(),
            packed: match text(matches, "compression").as_deref() {
                Some("zstd") => Packed::Zstd,
                Some("none") => Packed::Plain,
                _ => Packed::Gzip,
            },
            about: About {
                author: text(matches, "author"),
                message: text(matches, "message"),
                changes: matches.get_many("change").into_iter().flatten().cloned().collect(),
            },
            no_pause: matches.get_flag("no-pause"),
        }),
        "export" => ImageCommand::Export { id: id(), output: path(matches, "output") },
        "images" => match text(matches, "inspect") {
            Some(image) => ImageCommand::Inspect { image },
            None => ImageCommand::Images(listing(matches)),
        },
        "rmi" => ImageCommand::Rmi {
            images: matches.get_many("image").into_iter().flatten().cloned().collect(),
        },
        "tag" => ImageCommand::Tag {
            image: text(matches, "image").unwrap_or_default(),
            name: text(matches, "name").unwrap_or_default(),
        },
        "layers" => ImageCommand::Layers(listing(matches)),
        "gc" => {
            ImageCommand::Gc { all: matches.get_flag("all"), dry_run: matches.get_flag("dry-run") }
        }
        "bundle" => ImageCommand::Bundle(BundleOptions {
            image: text(matches, "image").unwrap_or_default(),
            bundle: path(matches, "bundle").unwrap_or_default(),
            platform: text(matches, "platform"),
            args: matches.get_many("args").into_iter().flatten().cloned().collect(),
            flags: flags(matches),
        }),
        _ => return None,
    };
    Some(Command::Image(command))
}

fn listing(matches: &ArgMatches) -> Listing {
    Listing {
        format: format(matches),
        quiet: matches.get_flag("quiet"),
        no_trunc: matches.get_flag("no-trunc"),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Parsed;
    use crate::cli::tests::parse_line;
    use crate::cmd::command::Command;

    #[test]
    fn two_dashes_may_stand_before_the_arguments() {
        let Parsed::Run(_, command) = parse_line("brig run --image i x -- ls -la --") else {
            panic!()
        };
        let Command::Run(options, from, _) = *command else { panic!() };
        assert_eq!(
            (options.id.as_str(), from.unwrap().args),
            ("x", vec!["ls".into(), "-la".into(), "--".into()])
        );
    }
}
