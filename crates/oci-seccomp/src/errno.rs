//! Numbers of errors by name, for Podman's profiles.

/// Sorted by number, from 1 on: asm-generic/errno.h, which all of these architectures use. A dash: unused.
const NAMES: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES \
     EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG \
     ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - \
     ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO \
     EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM \
     EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX \
     ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT \
     EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL \
     ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN \
     ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN \
     ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED \
     EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";

/// The number of a name.
pub(crate) fn number(name: &str) -> Option<u32> {
    let name = match name {
        "EWOULDBLOCK" => "EAGAIN",
        "EDEADLOCK" => "EDEADLK",
        "ENOTSUP" => "EOPNOTSUPP",
        "-" => return None,
        name => name,
    };
    let index = NAMES.split_ascii_whitespace().position(|known| known == name)?;
    u32::try_from(index + 1).ok()
}

/// The name of a number.
pub(crate) fn name(number: u32) -> Option<&'static str> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    NAMES.split_ascii_whitespace().nth(index).filter(|name| *name != "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, expected) in [
            ("EPERM", libc::EPERM),
            ("ENOSYS", libc::ENOSYS),
            ("EDEADLOCK", libc::EDEADLK),
            ("ENOMSG", libc::ENOMSG),
            ("EBFONT", libc::EBFONT),
            ("ELIBBAD", libc::ELIBBAD),
            ("EAFNOSUPPORT", libc::EAFNOSUPPORT),
            ("ENOTSUP", libc::EOPNOTSUPP),
            ("ECONNREFUSED", libc::ECONNREFUSED),
            ("EHWPOISON", libc::EHWPOISON),
        ] {
            assert_eq!(number(name).map(i64::from), Some(expected.into()), "{name}");
        }
        assert_eq!(
            (name(1), name(38), name(133)),
            (Some("EPERM"), Some("ENOSYS"), Some("EHWPOISON"))
        );
        assert_eq!((name(0), name(41), name(134)), (None, None, None));
        assert_eq!((number("-"), number("ENOPE"), number("")), (None, None, None));
    }
}
