//! The scheduling and memory policy of this process, and the machine in uname.

use crate::say;
use nix::errno::Errno;
use std::io::Write;

/// `sched POLICY NICE PRIORITY FLAGS RUNTIME DEADLINE PERIOD`, `ioprio CLASS LEVEL`,
/// `mempolicy MODE NODES`, `personality NUMBER MACHINE`.
pub fn tell() {
    scheduler();
    // SAFETY: takes integers only; 1 is IOPRIO_WHO_PROCESS, 0 this process.
    let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) };
    say!("ioprio {} {}", priority >> 13, priority & 0x1fff);
    memory_policy();
    // SAFETY: takes an integer only; this one queries the current value.
    let persona = unsafe { libc::personality(0xffff_ffff) };
    let machine = nix::sys::utsname::uname().map(|name| name.machine().to_owned());
    say!("personality {persona} {}", machine.unwrap_or_default().display());
}

fn scheduler() {
    let mut attr = [0_u64; 7];
    // SAFETY: the kernel writes at most the given size into the array, which outlives the call.
    let done = unsafe {
        libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), size_of_val(&attr), 0)
    };
    if done != 0 {
        return say!("sched {:?}", Errno::last());
    }
    let halves = |word: u64| {
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        (half(word), half(word >> 32))
    };
    let ((_, policy), (nice, priority)) = (halves(attr[0]), halves(attr[2]));
    let nice = nice.cast_signed();
    let [flags, runtime, deadline, period] = [attr[1], attr[3], attr[4], attr[5]];
    say!("sched {policy} {nice} {priority} {flags:#x} {runtime} {deadline} {period}");
}

fn memory_policy() {
    let (mut mode, mut nodes) = (0_i32, [0_u64; 128]);
    // SAFETY: the kernel writes an int and at most the given number of bits, into values that outlive the
    // call; with a null address and no flags it returns this thread's own policy.
    let done = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            nodes.as_mut_ptr(),
            size_of_val(&nodes) * 8,
            std::ptr::null::<u8>(),
            0,
        )
    };
    match done {
        0 => say!("mempolicy {mode:#x} {:#x}", nodes[0]),
        _ => say!("mempolicy {:?}", Errno::last()),
    }
}
