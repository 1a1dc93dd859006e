//! What engines send, word for word, and what they read in the answers: recorded from podman, conmon,
//! buildah, containerd, docker and CRI-O. `make test-engines` has the engines themselves.

use crate::sandbox::Sandbox;
use nix::mount::{MsFlags, mount};
use serde_json::json;

#[test]
fn a_shared_volume_in_a_shared_root_stays_of_one_peer_group_with_the_hosts() {
    let sandbox = Sandbox::new();
    let volume = sandbox.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let none = None::<&str>;
    mount(Some("volume"), &volume, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, &volume, none, MsFlags::MS_SHARED, none).unwrap();
    sandbox.patch(|config| {
        config["linux"]["rootfsPropagation"] = json!("rshared");
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/volume", "source": volume,
            "options": ["rbind", "rshared"]}));
    });
    let facts = sandbox.facts("mounts");
    let inside = facts.mount("/volume").propagation.join(" ");
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let line = text.lines().find(|line| line.contains(volume.to_str().unwrap())).unwrap();
    nix::mount::umount(&volume).unwrap();
    assert!(inside.starts_with("shared:"), "{inside:?}");
    assert!(line.contains(&format!(" {inside} - ")), "{inside:?} is not in {line}");
}
