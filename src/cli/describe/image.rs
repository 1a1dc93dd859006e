//! The commands about images and layers, and an image's flags.

use super::{flag, format, id, one_of, option, positional, text_option};
use crate::image::flags::FLAGS;
use clap::{Arg, ArgAction, value_parser};
use std::path::PathBuf;

/// One of those commands.
pub(super) fn subcommand(name: &str, command: clap::Command) -> clap::Command {
    match name {
        "bundle" => bundling(command),
        "commit" => committing(command),
        "diff" => command
            .about("List what a container has changed in its layers: A added, C changed, D deleted")
            .arg(format("How to print it [default: table]"))
            .arg(id()),
        "export" => command
            .about("Write a container's whole tree as a tar archive, without what is mounted in it")
            .arg(option("output", "FILE", "Instead of stdout").short('o'))
            .arg(id()),
        "gc" => command
            .about("Remove what nobody uses from the store of layers")
            .arg(flag("all", "Also images that no bundle and no container uses").short('a'))
            .arg(flag("dry-run", "Only tell what would be removed")),
        "images" => command
            .about("List the images whose layers are in the store")
            .arg(format("How to print them [default: table]"))
            .arg(text_option(
                "inspect",
                "IMAGE",
                "Print config, layers, sizes and history of this one as JSON",
            )),
        "layers" => command
            .about("List the layers in the store, and who uses them")
            .arg(format("How to print them [default: table]")),
        "rmi" => command
            .about("Remove names of images, and with their last one the images, from the store")
            .arg(
                positional("image", "IMAGE", "By name, as images shows it, or by id")
                    .action(ArgAction::Append),
            ),
        _ => command
            .about("Give an image of a layout on disk one more name there")
            .arg(positional("image", "IMAGE", "PATH, PATH:TAG or PATH@DIGEST of an OCI layout"))
            .arg(positional("name", "TAG", "The new name, which is no other's any more")),
    }
}

fn bundling(command: clap::Command) -> clap::Command {
    command
        .about("Make a bundle of an image on disk, its layers shared")
        .args(image_flags())
        .arg(platform())
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .required(true)
                .help("OCI layout or docker save's tar: PATH, PATH:TAG or PATH@DIGEST"),
        )
        .arg(
            Arg::new("bundle")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where to make it"),
        )
        .arg(arguments())
}

fn committing(command: clap::Command) -> clap::Command {
    command
            .about("Write an image with what a container has changed as its top layer")
            .arg(
                Arg::new("author").long("author").short('a').value_name("NAME").help("Who made it"),
            )
            .arg(
                Arg::new("message")
                    .long("message")
                    .short('m')
                    .value_name("TEXT")
                    .help("For its history"),
            )
            .arg(
                Arg::new("change")
                    .long("change")
                    .short('c')
                    .value_name("INSTRUCTION")
                    .action(ArgAction::Append)
                    .help("CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR as in a Dockerfile"),
            )
            .arg(one_of("compression", &["gzip", "zstd", "none"], "Of the layer [default: gzip]"))
            .arg(flag("no-pause", "Let a running container go on meanwhile"))
            .arg(id())
            .arg(
                Arg::new("image")
                    .value_name("DIR[:TAG]")
                    .required(true)
                    .help("An OCI image layout, new or not; the tag is latest unless given"),
            )
}

pub(super) fn platform() -> Arg {
    Arg::new("platform")
        .long("platform")
        .value_name("OS/ARCH[/VARIANT]")
        .help("Which of the image's platforms [default: this machine's]")
}

pub(super) fn arguments() -> Arg {
    Arg::new("args")
        .value_name("ARGUMENT")
        .action(ArgAction::Append)
        .trailing_var_arg(true)
        .help("Instead of the image's default arguments")
}

/// What is asked of a container of an image: with --image, and for bundle.
pub(super) fn image_flags() -> impl Iterator<Item = Arg> {
    let known = FLAGS.iter().map(|known| {
        let arg = Arg::new(known.name).long(known.name).help(known.help);
        let arg = known.short.into_iter().fold(arg, Arg::short);
        match known.value {
            "" => arg.action(ArgAction::SetTrue),
            value => arg.value_name(value).action(ArgAction::Append).allow_hyphen_values(true),
        }
    });
    // Refused with a word about what there is instead.
    let publish = Arg::new("publish").long("publish").short('p').hide(true);
    known
        .map(|arg| match arg.get_id().as_str() {
            "network" => arg.alias("net"),
            _ => arg,
        })
        .chain([publish.action(ArgAction::Append)])
}
