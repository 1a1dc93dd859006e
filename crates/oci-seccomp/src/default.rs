//! A default profile: one table, converted to `linux.seccomp` for a container's bounding set of capabilities
//! and a machine's architectures.
//!
//! The rules are Docker's, with one of Podman's (`NETLINK_AUDIT`). A refused call fails with EPERM; one that
//! is not in the table with ENOSYS, so that programs fall back to an older one.
//!
//! A limit of BPF: `socketcall` of 32-bit x86 has the address family in memory, which filters cannot read. It
//! is allowed, because 32-bit C libraries create all sockets with it; so the families in [`FAMILIES`] can be
//! used through it.

use crate::arch::Arch;
use crate::spec::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg as Arg,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use libc::{EINVAL, ENOSYS, EPERM};

/// The condition under which the system calls of a row are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// In every container.
    Always,
    /// With one of these capabilities in the bounding set; otherwise EPERM.
    With(&'static [&'static str]),
    /// On a machine of one of these architectures; on others ENOSYS.
    On(&'static [Arch]),
    /// Never: EPERM.
    Never,
}

const ADMIN: &str = "CAP_SYS_ADMIN";
const ARM: &[Arch] = &[Arch::Arm, Arch::Aarch64];
const X86: &[Arch] = &[Arch::X86_64, Arch::X32, Arch::X86];

/// Names of system calls, separated by spaces. Those whose arguments are checked are in [`compared`].
pub(crate) const TABLE: &[(When, &str)] = &[
    (
        When::Always,
        "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
         chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
         clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
         copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
         epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
         exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
         fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
         flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 \
         fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv \
         futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 \
         getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
         getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
         getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid \
         gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
         inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
         io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill \
         landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
         lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek \
         lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier \
         memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap \
         mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
         mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd \
         msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open \
         openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free \
         pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
         process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace \
         pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom \
         recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename \
         renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending \
         rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
         rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
         sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
         sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
         sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
         semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
         set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
         setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid \
         setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
         setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd \
         signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 \
         statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
         timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
         timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
         timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat \
         uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid \
         write writev",
    ),
    (
        When::On(ARM),
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
    (When::On(X86), "arch_prctl modify_ldt"),
    (When::On(&[Arch::Riscv64]), "riscv_flush_icache"),
    (
        When::With(&[ADMIN]),
        "fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree quotactl \
         quotactl_fd setdomainname sethostname setns umount umount2 unshare",
    ),
    (When::With(&[ADMIN, "CAP_BPF"]), "bpf"),
    (When::With(&[ADMIN, "CAP_PERFMON"]), "perf_event_open"),
    (When::With(&[ADMIN, "CAP_SYSLOG"]), "syslog"),
    (When::With(&["CAP_DAC_READ_SEARCH"]), "open_by_handle_at"),
    (When::With(&["CAP_SYS_BOOT"]), "reboot"),
    (When::With(&["CAP_SYS_CHROOT"]), "chroot"),
    (When::With(&["CAP_SYS_MODULE"]), "delete_module finit_module init_module"),
    (When::With(&["CAP_SYS_NICE"]), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (When::With(&["CAP_SYS_PACCT"]), "acct"),
    (When::With(&["CAP_SYS_PTRACE"]), "kcmp pidfd_getfd process_madvise"),
    (When::With(&["CAP_SYS_RAWIO"]), "ioperm iopl"),
    (When::With(&["CAP_SYS_TIME"]), "clock_settime clock_settime64 settimeofday stime"),
    (When::With(&["CAP_SYS_TTY_CONFIG"]), "vhangup"),
    (
        When::Never,
        "add_key afs_syscall bdflush break create_module ftime get_kernel_syms get_tls getpmsg \
         gtty idle io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load \
         keyctl lock migrate_pages move_pages mpx nfsservctl nice oldfstat oldlstat oldolduname \
         oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write pivot_root prof profil \
         putpmsg query_module readdir request_key security sgetmask sigaction signal sigpending \
         sigsuspend ssetmask stty swapoff swapon _sysctl sysfs tuxcall ulimit uselib userfaultfd \
         usr26 usr32 ustat vm86 vm86old vserver",
    ),
];

/// Address families that are refused, as in docker: DECnet, Econet, ATM SVC, IrDA, WAN interfaces, ISDN,
/// CAIF, the kernel's crypto interface (`AF_ALG`) and virtual machines (`AF_VSOCK`).
pub(crate) const FAMILIES: [u64; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];

/// `CLONE_NEW*` of all namespaces that clone(2) creates.
const NAMESPACES: u64 = 0x7e02_0000;
/// Linux, and with 32-bit system call numbers, each also without address space randomization; the last one
/// queries the current personality.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
const AF_NETLINK: u64 = 16;
const NETLINK_AUDIT: u64 = 9;
/// The kernel uses only the low 32 bits of an argument of type `int`.
const INT: u64 = 0xffff_ffff;

/// A profile with Docker's rules for a container with these capabilities in its bounding set, on a machine with
/// this native architecture. What it refuses is EPERM; a system call that it does not know is ENOSYS.
///
/// ```
/// use oci_seccomp::{Arch, compile, default_profile};
///
/// let profile = default_profile(&["CAP_CHOWN", "CAP_SYS_CHROOT"], Arch::X86_64);
/// assert!(compile(&profile, Arch::X86_64)?.unknown.is_empty());
/// # Ok::<(), oci_seccomp::Error>(())
/// ```
pub fn default_profile<S: AsRef<str>>(bounding: &[S], native: Arch) -> LinuxSeccomp {
    let bounding: Vec<&str> = bounding.iter().map(AsRef::as_ref).collect();
    let has = |name: &str| bounding.contains(&name);
    let (mut allowed, mut refused) = (Vec::new(), Vec::new());
    for (when, names) in TABLE {
        let names = names.split_ascii_whitespace();
        match when {
            When::Always => allowed.extend(names),
            When::With(capabilities) if capabilities.iter().any(|name| has(name)) => {
                allowed.extend(names);
            }
            When::On(archs) if archs.contains(&native) => allowed.extend(names),
            When::On(_) => {}
            When::With(_) | When::Never => refused.extend(names),
        }
    }
    let mut syscalls = vec![allow(&allowed, &[]), refuse(&refused, EPERM, &[])];
    syscalls.extend(compared(&has));
    let mut profile = LinuxSeccomp::new(Action::Errno);
    profile.default_errno_ret = Some(ENOSYS.unsigned_abs());
    profile.architectures = Some(native.family().iter().map(|arch| arch.spec()).collect());
    profile.syscalls = Some(syscalls);
    profile
}

/// The rules that check arguments, or return another error than EPERM.
fn compared(has: &impl Fn(&str) -> bool) -> Vec<LinuxSyscall> {
    // Always holds, and is tried after all others of its argument.
    let any = |index| Arg::new(index, Operator::Ge, 0);
    let mut rules = Vec::new();
    if has(ADMIN) {
        rules.push(allow(&["clone", "clone3"], &[]));
    } else {
        rules.push(allow(&["clone"], &[Arg::masked(0, NAMESPACES, 0)]));
        rules.push(refuse(&["clone"], EPERM, &[any(0)]));
        // Its flags are in memory. After ENOSYS, C libraries use clone.
        rules.push(refuse(&["clone3"], ENOSYS, &[]));
    }
    for personality in PERSONALITIES {
        rules.push(allow(&["personality"], &[Arg::new(0, Operator::Eq, personality)]));
    }
    rules.push(refuse(&["personality"], EPERM, &[any(0)]));
    // Before the others: on 32-bit x86 this is the rule for socketcall, on whose second argument the others
    // only have the condition that always holds.
    rules.push(allow(&["socket"], &[any(0)]));
    for family in FAMILIES {
        rules.push(refuse(&["socket"], EPERM, &[Arg::masked(0, INT, family), any(1)]));
    }
    if !has("CAP_AUDIT_WRITE") {
        // sudo and su interpret that as a kernel without audit, but EPERM as a failure.
        let audit = [Arg::masked(0, INT, AF_NETLINK), Arg::masked(2, INT, NETLINK_AUDIT)];
        rules.push(refuse(&["socket"], EINVAL, &audit));
    }
    rules
}

fn allow(names: &[&str], args: &[Arg]) -> LinuxSyscall {
    rule(names, Action::Allow, args)
}

fn refuse(names: &[&str], errno: i32, args: &[Arg]) -> LinuxSyscall {
    let mut rule = rule(names, Action::Errno, args);
    rule.errno_ret = Some(errno.unsigned_abs());
    rule
}

fn rule(names: &[&str], action: Action, args: &[Arg]) -> LinuxSyscall {
    let mut rule = LinuxSyscall::new(names.iter().copied(), action);
    rule.args = Some(args.to_vec()).filter(|args| !args.is_empty());
    rule
}

#[cfg(test)]
mod tests;
