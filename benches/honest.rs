//! What every runtime has to do in addition to the configuration, for the floor called honest: the container
//! cannot write to the runtime's executable, and other commands find the container.

use super::{CWD, Job, Word, at, c, must, sys};
use std::{env, fs};

/// As long as brig's state for the full configuration, and its config.json.
const STATE: [u8; 1300] = [b' '; 1300];
const CONFIG: [u8; 2400] = [b' '; 2400];

/// Opens the program's own file through a read-only mount, like brig.
pub fn seal() {
    let exe = env::current_exe().unwrap_or_default();
    let dir = exe.parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    let (overlay, key) = (c("overlay"), c("lowerdir"));
    let layers = c(format_args!("{dir}:/sys/class"));
    let cloexec = 1;
    let filesystem = must("fsopen", sys(libc::SYS_fsopen, [at(&overlay), cloexec]));
    let set = [filesystem, 1, at(&key), at(&layers), 0];
    must("fsconfig(lowerdir)", sys(libc::SYS_fsconfig, set));
    must("fsconfig(create)", sys(libc::SYS_fsconfig, [filesystem, 6, 0, 0, 0]));
    let attributes = 1 | 2 | 4; // MOUNT_ATTR_RDONLY, NOSUID, NODEV
    let mount = must("fsmount", sys(libc::SYS_fsmount, [filesystem, cloexec, attributes]));
    let name = c(exe.file_name().unwrap_or_default().display());
    let flags = (libc::O_PATH | libc::O_CLOEXEC) as Word;
    let file = must("sealed file", sys(libc::SYS_openat, [mount, at(&name), flags, 0]));
    for fd in [file, mount, filesystem] {
        sys(libc::SYS_close, [fd]);
    }
}

/// Records what will have to be removed, before anything is created.
pub fn begin(job: &Job) {
    let dir = c(directory(job));
    must("state directory", sys(libc::SYS_mkdirat, [CWD, at(&dir), 0o700]));
    write(job, "state.json", &STATE);
    write(job, "config.json", &CONFIG);
}

/// Records that it was created.
pub fn made(job: &Job) {
    write(job, "state.json.new", &STATE);
    let dir = directory(job);
    let (new, name) =
        (c(format_args!("{dir}/state.json.new")), c(format_args!("{dir}/state.json")));
    must("rename", sys(libc::SYS_renameat, [CWD, at(&new), CWD, at(&name)]));
}

/// Removes the record.
pub fn end(job: &Job) {
    let dir = directory(job);
    for name in ["state.json", "config.json"] {
        let path = c(format_args!("{dir}/{name}"));
        must(name, sys(libc::SYS_unlinkat, [CWD, at(&path), 0]));
    }
    let path = c(dir);
    let remove = [CWD, at(&path), libc::AT_REMOVEDIR as Word];
    must("state directory", sys(libc::SYS_unlinkat, remove));
}

/// Reads the record, like every command for a container.
pub fn look(job: &Job) {
    let read = fs::read(format!("{}/state.json", directory(job)));
    assert!(read.is_ok_and(|text| text.len() == STATE.len()), "no state");
}

fn directory(job: &Job) -> String {
    format!("{}/{}", job.work, job.name)
}

fn write(job: &Job, name: &str, bytes: &[u8]) {
    let path = c(format_args!("{}/{name}", directory(job)));
    let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC) as Word;
    let file = must(name, sys(libc::SYS_openat, [CWD, at(&path), flags, 0o600]));
    must(name, sys(libc::SYS_write, [file, bytes.as_ptr() as Word, bytes.len()]));
    sys(libc::SYS_close, [file]);
}
