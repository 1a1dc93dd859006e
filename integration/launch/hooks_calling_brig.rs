//! Hooks that call brig for their own container.

use super::hooks::{set, shell};
use crate::sandbox::{Sandbox, brig_only, runtime};
use serde_json::{Value, json};
use std::fs;

/// The command with which a hook reaches this sandbox's containers.
fn brig(sandbox: &Sandbox) -> String {
    format!("{} --root {}", runtime().display(), sandbox.state_root().display())
}

#[test]
fn a_hook_may_ask_for_the_state_and_kill_at_once() {
    brig_only!();
    let sandbox = Sandbox::new();
    let brig = brig(&sandbox);
    let dir = sandbox.dir.display().to_string();
    let id = sandbox.id.clone();
    set(
        &sandbox,
        "createRuntime",
        &[shell(&format!(
            "{brig} state {id} > {dir}/seen; {brig} list -q > {dir}/list; {brig} kill {id} KILL"
        ))],
    );
    let done = sandbox.script("true").create_with(&[]);
    assert_eq!(done.code, Some(1), "its init was killed: {done:?}");
    let state: Value =
        serde_json::from_slice(&fs::read(sandbox.dir.join("seen")).unwrap()).unwrap();
    assert_eq!(state["status"], "creating");
    assert!(state["pid"].as_i64().unwrap() > 0);
    assert_eq!(fs::read_to_string(sandbox.dir.join("list")).unwrap().trim(), id);
    sandbox.assert_nothing_left();
}

#[test]
fn a_hook_that_would_delete_what_is_being_created_is_told_so_soon() {
    brig_only!();
    let sandbox = Sandbox::new();
    let brig = brig(&sandbox);
    let (dir, id) = (sandbox.dir.display().to_string(), sandbox.id.clone());
    for kind in ["createRuntime", "createContainer"] {
        let delete = format!("{brig} delete --force {id} 2> {dir}/said; echo $? >> {dir}/said");
        sandbox.patch(|config| config["hooks"] = json!({kind: [shell(&delete)]}));
        let before = std::time::Instant::now();
        sandbox.script("true").create();
        let said = fs::read_to_string(sandbox.dir.join("said")).unwrap();
        assert!(said.contains("a hook cannot change or delete"), "{kind}: {said}");
        assert!(said.ends_with("\n1\n"), "{kind}: {said}");
        assert!(before.elapsed().as_secs() < 8, "{kind}");
        assert_eq!(sandbox.status(), "created");
        sandbox.delete();
    }
}

#[test]
fn a_poststart_hook_may_update_and_delete() {
    let sandbox = Sandbox::new();
    let brig = brig(&sandbox);
    let id = sandbox.id.clone();
    let hook = format!("{brig} update --pids-limit 77 {id} && {brig} delete --force {id}");
    set(&sandbox, "poststart", &[shell(&hook)]);
    sandbox.script("sleep 60").create();
    let before = std::time::Instant::now();
    sandbox.brig(&["start", &sandbox.id]).ok();
    assert!(before.elapsed().as_secs() < 8);
    sandbox.assert_nothing_left();
    // run does not miss what the hook has deleted.
    brig_only!();
    let done = sandbox.run_with(&[]);
    assert_eq!(done.code, Some(137), "{done:?}");
    sandbox.assert_nothing_left();
}
