//! Profiles: engines' defaults, built from the lists of names that they publish, and generated ones.

use oci_seccomp::{Arch, LinuxSeccomp};
use serde_json::{Value, json};

/// What Docker's default profile allows independent of arguments, on all architectures and without added
/// capabilities (moby/profiles, seccomp/default.json, June 2026).
const DOCKER_ALLOWED: &str = include_str!("docker-allowed.txt");

/// What Podman's allows beyond that; [`PODMAN_NOT`] is what it does not allow.
const PODMAN_ALSO: &str = "clone clone3 fanotify_init fsconfig fsmount fsopen fspick get_mempolicy \
    keyctl mbind mount mount_setattr move_mount open_tree pidfd_getfd pivot_root reboot \
    set_mempolicy signal syslog umount umount2 unshare";
const PODMAN_NOT: &str = "cachestat futex_requeue futex_wait futex_waitv futex_wake getxattrat \
    io_pgetevents io_pgetevents_time64 listmount listxattrat map_shadow_stack mseal \
    removexattrat riscv_hwprobe setxattrat statmount uretprobe vmsplice";
/// Refused by Podman's with EPERM; everything else is ENOSYS.
const PODMAN_DENIED: &str = "bdflush cachestat futex_requeue futex_wait futex_waitv futex_wake \
    io_pgetevents io_pgetevents_time64 kexec_file_load kexec_load map_shadow_stack migrate_pages \
    move_pages nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname pciconfig_iobase \
    pciconfig_read pciconfig_write sgetmask ssetmask swapoff swapon syscall sysfs uselib \
    userfaultfd ustat vm86 vm86old vmsplice open_by_handle_at lookup_dcookie perf_event_open \
    quotactl quotactl_fd setdomainname sethostname setns chroot delete_module finit_module \
    init_module query_module acct kcmp process_madvise ioperm iopl clock_settime clock_settime64 \
    settimeofday stime vhangup bpf";

/// Those that create a new namespace, in clone's first argument.
const NAMESPACES: u64 = 0x7e02_0000;

fn words(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().collect()
}

fn architectures(native: Arch) -> Value {
    match native {
        Arch::X86_64 => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        Arch::Aarch64 => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!(["SCMP_ARCH_RISCV64"]),
    }
}

fn own_names(native: Arch) -> Value {
    match native {
        Arch::X86_64 => json!(["arch_prctl", "modify_ldt"]),
        Arch::Aarch64 => json!([
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "sync_file_range2",
            "breakpoint",
            "cacheflush",
            "set_tls",
        ]),
        _ => json!(["riscv_flush_icache"]),
    }
}

fn allow(names: impl Into<Value>) -> Value {
    json!({ "names": names.into(), "action": "SCMP_ACT_ALLOW" })
}

/// Allows a system call if its argument satisfies this comparison.
fn allow_if(name: &str, index: u32, op: &str, value: u64) -> Value {
    let op = format!("SCMP_CMP_{op}");
    json!({
        "names": [name],
        "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": index, "value": value, "valueTwo": 0, "op": op }],
    })
}

fn personalities() -> impl Iterator<Item = Value> {
    let values = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    values.into_iter().map(|value| allow_if("personality", 0, "EQ", value))
}

/// Docker's default profile.
pub fn docker(native: Arch) -> LinuxSeccomp {
    let mut syscalls = vec![
        allow(words(DOCKER_ALLOWED)),
        allow_if("socket", 0, "LT", 38),
        allow_if("socket", 0, "EQ", 39),
        allow_if("socket", 0, "GT", 40),
        allow(own_names(native)),
        allow_if("clone", 0, "MASKED_EQ", NAMESPACES),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }),
    ];
    syscalls.extend(personalities());
    profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures(native),
        "syscalls": syscalls,
    }))
}

/// containerd's default profile: names that only one of it and Docker's contains make no difference here.
pub fn containerd(native: Arch) -> LinuxSeccomp {
    let mut syscalls = vec![
        allow(words(DOCKER_ALLOWED)),
        allow_if("socket", 0, "NE", 40),
        allow_if("clone", 0, "MASKED_EQ", NAMESPACES),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }),
        allow(own_names(native)),
    ];
    syscalls.extend(personalities());
    profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": architectures(native),
        "syscalls": syscalls,
    }))
}

/// Podman's default profile.
pub fn podman(native: Arch) -> LinuxSeccomp {
    let not = words(PODMAN_NOT);
    let mut allowed = words(DOCKER_ALLOWED);
    allowed.retain(|name| !not.contains(name));
    allowed.extend(words(PODMAN_ALSO));
    let audit = json!({
        "names": ["socket"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 22,
        "args": [
            { "index": 0, "value": 16, "op": "SCMP_CMP_EQ" },
            { "index": 2, "value": 9, "op": "SCMP_CMP_EQ" },
        ],
    });
    let denied = words(PODMAN_DENIED);
    let mut syscalls = vec![
        json!({ "names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }),
        allow(allowed),
        allow(own_names(native)),
        audit,
        allow_if("socket", 2, "NE", 9),
        allow_if("socket", 0, "NE", 16),
        allow_if("socket", 2, "NE", 9),
    ];
    syscalls.extend(personalities());
    profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": architectures(native),
        "syscalls": syscalls,
    }))
}

fn profile(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).unwrap()
}

/// Deterministic pseudo-random numbers: xorshift64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Values for conditions: around the limits of 32 bits, and frequently equal ones.
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    5,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x2_0000_0001,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    0xffff_ffff_0000_0005,
    u64::MAX,
];

const ACTIONS: [&str; 8] =
    ["KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"];

/// A profile of at most a few hundred lines. With `mixed`, rules of one system call can have different
/// actions.
pub fn generated(native: Arch, random: &mut Random, names: &[&str], mixed: bool) -> LinuxSeccomp {
    // Few names get many rules, so that rules interact.
    let mut few: Vec<&str> = ["socket", "socketcall", "clone", "ipc", "read"].to_vec();
    few.extend((0..4).map(|_| random.one(names)));
    let listed = architectures(native);
    let listed: Vec<Value> =
        listed.as_array().unwrap().iter().filter(|_| random.below(3) > 0).cloned().collect();
    let with_args = random.one(&ACTIONS);
    let syscalls: Vec<Value> = (0..1 + random.below(40))
        .map(|_| {
            let conditional = random.below(2) == 0;
            let name =
                |random: &mut Random| match random.one(if conditional { &few } else { names }) {
                    "write" => "read",
                    name => name,
                };
            // NOTIFY is refused for write.
            let names: Vec<&str> = (0..1 + random.below(6)).map(|_| name(random)).collect();
            let action = match conditional && !mixed {
                true => with_args,
                false => random.one(&ACTIONS),
            };
            let args: Vec<Value> = match conditional {
                true => (0..1 + random.below(3)).map(|_| condition(random)).collect(),
                false => Vec::new(),
            };
            entry(action, &names, &args, random)
        })
        .collect();
    let default = random.one(&ACTIONS[..7]);
    profile(json!({
        "defaultAction": format!("SCMP_ACT_{default}"),
        "architectures": listed,
        "listenerPath": "/run/agent.sock",
        "syscalls": syscalls,
    }))
}

fn condition(random: &mut Random) -> Value {
    let op = random.one(&["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let op = format!("SCMP_CMP_{op}");
    let (value, two) = (random.one(&VALUES), random.one(&VALUES));
    json!({ "index": random.below(3), "value": value, "valueTwo": two, "op": op })
}

fn entry(action: &str, names: &[&str], args: &[Value], random: &mut Random) -> Value {
    let mut entry = json!({ "names": names, "action": format!("SCMP_ACT_{action}"), "args": args });
    // Always the same one in rules that are to have the same action.
    if matches!(action, "ERRNO" | "TRACE") && args.is_empty() && random.below(2) == 0 {
        entry["errnoRet"] = json!(random.one(&[0, 1, 22, 38, 4094]));
    }
    entry
}
