//! Checks that brig reads every property of the specification: others would be ignored, because unknown ones
//! must be.

use super::shape::{CONFIG, Shape};
use super::{Document, Spec};
use serde_json::{Value, json};

/// The properties of runtime-spec 1.3's Go types that apply to a Linux runtime, by place; `[]` is an element
/// of an array, `.*` of a map. Those with `?` are boolean.
const PROPERTIES: &[(&str, &str)] = &[
    ("", "ociVersion process root hostname domainname mounts hooks annotations linux"),
    ("root", "path readonly?"),
    ("mounts[]", "destination type source options uidMappings gidMappings"),
    ("mounts[].uidMappings[]", "containerID hostID size"),
    ("mounts[].gidMappings[]", "containerID hostID size"),
    ("process", "terminal? consoleSize user args env cwd capabilities rlimits noNewPrivileges?"),
    ("process", "apparmorProfile oomScoreAdj scheduler selinuxLabel ioPriority execCPUAffinity"),
    ("process.consoleSize", "height width"),
    ("process.user", "uid gid umask additionalGids"),
    ("process.capabilities", "bounding effective inheritable permitted ambient"),
    ("process.rlimits[]", "type hard soft"),
    ("process.scheduler", "policy nice priority flags runtime deadline period"),
    ("process.ioPriority", "class priority"),
    ("process.execCPUAffinity", "initial final"),
    ("hooks", "prestart createRuntime createContainer startContainer poststart poststop"),
    ("hooks.prestart[]", "path args env timeout"),
    ("hooks.createRuntime[]", "path args env timeout"),
    ("hooks.createContainer[]", "path args env timeout"),
    ("hooks.startContainer[]", "path args env timeout"),
    ("hooks.poststart[]", "path args env timeout"),
    ("hooks.poststop[]", "path args env timeout"),
    ("annotations", "org.example"),
    ("linux", "uidMappings gidMappings sysctl resources cgroupsPath namespaces devices netDevices"),
    (
        "linux",
        "seccomp rootfsPropagation maskedPaths readonlyPaths mountLabel intelRdt memoryPolicy",
    ),
    ("linux", "personality timeOffsets"),
    ("linux.uidMappings[]", "containerID hostID size"),
    ("linux.gidMappings[]", "containerID hostID size"),
    ("linux.sysctl", "net.ipv4.ip_forward"),
    ("linux.namespaces[]", "type path"),
    ("linux.devices[]", "path type major minor fileMode uid gid"),
    ("linux.netDevices.*", "name"),
    ("linux.intelRdt", "closID schemata l3CacheSchema memBwSchema enableMonitoring?"),
    ("linux.memoryPolicy", "mode nodes flags"),
    ("linux.personality", "domain flags"),
    ("linux.timeOffsets.*", "secs nanosecs"),
    ("linux.seccomp", "defaultAction defaultErrnoRet architectures flags listenerPath"),
    ("linux.seccomp", "listenerMetadata syscalls"),
    ("linux.seccomp.syscalls[]", "names action errnoRet args"),
    ("linux.seccomp.syscalls[].args[]", "index value valueTwo op"),
    ("linux.resources", "devices memory cpu pids blockIO hugepageLimits network rdma unified"),
    ("linux.resources.devices[]", "allow? type major minor access"),
    ("linux.resources.memory", "limit reservation swap kernel kernelTCP swappiness"),
    ("linux.resources.memory", "disableOOMKiller? useHierarchy? checkBeforeUpdate?"),
    (
        "linux.resources.cpu",
        "shares quota burst period realtimeRuntime realtimePeriod cpus mems idle",
    ),
    ("linux.resources.pids", "limit"),
    ("linux.resources.blockIO", "weight leafWeight weightDevice throttleReadBpsDevice"),
    (
        "linux.resources.blockIO",
        "throttleWriteBpsDevice throttleReadIOPSDevice throttleWriteIOPSDevice",
    ),
    ("linux.resources.blockIO.weightDevice[]", "major minor weight leafWeight"),
    ("linux.resources.blockIO.throttleReadBpsDevice[]", "major minor rate"),
    ("linux.resources.blockIO.throttleWriteBpsDevice[]", "major minor rate"),
    ("linux.resources.blockIO.throttleReadIOPSDevice[]", "major minor rate"),
    ("linux.resources.blockIO.throttleWriteIOPSDevice[]", "major minor rate"),
    ("linux.resources.hugepageLimits[]", "pageSize limit"),
    ("linux.resources.network", "classID priorities"),
    ("linux.resources.network.priorities[]", "name priority"),
    ("linux.resources.rdma.*", "hcaHandles hcaObjects"),
    ("linux.resources.unified", "memory.high"),
];

/// A configuration that contains only `value` at this place.
fn only(place: &str, value: Value) -> Value {
    if place.is_empty() {
        return value;
    }
    let (outer, last) = place.rsplit_once('.').unwrap_or(("", place));
    let (name, inner) = match last.strip_suffix("[]") {
        Some(name) => (name, json!([value])),
        None => (last, value),
    };
    only(outer, json!({ name: inner }))
}

fn read(config: &str) -> anyhow::Result<(Spec, Option<Vec<u8>>)> {
    let text = config.as_bytes();
    Document { name: "config.json", shape: CONFIG, text }.parse(&mut Vec::new())
}

/// All keys of a shape, in the format of [`PROPERTIES`].
fn keys(place: &str, shape: &Shape, into: &mut Vec<(String, String)>) {
    match shape {
        Shape::Any | Shape::Optional | Shape::Number => {}
        Shape::List(element) => keys(&format!("{place}[]"), element, into),
        Shape::Map(value) => keys(&format!("{place}.*"), value, into),
        Shape::Object(members) | Shape::Struct(members) => {
            for (name, value) in *members {
                into.push((place.to_owned(), (*name).to_owned()));
                let dot = if place.is_empty() { "" } else { "." };
                keys(&format!("{place}{dot}{name}"), value, into);
            }
        }
    }
}

#[test]
fn the_shape_has_every_property_of_the_specification_and_no_other() {
    let mut known = Vec::new();
    keys("", CONFIG, &mut known);
    let mut wanted: Vec<(String, String)> = Vec::new();
    for (place, names) in PROPERTIES {
        let data = ["annotations", "linux.sysctl", "linux.resources.unified"];
        for name in names.split(' ').filter(|_| !data.contains(place)) {
            wanted.push(((*place).to_owned(), name.trim_end_matches('?').to_owned()));
        }
    }
    known.sort();
    wanted.sort();
    assert_eq!(known, wanted);
}

#[test]
fn every_property_of_the_specification_is_read() {
    let mut ignored = Vec::new();
    for (place, names) in PROPERTIES {
        for name in names.split(' ') {
            let (name, wrong) = match name.strip_suffix('?') {
                Some(name) => (name, json!(7)),
                None => (name, json!(true)),
            };
            // Read by the plan, if there is a terminal.
            if *place == "process.consoleSize" || name == "consoleSize" {
                continue;
            }
            let config = only(place, json!({ name: wrong })).to_string();
            let error = read(&config).err().map(|error| format!("{error:#}"));
            // For an enum, serde_json reports neither place nor type.
            let told = |text: &String| {
                text.contains("expected value")
                    || text.contains(name) && text.contains("invalid type")
            };
            if !error.as_ref().is_some_and(told) {
                ignored.push(format!("{place} {name}: {error:?}"));
            }
        }
    }
    assert!(ignored.is_empty(), "{ignored:#?}");
}

#[test]
fn null_is_the_same_as_no_value_everywhere() {
    for (place, names) in PROPERTIES {
        for name in names.split(' ') {
            let name = name.trim_end_matches('?');
            let outcome =
                |value| read(&only(place, value).to_string()).err().map(|e| e.to_string());
            let error = |value| outcome(value).map(|text| text.replace(char::is_numeric, ""));
            // In a map, null is the zero value of its type.
            let without = match *place {
                "annotations" | "linux.sysctl" | "linux.resources.unified" => json!({ name: "" }),
                _ => json!({}),
            };
            assert_eq!(error(json!({ name: null })), error(without), "{place} {name}");
        }
    }
    for (list, zero) in [("process.args[]", json!("")), ("process.user.additionalGids[]", json!(0))]
    {
        assert!(
            read(&only(list, zero).to_string()).is_ok()
                == read(&only(list, Value::Null).to_string()).is_ok()
        );
    }
}
