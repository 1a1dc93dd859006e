//! Names of images on disk: `PATH`, `PATH:tag`, `PATH@digest`, with or without skopeo's prefixes `oci:`,
//! `oci-archive:` or `docker-archive:`.

use crate::source::digest::Prefix;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// An image on disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind given by its prefix.
    pub kind: Kind,
    /// The layout's directory, or the archive.
    pub path: PathBuf,
    /// The image to choose.
    pub which: Selector,
}

/// The kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not given: detected.
    Any,
    /// `oci:`: the directory of a layout.
    Layout,
    /// `oci-archive:`: a layout in a tar archive.
    LayoutArchive,
    /// `docker-archive:`: an archive of `docker save`.
    DockerArchive,
}

/// The image to choose from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The only one.
    Only,
    /// The image with this name.
    Tag(String),
    /// The image with this digest, or digest prefix.
    Digest(Prefix),
}

/// Parses the name of an image. A path may contain colons: the longest existing path is used.
///
/// # Errors
///
/// If no part of the name is an existing path, or the tag or digest is not valid.
pub fn parse(text: &str) -> Result<Reference> {
    parse_with(text, &|path| path.symlink_metadata().is_ok())
}

fn parse_with(text: &str, exists: &dyn Fn(&Path) -> bool) -> Result<Reference> {
    const PREFIXES: [(&str, Kind); 3] = [
        ("oci:", Kind::Layout),
        ("oci-archive:", Kind::LayoutArchive),
        ("docker-archive:", Kind::DockerArchive),
    ];
    let prefixed = PREFIXES.iter().find_map(|(prefix, kind)| {
        let found = split(text.strip_prefix(prefix)?, *kind, exists);
        found.transpose()
    });
    // "oci" may be the name of a directory.
    if let Some(found) = prefixed.map_or_else(|| split(text, Kind::Any, exists).transpose(), Some) {
        return found.with_context(|| format!("image {text}"));
    }
    if let Some(line) = fetching(text) {
        bail!("image {text}: brig does not pull images. Get it first with: {line}");
    }
    bail!(
        "image {text}: no such file or directory. IMAGE is an OCI image layout (directory or tar) or an archive of `docker save`: PATH, PATH:TAG or PATH@DIGEST"
    )
}

/// The command to copy an image from a registry, if the name is that of a registry image.
fn fetching(text: &str) -> Option<String> {
    let name = ["docker://", "docker:", "registry:"].iter().find_map(|p| text.strip_prefix(p));
    // A path begins with a slash or a dot; others may be names.
    let name = name.or_else(|| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        (!text.starts_with(['/', '.']) && text.chars().all(plain)).then_some(text)
    })?;
    let last = name.rsplit('/').next()?.split(['@', ':']).next().filter(|last| !last.is_empty())?;
    let tag = name.split('@').next()?.rsplit('/').next()?.split_once(':');
    let tag = tag.map_or("latest", |(_, tag)| tag);
    Some(format!("skopeo copy docker://{name} oci:{last}:{tag}"))
}

/// None if no prefix is an existing path.
fn split(rest: &str, kind: Kind, exists: &dyn Fn(&Path) -> bool) -> Result<Option<Reference>> {
    if exists(Path::new(rest)) {
        return Ok(Some(Reference { kind, path: rest.into(), which: Selector::Only }));
    }
    let ends = rest.match_indices([':', '@']).map(|(at, _)| at).rev();
    for at in ends {
        let path = Path::new(&rest[..at]);
        if at == 0 || !exists(path) {
            continue;
        }
        let name = &rest[at + 1..];
        // PATH:TAG@DIGEST: as in docker and podman, the digest decides.
        let pinned = name.rsplit_once('@').map(|(_, digest)| digest).filter(|d| d.contains(':'));
        let which = match (rest.as_bytes()[at], pinned) {
            (b'@', _) => Selector::Digest(Prefix::parse(name)?),
            (_, Some(digest)) => Selector::Digest(Prefix::parse(digest)?),
            _ if name.is_empty() => bail!("no name after the colon"),
            _ => Selector::Tag(name.to_owned()),
        };
        return Ok(Some(Reference { kind, path: path.to_owned(), which }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::digest::Digest;

    fn parsed(text: &str, there: &[&str]) -> Result<(Kind, String, Selector)> {
        let exists = |path: &Path| there.iter().any(|known| Path::new(known) == path);
        let Reference { kind, path, which } = parse_with(text, &exists)?;
        Ok((kind, path.display().to_string(), which))
    }

    #[test]
    fn the_path_ends_where_the_longest_one_ends_that_there_is() {
        let tag = |name: &str| Selector::Tag(name.into());
        for (text, there, expected) in [
            ("a", vec!["a"], (Kind::Any, "a", Selector::Only)),
            ("a:b", vec!["a"], (Kind::Any, "a", tag("b"))),
            ("a:b", vec!["a", "a:b"], (Kind::Any, "a:b", Selector::Only)),
            ("oci:a:b", vec!["a"], (Kind::Layout, "a", tag("b"))),
            ("oci:a", vec!["oci"], (Kind::Any, "oci", tag("a"))),
            (
                "docker-archive:/x.tar:docker.io/library/busybox:latest",
                vec!["/x.tar"],
                (Kind::DockerArchive, "/x.tar", tag("docker.io/library/busybox:latest")),
            ),
        ] {
            let (kind, path, which) = expected;
            assert_eq!(parsed(text, &there).unwrap(), (kind, path.to_owned(), which), "{text}");
        }
        for digest in [Digest::of(b"").to_string(), Digest::of(b"").short().to_owned()] {
            let text = format!("oci-archive:x.tar@{digest}");
            let which = Selector::Digest(Prefix::parse(&digest).unwrap());
            let expected = (Kind::LayoutArchive, "x.tar".to_owned(), which);
            assert_eq!(parsed(&text, &["x.tar"]).unwrap(), expected);
            let text = format!("oci-archive:x.tar:name:v1@{}", Digest::of(b""));
            let (.., which) = parsed(&text, &["x.tar"]).unwrap();
            assert_eq!(
                which,
                Selector::Digest(Prefix::parse(&Digest::of(b"").to_string()).unwrap())
            );
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        for text in ["nothing", "a:", "a@b", "a@sha256:0"] {
            let error = format!("{:#}", parsed(text, &["a"]).unwrap_err());
            assert!(error.contains(&format!("image {text}: ")), "{error}");
        }
    }
}
