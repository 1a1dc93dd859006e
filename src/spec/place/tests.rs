//! Tests: places in texts that are JSON, nearly JSON, or arbitrary bytes.

use super::*;
use crate::spec::Spec;

const CONFIG: &[u8] = br#"{
  "ociVersion": "1.0.2",
  "process": {
    "args": ["/bin/true"], "env": ["A=1", "B={[\"", "C=3"],
    "cwd": "/"
  },
  "annotations": { "a.b": "x", "run.brig.\u006fverlay.layers": "y" },
  "mounts": [
    { "destination": "/proc", "options": [] },
    {
      "destination": "/dev",
      "options": [ "ro",
                   "oops" ]
    }
  ],
  "linux": { "resources": { "memory": { "limit": 1 } }, "resources": { "memory": { "limit":7 } } }
}"#;

fn located(place: &str) -> String {
    let mut at = At::new(place);
    at.locate(CONFIG);
    at.to_string()
}

fn error_of(text: &str) -> String {
    let error = serde_json::from_str::<Spec>(text).err().unwrap();
    format!("{:#}", parse_error(text.as_bytes(), &error))
}

#[test]
fn a_place_is_found_at_its_value() {
    assert_eq!(
        located("mounts[1].options[1]"),
        "mounts[1].options[1] (config.json line 13, column 20)"
    );
    assert_eq!(located("process.env[2]"), "process.env[2] (config.json line 4, column 53)");
    assert_eq!(located("process.cwd"), "process.cwd (config.json line 5, column 12)");
    assert_eq!(located("mounts[0]"), "mounts[0] (config.json line 9, column 5)");
}

#[test]
fn a_quoted_key_is_found_however_the_file_spells_it() {
    let place = r#"annotations["run.brig.overlay.layers"]"#;
    assert_eq!(located(place), format!("{place} (config.json line 7, column 64)"));
}

#[test]
fn an_absent_place_is_found_at_its_nearest_ancestor() {
    assert_eq!(
        located("mounts[0].options[4]"),
        "mounts[0].options[4] (config.json line 9, column 42)"
    );
    assert_eq!(located("mounts[0].source"), "mounts[0].source (config.json line 9, column 5)");
    assert_eq!(located("mounts[7].source"), "mounts[7].source (config.json line 8, column 13)");
    assert_eq!(located("root.path"), "root.path (config.json line 1, column 1)");
    let mut at = At::new("[0][1]");
    at.locate(b"[[], 2]");
    assert_eq!(at.to_string(), "[0][1] (config.json line 1, column 2)");
    assert_eq!(located("process.args.x"), "process.args.x (config.json line 4, column 13)");
}

#[test]
fn of_duplicate_keys_the_last_is_found() {
    let place = "linux.resources.memory.limit";
    assert_eq!(located(place), format!("{place} (config.json line 16, column 92)"));
}

#[test]
fn without_a_text_only_the_place_is_shown() {
    assert_eq!(At::new("process.cwd").to_string(), "process.cwd");
}

#[test]
fn columns_are_characters_not_bytes() {
    let mut at = At::new("b");
    at.locate("{\"ä€😀\": 1, \"b\": 2}".as_bytes());
    assert_eq!(at.to_string(), "b (config.json line 1, column 17)");
}

#[test]
fn a_missing_field_is_placed_at_its_object() {
    let text = "{\"ociVersion\": \"1.0.2\",\n \"mounts\": [{\"destination\": \"/a\"},\n  {\"type\": \"x\"}]}";
    assert_eq!(
        error_of(text),
        "mounts[1] (config.json line 3, column 3): missing field \"destination\""
    );
    assert_eq!(error_of("{}"), "config.json line 1, column 1: missing field \"ociVersion\"");
    assert_eq!(error_of(" {\n}"), "config.json line 1, column 2: missing field \"ociVersion\"");
    assert_eq!(
        error_of("{\"process\":{\"args\":[\"a\"] } , \"mounts\": 3}"),
        "process (config.json line 1, column 12): missing field \"cwd\""
    );
}

#[test]
fn a_wrong_type_is_placed_at_its_value() {
    for (value, found) in [
        ("\"x\"", "string \"x\""),
        ("7", "integer `7`"),
        ("{}", "object"),
        ("{ \"a\": [1, 2] }", "object"),
        ("null", "null"),
    ] {
        let text = format!(
            "{{\"mounts\": [{{\"options\": [\"ro\"], \"destination\": \"/\"}},\n {value} ]}}"
        );
        let expected = match value {
            "{}" | "{ \"a\": [1, 2] }" => "missing field \"destination\"".to_string(),
            _ => format!("invalid type: {found}, expected an object"),
        };
        assert_eq!(
            error_of(&text),
            format!("mounts[1] (config.json line 2, column 2): {expected}")
        );
    }
    for value in ["7", "true", "{}", "[]", "null", "\n {\"a\": 1}", "1.5"] {
        let text = format!("{{\"process\": {{\"args\": [\"a\", {value}\n, \"b\"]}}}}");
        let start = if value.starts_with('\n') { "line 2, column 2" } else { "line 1, column 28" };
        let error = error_of(&text);
        let place = format!("process.args[1] (config.json {start}): invalid type: ");
        assert!(error.starts_with(&place), "{error}");
        assert!(error.ends_with(", expected a string"), "{error}");
    }
}

#[test]
fn a_known_position_is_not_searched_again() {
    let text = b"{\n  \"a\" 1}";
    let error = serde_json::from_slice::<Spec>(text).err().unwrap();
    let mut error = parse_error(text, &error);
    error.downcast_mut::<At>().unwrap().locate(text);
    assert_eq!(format!("{error:#}"), "config.json line 2, column 7: expected `:`");
}

#[test]
fn numbers_are_told_in_plain_words() {
    let error = error_of("{\"process\": {\"user\": {\"uid\": -1}}}");
    assert_eq!(
        error,
        "process.user.uid (config.json line 1, column 30): invalid value: integer `-1`, \
             expected a whole number from 0 to 4294967295"
    );
}

#[test]
fn an_unknown_name_is_placed_at_its_value() {
    let error =
        error_of("{\"linux\": {\"namespaces\": [{\"type\": \"pid\"}, {\"type\": \"a\\nb\"}]}}");
    let place = "linux.namespaces[1].type (config.json line 1, column 53): unknown value \"a\\nb\"";
    assert!(error.starts_with(place), "{error}");
    assert!(!error.contains('\n') && !error.contains('`'), "{error}");
}

#[test]
fn a_duplicate_key_is_placed_at_its_value() {
    assert_eq!(
        error_of("{\"hostname\": \"a\", \"hostname\": \"b\"}"),
        "hostname (config.json line 1, column 31): duplicate field \"hostname\""
    );
}

#[test]
fn keys_that_are_no_names_are_quoted() {
    let error = error_of("{\"annotations\": {\"run.brig.x\": 1}}");
    assert_eq!(
        error,
        "annotations[\"run.brig.x\"] (config.json line 1, column 32): invalid type: integer `1`, \
             expected a string"
    );
}

#[test]
fn what_is_not_json_has_line_and_column() {
    assert_eq!(error_of("{\n  \"a\" 1}"), "config.json line 2, column 7: expected `:`");
    assert_eq!(error_of(""), "config.json line 1, column 1: EOF while parsing a value");
    assert_eq!(error_of("{\n"), "config.json line 1, column 2: EOF while parsing an object");
    assert_eq!(error_of("hello"), "config.json line 1, column 1: expected value");
    assert_eq!(
        error_of("{\"ociVersion\": \"1\"} x"),
        "config.json line 1, column 21: trailing characters"
    );
}

#[test]
fn any_bytes_are_survived() {
    let places = [
        "a",
        "a.b[3]",
        "[\"",
        "[\"x\"]",
        "[9999999999999999999999]",
        "..",
        "mounts[1].options[1]",
        "",
    ];
    let mut seed = 1_u32;
    for round in 0..20_000 {
        let mut text = CONFIG.to_vec();
        for _ in 0..=round % 4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % text.len();
            text[at] = b"{}[],:\"\\ 1\n\x80"[(seed >> 4) as usize % 12];
            if seed & 1 == 0 {
                text.truncate(at + 1);
            }
        }
        let mut at = At::new(places[round % places.len()]);
        at.locate(&text);
        if let Err(error) = serde_json::from_slice::<Spec>(&text) {
            let shown = format!("{:#}", parse_error(&text, &error));
            assert!(!shown.contains('\n') && shown.contains("config.json line "), "{shown}");
        }
    }
    let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
    At::new("[0][0][0]").locate(&deep);
    assert_eq!(path_at(&deep, deep.len() / 2 - 1).len(), 1 << 20);
}

#[test]
fn a_warning_gets_the_line_of_its_place() {
    let text = br#"{"a": {"b": [1]}, "c": {"x.y: z": 2}}"#;
    let located = |warning: &str| located_warning(warning, |at| at.locate(text));
    let expected = "a.b[0] (config.json line 1, column 14): is: one";
    assert_eq!(located("a.b[0]: is: one"), expected);
    assert_eq!(located("a.b: no"), "a.b (config.json line 1, column 13): no");
    let expected = "c[\"x.y: z\"] (config.json line 1, column 35): no";
    assert_eq!(located("c[\"x.y: z\"]: no"), expected);
    assert_eq!(located("nothing of it, because: x"), "nothing of it, because: x");
}
