//! Replaces the file that this process is executed from with another one of the same contents while the
//! process runs: its code and data are mapped from that one, and `/proc/self/exe` refers to it, as after
//! another execve.

use super::{SysError, check};
use anyhow::{Context, Result, ensure};
use libc::{Elf64_Phdr, c_int, c_ulong, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{Ordering, compiler_fence};
use std::{ptr, slice};

/// The number of bytes compared at once, and at the beginning of the file.
const COMPARED: usize = 4096;

/// The addresses of a process's memory areas: linux/prctl.h, `struct prctl_mm_map`. The fields are described
/// in proc_pid_stat(5); those that it does not contain are filled in by [`Image::run_from`].
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

/// The program headers from which the kernel has loaded this process.
pub struct Image {
    headers: &'static [Elf64_Phdr],
    address: usize,
    page: usize,
}

/// The pages of a PT_LOAD segment that the kernel has mapped from the file. They are followed by anonymous
/// pages of zeros.
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
    /// Checks whether [`Image::run_from`] is possible.
    ///
    /// # Errors
    ///
    /// If the kernel does not support it, or a dynamic loader has mapped files as well.
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
        // SAFETY: the kernel has mapped this many headers of this size there. They are never written to, and
        // anything that is mapped in their place later has the same bytes.
        let headers: &[Elf64_Phdr] = unsafe { slice::from_raw_parts(headers, count) };
        let dynamic = headers.iter().any(|header| header.p_type == libc::PT_INTERP);
        ensure!(!dynamic, "brig is not linked statically");
        Ok(Image { headers, address, page })
    }

    /// Continues this process from `file`: none of its memory is mapped any more from the file it was
    /// executed from, and /proc/self/exe refers to `file`. `map` contains the addresses of /proc/self/stat.
    ///
    /// # Errors
    ///
    /// If `file` is another program, or the kernel refuses a step. The process then continues from both
    /// files, and /proc/self/exe still refers to the first one.
    pub fn run_from(&self, file: &File, mut map: MemoryMap) -> Result<()> {
        let base = self.base(file)?;
        self.compare(file, base)?;
        let segments = self.segments(base)?;
        replace(&segments, file)?;
        self.protect_relro(base)?;
        // SAFETY: without an address, brk(2) only returns the end of the heap.
        let brk = unsafe { libc::syscall(libc::SYS_brk, 0) };
        map.brk = brk.cast_unsigned();
        map.exe_fd = file.as_raw_fd().cast_unsigned();
        let option = libc::PR_SET_MM_MAP.cast_unsigned().into();
        Ok(set_mm(option, (&raw mut map).cast(), size_of_val(&map))?)
    }

    fn loaded(&self) -> impl Iterator<Item = &'static Elf64_Phdr> {
        self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD)
    }

    /// The load address of the program headers: 0 unless brig is position independent.
    fn base(&self, file: &File) -> Result<usize> {
        // e_phoff. Whether this file is the executed one shows when its first page is compared.
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

    /// Checks that both files are the same program. Inode, size and time can be equal by chance; the first
    /// page, with the lengths of all segments, and the build-id cannot.
    fn compare(&self, file: &File, base: usize) -> Result<()> {
        let notes = self.headers.iter().filter(|header| header.p_type == libc::PT_NOTE);
        let notes = notes.map(|header| (header.p_offset, header.p_filesz));
        let page = (0, self.first()?.p_filesz.min(COMPARED as u64));
        for (offset, length) in std::iter::once(page).chain(notes) {
            // Segments that have not been written to since the kernel loaded them.
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
            // SAFETY: these bytes are in a loaded segment, which is readable and never written to.
            let here: &[u8] = unsafe { slice::from_raw_parts(here, there.len()) };
            ensure!(here == there, "it is another program");
        }
        Ok(())
    }

    /// All pages that the kernel has mapped from the file.
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

    /// Makes the pages read-only again that glibc has protected after relocation (RELRO). musl only does that
    /// in dynamic programs.
    fn protect_relro(&self, base: usize) -> Result<()> {
        if cfg!(target_env = "musl") {
            return Ok(());
        }
        for header in self.headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO) {
            let start = base.wrapping_add(usize::try_from(header.p_vaddr)?);
            let end = (start + usize::try_from(header.p_memsz)?) & !(self.page - 1);
            let start = start & !(self.page - 1);
            let pages = ptr::with_exposed_provenance_mut(start);
            // SAFETY: the linker has placed only data there that is not written to after main has started.
            let done = unsafe { libc::mprotect(pages, end.saturating_sub(start), libc::PROT_READ) };
            check(|| "mprotect".into(), done.into())?;
        }
        Ok(())
    }
}

/// Maps every segment again. This process must not have other threads.
fn replace(segments: &[Segment], file: &File) -> Result<()> {
    let written = segments.iter().filter(|segment| segment.is_writable());
    let length = written.map(Segment::length).sum();
    // Everything that can fail for lack of memory is done before the first change. MAP_POPULATE because all
    // of it is written to immediately.
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: new memory, at an address chosen by the kernel.
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
        // SAFETY: the same bytes are mapped at the same place with the same protection: the file is the
        // executed one, and these pages are not writable, so they are unchanged. References into them, and
        // the execution of this very code, stay valid.
        mapped(unsafe { libc::mmap(start, length, protection, flags, fd, segment.offset) })?;
    }
    Ok(())
}

fn mapped(address: *mut c_void) -> Result<*mut c_void, SysError> {
    if address == libc::MAP_FAILED { Err(SysError::last("mmap")) } else { Ok(address) }
}

/// Moves a copy of a writable segment to its place. Until it is in place, nothing may write to the segment,
/// because that would be lost. There is no other thread and no signal handler, the copy is a memcpy, and the
/// call a bare system call: no allocation, no lock; errno is only written if the call fails, and then the
/// segment is still in place.
#[inline(never)]
fn move_copy(segment: &Segment, copy: *mut c_void) -> Result<(), SysError> {
    let (start, length) = (segment.start, segment.length());
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let from = ptr::with_exposed_provenance::<u8>(start);
    // Earlier writes must not be delayed until after the copy.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the segment is readable, and has the same length as the mapping for its copy, which does not
    // overlap.
    unsafe { copy.cast::<u8>().copy_from_nonoverlapping(from, length) };
    // SAFETY: the same bytes are mapped at the same place, and nothing else refers to the copy.
    let done = unsafe { libc::syscall(libc::SYS_mremap, copy, length, length, flags, start) };
    compiler_fence(Ordering::SeqCst);
    check(|| "mremap".into(), done).map(drop)
}

/// prctl(2), `PR_SET_MM`.
fn set_mm(option: c_ulong, argument: *mut c_void, length: usize) -> Result<(), SysError> {
    // SAFETY: both callers pass what their option reads or writes, and it outlives the call. The addresses
    // are those of this process.
    let done = unsafe { libc::prctl(libc::PR_SET_MM, option, argument, length, 0_u64) };
    check(|| format!("prctl(PR_SET_MM, {option})"), done.into()).map(drop)
}

/// An entry of this process's auxiliary vector, or 0.
fn auxiliary(kind: c_ulong) -> usize {
    // SAFETY: takes an integer only.
    let value = unsafe { libc::getauxval(kind) };
    usize::try_from(value).unwrap_or_default()
}
