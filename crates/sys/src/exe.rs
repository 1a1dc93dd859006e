//! The file that this process is executed from, exchanged for another one with the same contents while
//! the process runs on: its code and data are mapped from that one, and `/proc/self/exe` leads there, as
//! if it had executed itself again.

use super::{SysError, check};
use anyhow::{Context, Result, ensure};
use libc::{Elf64_Phdr, c_int, c_ulong, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{Ordering, compiler_fence};
use std::{ptr, slice};

/// What of the contents is compared at once, and from the beginning of the file.
const COMPARED: usize = 4096;

/// Where in a process's memory what lies: linux/prctl.h, `struct prctl_mm_map`. proc_pid_stat(5) has what
/// the fields mean; those that it does not have are left to [`Image::run_from`].
#[expect(missing_docs)]
#[derive(Default)]
#[repr(C)]
pub struct MemoryMap {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    pub auxv: u64,
    pub auxv_size: u32,
    pub exe_fd: u32,
}

/// The program headers that the kernel has loaded this process by.
pub struct Image {
    headers: &'static [Elf64_Phdr],
    address: usize,
    page: usize,
}

/// The pages of a PT_LOAD that the kernel has mapped from the file. What follows them is zeros, and no file's.
struct Segment {
    start: usize,
    end: usize,
    offset: libc::off_t,
    protection: c_int,
}

impl Segment {
    fn length(&self) -> usize {
        self.end - self.start
    }

    fn is_writable(&self) -> bool {
        self.protection & libc::PROT_WRITE != 0
    }
}

impl Image {
    /// Looks whether [`Image::run_from`] can be tried at all.
    ///
    /// # Errors
    ///
    /// The kernel cannot do it, or files of a dynamic loader are mapped too.
    pub fn own() -> Result<Self> {
        let mut size = 0_u32;
        let option = libc::PR_SET_MM_MAP_SIZE.cast_unsigned().into();
        set_mm(option, (&raw mut size).cast(), 0)?;
        ensure!(usize::try_from(size)? == size_of::<MemoryMap>(), "PR_SET_MM_MAP has {size} bytes");
        let [address, length, count, page] =
            [libc::AT_PHDR, libc::AT_PHENT, libc::AT_PHNUM, libc::AT_PAGESZ].map(auxiliary);
        let known = address != 0 && length == size_of::<Elf64_Phdr>() && page.is_power_of_two();
        ensure!(known, "the kernel does not tell where brig's program headers are");
        let headers = ptr::with_exposed_provenance(address);
        // SAFETY: the kernel has mapped so many of this size there. Nobody writes to them, and what is
        // ever mapped in their place has the same bytes.
        let headers: &[Elf64_Phdr] = unsafe { slice::from_raw_parts(headers, count) };
        let dynamic = headers.iter().any(|header| header.p_type == libc::PT_INTERP);
        ensure!(!dynamic, "brig is not linked statically");
        Ok(Image { headers, address, page })
    }

    /// Has this process run on from `file`: no page of its memory is mapped from the file that it was
    /// executed from, and /proc/self/exe leads to `file`. `map` is what /proc/self/stat tells.
    ///
    /// # Errors
    ///
    /// `file` is another program, or the kernel refuses something. The process runs on then, from both
    /// files, and /proc/self/exe still leads to the first one.
    pub fn run_from(&self, file: &File, mut map: MemoryMap) -> Result<()> {
        let base = self.base(file)?;
        self.compare(file, base)?;
        let segments = self.segments(base)?;
        replace(&segments, file)?;
        self.protect_relro(base)?;
        // SAFETY: without an address brk(2) only tells where the heap ends.
        let brk = unsafe { libc::syscall(libc::SYS_brk, 0) };
        map.brk = brk.cast_unsigned();
        map.exe_fd = file.as_raw_fd().cast_unsigned();
        let option = libc::PR_SET_MM_MAP.cast_unsigned().into();
        Ok(set_mm(option, (&raw mut map).cast(), size_of_val(&map))?)
    }

    fn loaded(&self) -> impl Iterator<Item = &'static Elf64_Phdr> {
        self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD)
    }

    /// What addresses in the program headers count from: 0 unless brig is position independent.
    fn base(&self, file: &File) -> Result<usize> {
        // e_phoff. That the file is the one that is executed is seen when its first page is compared.
        let mut offset = [0; 8];
        file.read_exact_at(&mut offset, 32).context("read its ELF header")?;
        let start = self.address.wrapping_sub(usize::from_ne_bytes(offset));
        let base = start.wrapping_sub(usize::try_from(self.first()?.p_vaddr)?);
        ensure!(base.is_multiple_of(self.page), "the program headers are somewhere else");
        Ok(base)
    }

    /// The segment of the ELF header.
    fn first(&self) -> Result<&'static Elf64_Phdr> {
        self.loaded().find(|header| header.p_offset == 0).context("the ELF header is not loaded")
    }

    /// Inode, size and time can be equal by chance: the first page, which has the length of every
    /// segment, and the build-id cannot.
    fn compare(&self, file: &File, base: usize) -> Result<()> {
        let notes = self.headers.iter().filter(|header| header.p_type == libc::PT_NOTE);
        let notes = notes.map(|header| (header.p_offset, header.p_filesz));
        let page = (0, self.first()?.p_filesz.min(COMPARED as u64));
        for (offset, length) in std::iter::once(page).chain(notes) {
            // Where nobody has written to since the kernel loaded it.
            let holds = |header: &&Elf64_Phdr| {
                header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R
                    && header.p_offset <= offset
                    && offset + length <= header.p_offset + header.p_filesz
            };
            let segment = self.loaded().find(holds).context("a note is not loaded")?;
            let address = usize::try_from(segment.p_vaddr + offset - segment.p_offset)?;
            let mut there = [0; COMPARED];
            let there = there.get_mut(..usize::try_from(length)?).context("a note is too long")?;
            file.read_exact_at(there, offset).context("read what identifies it")?;
            let here = ptr::with_exposed_provenance(base.wrapping_add(address));
            // SAFETY: these bytes are in a segment that is loaded, which may be read, and to which nobody writes.
            let here: &[u8] = unsafe { slice::from_raw_parts(here, there.len()) };
            ensure!(here == there, "it is another program");
        }
        Ok(())
    }

    /// Together, all pages that the kernel has mapped from the file.
    fn segments(&self, base: usize) -> Result<Vec<Segment>> {
        let mut segments: Vec<Segment> = Vec::new();
        for header in self.loaded() {
            let address = base.wrapping_add(usize::try_from(header.p_vaddr)?);
            let (start, within) = (address & !(self.page - 1), address & (self.page - 1));
            let end = address + usize::try_from(header.p_filesz)?;
            let end = end.next_multiple_of(self.page);
            let offset =
                header.p_offset.checked_sub(within as u64).context("a segment's offset")?;
            let flag = |flag, protection| if header.p_flags & flag == 0 { 0 } else { protection };
            let protection = flag(libc::PF_R, libc::PROT_READ)
                | flag(libc::PF_W, libc::PROT_WRITE)
                | flag(libc::PF_X, libc::PROT_EXEC);
            let both = libc::PROT_WRITE | libc::PROT_EXEC;
            ensure!(protection & both != both, "a segment is writable and executable");
            let overlaps = segments.last().is_some_and(|before| before.end > start);
            ensure!(!overlaps, "two segments share a page");
            segments.push(Segment { start, end, offset: offset.try_into()?, protection });
        }
        segments.retain(|segment| segment.length() > 0);
        Ok(segments)
    }

    /// Again, what the C library has made read-only when all had its address: glibc. musl does so in dynamic programs only.
    fn protect_relro(&self, base: usize) -> Result<()> {
        if cfg!(target_env = "musl") {
            return Ok(());
        }
        for header in self.headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO) {
            let start = base.wrapping_add(usize::try_from(header.p_vaddr)?);
            let end = (start + usize::try_from(header.p_memsz)?) & !(self.page - 1);
            let start = start & !(self.page - 1);
            let pages = ptr::with_exposed_provenance_mut(start);
            // SAFETY: the linker has put there what is written to only before main.
            let done = unsafe { libc::mprotect(pages, end.saturating_sub(start), libc::PROT_READ) };
            check(|| "mprotect".into(), done.into())?;
        }
        Ok(())
    }
}

/// Maps every segment anew. This process may not have another thread.
fn replace(segments: &[Segment], file: &File) -> Result<()> {
    let written = segments.iter().filter(|segment| segment.is_writable());
    let length = written.map(Segment::length).sum();
    // All that can be refused for want of memory comes before the first change. All of it is written to at once.
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: new memory, at an address that the kernel chooses.
    let copies = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
    let mut copy = mapped(copies)?;
    for segment in segments {
        if segment.is_writable() {
            move_copy(segment, copy)?;
            copy = copy.wrapping_byte_add(segment.length());
            continue;
        }
        let start = ptr::with_exposed_provenance_mut(segment.start);
        let (length, protection) = (segment.length(), segment.protection);
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let fd = file.as_raw_fd();
        // SAFETY: the same bytes come to the same place, with the same rights: the file is the one that is
        // executed, and that nobody has written to them is what their rights say. So whoever holds a
        // reference into them, or is on the way through this very code, notices nothing.
        mapped(unsafe { libc::mmap(start, length, protection, flags, fd, segment.offset) })?;
    }
    Ok(())
}

fn mapped(address: *mut c_void) -> Result<*mut c_void, SysError> {
    if address == libc::MAP_FAILED { Err(SysError::last("mmap")) } else { Ok(address) }
}

/// Puts a copy of a writable segment into its place. From the copy until it is in place nothing may write
/// to the segment: that would be lost. There is no other thread and no signal handler, the copy is a
/// memcpy, and the call a bare system call: no allocation, no lock; errno is written to only if the call
/// fails, and then the segment is still there.
#[inline(never)]
fn move_copy(segment: &Segment, copy: *mut c_void) -> Result<(), SysError> {
    let (start, length) = (segment.start, segment.length());
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let from = ptr::with_exposed_provenance::<u8>(start);
    // No write before may be put off until after the copy.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the segment is readable, and as long as what has been mapped for its copy, which is elsewhere.
    unsafe { copy.cast::<u8>().copy_from_nonoverlapping(from, length) };
    // SAFETY: the same bytes come to the same place, and the copy is nobody's.
    let done = unsafe { libc::syscall(libc::SYS_mremap, copy, length, length, flags, start) };
    compiler_fence(Ordering::SeqCst);
    check(|| "mremap".into(), done).map(drop)
}

/// prctl(2), `PR_SET_MM`.
fn set_mm(option: c_ulong, argument: *mut c_void, length: usize) -> Result<(), SysError> {
    // SAFETY: both callers pass what their option reads or writes, and it outlives the call. The bounds are
    // those that the process has.
    let done = unsafe { libc::prctl(libc::PR_SET_MM, option, argument, length, 0_u64) };
    check(|| format!("prctl(PR_SET_MM, {option})"), done.into()).map(drop)
}

/// A number that the kernel has given this process, or 0.
fn auxiliary(kind: c_ulong) -> usize {
    // SAFETY: takes an integer only.
    let value = unsafe { libc::getauxval(kind) };
    usize::try_from(value).unwrap_or_default()
}
