//! The commands about images and layers, and `--image` of create and run: their description, and their
//! parsing.

mod describe;

use super::read::format;
use super::values::Values;
use crate::cmd::command::{Command, Globals};
use crate::cmd::images::bundle::BundleOptions;
use crate::cmd::images::commit::CommitOptions;
use crate::cmd::images::store::Listing;
use crate::cmd::images::{FromImage, ImageCommand};
use crate::image::flags::{FLAGS, Flags, no_ports};
use brig_layers::commit::{About, Packed};
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::path::PathBuf;
use sys::random;

pub(super) use describe::{ARGUMENTS, COMMANDS, INSTEAD_OF_BUNDLE, OF_CONTAINER, STORE, restrict};

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
pub(super) fn store(values: &Values) -> Option<PathBuf> {
    values.path("store")
}

/// The container's id: the first word, the value of `--name`, or a generated one.
pub(super) fn id(values: &Values) -> String {
    match values.text("id") {
        Some(id) if id == UNNAMED => values.text("name").unwrap_or_else(random::random_name),
        id => id.unwrap_or_default(),
    }
}

/// Flags that need --image, and flags that exclude each other.
pub(super) fn contradiction(name: &str, values: &Values) -> Option<String> {
    let creates = ["create", "run"].contains(&name);
    if !creates && name != "bundle" {
        return None;
    }
    let given = creates && values.text("image").is_none();
    // For a bundle, config.json names the program.
    if let Some(argument) = values.texts("args").first().filter(|_| given) {
        return Some(format!(
            "unexpected argument {argument:?}: a program can only be given with --image"
        ));
    }
    if values.has("publish") {
        return Some(no_ports());
    }
    let of_image = || flags(values).given.first().map(|(name, _)| *name);
    let named = || values.text("name").map(|_| "name");
    if let Some(flag) = given.then(|| of_image().or_else(named)).flatten() {
        return Some(format!("--{flag} needs --image: for a bundle, set it in config.json"));
    }
    let two = creates && values.text("name").is_some() && values.text("id")? != UNNAMED;
    two.then(|| "give either --name or an ID, not both".into())
}

/// The flags of an image that were given.
fn flags(values: &Values) -> Flags {
    let mut given = Vec::new();
    for flag in FLAGS {
        match flag.value {
            "" if values.has(flag.name) => given.push((flag.name, String::new())),
            "" => {}
            _ => {
                let texts = values.texts(flag.name).into_iter();
                given.extend(texts.map(|text| (flag.name, text)));
            }
        }
    }
    Flags { given }
}

/// `--image` of create and run.
pub(super) fn from_image(values: &Values, globals: &Globals) -> Option<FromImage> {
    Some(FromImage {
        image: values.text("image")?,
        platform: values.text("platform"),
        args: values.texts("args"),
        store: globals.store.clone(),
        flags: flags(values),
        id_is_word: values.text("id").is_some_and(|id| id != UNNAMED),
    })
}

/// Reads the arguments of one of [`COMMANDS`].
pub(super) fn command(name: &str, values: &Values) -> Option<Command> {
    let id = || values.text("id").unwrap_or_default();
    let command = match name {
        "diff" => ImageCommand::Diff { id: id(), format: format(values) },
        "commit" => ImageCommand::Commit(CommitOptions {
            id: id(),
            image: values.text("image").unwrap_or_default(),
            packed: match values.text("compression").as_deref() {
                Some("zstd") => Packed::Zstd,
                Some("none") => Packed::Plain,
                _ => Packed::Gzip,
            },
            about: About {
                author: values.text("author"),
                message: values.text("message"),
                changes: values.texts("change"),
            },
            no_pause: values.has("no-pause"),
        }),
        "export" => ImageCommand::Export { id: id(), output: values.path("output") },
        "images" => match values.text("inspect") {
            Some(image) => ImageCommand::Inspect { image },
            None => ImageCommand::Images(listing(values)),
        },
        "rmi" => ImageCommand::Rmi { images: values.texts("image") },
        "tag" => ImageCommand::Tag {
            image: values.text("image").unwrap_or_default(),
            name: values.text("name").unwrap_or_default(),
        },
        "layers" => ImageCommand::Layers(listing(values)),
        "gc" => ImageCommand::Gc { all: values.has("all"), dry_run: values.has("dry-run") },
        "bundle" => ImageCommand::Bundle(BundleOptions {
            image: values.text("image").unwrap_or_default(),
            bundle: values.path("bundle").unwrap_or_default(),
            platform: values.text("platform"),
            args: values.texts("args"),
            flags: flags(values),
        }),
        _ => return None,
    };
    Some(Command::Image(command))
}

fn listing(values: &Values) -> Listing {
    Listing { format: format(values), quiet: values.has("quiet"), no_trunc: values.has("no-trunc") }
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
