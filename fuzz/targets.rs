//! Fuzz targets, as functions of arbitrary bytes: nothing panics, errors are one line, and results satisfy
//! their invariants. Called by libFuzzer (`make fuzz`), and by `cargo test --test corpus` for each file of
//! the corpus.

#[path = "../crates/oci-seccomp/src/interpreter.rs"]
mod interpreter;

use brig::launch::protocol::Message;
use brig::plan::exec::parse_user;
use brig::plan::host::Facts;
use brig::plan::mounts::{self, Kind};
use brig::plan::{Plan, Request};
use brig::process::passwd;
use brig::spec::{Document, Linux, Mount, Spec, shape};
use brig::state::record::{self, Record};
use brig::systemd::wire;
use brig::{cli, state};
use brig_layers::archive::decompress::Decoder;
use brig_layers::archive::tar_reader::Reader;
use brig_layers::bundle::user;
use brig_layers::commit::change;
use brig_layers::source::reference;
use brig_layers::store::{ImageRecord, LayerRecord, UseRecord};
use brig_layers::tree;
use brig_layers::unpack::dirs::parts;
use brig_layers::unpack::warnings::Warnings;
use brig_layers::unpack::{Rights, unpack};
use interpreter::{Call, run, verify};
use oci_seccomp::{Arch, LinuxSeccomp, compile};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use sys::hierarchy::{ProcessCgroups, hierarchies};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("mount", mount),
    ("seccomp_profile", seccomp_profile),
    ("seccomp_rules", seccomp_rules),
    ("message", message),
    ("cgroups", cgroups),
    ("arguments", arguments),
    ("archive", archive),
    ("unpacked", unpacked),
    ("bus", bus),
    ("image_reference", image_reference),
    ("image_change", image_change),
    ("accounts", accounts),
    ("state", state_record),
    ("store_record", store_record),
];

/// Checks that an error is readable: one line, not empty.
fn readable(error: &anyhow::Error) {
    let text = sys::describe(error);
    let text = brig::log::one_line(&text);
    assert!(!text.trim().is_empty() && !text.contains('\n'), "{text:?}");
}

/// Plans a config.json; no file is opened, because the bundle does not exist.
pub fn config(bytes: &[u8]) {
    let config = Document { name: "config.json", shape: shape::CONFIG, text: bytes };
    config.unknown_keys();
    let mut warnings = Vec::new();
    let (spec, rewritten) = match config.parse::<Spec>(&mut warnings) {
        Ok(parsed) => parsed,
        Err(error) => return readable(&error),
    };
    if let Some(text) = rewritten {
        // The text stored for exec needs no further rewriting.
        let again = Document { name: "config.json", shape: shape::CONFIG, text: &text };
        assert!(again.parse::<Spec>(&mut warnings).is_ok_and(|(_, rewritten)| rewritten.is_none()));
    }
    match Plan::new(
        &spec,
        &Request::of_bundle(Path::new("/nonexistent/bundle")),
        &Facts::ROOT.into(),
    ) {
        Ok(plan) => {
            for mount in &plan.rootfs.mounts {
                inside(mount.target.as_bytes());
            }
            for path in plan.rootfs.masked.iter().chain(&plan.rootfs.readonly_paths) {
                inside(path.as_bytes());
            }
            // The kernel accepts a map only in one write of less than a page.
            assert!(sys::idmap::to_text(&plan.id_maps.uids).len() < 4096);
        }
        Err(error) => readable(&config.located(error)),
    }
}

/// Checks a path in the container: absolute, without `..`.
fn inside(path: &[u8]) {
    let path = Path::new(OsStr::from_bytes(path));
    let up = path.components().any(|part| part == Component::ParentDir);
    assert!(path.is_absolute() && !up, "{path:?}");
}

/// Lines: destination, type, source, and one option each.
pub fn mount(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default().to_string();
    let mount = Mount {
        destination: line().into(),
        typ: Some(line()).filter(|typ| !typ.is_empty()),
        source: Some(line()).filter(|source| !source.is_empty()).map(Into::into),
        options: lines.map(str::to_string).collect(),
        ..Mount::default()
    };
    let (root, linux) = (b"/bundle/rootfs".to_vec(), Linux::default());
    let bundle = Path::new("/bundle");
    let setting = mounts::Setting { bundle, root, base: None, user: false, linux: &linux };
    match mounts::Mount::new(0, &mount, &setting, &mut Vec::new()) {
        Ok(planned) => {
            inside(planned.target.as_bytes());
            assert_ne!(planned.target.as_c_str(), c"/");
            if let Kind::Bind { source, inside: path, .. } = &planned.kind {
                assert!(source.as_bytes().starts_with(b"/"), "{source:?}");
                path.iter().for_each(|path| inside(path.as_bytes()));
            }
        }
        Err(error) => readable(&error),
    }
}

/// A profile as JSON: every compiled program must be valid for the kernel.
pub fn seccomp_profile(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(bytes) else { return };
    for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
        match compile(&profile, native) {
            Ok(filter) => verify(&filter.program),
            Err(error) => readable(&error.into()),
        }
    }
}

const NAMES: [&str; 8] =
    ["read", "close", "getpid", "mkdir", "personality", "clone", "keyctl", "sched_getattr"];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
/// Values at which 64-bit comparisons in two halves can go wrong.
const VALUES: [u64; 8] = [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 7 << 32, 5, u64::MAX];
/// The errno of the first rule; each rule has its own, to tell them apart.
const FIRST_ERRNO: u32 = 100;

struct Condition {
    index: usize,
    operator: usize,
    value: u64,
    other: u64,
}

impl Condition {
    fn holds(&self, args: &[u64; 6]) -> bool {
        let have = args[self.index];
        match self.operator {
            0 => have != self.value,
            1 => have < self.value,
            2 => have <= self.value,
            3 => have == self.value,
            4 => have >= self.value,
            5 => have > self.value,
            // As in libseccomp: the mask applies to both sides.
            _ => have & self.value == self.other & self.value,
        }
    }
}

/// Rules encoded as bytes: the compiled program must give each call the verdict of a matching rule, or the
/// default. Six bytes per rule: name, number of conditions, and for each of two: index, operator, values.
pub fn seccomp_rules(bytes: &[u8]) {
    let mut rules = Vec::new();
    let at = |slice: &[u8], index: usize| usize::from(slice.get(index).copied().unwrap_or(0));
    for chunk in bytes.chunks(8).take(40) {
        let condition = |first: usize| Condition {
            index: at(chunk, first) % 6,
            operator: (at(chunk, first) / 6) % 7,
            value: VALUES[at(chunk, first + 1) % 8],
            other: VALUES[at(chunk, first + 2) % 8],
        };
        let mut conditions = vec![condition(2), condition(5)];
        conditions.truncate(at(chunk, 1) % 3);
        // The same argument twice means that either condition is sufficient.
        if conditions.len() == 2 && conditions[0].index == conditions[1].index {
            conditions.truncate(1);
        }
        rules.push((at(chunk, 0) % 8, conditions));
    }
    let errno = |index: usize| FIRST_ERRNO + u32::try_from(index).unwrap_or(0);
    let syscalls: Vec<_> = rules.iter().enumerate().map(|(index, (name, conditions))| {
        let args: Vec<_> = conditions.iter().map(|one| serde_json::json!({
            "index": one.index, "op": OPERATORS[one.operator], "value": one.value, "valueTwo": one.other,
        })).collect();
        serde_json::json!({
            "names": [NAMES[*name]], "action": "SCMP_ACT_ERRNO", "errnoRet": errno(index), "args": args,
        })
    }).collect();
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls});
    let profile: LinuxSeccomp = serde_json::from_value(profile).expect("a profile");
    // Contradicting rules are refused.
    let Ok(filter) = compile(&profile, Arch::X86_64) else { return };
    verify(&filter.program);
    const NUMBERS: [u32; 8] = [0, 3, 39, 83, 135, 56, 250, 315];
    for (name, &number) in NUMBERS.iter().enumerate() {
        for (first, second) in (0..64).map(|pair| (pair / 8, pair % 8)) {
            let mut args = [VALUES[first]; 6];
            (args[1], args[3], args[5]) = (VALUES[second], VALUES[second], VALUES[second]);
            let ret = run(&filter.program, &Call { arch: 0xc000_003e, number, args }).ret;
            let matching = rules.iter().enumerate().filter(|(_, (of, conditions))| {
                *of == name && conditions.iter().all(|condition| condition.holds(&args))
            });
            let right: Vec<u32> = matching.map(|(index, _)| 0x0005_0000 | errno(index)).collect();
            let allowed = right.is_empty() && ret == 0x7fff_0000;
            assert!(allowed || right.contains(&ret), "{number} {args:x?}: {ret:x} of {right:x?}");
        }
    }
}

/// A message of the child to its parent.
pub fn message(bytes: &[u8]) {
    match Message::decode(bytes) {
        Ok(message) => assert_eq!(message.is_none(), bytes.is_empty()),
        Err(error) => readable(&error),
    }
}

/// A mountinfo, a zero byte, a /proc/PID/cgroup.
pub fn cgroups(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mountinfo = parts.next().unwrap_or_default();
    let Ok(own) = ProcessCgroups::parse(parts.next().unwrap_or_default().to_vec()) else { return };
    for hierarchy in hierarchies(mountinfo) {
        match own.within(&hierarchy) {
            Ok(path) => {
                let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
                assert!(plain, "{path:?}");
            }
            Err(error) => readable(&error),
        }
    }
}

/// A layer's blob: decompressed and parsed as far as it is valid, up to a limit.
pub fn archive(bytes: &[u8]) {
    const MAX_BYTES: u64 = 16 << 20;
    let decoder = match Decoder::new(bytes) {
        Ok(decoder) => decoder,
        Err(error) => return readable(&error),
    };
    let mut reader = Reader::new(decoder.take(MAX_BYTES));
    loop {
        match reader.next_entry() {
            Ok(None) => break,
            Ok(Some(entry)) => {
                if let Ok(parts) = parts(&entry.path) {
                    assert!(parts.iter().all(|part| !part.contains(&b'/') && *part != b".."));
                }
                let holes = entry.sparse.iter().flat_map(|(_, map)| map);
                let data: u64 = holes.map(|part| part.length).sum();
                assert!(entry.sparse.is_none() || data <= entry.size, "{entry:?}");
            }
            Err(error) => return readable(&error),
        }
    }
}

/// A layer's blob, unpacked: nothing outside the directory is changed, and everything in it can be removed.
pub fn unpacked(bytes: &[u8]) {
    const MAX_BYTES: u64 = 1 << 20;
    let Ok(decoder) = Decoder::new(bytes) else { return };
    let scratch = std::env::temp_dir().join(format!("brig-fuzz-{}", std::process::id()));
    let root = scratch.join("root");
    std::fs::create_dir_all(&root).expect("a directory");
    let times = std::fs::File::create(scratch.join("times")).expect("a file");
    let dir = std::fs::File::open(&root).expect("the directory").into();
    // Nothing that depends on the host.
    let rights = Rights { chown: false, devices: false };
    if let Err(error) =
        unpack(decoder.take(MAX_BYTES), dir, None, &times, rights, &mut Warnings::default())
    {
        readable(&error);
    }
    let left = std::fs::read_dir(&scratch).expect("the directory").count();
    assert_eq!(left, 2, "beside the directory");
    tree::remove_path(&scratch).expect("the directory can be removed");
}

/// A message from the bus.
pub fn bus(bytes: &[u8]) {
    for result in [wire::total(bytes).map(drop), wire::parse(bytes).map(drop)] {
        if let Err(error) = result {
            readable(&error);
        }
    }
}

/// The name of an image.
pub fn image_reference(bytes: &[u8]) {
    match reference::parse(&String::from_utf8_lossy(bytes)) {
        Ok(reference) => assert!(!reference.path.as_os_str().is_empty(), "{reference:?}"),
        Err(error) => readable(&error),
    }
}

/// Values of `--change`, one per line: the result is a valid config.
pub fn image_change(bytes: &[u8]) {
    const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":["x"]},
        "rootfs":{"type":"layers","diff_ids":[]}}"#;
    let changes: Vec<String> =
        String::from_utf8_lossy(bytes).split('\n').map(str::to_owned).collect();
    match change::apply(CONFIG, &changes) {
        Ok(config) => {
            let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
            assert_eq!(config["os"], "linux");
        }
        Err(error) => readable(&error),
    }
}

/// A user, a passwd and a group, separated by zero bytes.
pub fn accounts(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (name, passwd_file, group) = (part(), part(), part());
    match user::parse(&String::from_utf8_lossy(name), passwd_file, group) {
        Ok(user) => assert!(user.home.is_none_or(|home| home.starts_with('/'))),
        Err(error) => readable(&error),
    }
    for wanted in [0, 5] {
        let field = passwd::field(passwd_file, 0, wanted);
        assert!(field.is_none_or(|field| !field.contains(&b':') && !field.contains(&b'\n')));
    }
}

/// A state.json: parsed completely, partially or not at all, and never as another container's.
pub fn state_record(bytes: &[u8]) {
    let (state, error) = match record::parse("x", bytes) {
        Record::Whole(state) => (state, None),
        Record::Partial(state, error) => (state, Some(error)),
    };
    assert_eq!(state.id, "x");
    if let Some(error) = error {
        return readable(&error);
    }
    let text = serde_json::to_vec(&state).expect("JSON");
    assert!(matches!(record::parse("x", &text), Record::Whole(_)));
}

/// The records of the store: parsing and writing are inverse.
pub fn store_record(bytes: &[u8]) {
    fn again<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) {
        let Ok(record) = serde_json::from_slice::<T>(bytes) else { return };
        let text = serde_json::to_string(&record).expect("JSON");
        let record: T = serde_json::from_str(&text).expect("a record");
        assert_eq!(serde_json::to_string(&record).expect("JSON"), text);
    }
    again::<LayerRecord>(bytes);
    again::<ImageRecord>(bytes);
    again::<UseRecord>(bytes);
}

/// A command line, one argument per line: the results with and without clap must be the same. Each argument
/// also as a user and as an id.
pub fn arguments(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n');
    for line in lines.clone() {
        let text = String::from_utf8_lossy(line);
        if let Ok((uid, gid)) = parse_user(&text) {
            let plain = gid.map_or(uid.to_string(), |gid| format!("{uid}:{gid}"));
            let zeroless: Vec<&str> =
                text.split(':').map(|id| id.trim_start_matches('0')).collect();
            let plain: Vec<&str> = plain.split(':').map(|id| id.trim_start_matches('0')).collect();
            assert_eq!(zeroless, plain);
        }
        if state::check_id(&text).is_ok() {
            assert!(!text.contains('/') && text != ".." && text != "." && !text.is_empty());
        }
    }
    let args = std::iter::once(OsString::from("brig"));
    let args: Vec<_> = args.chain(lines.map(|line| OsStr::from_bytes(line).to_owned())).collect();
    let plain = cli::parse_plain(&args);
    let by_clap = cli::parse_by_clap(args);
    if let Some(plain) = plain {
        assert_eq!(format!("{plain:?}"), format!("{by_clap:?}"));
    }
}
