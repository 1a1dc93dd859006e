//! brig or its child is killed at every single system call of create: `delete --force` must remove everything
//! that is left.
//!
//! `BRIG_TEST_STRIDE=n` tries only every n-th call, with a different start in each run.

use crate::sandbox::{Sandbox, brig_only};
use crate::tracer::{Strike, Traced, Whose, run};
use serde_json::json;
use std::fs;

/// A configuration that uses most features of create, including a change of user.
fn eventful() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
        config["linux"]["cgroupsPath"] = json!(format!("/{0}-above/{0}", sandbox.id));
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        config["linux"]["resources"]["pids"] = json!({"limit": 20});
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    sandbox
}

/// The same with a root made of layers and an upper in memory.
fn layered() -> Sandbox {
    let sandbox = eventful();
    fs::rename(sandbox.rootfs(), sandbox.bundle().join("base")).unwrap();
    sandbox.patch(|config| config["annotations"] = json!({"run.brig.overlay.layers": "base"}));
    sandbox
}

/// Kills at call number `at` of create, then deletes by force.
fn struck(sandbox: &Sandbox, whose: Whose, at: usize, strike: Strike) -> Traced {
    let bundle = sandbox.bundle();
    let command = sandbox.command(&["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    let traced = run(sandbox, command, whose, at, strike);
    let what =
        || format!("killing {strike:?} at call {at} of {whose:?} ({:?})", traced.calls.last());
    // The child's last call, at the gate, can occur after create has finished.
    if strike == Strike::Child && traced.reached && traced.code != Some(0) {
        // If brig survives, it must clean up itself.
        assert_eq!(traced.code, Some(1), "{}", what());
        let left = sandbox.leftovers();
        assert!(left.is_empty(), "{} leaves {left:#?}", what());
        return traced;
    }
    let deleted = sandbox.brig(&["delete", "--force", &sandbox.id]);
    assert_eq!((deleted.code, deleted.stderr.as_str()), (Some(0), ""), "after {}", what());
    let left = sandbox.leftovers();
    assert!(left.is_empty(), "after {} delete leaves {left:#?}", what());
    traced
}

/// Kills at every call until create succeeds; returns the calls of the last, complete run.
fn everywhere(sandbox: &Sandbox, whose: Whose, strikes: &[Strike]) -> Vec<i64> {
    let stride = std::env::var("BRIG_TEST_STRIDE").map_or(1, |stride| stride.parse().unwrap());
    let start = usize::try_from(std::process::id()).unwrap() % stride;
    for at in (1 + start..).step_by(stride) {
        let traced = struck(sandbox, whose, at, strikes[at / stride % strikes.len()]);
        assert!(traced.reached || traced.code == Some(0), "create fails under the tracer alone");
        if !traced.reached {
            assert!(traced.calls.len() > 50, "only {} calls", traced.calls.len());
            eprintln!("{} calls of {whose:?}", traced.calls.len());
            return traced.calls;
        }
    }
    unreachable!()
}

#[test]
fn brig_killed_at_any_of_its_calls_leaves_nothing_that_force_does_not_delete() {
    brig_only!();
    everywhere(&eventful(), Whose::Parent, &[Strike::Parent]);
}

#[test]
fn brig_killed_at_any_call_of_its_child_leaves_nothing_that_force_does_not_delete() {
    brig_only!();
    let strikes = [Strike::Parent, Strike::ParentAndFreezeChild];
    let calls = everywhere(&layered(), Whose::Child, &strikes);
    // setuid clears PDEATHSIG: some of the kills must come after it.
    let ids = [libc::SYS_setuid, libc::SYS_setresuid];
    let at = calls.iter().position(|call| ids.contains(call));
    assert!(at.is_some_and(|at| at + 5 < calls.len()), "no change of user in {calls:?}");
}

#[test]
fn a_child_killed_at_any_of_its_calls_makes_create_fail_and_leave_nothing() {
    brig_only!();
    everywhere(&layered(), Whose::Child, &[Strike::Child]);
}

/// Only cgroup2, where the child is cloned into its cgroup: frozen before its first call it has a copy of
/// brig's lock.
#[test]
fn a_child_that_is_frozen_at_birth_does_not_keep_force_from_deleting() {
    brig_only!();
    match crate::host::controller("pids") {
        Some((crate::host::Version::V2, _)) => {}
        _ => return crate::sandbox::skip("no cgroup2 with controllers"),
    }
    let traced = struck(&eventful(), Whose::Child, 1, Strike::ParentAndFreezeChild);
    assert!(traced.reached, "{traced:?}");
}
