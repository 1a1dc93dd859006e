//! The C library, loaded at run time, used like in crun and runc.

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use oci_seccomp::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator,
    LinuxSyscall, sock_filter,
};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};

type Context = *mut c_void;

/// `struct scmp_arg_cmp`.
#[repr(C)]
struct ArgCmp {
    arg: c_uint,
    op: c_int,
    a: u64,
    b: u64,
}

/// The functions in use.
pub struct Library {
    init: unsafe extern "C" fn(u32) -> Context,
    release: unsafe extern "C" fn(Context),
    arch_add: unsafe extern "C" fn(Context, u32) -> c_int,
    arch_remove: unsafe extern "C" fn(Context, u32) -> c_int,
    attr_set: unsafe extern "C" fn(Context, c_int, u32) -> c_int,
    rule_add: unsafe extern "C" fn(Context, u32, c_int, c_uint, *const ArgCmp) -> c_int,
    export_bpf: unsafe extern "C" fn(Context, c_int) -> c_int,
    resolve: unsafe extern "C" fn(*const c_char) -> c_int,
    resolve_arch: unsafe extern "C" fn(u32, *const c_char) -> c_int,
    resolve_num: unsafe extern "C" fn(u32, c_int) -> *mut c_char,
}

/// The name is unknown.
const ERROR: c_int = -1;
/// `SCMP_FLTATR_CTL_OPTIMIZE`.
const OPTIMIZE: c_int = 8;

impl Library {
    /// `None` if it is not installed.
    #[expect(clippy::missing_transmute_annotations, reason = "the fields have the types")]
    pub fn open() -> Option<Library> {
        // SAFETY: a NUL-terminated string; the library's initializers have no effect on us.
        let library = unsafe { libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        let symbol = |name: &CStr| {
            // SAFETY: the library is never closed.
            let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
            assert!(!symbol.is_null(), "no {name:?} in libseccomp");
            symbol
        };
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the type of the field is that of seccomp.h.
                unsafe { std::mem::transmute::<*mut c_void, _>(symbol($name)) }
            };
        }
        Some(Library {
            init: function!(c"seccomp_init"),
            release: function!(c"seccomp_release"),
            arch_add: function!(c"seccomp_arch_add"),
            arch_remove: function!(c"seccomp_arch_remove"),
            attr_set: function!(c"seccomp_attr_set"),
            rule_add: function!(c"seccomp_rule_add_array"),
            export_bpf: function!(c"seccomp_export_bpf"),
            resolve: function!(c"seccomp_syscall_resolve_name"),
            resolve_arch: function!(c"seccomp_syscall_resolve_name_arch"),
            resolve_num: function!(c"seccomp_syscall_resolve_num_arch"),
        })
    }

    /// The number of a name: negative for those of other architectures, `None` if it is unknown.
    pub fn number(&self, arch: Arch, name: &str) -> Option<c_int> {
        let name = CString::new(name).unwrap();
        // SAFETY: a NUL-terminated string.
        let number = unsafe { (self.resolve_arch)(token(arch), name.as_ptr()) };
        (number != ERROR).then_some(number)
    }

    /// The name of a number.
    pub fn name(&self, arch: Arch, number: u32) -> Option<String> {
        // SAFETY: takes integers only.
        let name = unsafe { (self.resolve_num)(token(arch), c_int::try_from(number).unwrap()) };
        if name.is_null() {
            return None;
        }
        // SAFETY: a NUL-terminated string that we own.
        let text = unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_string();
        // SAFETY: allocated by malloc for us, and not used after this.
        unsafe { libc::free(name.cast()) };
        Some(text)
    }

    /// The filter that runc would have, before it adds ENOSYS. With `tree` it searches the numbers, as runc
    /// does for more than 32 rules. In a separate process, because it does not always return.
    pub fn compile(
        &self,
        archs: &[Arch],
        spec: &LinuxSeccomp,
        tree: bool,
    ) -> Result<Vec<sock_filter>, Failure> {
        let name = c"libseccomp";
        let file = memfd_create(name, MFdFlags::MFD_CLOEXEC).unwrap();
        // SAFETY: the child takes no lock of other threads except malloc's, which fork() handles.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                setrlimit(Resource::RLIMIT_CPU, 2, 2).unwrap();
                let code = self.export(archs, spec, tree, &file).err().unwrap_or(0);
                // SAFETY: ends the process without running the parent's exit handlers.
                unsafe { libc::_exit(-code) }
            }
            ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, 0) => Ok(program(file.into())),
                WaitStatus::Exited(_, code) => Err(Failure::Error(code)),
                other => Err(Failure::Died(format!("{other:?}"))),
            },
        }
    }

    /// Like [`Self::compile`], in this process.
    pub fn export(
        &self,
        archs: &[Arch],
        spec: &LinuxSeccomp,
        tree: bool,
        file: &OwnedFd,
    ) -> Result<(), c_int> {
        let default = ret(spec.default_action, spec.default_errno_ret);
        // SAFETY: takes integers only; the context is released below, and not used after that.
        let context = unsafe { (self.init)(default) };
        assert!(!context.is_null());
        let result = self.fill(context, archs, spec, tree).and_then(|()| {
            // SAFETY: a valid context and descriptor.
            check(unsafe { (self.export_bpf)(context, file.as_raw_fd()) })
        });
        // SAFETY: the result of seccomp_init, released once.
        unsafe { (self.release)(context) };
        result
    }

    fn fill(
        &self,
        context: Context,
        archs: &[Arch],
        spec: &LinuxSeccomp,
        tree: bool,
    ) -> Result<(), c_int> {
        for &arch in archs.iter().filter(|&&arch| arch != Arch::X86_64) {
            // SAFETY: a valid context.
            check(unsafe { (self.arch_add)(context, token(arch)) })?;
        }
        if !archs.contains(&Arch::X86_64) {
            // SAFETY: as before.
            check(unsafe { (self.arch_remove)(context, token(Arch::X86_64)) })?;
        }
        if tree {
            // SAFETY: as before.
            check(unsafe { (self.attr_set)(context, OPTIMIZE, 2) })?;
        }
        let default = ret(spec.default_action, spec.default_errno_ret);
        for entry in spec.syscalls.iter().flatten() {
            let action = ret(entry.action, entry.errno_ret);
            for name in entry.names.iter().filter(|_| action != default) {
                let name = CString::new(name.as_str()).unwrap();
                // SAFETY: a NUL-terminated string.
                let number = unsafe { (self.resolve)(name.as_ptr()) };
                for rule in rules(entry).into_iter().filter(|_| number != ERROR) {
                    let count = c_uint::try_from(rule.len()).unwrap();
                    // SAFETY: the given number of comparisons, in a valid context.
                    check(unsafe {
                        (self.rule_add)(context, action, number, count, rule.as_ptr())
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Why no program was created.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// An errno.
    Error(c_int),
    /// A signal.
    Died(String),
}

fn check(result: c_int) -> Result<(), c_int> {
    if result < 0 { Err(result) } else { Ok(()) }
}

/// `SCMP_ACT_*` of seccomp.h, which are the kernel's `SECCOMP_RET_*`.
pub fn ret(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::Kill | Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
        Action::Trap => 0x0003_0000,
        Action::Errno => 0x0005_0000 | errno.unwrap_or(1),
        Action::Notify => 0x7fc0_0000,
        Action::Trace => 0x7ff0_0000 | errno.unwrap_or(1),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
        _ => panic!("{action} is new"),
    }
}

/// One rule, or one for each condition if an argument occurs twice.
fn rules(entry: &LinuxSyscall) -> Vec<Vec<ArgCmp>> {
    let args = entry.args.as_deref().unwrap_or_default();
    let comparisons = args.iter().map(|arg| {
        let op = match arg.op {
            Operator::Ne => 1,
            Operator::Lt => 2,
            Operator::Le => 3,
            Operator::Eq => 4,
            Operator::Ge => 5,
            Operator::Gt => 6,
            Operator::MaskedEq => 7,
            other => panic!("{other} is new"),
        };
        let (arg, a, b) = (arg.index, arg.value, arg.value_two.unwrap_or(0));
        ArgCmp { arg: c_uint::try_from(arg).unwrap(), op, a, b }
    });
    let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index == index).count() > 1);
    if twice { comparisons.map(|one| vec![one]).collect() } else { vec![comparisons.collect()] }
}

/// `SCMP_ARCH_*`.
pub fn token(arch: Arch) -> u32 {
    match arch {
        Arch::X32 => 0x4000_003e,
        arch => arch.audit(),
    }
}

fn program(mut file: File) -> Vec<sock_filter> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let instruction = |bytes: &[u8]| sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    bytes.chunks_exact(8).map(instruction).collect()
}
