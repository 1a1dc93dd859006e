//! A compiled filter in crun's annotation: the kernel's instructions in base64.

use super::{Filter, instruction};
use crate::spec::Place;
use anyhow::{Context, Result, bail, ensure};
use base64ct::{Base64, Encoding};
use libc::SECCOMP_RET_USER_NOTIF;
use oci_seccomp::{MAX_INSTRUCTIONS, sock_filter};

/// The annotation's place in config.json.
const PLACE: &str = "annotations[\"run.oci.seccomp_bpf_data\"]";
/// The annotation.
pub const ANNOTATION: &str = "run.oci.seccomp_bpf_data";

/// Decodes the filter in `text`.
///
/// # Errors
///
/// If the text is not base64, or not a program that the kernel accepts, or notifies an agent.
pub fn filter(text: &str, flags: u32) -> Result<Filter> {
    let program = program(text).at(PLACE)?;
    Ok(Filter { program, flags, listener: None, place: PLACE })
}

fn program(text: &str) -> Result<Vec<sock_filter>> {
    let bytes = Base64::decode_vec(text).ok().context("is not base64")?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    let length = bytes.len();
    ensure!(rest.is_empty(), "has {length} bytes, not a multiple of the 8 bytes of an instruction");
    let count = instructions.len();
    ensure!(count > 0, "is empty");
    ensure!(
        count <= MAX_INSTRUCTIONS,
        "has {count} instructions, the maximum is {MAX_INSTRUCTIONS}"
    );
    let program: Vec<sock_filter> = instructions.iter().map(instruction).collect();
    let notifies = |it: &sock_filter| it.code == RETURN && it.k & ACTION == SECCOMP_RET_USER_NOTIF;
    ensure!(
        !program.iter().any(notifies),
        "notifies an agent, which only linux.seccomp supports: use SCMP_ACT_NOTIFY and listenerPath"
    );
    if let Some(at) = (0..count).find(|&at| !is_sound(&program[at], at, count)) {
        let sock_filter { code, jt, jf, k } = program[at];
        bail!("instruction {at} is not valid in a filter: {{{code:#x}, {jt}, {jf}, {k:#x}}}");
    }
    Ok(program)
}

/// The kernel's checks before it accepts a program, made early because otherwise only start would fail
/// (`bpf_check_classic` in net/core/filter.c, `seccomp_check_filter` in kernel/seccomp.c).
fn is_sound(it: &sock_filter, at: usize, count: usize) -> bool {
    let after = count - at - 1;
    let k = usize::try_from(it.k).unwrap_or(usize::MAX);
    let last_returns = after > 0 || matches!(it.code, 0x06 | 0x16);
    last_returns
        && match it.code {
            // ld [k]: within the 64 bytes of struct seccomp_data.
            0x20 => k < 64 && k.is_multiple_of(4),
            // ld M[k], ldx M[k], st, stx.
            0x60 | 0x61 | 0x02 | 0x03 => k < 16,
            // div #k; lsh #k, rsh #k.
            0x34 => k != 0,
            0x64 | 0x74 => k < 32,
            // ja; jeq, jgt, jge, jset with k or x.
            0x05 => k < after,
            0x15 | 0x25 | 0x35 | 0x45 | 0x1d | 0x2d | 0x3d | 0x4d => {
                usize::from(it.jt.max(it.jf)) < after
            }
            // ret; ld and ldx of a constant or the length; tax, txa.
            0x06 | 0x16 | 0x00 | 0x01 | 0x80 | 0x81 | 0x07 | 0x87 => true,
            // add, sub, mul, or, and, xor; neg; div, lsh, rsh with x.
            0x04 | 0x14 | 0x24 | 0x44 | 0x54 | 0xa4 | 0x84 => true,
            0x0c | 0x1c | 0x2c | 0x3c | 0x4c | 0x5c | 0x6c | 0x7c | 0xac => true,
            _ => false,
        }
}

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `SECCOMP_RET_ACTION_FULL`.
const ACTION: u32 = 0xffff_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded_and_of_the_standard_alphabet() {
        assert_eq!(Base64::decode_vec("+/+/").unwrap(), b"\xfb\xff\xbf");
        for bad in ["Z", "Zg", "Zg=", "Z===", "Zm9v\n", "Zm-_", "=Zg=", "Zg==Zg=="] {
            assert!(program(bad).unwrap_err().to_string().starts_with("is not base64"), "{bad}");
        }
    }

    #[test]
    fn a_program_is_whole_instructions_of_which_there_are_not_too_many() {
        let error = |text: &str| format!("{:#}", filter(text, 0).unwrap_err());
        // ret ALLOW
        let allow = "BgAAAAAA/38=";
        assert_eq!(filter(allow, 4).unwrap().program.len(), 1);
        assert!(error("").ends_with("is empty"));
        assert!(
            error("BgAAAAAA")
                .ends_with("has 6 bytes, not a multiple of the 8 bytes of an instruction")
        );
        assert!(error("!").ends_with("is not base64"));
        // 3 zeroed instructions in 32 digits, without padding.
        let long = "A".repeat(32 * (MAX_INSTRUCTIONS / 3 + 1));
        assert!(error(&long).ends_with("has 4098 instructions, the maximum is 4096"));
        // ldx #0, without a return; ldh [0]; ja +0 beyond the end.
        for bad in ["AQAAAAAAAAA=", "KAAAAAAAAAAGAAAAAAD/fw==", "BQAAAAAAAAA="] {
            assert!(error(bad).contains("instruction 0 is not valid in a filter"), "{bad}");
        }
        // ret USER_NOTIF
        assert!(error("BgAAAAAAwH8=").contains("notifies an agent"));
    }
}
