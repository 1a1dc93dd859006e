//! Ways to interfere with a process from its first instruction on.

use std::io;

/// From here on the kernel does not know the system call: it answers ENOSYS, as an older one does.
/// To be called between fork and exec.
pub fn without_syscall(number: libc::c_long) -> io::Result<()> {
    let code = |code: u32| u16::try_from(code).unwrap_or_default();
    let statement = |class: u32, k: u32| libc::sock_filter { code: code(class), jt: 0, jf: 0, k };
    let mut program = [
        // The number of the call is the first word of struct seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            jt: 0,
            jf: 1,
            k: u32::try_from(number).unwrap_or(u32::MAX),
        },
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the four instructions that `program` points to during the call. As
    // root no_new_privs is not needed.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
