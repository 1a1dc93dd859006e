//! bpf(2) for the device program of a cgroup: its instructions, loading, attaching.

use super::{Errno, SysError, check};
use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The kernel's limit, `BPF_COMPLEXITY_LIMIT_INSNS`, since Linux 5.2.
pub const MAX_INSTRUCTIONS: usize = 1_000_000;

/// One eBPF instruction, as the kernel's `struct bpf_insn` on a little-endian machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and kind of operand.
    pub code: u8,
    /// Destination register in the low half, source in the high one.
    pub registers: u8,
    /// The offset of a jump or a memory access.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// The registers, named after their contents in the device program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reg {
    /// r0: the program's return value.
    Verdict = 0,
    /// r1: the context at the program's start.
    Context = 1,
    /// r2: type of the device.
    Type = 2,
    /// r3: the undecided accesses.
    Left = 3,
    /// r4: major number.
    Major = 4,
    /// r5: minor number.
    Minor = 5,
    /// r6: temporary values.
    Scratch = 6,
}

/// linux/bpf_common.h and linux/bpf.h: BPF_LDX | BPF_MEM | BPF_W.
const LDX_MEM_W: u8 = 0x61;
/// BPF_ALU | BPF_MOV | BPF_K, 32 bits.
const MOV_K: u8 = 0xb4;
/// BPF_ALU | BPF_MOV | BPF_X.
const MOV_X: u8 = 0xbc;
/// BPF_ALU | BPF_AND | BPF_K.
const AND_K: u8 = 0x54;
/// BPF_ALU | BPF_RSH | BPF_K.
const RSH_K: u8 = 0x74;
/// BPF_JMP32 | BPF_JEQ | BPF_K.
const JEQ_K: u8 = 0x16;
/// BPF_JMP32 | BPF_JNE | BPF_K.
const JNE_K: u8 = 0x56;
/// BPF_JMP | BPF_EXIT.
const EXIT: u8 = 0x95;

impl Insn {
    const fn new(code: u8, to: Reg, from: u8, offset: i16, immediate: i32) -> Insn {
        Insn { code, registers: to as u8 | from << 4, offset, immediate }
    }

    /// `to = *(u32 *)(from + offset)`
    pub const fn load(to: Reg, from: Reg, offset: i16) -> Insn {
        Insn::new(LDX_MEM_W, to, from as u8, offset, 0)
    }

    /// `to = from`
    pub const fn copy(to: Reg, from: Reg) -> Insn {
        Insn::new(MOV_X, to, from as u8, 0, 0)
    }

    /// `to = value`
    pub const fn set(to: Reg, value: i32) -> Insn {
        Insn::new(MOV_K, to, 0, 0, value)
    }

    /// `to &= value`
    pub const fn and(to: Reg, value: i32) -> Insn {
        Insn::new(AND_K, to, 0, 0, value)
    }

    /// `to >>= bits`
    pub const fn shift_right(to: Reg, bits: i32) -> Insn {
        Insn::new(RSH_K, to, 0, 0, bits)
    }

    /// Skips `over` instructions if the register has the value.
    pub const fn jump_if(register: Reg, value: i32, over: i16) -> Insn {
        Insn::new(JEQ_K, register, 0, over, value)
    }

    /// Skips `over` instructions unless the register has the value.
    pub const fn jump_unless(register: Reg, value: i32, over: i16) -> Insn {
        Insn::new(JNE_K, register, 0, over, value)
    }

    /// Ends the program.
    pub const fn exit() -> Insn {
        Insn::new(EXIT, Reg::Verdict, 0, 0, 0)
    }
}

/// The name of every program loaded by brig, by which a later brig recognises it.
const NAME: [u8; 16] = *b"brig_devices\0\0\0\0";

const PROG_LOAD: c_int = 5;
const PROG_ATTACH: c_int = 8;
const PROG_GET_FD_BY_ID: c_int = 13;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const PROG_QUERY: c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// The beginning of `union bpf_attr` as each command reads it; the kernel reads the rest as 0.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target_fd: c_int,
    attach_bpf_fd: c_int,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: c_int,
}

#[repr(C)]
struct Query {
    target_fd: c_int,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: c_int,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

/// # Safety
///
/// `attr` is the kernel's structure for `command`, and every address in it is valid for the command's
/// accesses for the duration of the call.
unsafe fn bpf<T>(call: &str, command: c_int, attr: &mut T) -> Result<c_long, SysError> {
    // SAFETY: `attr` is exclusively borrowed and its size is passed; the rest is guaranteed by the caller.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    check(|| format!("bpf({call})"), result)
}

/// Loads a device program into the kernel, which verifies it.
///
/// # Errors
///
/// If the kernel refuses the program: without CAP_BPF and CAP_SYS_ADMIN, or because its verifier rejects it.
pub fn load(program: &[Insn]) -> Result<OwnedFd, SysError> {
    let mut attr = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: NAME,
    };
    // SAFETY: `Load` is what PROG_LOAD reads; the program (of the given length) and the license are only
    // read, and outlive the call.
    let fd = unsafe { bpf("PROG_LOAD, cgroup device", PROG_LOAD, &mut attr) }?;
    owned(fd)
}

/// Attaches a device program to a cgroup: with `replace` instead of that of an earlier brig, and beside all
/// others (all of them must allow an access).
///
/// # Errors
///
/// If bpf(2) fails; with `replace` also if the programs of the cgroup cannot be listed.
pub fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: bool,
) -> Result<(), SysError> {
    let old = if replace { loaded_by_brig(cgroup)? } else { None };
    let mut attr = Attach {
        target_fd: cgroup.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if old.is_some() { F_REPLACE } else { 0 },
        replace_bpf_fd: old.as_ref().map_or(0, AsRawFd::as_raw_fd),
    };
    // SAFETY: `Attach` is what PROG_ATTACH reads; it contains no address.
    unsafe { bpf("PROG_ATTACH, cgroup device", PROG_ATTACH, &mut attr) }?;
    Ok(())
}

/// The program of an earlier brig that is attached to the cgroup itself, if any.
fn loaded_by_brig(cgroup: BorrowedFd<'_>) -> Result<Option<OwnedFd>, SysError> {
    for id in attached(cgroup)? {
        match by_id(id) {
            Ok(program) if name(&program)? == NAME => return Ok(Some(program)),
            // It was detached in the meantime, or is not brig's.
            Ok(_) | Err(SysError { errno: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Ids of the device programs attached to the cgroup itself; the kernel allows up to 64.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, SysError> {
    let mut ids = [0u32; 64];
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        padding: 0,
    };
    // SAFETY: `Query` is what PROG_QUERY reads and writes; `ids` has room for the given number of ids, and
    // nothing else accesses it during the call.
    unsafe { bpf("PROG_QUERY, cgroup device", PROG_QUERY, &mut attr) }?;
    Ok(ids.into_iter().take(usize::try_from(attr.prog_cnt).unwrap_or(0)).collect())
}

fn by_id(id: u32) -> Result<OwnedFd, SysError> {
    let mut attr = ById { id, next_id: 0, open_flags: 0 };
    // SAFETY: `ById` is what PROG_GET_FD_BY_ID reads; it contains no address.
    let fd = unsafe { bpf("PROG_GET_FD_BY_ID", PROG_GET_FD_BY_ID, &mut attr) }?;
    owned(fd)
}

fn name(program: &OwnedFd) -> Result<[u8; 16], SysError> {
    let mut info = Info::default();
    let mut attr = InfoByFd {
        bpf_fd: program.as_raw_fd(),
        info_len: u32::try_from(size_of::<Info>()).unwrap_or(0),
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `InfoByFd` is what OBJ_GET_INFO_BY_FD reads and writes; it writes at most the given length to
    // `info`, and reads only lengths from it, which are 0: so no further addresses.
    unsafe { bpf("OBJ_GET_INFO_BY_FD", OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.name)
}

fn owned(fd: c_long) -> Result<OwnedFd, SysError> {
    let fd = c_int::try_from(fd).map_err(|_| SysError::new("bpf", Errno::EBADF))?;
    // SAFETY: only called with a new descriptor just returned by bpf(2), which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
