//! Compares the default profile with the one installed by Debian's golang-github-containers-common, read as
//! by `--security-opt seccomp=`; every difference is listed here with its reason.

use super::{ALL, Call, Tally, X32_BIT, compare, known, library, run};
use crate::capabilities::{CAPABILITIES, DEFAULT};
use oci_seccomp::docker::{Target, read};
use oci_seccomp::{Arch, Filter, LinuxSeccomp, default_profile, syscalls};
use std::collections::BTreeSet;

/// The path in the package.
const FILE: &str = "/usr/share/containers/seccomp.json";

/// Refused, as in docker, but not by this file.
const STRICTER: &str = "clone clone3 fsconfig fsmount fsopen fspick get_mempolicy keyctl mbind mount mount_setattr \
    move_mount open_tree pidfd_getfd pivot_root query_module readdir reboot set_mempolicy setns \
    sigaction signal sigpending sigsuspend syslog umount umount2 unshare";
/// Allowed, as in docker, but too new for the file, which returns ENOSYS, or refused by it.
const NEWER: &str = "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat io_pgetevents \
    io_pgetevents_time64 listmount listxattrat map_shadow_stack mseal removexattrat \
    riscv_flush_icache riscv_hwprobe setxattrat statmount uretprobe vmsplice";
/// Known and refused, with EPERM, in some cases or all; unknown to the file, which returns ENOSYS.
const KNOWN: &str = "add_key afs_syscall break create_module ftime get_kernel_syms get_tls getpmsg gtty idle \
    io_uring_enter io_uring_register io_uring_setup lock lsm_get_self_attr lsm_list_modules \
    lsm_set_self_attr mpx personality prof profil putpmsg quotactl_fd request_key security \
    set_mempolicy_home_node stty _sysctl tuxcall ulimit usr26 usr32 vserver";
/// Docker allows them with further capabilities: CAP_BPF, CAP_PERFMON.
const WITH_MORE: &str = "bpf perf_event_open";

fn filter(native: Arch, profile: &LinuxSeccomp) -> Filter {
    oci_seccomp::compile(profile, native).unwrap()
}

/// The file's profile as `linux.seccomp`.
fn resolved(text: &[u8], bounding: &[String], native: Arch) -> LinuxSeccomp {
    let profile = read(text, &Target::new(bounding, native, (6, 1))).unwrap();
    serde_json::from_value(profile).unwrap()
}

/// The file's text; prints a message if it is missing.
fn file() -> Option<Vec<u8>> {
    let text = std::fs::read(FILE).ok();
    if text.is_none() {
        eprintln!("skipped: there is no {FILE}: apt-get install golang-github-containers-common");
    }
    text
}

fn bounding(added: Option<&&str>) -> Vec<String> {
    DEFAULT.iter().chain(added).map(|&name| name.to_owned()).collect()
}

#[test]
fn the_default_profile_differs_from_debians_where_there_is_a_reason() {
    let Some(text) = file() else { return };
    let lists = [STRICTER, NEWER, KNOWN, WITH_MORE];
    let reasons: BTreeSet<&str> =
        lists.iter().flat_map(|list| list.split_ascii_whitespace()).collect();
    let mut met = BTreeSet::new();
    for native in super::NATIVES {
        for added in std::iter::once(None).chain(CAPABILITIES.iter().map(Some)) {
            let bounding = bounding(added);
            let theirs = filter(native, &resolved(&text, &bounding, native));
            let ours = filter(native, &default_profile(&bounding, native));
            for syscall in syscalls::all() {
                for arch in ALL.into_iter().filter(|arch| native.family().contains(arch)) {
                    let Some(number) = syscall.number(arch) else { continue };
                    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
                    let arguments = [[0; 6], [16, 3, 9, 0, 0, 0], [8; 6], [0x1000_0011; 6]];
                    for args in arguments {
                        let call = Call { arch: arch.audit(), number: number | bit, args };
                        let rets = [&ours, &theirs].map(|filter| run(&filter.program, &call).ret);
                        if rets[0] != rets[1] && met.insert(syscall.name()) {
                            eprintln!("{}: {rets:x?} {added:?}", syscall.name());
                        }
                    }
                }
            }
        }
    }
    let new: Vec<_> = met.difference(&reasons).collect();
    assert!(new.is_empty(), "a difference without a reason: {new:?}");
    let stale: Vec<_> = reasons.difference(&met).collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
}

#[test]
fn debians_profile_and_the_default_get_libseccomps_verdicts() {
    let Some(library) = library() else { return };
    let text = file();
    for native in super::NATIVES {
        for added in [None, Some(&"CAP_SYS_ADMIN"), Some(&"CAP_AUDIT_WRITE")] {
            let bounding = bounding(added);
            let mut profiles = vec![default_profile(&bounding, native)];
            profiles.extend(text.as_ref().map(|text| resolved(text, &bounding, native)));
            for spec in profiles {
                let (spec, excluded) = known(&library, &spec);
                let mut tally = Tally::default();
                compare(&library, native, &spec, true, &mut tally);
                eprintln!("{native:?} with {added:?}: {excluded} newer names left out, {tally:?}");
            }
        }
    }
}
