//! create, start, state, kill, delete, list: the life of a container, and what is refused when.

use crate::sandbox::Sandbox;

#[test]
fn create_start_delete_is_a_whole_life() {
    let sandbox = Sandbox::new();
    sandbox.script("say hello ; sleep 60").create();
    assert_eq!(sandbox.status(), "created");
    sandbox.start();
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn facts_are_told() {
    let sandbox = Sandbox::new();
    let facts = sandbox.facts("args ; env ; ids ; pid ; group ; umask ; status CapEff SigIgn NoNewPrivs ; rlimits ; fds ; cwd ; uname ; ns ; mounts ; cgroups ; ifaces ; affinity ; keyring ; stat /dev/null ; stat /nope ; list / ; read /proc/sys/kernel/ostype ; link /proc/self/exe ; statfs /dev ; write /tmp/x y ; open /dev/null rw ; mkdir /tmp/d ; mknod /tmp/n c 1 3 ; open /tmp/n r ; burn 0.1 ; hog 1000000 ; forks 3 ; raise CHLD ; umount /proc/sys ; fill /dev/shm/x 100000000");
    println!("{facts}");
    panic!();
}
