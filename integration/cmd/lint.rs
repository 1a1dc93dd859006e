//! The command `lint`: input, output and exit code. Its findings are tested in src/lint.

use crate::sandbox::{Done, Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs::{self, File};

/// Runs lint; the sandbox's default config results in notes at most.
fn linted(sandbox: &Sandbox, args: &[&str]) -> Done {
    let bundle = sandbox.bundle();
    sandbox.brig(&[&["lint"], args, &[bundle.to_str().unwrap()]].concat())
}

#[test]
fn the_exit_code_says_how_bad_the_worst_finding_is() {
    brig_only!();
    let sandbox = Sandbox::new();
    assert_eq!(linted(&sandbox, &[]).code, Some(0));
    sandbox.patch(|config| config["frobnicate"] = json!(1));
    assert_eq!(linted(&sandbox, &[]).code, Some(1));
    sandbox.patch(|config| config["hostnme"] = json!("x"));
    let done = linted(&sandbox, &[]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.stdout
            .contains("error: hostnme: unknown key, ignored: did you mean hostname? [unknown-key]")
    );
    let missing = sandbox.brig(&["lint", "/nonexistent"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("/nonexistent"), "{missing:?}");
    // Nothing was created.
    assert!(!sandbox.state_root().exists());
}

#[test]
fn a_file_and_stdin_are_read_as_a_bundle_is() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["process"]["cwd"] = json!("tmp"));
    let file = sandbox.bundle().join("config.json");
    let of = |text: &str| text.lines().next().unwrap().split_once(": ").unwrap().1.to_owned();
    let by_bundle = linted(&sandbox, &[]);
    let by_file = sandbox.brig(&["lint", file.to_str().unwrap()]);
    assert_eq!((by_bundle.code, &by_bundle.stdout), (Some(2), &by_file.stdout));
    let mut command = sandbox.command(&["lint", "-"]);
    command.stdin(File::open(&file).unwrap());
    let piped = command.output().unwrap();
    let piped = String::from_utf8(piped.stdout).unwrap();
    assert!(piped.starts_with("stdin:"), "{piped}");
    let error = "error: process.cwd: \"tmp\" is not an absolute path [config]";
    assert_eq!((of(&piped), of(&by_file.stdout)), (error.into(), error.into()));
}

#[test]
fn programs_get_json_sarif_or_workflow_commands() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["hostnme"] = json!("x"));
    let json: Value =
        serde_json::from_str(&linted(&sandbox, &["--format", "json"]).stdout).unwrap();
    let found =
        json.as_array().unwrap().iter().find(|found| found["rule"] == "unknown-key").unwrap();
    assert_eq!((&found["severity"], &found["place"]), (&json!("error"), &json!("hostnme")));
    let line = fs::read_to_string(sandbox.bundle().join("config.json")).unwrap();
    let line = line.lines().position(|line| line.contains("hostnme")).unwrap() + 1;
    assert_eq!(found["line"], line);
    let sarif: Value =
        serde_json::from_str(&linted(&sandbox, &["--format", "sarif"]).stdout).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let github = linted(&sandbox, &["--format", "github"]).stdout;
    assert!(
        github.contains(&format!(",line={line},col=3,title=unknown-key::hostnme: ")),
        "{github}"
    );
}

#[test]
fn only_here_are_the_host_and_the_files_of_the_bundle_looked_at() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["root"]["path"] = json!("nowhere");
        config["hooks"]["poststop"] = json!([{ "path": "/nonexistent/hook" }]);
        let bind =
            json!({ "destination": "/data", "source": "/nonexistent/data", "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(bind);
    });
    assert_eq!(linted(&sandbox, &[]).code, Some(0));
    let done = linted(&sandbox, &["--here"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    for said in [
        "root.path: ",
        "hooks.poststop[0].path: /nonexistent/hook: ",
        "source: /nonexistent/data: ",
    ] {
        assert!(done.stdout.contains(said), "{said}: {done:?}");
    }
}

#[test]
fn a_config_that_lint_finds_no_error_in_is_created() {
    brig_only!();
    let sandbox = Sandbox::new();
    assert_eq!(linted(&sandbox, &["--here"]).code, Some(0));
    sandbox.create();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
}

#[test]
fn strict_refuses_what_lint_calls_an_error_and_makes_nothing() {
    brig_only!();
    let sandbox = Sandbox::new();
    // Not a warning, and only ignored without --strict.
    sandbox.patch(|config| {
        config["hostnme"] = json!("x");
        config["linux"]["maskedpath"] = json!([]);
        config["frobnicate"] = json!(1);
    });
    for command in ["create", "run"] {
        let bundle = sandbox.bundle();
        let args = [command, "--strict", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        let error = sandbox.brig(&args).fails_with("hostnme (config.json line ");
        assert!(error.contains("did you mean hostname? (--strict, 1 more: "), "{error}");
        assert!(!sandbox.state_root().exists(), "{command}");
    }
    sandbox.create();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    // Warnings are not errors.
    sandbox.patch(|config| {
        config.as_object_mut().unwrap().remove("hostnme");
        config["linux"].as_object_mut().unwrap().remove("maskedpath");
    });
    sandbox.create_with(&["--strict"]).ok();
}
