//! passwd(5), read by ourselves: a static binary has no NSS, and a container's file is its image's
//! word, to be read with suspicion.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::fstatfs;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

const PATH: &str = "/etc/passwd";

/// No honest passwd is longer, in bytes; what stands after them is not read.
const MAX_FILE: u64 = 1 << 20;

/// With its NUL, the longest path that the kernel takes.
const PATH_MAX: usize = libc::PATH_MAX.cast_unsigned() as usize;

/// The home directory of a user: of the container's, when called after the pivot (no symlink leads
/// out of the root then).
pub fn home_of(uid: u32) -> Option<Vec<u8>> {
    // Looked at before it is opened, too, which a device could notice.
    let path = open(PATH, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    is_ordinary(&path)?;
    let home = field(read()?, uid, 5)?;
    // Empty or relative, too, as with runc. Longer than any path would only be too much for execve's environment.
    (home.len() < PATH_MAX && !home.contains(&0)).then_some(home)
}

/// The name of a user of the host.
pub fn name_of(uid: u32) -> Option<String> {
    String::from_utf8(field(read()?, uid, 0)?).ok()
}

/// Filesystems whose files are no data, but what the kernel says to whoever reads them, with brig's rights
/// or about brig: a link there is not followed.
const OF_THE_KERNEL: [i64; 21] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x1980_0202, // mqueue
    0x1cd1,      // devpts
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
    0x0765_5821, // resctrl
    0x0187,      // autofs
    0x6c6f_6f70, // binder
];

fn read() -> Option<impl BufRead> {
    // Not blocking: it may be a fifo. Not a terminal to become ours.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = open(PATH, flags, Mode::empty()).ok()?;
    is_ordinary(&fd)?;
    Some(BufReader::new(File::from(fd).take(MAX_FILE)))
}

/// Whether this is a regular file of a filesystem that holds data.
fn is_ordinary(fd: &OwnedFd) -> Option<()> {
    let kind = sys::file::kind(fstat(fd).ok()?.st_mode);
    #[allow(clippy::unnecessary_cast, reason = "not on all architectures")]
    let filesystem = fstatfs(fd).ok()?.filesystem_type().0 as i64;
    let ordinary = kind == SFlag::S_IFREG && !OF_THE_KERNEL.contains(&(filesystem & 0xffff_ffff));
    ordinary.then_some(())
}

/// One field (from 0: name, password, uid, gid, comment, directory, shell) of this uid's first line.
pub fn field(passwd: impl BufRead, uid: u32, wanted: usize) -> Option<Vec<u8>> {
    let uid = uid.to_string();
    for line in passwd.split(b'\n') {
        let line = line.ok()?;
        let mut fields = line.split(|&byte| byte == b':');
        if fields.clone().nth(2) == Some(uid.as_bytes()) {
            return fields.nth(wanted).map(<[u8]>::to_vec);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_uid_counts() {
        let passwd = b"# x\nroot:x:0:0:root:/root:/bin/sh\nshort:x:7\na:x:12:0::/first:\nb:x:12:0::/second:\n";
        let home = |uid| field(&passwd[..], uid, 5);
        assert_eq!(home(0), Some(b"/root".to_vec()));
        assert_eq!(home(12), Some(b"/first".to_vec()));
        assert_eq!((home(1), home(7)), (None, None));
        assert_eq!(field(&passwd[..], 12, 0), Some(b"a".to_vec()));
    }
}
