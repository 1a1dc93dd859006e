//! `linux.seccomp` as the runtime specification defines it (config-linux.md, Seccomp): types for serde, in the
//! order of the specification.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// `linux.seccomp`: the system calls that a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LinuxSeccomp {
    /// The action for system calls that no rule matches.
    pub default_action: LinuxSeccompAction,
    /// The errno of `SCMP_ACT_ERRNO`, or the message of `SCMP_ACT_TRACE`, as the default action. EPERM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures whose system calls are allowed in addition to the native one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<LinuxSeccompArch>>,
    /// Flags of seccomp(2). `None` means `SECCOMP_FILTER_FLAG_SPEC_ALLOW`; an empty list means no flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<LinuxSeccompFlag>>,
    /// The socket of the agent that receives the listener of `SCMP_ACT_NOTIFY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<PathBuf>,
    /// Opaque data for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Vec<LinuxSyscall>>,
}

impl LinuxSeccomp {
    /// A profile without rules: every system call gets the default action.
    pub fn new(default_action: LinuxSeccompAction) -> LinuxSeccomp {
        LinuxSeccomp {
            default_action,
            default_errno_ret: None,
            architectures: None,
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls: None,
        }
    }
}

/// A rule: an action for some system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LinuxSyscall {
    /// Names of system calls; at least one.
    pub names: Vec<String>,
    /// The action for them.
    pub action: LinuxSeccompAction,
    /// The errno of `SCMP_ACT_ERRNO`, or the message of `SCMP_ACT_TRACE`. EPERM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on the arguments. All must hold; if two concern the same argument, any one is sufficient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<LinuxSeccompArg>>,
}

impl LinuxSyscall {
    /// A rule for these system calls, independent of their arguments.
    pub fn new<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
        action: LinuxSeccompAction,
    ) -> LinuxSyscall {
        let names = names.into_iter().map(Into::into).collect();
        LinuxSyscall { names, action, errno_ret: None, args: None }
    }
}

/// A condition on an argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LinuxSeccompArg {
    /// The index of the argument: 0 to 5.
    pub index: usize,
    /// The value to compare with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// The required value of the masked argument with `SCMP_CMP_MASKED_EQ`. 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_two: Option<u64>,
    /// The comparison operator.
    pub op: LinuxSeccompOperator,
}

impl LinuxSeccompArg {
    /// Compares an argument with a value.
    pub fn new(index: usize, op: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
        LinuxSeccompArg { index, value, value_two: None, op }
    }

    /// `SCMP_CMP_MASKED_EQ`: `argument & mask == value`.
    pub fn masked(index: usize, mask: u64, value: u64) -> LinuxSeccompArg {
        let op = LinuxSeccompOperator::MaskedEq;
        LinuxSeccompArg { index, value: mask, value_two: Some(value), op }
    }
}

/// An enum whose values have names in the specification.
macro_rules! named {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $value:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $name)] $value,)*
        }

        impl $type {
            /// The name in the specification.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($type::$value => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// The action for a system call.
    LinuxSeccompAction {
        /// The thread is killed: the older name of [`LinuxSeccompAction::KillThread`].
        Kill = "SCMP_ACT_KILL",
        /// The thread is killed.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// The process is killed.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// The thread gets SIGSYS.
        Trap = "SCMP_ACT_TRAP",
        /// The system call fails with an errno.
        Errno = "SCMP_ACT_ERRNO",
        /// An agent with the filter's listener decides (seccomp_unotify(2)).
        Notify = "SCMP_ACT_NOTIFY",
        /// A tracer decides; without one the system call fails with ENOSYS.
        Trace = "SCMP_ACT_TRACE",
        /// The system call is executed and logged.
        Log = "SCMP_ACT_LOG",
        /// The system call is executed.
        Allow = "SCMP_ACT_ALLOW",
    }
}

named! {
    /// The architectures that a profile may list. Rules take effect for those of the machine
    /// ([`crate::Arch`]); the others are ignored.
    LinuxSeccompArch {
        /// libseccomp's name for the machine's own; an error, because the specification does not define it.
        Native = "SCMP_ARCH_NATIVE",
        /// 32-bit x86.
        X86 = "SCMP_ARCH_X86",
        /// 64-bit x86.
        X86_64 = "SCMP_ARCH_X86_64",
        /// 64-bit x86 with 32-bit pointers.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit ARM.
        Arm = "SCMP_ARCH_ARM",
        /// 64-bit ARM.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// 32-bit MIPS, big endian.
        Mips = "SCMP_ARCH_MIPS",
        /// 64-bit MIPS, big endian.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// 64-bit MIPS with 32-bit pointers, big endian.
        Mips64n32 = "SCMP_ARCH_MIPS64N32",
        /// 32-bit MIPS, little endian.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// 64-bit MIPS, little endian.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// 64-bit MIPS with 32-bit pointers, little endian.
        Mipsel64n32 = "SCMP_ARCH_MIPSEL64N32",
        /// 32-bit PowerPC.
        Ppc = "SCMP_ARCH_PPC",
        /// 64-bit PowerPC, big endian.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// 64-bit PowerPC, little endian.
        Ppc64le = "SCMP_ARCH_PPC64LE",
        /// 31-bit S/390.
        S390 = "SCMP_ARCH_S390",
        /// 64-bit S/390.
        S390x = "SCMP_ARCH_S390X",
        /// 32-bit PA-RISC.
        Parisc = "SCMP_ARCH_PARISC",
        /// 64-bit PA-RISC.
        Parisc64 = "SCMP_ARCH_PARISC64",
        /// 64-bit RISC-V.
        Riscv64 = "SCMP_ARCH_RISCV64",
        /// 64-bit LoongArch.
        Loongarch64 = "SCMP_ARCH_LOONGARCH64",
        /// Motorola 68000.
        M68k = "SCMP_ARCH_M68K",
        /// SuperH, little endian.
        Sh = "SCMP_ARCH_SH",
        /// SuperH, big endian.
        Sheb = "SCMP_ARCH_SHEB",
    }
}

named! {
    /// Flags of seccomp(2) that a profile may list.
    LinuxSeccompFlag {
        /// Actions other than allow are logged (Linux 4.14).
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// All threads of the process get the filter.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// Disables the mitigation of speculative store bypass (Linux 4.17).
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A notification that the agent has received can only be interrupted by fatal signals (Linux 5.19).
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

named! {
    /// The comparison operator; arguments are unsigned numbers.
    LinuxSeccompOperator {
        /// Not equal.
        Ne = "SCMP_CMP_NE",
        /// Less.
        Lt = "SCMP_CMP_LT",
        /// Less or equal.
        Le = "SCMP_CMP_LE",
        /// Equal.
        Eq = "SCMP_CMP_EQ",
        /// Greater or equal.
        Ge = "SCMP_CMP_GE",
        /// Greater.
        Gt = "SCMP_CMP_GT",
        /// Equal after the bits outside a mask are cleared.
        MaskedEq = "SCMP_CMP_MASKED_EQ",
    }
}
