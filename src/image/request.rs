//! What the command line asks of a bundle that is made of an image.

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

/// A bundle to be made.
#[derive(Debug)]
pub struct Request<'a> {
    /// As a person names it.
    pub image: &'a str,
    /// Which of an image's platforms: `OS/ARCH[/VARIANT]`; none: this machine's.
    pub platform: Option<&'a str>,
    /// Where the bundle is made; the directory is there or not, but has no config.json.
    pub bundle: &'a Path,
    /// What `brig spec` writes.
    pub template: &'a str,
    /// Instead of the image's Cmd.
    pub args: &'a [String],
    /// What the command line changes.
    pub flags: &'a Flags,
    /// The container's name, which may be meant for a program: it came without arguments.
    pub word: Option<&'a str>,
    /// The process gets a terminal.
    pub terminal: bool,
    /// The host name; none: the template's.
    pub hostname: Option<&'a str>,
    /// Where the container's changes go, in the bundle: upper and work directory. None: it is said
    /// when the container is made.
    pub upper: Option<(&'a str, &'a str)>,
    /// The container that the bundle is for alone: its state root and id.
    pub container: Option<(&'a Path, &'a str)>,
}

/// Makes a bundle. With root privileges right here, else in a user namespace with the caller's ids.
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

/// What to write instead, who means a program by the container's name.
pub fn run_instead(image: &str, word: &str) -> String {
    format!("to run {word:?} write `brig run --image {image} -- {word}`")
}

/// The image has a program of this name in its PATH.
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
