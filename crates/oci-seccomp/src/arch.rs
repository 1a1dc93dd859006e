//! The supported architectures.

use crate::spec::LinuxSeccompArch;

/// An architecture, in the order of the columns of the system call table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers on 64-bit x86: the kernel treats it as X86_64 with a bit set in each number.
    X32,
    /// 32-bit ARM, EABI.
    Arm,
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// The architecture that this crate was built for, if it is supported.
    pub const NATIVE: Option<Arch> = if cfg!(target_arch = "x86_64") {
        Some(Arch::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Arch::Aarch64)
    } else if cfg!(target_arch = "riscv64") {
        Some(Arch::Riscv64)
    } else if cfg!(target_arch = "x86") {
        Some(Arch::X86)
    } else if cfg!(target_arch = "arm") {
        Some(Arch::Arm)
    } else {
        None
    };

    /// The architectures whose programs a kernel of this native architecture runs, this one first.
    pub fn family(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 => &[Arch::X86_64, Arch::X86, Arch::X32],
            Arch::Aarch64 => &[Arch::Aarch64, Arch::Arm],
            Arch::X86 => &[Arch::X86],
            Arch::X32 => &[Arch::X32],
            Arch::Arm => &[Arch::Arm],
            Arch::Riscv64 => &[Arch::Riscv64],
        }
    }

    /// The value of `arch` in `struct seccomp_data`: `AUDIT_ARCH_*` of linux/audit.h.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Arm => 0x4000_0028,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether conditions compare all 64 bits of an argument. Otherwise they compare the low 32 bits, also on
    /// x32, as in libseccomp.
    pub fn is_64_bit(self) -> bool {
        match self {
            Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64 => true,
            Arch::X86 | Arch::X32 | Arch::Arm => false,
        }
    }

    /// `SCMP_ARCH_*`.
    pub fn spec(self) -> LinuxSeccompArch {
        match self {
            Arch::X86_64 => LinuxSeccompArch::X86_64,
            Arch::X86 => LinuxSeccompArch::X86,
            Arch::X32 => LinuxSeccompArch::X32,
            Arch::Arm => LinuxSeccompArch::Arm,
            Arch::Aarch64 => LinuxSeccompArch::Aarch64,
            Arch::Riscv64 => LinuxSeccompArch::Riscv64,
        }
    }

    /// The name in Go, which Docker's profiles use.
    pub(crate) fn go_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Arm => "arm",
            Arch::Aarch64 => "arm64",
            Arch::Riscv64 => "riscv64",
        }
    }

    /// Parses `SCMP_ARCH_*`; `None` for unsupported architectures.
    pub fn from_spec(arch: LinuxSeccompArch) -> Option<Arch> {
        match arch {
            LinuxSeccompArch::X86_64 => Some(Arch::X86_64),
            LinuxSeccompArch::X86 => Some(Arch::X86),
            LinuxSeccompArch::X32 => Some(Arch::X32),
            LinuxSeccompArch::Arm => Some(Arch::Arm),
            LinuxSeccompArch::Aarch64 => Some(Arch::Aarch64),
            LinuxSeccompArch::Riscv64 => Some(Arch::Riscv64),
            _ => None,
        }
    }
}
