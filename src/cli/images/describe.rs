//! The commands about images and layers, and the flags of `--image`.

use crate::cli::describe::{flag, format, id, one_of, option, positional, text_option};
use crate::image::flags::FLAGS;
use clap::{Arg, ArgAction, value_parser};
use std::path::PathBuf;

/// `--store`, a flag of brig's.
pub(in crate::cli) fn store_flag() -> Option<Arg> {
    Some(option("store", "DIR", "Layer store [default: /var/lib/brig]"))
}

/// Describes one of the commands about images and layers.
pub(in crate::cli) fn subcommand(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "bundle" => bundling(command),
        "commit" => committing(command),
        "diff" => command
            .about("List what a container changed: A added, C changed, D deleted")
            .arg(format())
            .arg(id()),
        "export" => command
            .about("Write the root filesystem of a container as a tar archive")
            .arg(option("output", "FILE", "Write to FILE instead of stdout").short('o'))
            .arg(id()),
        "gc" => command
            .about("Remove unused layers from the store")
            .arg(flag("all", "Also remove images that nothing uses").short('a'))
            .arg(flag("dry-run", "Print what would be removed, and remove nothing")),
        "images" => listing(command.about("List the images in the store")).arg(text_option(
            "inspect",
            "IMAGE",
            "Print config, layers, sizes and history as JSON",
        )),
        "layers" => listing(command.about("List the layers in the store and what uses them")),
        "rmi" => command.about("Remove images from the store").arg(
            positional("image", "IMAGE", "Name, as `brig images` prints it, or id")
                .action(ArgAction::Append),
        ),
        _ => command
            .about("Add a tag to an image of an OCI image layout")
            .arg(positional("image", "IMAGE", "PATH, PATH:TAG or PATH@DIGEST"))
            .arg(positional("name", "TAG", "New tag; it is moved if another image has it")),
    }
}

fn listing(command: clap::Command) -> clap::Command {
    command
        .arg(format())
        .arg(flag("quiet", "Print ids only").short('q'))
        .arg(flag("no-trunc", "Print full ids"))
}

fn bundling(command: clap::Command) -> clap::Command {
    command
        .about("Create a bundle from an image on disk; its layers are shared")
        .args(image_flags())
        .arg(platform())
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .required(true)
                .help("OCI image or docker archive: PATH, PATH:TAG, PATH@DIGEST"),
        )
        .arg(
            Arg::new("bundle")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Directory to create"),
        )
        .arg(arguments())
}

fn committing(command: clap::Command) -> clap::Command {
    command
        .about("Write an image with the changes of a container as its top layer")
        .arg(
            Arg::new("author")
                .long("author")
                .short('a')
                .value_name("NAME")
                .help("Author of the image"),
        )
        .arg(
            Arg::new("message")
                .long("message")
                .short('m')
                .value_name("TEXT")
                .help("Message in the history of the image"),
        )
        .arg(
            Arg::new("change")
                .long("change")
                .short('c')
                .value_name("INSTRUCTION")
                .action(ArgAction::Append)
                .help("Apply a Dockerfile instruction, e.g. USER web"),
        )
        .arg(one_of(
            "compression",
            "METHOD",
            &["gzip", "zstd", "none"],
            "gzip (the default), zstd or none",
        ))
        .arg(flag("no-pause", "Do not pause the container during the commit"))
        .arg(id())
        .arg(
            Arg::new("image")
                .value_name("DIR[:TAG]")
                .required(true)
                .help("OCI image layout, created if missing [default tag: latest]"),
        )
}

pub(super) fn platform() -> Arg {
    Arg::new("platform")
        .long("platform")
        .value_name("OS/ARCH[/VARIANT]")
        .help("Platform of the image [default: of this machine]")
}

pub(super) fn arguments() -> Arg {
    Arg::new("args")
        .value_name("ARGUMENT")
        .action(ArgAction::Append)
        .trailing_var_arg(true)
        .help("Arguments instead of those of the image")
}

/// The flags of a container created from an image: of `--image`, and of `bundle`.
pub(super) fn image_flags() -> impl Iterator<Item = Arg> {
    let known = FLAGS.iter().map(|known| {
        let arg = Arg::new(known.name).long(known.name).help(known.help);
        let arg = known.short.into_iter().fold(arg, Arg::short);
        match known.value {
            "" => arg.action(ArgAction::SetTrue),
            value => arg.value_name(value).action(ArgAction::Append).allow_hyphen_values(true),
        }
    });
    // Refused with a hint at the alternative.
    let publish = Arg::new("publish").long("publish").short('p').hide(true);
    known
        .map(|arg| match arg.get_id().as_str() {
            "network" => arg.alias("net"),
            _ => arg,
        })
        .chain([publish.action(ArgAction::Append)])
}
