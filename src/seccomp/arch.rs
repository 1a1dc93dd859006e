//! The architectures whose system calls a kernel that brig runs on can get.

use oci_spec::runtime as oci;

/// One of them; the order is that of the columns of the table of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers on 64-bit x86: X86_64 to the kernel, with a bit set in each number.
    X32,
    /// 32-bit ARM, EABI.
    Arm,
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// Brig's own.
    pub const NATIVE: Arch = if cfg!(target_arch = "x86_64") {
        Arch::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        Arch::Riscv64
    } else {
        panic!("brig knows the system calls of x86_64, aarch64 and riscv64")
    };

    /// All that a kernel with this native architecture runs, this one first.
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

    /// What the kernel calls it: `AUDIT_ARCH_*` of linux/audit.h.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Arm => 0x4000_0028,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Riscv64 => 0xc000_00f3,
        }
    }

    /// Conditions compare all 64 bits of an argument; where not, the low 32, as libseccomp does,
    /// for x32 also.
    pub fn is_64_bit(self) -> bool {
        match self {
            Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64 => true,
            Arch::X86 | Arch::X32 | Arch::Arm => false,
        }
    }

    /// `SCMP_ARCH_*`.
    pub fn spec_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Arm => "SCMP_ARCH_ARM",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// What Go, and so docker's profiles, call it.
    pub fn go_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Arm => "arm",
            Arch::Aarch64 => "arm64",
            Arch::Riscv64 => "riscv64",
        }
    }

    /// `SCMP_ARCH_*`; `None` for those that no such kernel runs: legal in a profile, never matched.
    pub fn from_spec(arch: oci::Arch) -> Option<Arch> {
        match arch {
            oci::Arch::ScmpArchX86_64 => Some(Arch::X86_64),
            oci::Arch::ScmpArchX86 => Some(Arch::X86),
            oci::Arch::ScmpArchX32 => Some(Arch::X32),
            oci::Arch::ScmpArchArm => Some(Arch::Arm),
            oci::Arch::ScmpArchAarch64 => Some(Arch::Aarch64),
            oci::Arch::ScmpArchRiscv64 => Some(Arch::Riscv64),
            _ => None,
        }
    }
}
