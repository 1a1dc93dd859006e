//! Random names.

/// A unique name for a container: 12 random hexadecimal digits.
pub fn random_name() -> String {
    let mut bytes = [0_u8; 6];
    // By number: std refers to the C function with a weak symbol (see `mount::statx`). SAFETY: getrandom(2)
    // writes at most that many bytes into the buffer, which outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0_u32) };
    if usize::try_from(done) != Ok(bytes.len()) {
        // Before the kernel's random number generator is initialised. If the name exists, create reports it.
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
