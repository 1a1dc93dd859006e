use super::*;
use serde_json::{Value, json};

/// The filter of `linux.seccomp`, and the warnings.
fn filter(profile: Value) -> Result<(Filter, Vec<String>)> {
    let mut warnings = Vec::new();
    let spec = serde_json::from_value(profile)?;
    let filter = Filter::of(Some(&spec), &BTreeMap::new(), &mut warnings)?;
    Ok((filter.expect("a filter"), warnings))
}

#[test]
fn unknown_names_are_one_warning_and_foreign_ones_none() {
    let (_, warnings) = filter(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read", "mount_all", "s390_sthyi"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["mount_all", "nope"], "action": "SCMP_ACT_ALLOW" },
    ]}))
    .unwrap();
    assert_eq!(
        warnings,
        ["linux.seccomp.syscalls[0].names[1]: unknown system calls ignored: mount_all, nope"]
    );
}

#[test]
fn errors_name_their_place() {
    for (profile, expected) in [
        (
            json!({ "defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1 }),
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL has no errno",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_KILL", "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 0 },
            ]}),
            "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW has no errno",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_KILL", "syscalls": [
                { "names": [], "action": "SCMP_ACT_ALLOW" },
            ]}),
            "linux.seccomp.syscalls[0].names: at least one is required",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_KILL", "syscalls": [
                { "names": ["read", ""], "action": "SCMP_ACT_ALLOW" },
            ]}),
            "linux.seccomp.syscalls[0].names[1]: is empty",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }),
            "linux.seccomp.listenerMetadata: there is no listenerPath to send it to",
        ),
    ] {
        assert_eq!(format!("{:#}", filter(profile).unwrap_err()), expected);
    }
}

#[test]
fn only_a_filter_that_notifies_has_a_listener() {
    let with = |action: &str| {
        filter(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "m",
            "syscalls": [{ "names": ["mkdir"], "action": action }],
        }))
        .unwrap()
        .0
        .listener
    };
    let Listener { path, metadata, .. } = with("SCMP_ACT_NOTIFY").unwrap();
    assert_eq!((path.to_str(), metadata.as_deref()), (Some("/run/agent.sock"), Some("m")));
    assert!(with("SCMP_ACT_LOG").is_none());
}

#[test]
fn unknown_values_are_errors_with_their_place() {
    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "read to fail")]
    struct Config {
        seccomp: LinuxSeccomp,
    }
    let entry = |action: &str, op: &str| {
        format!(
            r#""syscalls": [{{ "names": ["read"], "action": "{action}", "args": [{{
                "index": 0, "value": 1, "op": "{op}" }}] }}]"#
        )
    };
    for (member, place) in [
        (entry("SCMP_ACT_NOPE", "SCMP_CMP_EQ"), "seccomp.syscalls[0].action"),
        (entry("SCMP_ACT_ALLOW", "SCMP_CMP_NOPE"), "seccomp.syscalls[0].args[0].op"),
        (r#""flags": ["SECCOMP_FILTER_FLAG_NOPE"]"#.into(), "seccomp.flags[0]"),
        (r#""architectures": ["X86"]"#.into(), "seccomp.architectures[0]"),
        (r#""syscalls": [{ "action": "SCMP_ACT_ALLOW" }]"#.into(), "seccomp.syscalls[0]"),
    ] {
        let text = format!(r#"{{"seccomp": {{"defaultAction": "SCMP_ACT_KILL", {member}}}}}"#);
        let error = serde_json::from_str::<Config>(&text).unwrap_err();
        let error = format!("{:#}", crate::spec::parse_error(text.as_bytes(), &error));
        assert!(error.starts_with(&format!("{place} (config.json line")), "{error}");
    }
}
