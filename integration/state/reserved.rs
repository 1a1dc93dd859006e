//! An id belongs to one container, whatever other processes create or remove its state directory
//! concurrently.

use crate::sandbox::{Sandbox, brig_only};
use crate::tracer::run_and_stop_at;

/// Right after create has created the state directory, and before it has locked it.
fn between_making_and_locking() -> impl FnMut(i64, u64) -> bool {
    let mut made = false;
    move |call, _| {
        let opens = made && call == libc::SYS_openat;
        // aarch64 has no mkdir.
        #[cfg(target_arch = "x86_64")]
        let makes = call == libc::SYS_mkdir;
        #[cfg(not(target_arch = "x86_64"))]
        let makes = call == libc::SYS_mkdirat;
        made |= makes;
        opens
    }
}

/// Creates a container, and runs something else at that point. Returns the exit code of create.
fn create_and_meanwhile(sandbox: &Sandbox, meanwhile: impl FnOnce()) -> Option<i32> {
    // The state root exists.
    std::fs::create_dir_all(sandbox.state_root()).unwrap();
    let bundle = sandbox.bundle().display().to_string();
    let command = sandbox.command(&["create", "--bundle", &bundle, &sandbox.id]);
    run_and_stop_at(sandbox, command, between_making_and_locking(), meanwhile)
}

#[test]
fn a_create_whose_directory_is_removed_before_it_is_locked_makes_it_again() {
    brig_only!();
    let sandbox = Sandbox::new();
    let code = create_and_meanwhile(&sandbox, || {
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    });
    assert_eq!(code, Some(0));
    assert_eq!(sandbox.status(), "created");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_create_does_not_take_the_directory_of_another_create_for_its_own() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let code = create_and_meanwhile(&sandbox, || {
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        sandbox.create();
    });
    assert_eq!(code, Some(1));
    // The other's container is complete.
    assert_eq!(sandbox.status(), "created");
    sandbox.start();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}
