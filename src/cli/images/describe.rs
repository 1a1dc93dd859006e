//! The commands about images and layers, and the flags of `--image`: their description.

use crate::cli::describe::{FORMAT, ID};
use crate::cli::table::{Argument, Description, Kind, flag, one_of, option, positional, text};
use crate::image::flags::FLAGS;

/// The commands.
pub(in crate::cli) static COMMANDS: &[Description] = &[
    Description::new(
        "bundle",
        "Create a bundle from an image on disk; its layers are shared",
        &[
            &OF_IMAGE,
            &[
                PLATFORM,
                positional(
                    "image",
                    "IMAGE",
                    "OCI image or docker archive: PATH, PATH:TAG, PATH@DIGEST",
                ),
                positional("bundle", "DIR", "Directory to create").kind(Kind::Path),
            ],
            ARGUMENTS,
        ],
    ),
    Description::new(
        "commit",
        "Write an image with the changes of a container as its top layer",
        &[&[
            text("author", "NAME", "Author of the image").short('a'),
            text("message", "TEXT", "Message in the history of the image").short('m'),
            text("change", "INSTRUCTION", "Apply a Dockerfile instruction, e.g. USER web")
                .short('c')
                .many(),
            one_of(
                "compression",
                "METHOD",
                &["gzip", "zstd", "none"],
                "gzip (the default), zstd or none",
            ),
            flag("no-pause", "Do not pause the container during the commit"),
            ID,
            positional(
                "image",
                "DIR[:TAG]",
                "OCI image layout, created if missing [default tag: latest]",
            ),
        ]],
    ),
    Description::new(
        "diff",
        "List what a container changed: A added, C changed, D deleted",
        &[&[FORMAT, ID]],
    ),
    Description::new(
        "export",
        "Write the root filesystem of a container as a tar archive",
        &[&[option("output", "FILE", "Write to FILE instead of stdout").short('o'), ID]],
    ),
    Description::new(
        "gc",
        "Remove unused layers from the store",
        &[&[
            flag("all", "Also remove images that nothing uses").short('a'),
            flag("dry-run", "Print what would be removed, and remove nothing"),
        ]],
    ),
    Description::new(
        "images",
        "List the images in the store",
        &[LISTING, &[text("inspect", "IMAGE", "Print config, layers, sizes and history as JSON")]],
    ),
    Description::new("layers", "List the layers in the store and what uses them", &[LISTING]),
    Description::new(
        "rmi",
        "Remove images from the store",
        &[&[positional("image", "IMAGE", "Name, as `brig images` prints it, or id").many()]],
    ),
    Description::new(
        "tag",
        "Add a tag to an image of an OCI image layout",
        &[&[
            positional("image", "IMAGE", "PATH, PATH:TAG or PATH@DIGEST"),
            positional("name", "TAG", "New tag; it is moved if another image has it"),
        ]],
    ),
];

/// `--store`, a global option.
pub(in crate::cli) const STORE: &[Argument] =
    &[option("store", "DIR", "Layer store [default: /var/lib/brig]")];

/// The options of create and run that replace a bundle.
pub(in crate::cli) const INSTEAD_OF_BUNDLE: &[Argument] = &[
    text("image", "IMAGE", "Image instead of a bundle: PATH, PATH:TAG or PATH@DIGEST").restricted(),
    PLATFORM.restricted(),
];

/// The options of create and run for the container of an image.
pub(in crate::cli) static OF_CONTAINER: &[Argument] = &{
    let name = text("name", "ID", "Container id, with --image [default: generated]");
    let mut all = [name; OF_IMAGE.len() + 1];
    let mut i = 1;
    while i < all.len() {
        all[i] = OF_IMAGE[i - 1];
        i += 1;
    }
    all
};

/// The arguments of create and run after the id.
pub(in crate::cli) const ARGUMENTS: &[Argument] =
    &[positional("args", "ARGUMENT", "Arguments instead of those of the image").trailing()];

/// The flags of a container created from an image: of `--image`, and of `bundle`.
static OF_IMAGE: [Argument; FLAGS.len() + 1] = {
    // Refused with a hint at the alternative.
    let mut all = [text("publish", "", "").short('p').many().hidden(); FLAGS.len() + 1];
    let mut i = 0;
    while i < FLAGS.len() {
        let known = &FLAGS[i];
        all[i] = if known.value.is_empty() {
            flag(known.name, known.help)
        } else {
            text(known.name, known.value, known.help).many().hyphens()
        };
        if let Some(short) = known.short {
            all[i] = all[i].short(short);
        }
        i += 1;
    }
    all
};

const PLATFORM: Argument =
    text("platform", "OS/ARCH[/VARIANT]", "Platform of the image [default: of this machine]");

const LISTING: &[Argument] =
    &[FORMAT, flag("quiet", "Print ids only").short('q'), flag("no-trunc", "Print full ids")];

/// Adds the conflicts and requirements of the options of `--image`.
pub(in crate::cli) fn restrict(command: clap::Command) -> clap::Command {
    match command.get_name() {
        "create" | "run" => with_podmans_alias(command)
            .mut_arg("image", |image| image.conflicts_with_all(["bundle", "config", "layer"]))
            .mut_arg("platform", |platform| platform.requires("image")),
        "bundle" => with_podmans_alias(command),
        _ => command,
    }
}

fn with_podmans_alias(command: clap::Command) -> clap::Command {
    command.mut_arg("network", |network| network.alias("net"))
}
