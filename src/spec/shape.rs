//! The keys that each object of `config.json` may have.
//!
//! serde's derived readers ignore unknown keys and refuse duplicate ones. Decoders in Go, which engines and
//! people write for, accept keys in any letter case; of duplicate keys they take the last value, and merge
//! objects; and they accept `null` for a value of any type, which only removes an earlier value if they have a
//! pointer, list or map for it. [`walk`] finds such keys; `rewrite` resolves them.

use serde_json::Value;
use std::borrow::Cow;

/// The type of a value.
#[derive(Debug)]
pub enum Shape {
    /// A string, a number, or an object whose keys are not checked. In a list or a map: a string.
    Any,
    /// A scalar that programs in Go have a pointer to: they tell 0 from no value.
    Optional,
    /// A number in a list.
    Number,
    /// An object with these keys.
    Object(&'static [(&'static str, &'static Shape)]),
    /// An object that programs in Go have without a pointer to it.
    Struct(&'static [(&'static str, &'static Shape)]),
    /// An array of such values.
    List(&'static Shape),
    /// An object whose keys are data, e.g. names of annotations, files or devices.
    Map(&'static Shape),
}

use Shape::{Any, List, Map, Number, Object, Optional, Struct};

const STRINGS: &Shape = &List(&Any);

const ID_MAPS: &Shape = &List(&Object(&[("containerID", &Any), ("hostID", &Any), ("size", &Any)]));

const HOOKS: &Shape =
    &List(&Object(&[("path", &Any), ("args", STRINGS), ("env", STRINGS), ("timeout", &Optional)]));

/// `mounts`.
pub const MOUNTS: &Shape = &List(&Object(&[
    ("destination", &Any),
    ("type", &Any),
    ("source", &Any),
    ("options", STRINGS),
    ("uidMappings", ID_MAPS),
    ("gidMappings", ID_MAPS),
]));

/// `process`.
pub const PROCESS: &Shape = &Object(&[
    ("terminal", &Any),
    ("consoleSize", &Object(&[("height", &Any), ("width", &Any)])),
    (
        "user",
        &Struct(&[
            ("uid", &Any),
            ("gid", &Any),
            ("umask", &Optional),
            ("additionalGids", &List(&Number)),
        ]),
    ),
    ("args", STRINGS),
    ("env", STRINGS),
    ("cwd", &Any),
    (
        "capabilities",
        &Object(&[
            ("bounding", STRINGS),
            ("effective", STRINGS),
            ("inheritable", STRINGS),
            ("permitted", STRINGS),
            ("ambient", STRINGS),
        ]),
    ),
    ("rlimits", &List(&Object(&[("type", &Any), ("hard", &Any), ("soft", &Any)]))),
    ("noNewPrivileges", &Any),
    ("apparmorProfile", &Any),
    ("oomScoreAdj", &Optional),
    ("selinuxLabel", &Any),
    (
        "scheduler",
        &Object(&[
            ("policy", &Any),
            ("nice", &Any),
            ("priority", &Any),
            ("flags", STRINGS),
            ("runtime", &Any),
            ("deadline", &Any),
            ("period", &Any),
        ]),
    ),
    ("ioPriority", &Object(&[("class", &Any), ("priority", &Any)])),
    ("execCPUAffinity", &Object(&[("initial", &Any), ("final", &Any)])),
]);

/// `linux.seccomp`.
pub const SECCOMP: &Shape = &Object(&[
    ("defaultAction", &Any),
    ("defaultErrnoRet", &Optional),
    ("architectures", STRINGS),
    ("flags", STRINGS),
    ("listenerPath", &Any),
    ("listenerMetadata", &Any),
    (
        "syscalls",
        &List(&Object(&[
            ("names", STRINGS),
            ("action", &Any),
            ("errnoRet", &Optional),
            (
                "args",
                &List(&Object(&[
                    ("index", &Any),
                    ("value", &Any),
                    ("valueTwo", &Any),
                    ("op", &Any),
                ])),
            ),
        ])),
    ),
]);

const THROTTLES: &Shape = &List(&Object(&[("major", &Any), ("minor", &Any), ("rate", &Any)]));

/// `linux.resources`.
pub const RESOURCES: &Shape = &Object(&[
    (
        "devices",
        &List(&Object(&[
            ("allow", &Any),
            ("type", &Any),
            ("major", &Optional),
            ("minor", &Optional),
            ("access", &Any),
        ])),
    ),
    (
        "memory",
        &Object(&[
            ("limit", &Optional),
            ("reservation", &Optional),
            ("swap", &Optional),
            ("kernel", &Optional),
            ("kernelTCP", &Optional),
            ("swappiness", &Optional),
            ("disableOOMKiller", &Optional),
            ("useHierarchy", &Optional),
            ("checkBeforeUpdate", &Optional),
        ]),
    ),
    (
        "cpu",
        &Object(&[
            ("shares", &Optional),
            ("quota", &Optional),
            ("burst", &Optional),
            ("period", &Optional),
            ("realtimeRuntime", &Optional),
            ("realtimePeriod", &Optional),
            ("cpus", &Any),
            ("mems", &Any),
            ("idle", &Optional),
        ]),
    ),
    ("pids", &Object(&[("limit", &Optional)])),
    (
        "blockIO",
        &Object(&[
            ("weight", &Optional),
            ("leafWeight", &Optional),
            (
                "weightDevice",
                &List(&Object(&[
                    ("major", &Any),
                    ("minor", &Any),
                    ("weight", &Optional),
                    ("leafWeight", &Optional),
                ])),
            ),
            ("throttleReadBpsDevice", THROTTLES),
            ("throttleWriteBpsDevice", THROTTLES),
            ("throttleReadIOPSDevice", THROTTLES),
            ("throttleWriteIOPSDevice", THROTTLES),
        ]),
    ),
    ("hugepageLimits", &List(&Object(&[("pageSize", &Any), ("limit", &Any)]))),
    (
        "network",
        &Object(&[
            ("classID", &Optional),
            ("priorities", &List(&Object(&[("name", &Any), ("priority", &Any)]))),
        ]),
    ),
    ("rdma", &Map(&Object(&[("hcaHandles", &Optional), ("hcaObjects", &Optional)]))),
    ("unified", &Map(&Any)),
]);

const LINUX: &Shape = &Object(&[
    ("namespaces", &List(&Object(&[("type", &Any), ("path", &Any)]))),
    ("uidMappings", ID_MAPS),
    ("gidMappings", ID_MAPS),
    ("timeOffsets", &Map(&Object(&[("secs", &Any), ("nanosecs", &Any)]))),
    (
        "devices",
        &List(&Object(&[
            ("path", &Any),
            ("type", &Any),
            ("major", &Any),
            ("minor", &Any),
            ("fileMode", &Optional),
            ("uid", &Optional),
            ("gid", &Optional),
        ])),
    ),
    ("netDevices", &Map(&Object(&[("name", &Any)]))),
    ("cgroupsPath", &Any),
    ("resources", RESOURCES),
    ("sysctl", &Map(&Any)),
    ("seccomp", SECCOMP),
    ("rootfsPropagation", &Any),
    ("maskedPaths", STRINGS),
    ("readonlyPaths", STRINGS),
    ("mountLabel", &Any),
    (
        "intelRdt",
        &Object(&[
            ("closID", &Any),
            ("l3CacheSchema", &Any),
            ("memBwSchema", &Any),
            ("schemata", STRINGS),
            ("enableMonitoring", &Any),
        ]),
    ),
    ("memoryPolicy", &Object(&[("mode", &Any), ("nodes", &Any), ("flags", STRINGS)])),
    ("personality", &Object(&[("domain", &Any), ("flags", STRINGS)])),
]);

/// `config.json`.
pub const CONFIG: &Shape = &Object(&[
    ("ociVersion", &Any),
    ("root", &Object(&[("path", &Any), ("readonly", &Any)])),
    ("mounts", MOUNTS),
    ("process", PROCESS),
    ("hostname", &Any),
    ("domainname", &Any),
    (
        "hooks",
        &Object(&[
            ("prestart", HOOKS),
            ("createRuntime", HOOKS),
            ("createContainer", HOOKS),
            ("startContainer", HOOKS),
            ("poststart", HOOKS),
            ("poststop", HOOKS),
        ]),
    ),
    ("annotations", &Map(&Any)),
    ("linux", LINUX),
]);

/// An object with `mounts`, for `mounts add`.
pub const WITH_MOUNTS: &Shape = &Object(&[("mounts", MOUNTS)]);

/// A finding about one key of an object.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// Not a key of this object.
    Unknown(&'static Shape),
    /// This key in other letter case.
    OtherCase(&'static str),
    /// A duplicate, possibly in other letter case.
    Again,
    /// An array in the place of an object: serde would read it element by element.
    Array,
}

impl Shape {
    /// The index and the shape of the key `name`, and its exact spelling.
    pub(super) fn key(&self, name: &[u8]) -> Option<(usize, &'static str, &'static Shape)> {
        let (Object(keys) | Struct(keys)) = self else { return None };
        let exact = keys.iter().position(|(known, _)| known.as_bytes() == name);
        let folded = || {
            let name = std::str::from_utf8(name).ok()?;
            keys.iter()
                .position(|(known, _)| name.chars().map(folded).eq(known.chars().map(folded)))
        };
        let index = exact.or_else(folded)?;
        keys.get(index).map(|&(known, shape)| (index, known, shape))
    }

    /// The keys that an object of this shape may have.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let (Object(keys) | Struct(keys)) = self else { return Vec::new() };
        keys.iter().map(|(name, _)| *name).collect()
    }

    /// What a decoder in Go makes of `null` as an element of a list or a map.
    pub(super) fn zero(&self) -> Value {
        match self {
            Any | Optional => "".into(),
            Number => 0.into(),
            List(_) => Value::Array(Vec::new()),
            Object(_) | Struct(_) | Map(_) => Value::Object(serde_json::Map::new()),
        }
    }

    /// Whether `null` has no effect on an earlier value, and does not remove it, in a decoder in Go.
    pub(super) fn outlives_null(&self) -> bool {
        matches!(self, Any | Number | Struct(_))
    }

    /// The shape of the elements, for an array.
    fn element(&self) -> &'static Shape {
        if let List(element) = self { element } else { &Any }
    }
}

/// Letter case as in Go's decoder, for which two other letters are an s and a k.
fn folded(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// An object or array that contains the current position.
struct Open {
    shape: &'static Shape,
    array: bool,
    /// The keys seen so far, as a bit mask.
    seen: u64,
}

/// Reports every key of a JSON text that is unknown, in other letter case or a duplicate, with the offset of
/// its opening quote, and every array in the place of an object, with that of its bracket. Stops at the first
/// object or array nested deeper than `deepest`, and returns its offset. Findings for a text that is not JSON
/// are arbitrary; serde reports that.
pub fn walk(
    text: &[u8],
    root: &'static Shape,
    deepest: usize,
    report: &mut dyn FnMut(usize, Found),
) -> Option<usize> {
    let mut open: Vec<Open> = Vec::new();
    let (mut next, mut at) = (root, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(text, at + 1);
                if let Some(object) = open.last_mut().filter(|open| !open.array)
                    && text
                        .get(end + 1..)
                        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"))
                {
                    let name = unescaped(text.get(at..=end).unwrap_or_default());
                    next = object.key(&name, at, report);
                }
                at = end;
            }
            b'[' | b'{' => {
                if open.len() == deepest {
                    return Some(at);
                }
                let array = byte == b'[';
                if array && matches!(next, Object(_) | Struct(_) | Map(_)) {
                    report(at, Found::Array);
                }
                open.push(Open { shape: next, array, seen: 0 });
                next = if array { next.element() } else { &Any };
            }
            b']' | b'}' => {
                open.pop();
            }
            b',' => next = open.last().map_or(&Any, |open| open.shape.element()),
            _ => {}
        }
        at += 1;
    }
    None
}

impl Open {
    /// Records a key of this object, and returns the shape of its value.
    fn key(
        &mut self,
        name: &[u8],
        at: usize,
        report: &mut dyn FnMut(usize, Found),
    ) -> &'static Shape {
        match (self.shape, self.shape.key(name)) {
            (Map(value), _) => value,
            (Object(_) | Struct(_), None) => {
                report(at, Found::Unknown(self.shape));
                &Any
            }
            (_, None) => &Any,
            (_, Some((index, known, shape))) => {
                if self.seen & 1 << index != 0 {
                    report(at, Found::Again);
                }
                self.seen |= 1 << index;
                if known.as_bytes() != name {
                    report(at, Found::OtherCase(known));
                }
                shape
            }
        }
    }
}

/// A key without its quotes.
fn unescaped(key: &[u8]) -> Cow<'_, [u8]> {
    let plain = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    if plain.contains(&b'\\')
        && let Ok(text) = serde_json::from_slice::<String>(key)
    {
        return Cow::Owned(text.into_bytes());
    }
    Cow::Borrowed(plain)
}

/// The offset of the closing quote of the string that begins at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}
