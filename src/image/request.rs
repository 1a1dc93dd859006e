//! The request to create a bundle from an image.

use super::RUNTIME;
use super::flags::{self, Flags};
use crate::launch::own_bundle::user_namespace;
use anyhow::Result;
use brig_layers::bundle;
use brig_layers::bundle::init_layer::NetworkFiles;
use brig_layers::tree::view::View;
use nix::sys::stat::SFlag;
use serde_json::Value;
use std::path::Path;

/// A bundle to create.
#[derive(Debug)]
pub struct Request<'a> {
    /// The image as given on the command line.
    pub image: &'a str,
    /// The image's platform to choose: `OS/ARCH[/VARIANT]`; None: this machine's.
    pub platform: Option<&'a str>,
    /// The bundle's directory; it may exist, but without a config.json.
    pub bundle: &'a Path,
    /// The output of `brig spec`.
    pub template: &'a str,
    /// Replaces the image's Cmd.
    pub args: &'a [String],
    /// Flags that override the image's configuration.
    pub flags: &'a Flags,
    /// The container's id if no arguments follow it: it may be meant as the program.
    pub word: Option<&'a str>,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The host name; None: the template's.
    pub hostname: Option<&'a str>,
    /// The upper and work directory in the bundle. None: chosen when the container is created.
    pub upper: Option<(&'a str, &'a str)>,
    /// The state root and id of the only container to use the bundle.
    pub container: Option<(&'a Path, &'a str)>,
}

/// Creates a bundle: directly with root privileges, otherwise in a user namespace with the caller's ids.
pub fn make(store: &Path, request: &Request<'_>, warn: &mut dyn FnMut(&str)) -> Result<()> {
    let flags = request.flags;
    let root = request.container.map(|(root, _)| root);
    let change =
        |config: &mut Value, view: &View, warn: &mut dyn FnMut(&str)| -> Result<NetworkFiles> {
            let beside = flags::apply(config, flags, view, root)?;
            if let Some(word) = request.word
                && is_program(config, view, word)?
            {
                let instead = run_instead(request.image, word);
                warn(&format!("{word:?} is taken as the container's name: {instead}"));
            }
            Ok(beside)
        };
    let entrypoint = flags.last("entrypoint").map(flags::split_entrypoint).transpose()?;
    let hostname = flags::hostname(flags)?;
    let request = bundle::Request {
        runtime: &RUNTIME,
        image: request.image,
        platform: request.platform,
        bundle: request.bundle,
        template: request.template,
        user: flags.last("user"),
        entrypoint: entrypoint.as_deref(),
        args: request.args,
        terminal: request.terminal || flags.last("tty").is_some(),
        hostname: hostname.as_deref().or(request.hostname),
        change: &change,
        upper: request.upper,
        container: request.container,
    };
    bundle::make(store, &request, user_namespace().as_ref(), warn)
}

/// The command line to suggest if a program was given as the container's id.
pub fn run_instead(image: &str, word: &str) -> String {
    format!("to run {word:?} write `brig run --image {image} -- {word}`")
}

/// Whether the image has a program of this name in its PATH.
fn is_program(config: &Value, view: &View, word: &str) -> Result<bool> {
    let env = config["process"]["env"].as_array().into_iter().flatten();
    let path = env.filter_map(|entry| entry.as_str()?.strip_prefix("PATH=")).next();
    for directory in path.unwrap_or_default().split(':').filter(|dir| dir.starts_with('/')) {
        let found = view.resolve(format!("{directory}/{word}").as_bytes())?;
        if found.is_some_and(|found| found.is(SFlag::S_IFREG) && found.stat.st_mode & 0o111 != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}
