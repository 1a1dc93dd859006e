//! proc_pid_mountinfo(5). Names are bytes of any encoding; space, tab, newline and backslash in them are
//! escaped.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The mounts in a mountinfo, in order. Nothing is allocated for them.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(Mount::parse)
}

/// One line. Fields are as in the file; methods unescape the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount<'a> {
    id: &'a [u8],
    parent: &'a [u8],
    device: &'a [u8],
    root: &'a [u8],
    point: &'a [u8],
    /// The options of the mount, e.g. `ro,nosuid,relatime`.
    pub options: &'a [u8],
    fstype: &'a [u8],
    source: &'a [u8],
    super_options: &'a [u8],
}

impl<'a> Mount<'a> {
    /// Fields: id, parent, device, root, mount point, options, any number of optional fields, `-`, type,
    /// source, and options of the filesystem, which some kernels omit.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let mut next = || fields.next();
        let (id, parent, device) = (next()?, next()?, next()?);
        let (root, point, options) = (next()?, next()?, next()?);
        fields.find(|&field| field == b"-")?;
        let (fstype, source) = (fields.next()?, fields.next()?);
        let super_options = fields.next().unwrap_or_default();
        Some(Mount { id, parent, device, root, point, options, fstype, source, super_options })
    }

    /// Its id, which can be reused after the mount was removed.
    pub fn id(&self) -> Option<u64> {
        number(self.id)
    }

    /// The id of the mount that it is mounted on.
    pub fn parent(&self) -> Option<u64> {
        number(self.parent)
    }

    /// Major and minor number of its filesystem.
    pub fn device(&self) -> Option<(u64, u64)> {
        let colon = self.device.iter().position(|&byte| byte == b':')?;
        Some((number(&self.device[..colon])?, number(&self.device[colon + 1..])?))
    }

    /// The directory of the filesystem that it shows; `/` is its root.
    pub fn root(&self) -> PathBuf {
        unescape(self.root)
    }

    /// The mount point, relative to the root directory of the process that the mountinfo belongs to.
    pub fn point(&self) -> PathBuf {
        unescape(self.point)
    }

    /// Whether the escaped mount point begins with these bytes; does not allocate.
    pub(crate) fn point_starts_with(&self, bytes: &[u8]) -> bool {
        self.point.starts_with(bytes)
    }

    /// The filesystem's type.
    pub fn fstype(&self) -> Vec<u8> {
        unescape(self.fstype).into_os_string().into_vec()
    }

    /// Whether its filesystem is of this type.
    pub fn is_type(&self, name: &str) -> bool {
        self.fstype == name.as_bytes()
    }

    /// Its device, or an arbitrary string given instead.
    pub fn source(&self) -> Vec<u8> {
        unescape(self.source).into_os_string().into_vec()
    }

    /// The options of the filesystem, escaped.
    pub fn super_options(&self) -> &'a [u8] {
        self.super_options
    }
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Replaces escapes, e.g. `\040` is a space.
fn unescape(field: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                name.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                name.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn fields_are_found_whatever_stands_between_them() {
        let text = b"22 27 0:21 /a\\134b /my\\040caf\xe9\\011x rw,relatime shared:5 master:1 - fuse.x \
            a\\012b rw,size=1k\nno line\n23 1 8:1 / / rw - ext4 /dev/root \n24 1 8:1 / /x ro - y none";
        let found: Vec<_> = mounts(text).collect();
        assert_eq!(found.len(), 3);
        let first = found[0];
        assert_eq!(
            (first.id(), first.parent(), first.device()),
            (Some(22), Some(27), Some((0, 21)))
        );
        assert_eq!(first.root(), Path::new("/a\\b"));
        assert_eq!(first.point().as_os_str().as_bytes(), b"/my caf\xe9\tx");
        assert!(first.point_starts_with(b"/my\\040") && first.is_type("fuse.x"));
        assert_eq!((first.fstype(), first.source()), (b"fuse.x".to_vec(), b"a\nb".to_vec()));
        assert_eq!(
            (first.options, first.super_options()),
            (&b"rw,relatime"[..], &b"rw,size=1k"[..])
        );
        assert_eq!((found[1].super_options(), found[2].super_options()), (&b""[..], &b""[..]));
    }

    #[test]
    fn only_whole_escapes_are_escapes() {
        for (field, name) in [("\\04", "\\04"), ("\\9\\040", "\\9 "), ("a\\", "a\\"), ("", "")] {
            assert_eq!(unescape(field.as_bytes()), Path::new(name), "{field}");
        }
    }
}
