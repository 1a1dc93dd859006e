//! /etc/hosts, hostname, resolv.conf and mtab where the image's links lead: always inside the root filesystem.

use crate::facts::Facts;
use crate::images::{Images, base};
use crate::layout::Archive;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::json;
use std::fs;
use std::path::Path;

/// A base layer without /etc.
fn without_etc() -> Archive {
    let init = fs::read(crate::sandbox::init()).unwrap();
    Archive::new().dir("./").program("init", &init)
}

/// What a container of an image with these layers says, with these flags.
fn said(images: &Images, name: &str, layers: &[Archive], flags: &[&str], script: &str) -> Facts {
    let mut layout = images.layout(name);
    for layer in layers {
        layout.layer(layer.clone());
    }
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let id = images.sandbox.id.as_str();
    let run = ["run", "--hostname", "named", "--image", &image];
    let script: Vec<&str> = script.split(' ').collect();
    Facts::parse(&images.brig(&[&run[..], flags, &[id, "--"], &script].concat()).ok().stdout)
}

/// A sentinel: links that lead out of the image would lead here.
fn victim(sandbox: &Sandbox) -> String {
    let victim = sandbox.dir.join("victim");
    fs::create_dir(&victim).unwrap();
    victim.to_str().unwrap().to_owned()
}

#[test]
fn etc_may_be_a_link() {
    brig_only!();
    let images = Images::new();
    let real = Archive::new().dir("usr/").raw(b'5', b"usr/etc/", b"", 0o750, b"");
    let script = "read /etc/hostname ; read /usr/etc/hosts ; stat /etc/resolv.conf ; link /etc/mtab \
                  ; stat /usr/etc ; link /etc";
    for (name, link) in
        [("relative", "usr/etc"), ("absolute", "/usr/etc"), ("up", "../../usr/./etc")]
    {
        let layers = [without_etc(), real.clone().symlink("etc", link)];
        let facts = said(&images, name, &layers, &[], script);
        assert_eq!(facts.get("read /etc/hostname"), "\"named\\n\"", "{name}");
        assert!(facts.get("read /usr/etc/hosts").contains("localhost"), "{name}: {facts}");
        assert!(facts.get("stat /etc/resolv.conf").starts_with("file 0644 0 0"), "{name}: {facts}");
        assert_eq!(facts.get("link /etc/mtab"), "/proc/mounts", "{name}");
        assert!(facts.get("stat /usr/etc").starts_with("dir 0750 0 0"), "{name}: {facts}");
        assert_eq!(facts.get("link /etc"), link, "{name}");
    }
    // The directory may be missing, too.
    let layers = [without_etc(), Archive::new().symlink("etc", "var/lib/etc")];
    let facts = said(&images, "dangling", &layers, &[], "read /etc/hostname ; stat /var/lib/etc");
    assert_eq!(facts.get("read /etc/hostname"), "\"named\\n\"");
    assert!(facts.get("stat /var/lib/etc").starts_with("dir 0755 0 0"), "{facts}");
}

#[test]
fn a_link_in_etc_leads_to_the_file() {
    brig_only!();
    let images = Images::new();
    let victim = victim(&images.sandbox);
    let layer = Archive::new()
        .dir("etc/")
        // As systemd-resolved has it.
        .symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
        .pax(&[("linkpath", format!("../../../../..{victim}/hosts").as_bytes())])
        .symlink("etc/hosts", "replaced")
        .symlink("etc/hostname", "/etc/name")
        .file("etc/name", b"");
    let script = format!(
        "stat /run/systemd/resolve/stub-resolv.conf ; read {victim}/hosts ; read /etc/name ; \
         link /etc/hosts"
    );
    let facts = said(&images, "links", &[base(), layer], &[], &script);
    let resolv = facts.get("stat /run/systemd/resolve/stub-resolv.conf");
    assert!(resolv.starts_with("file 0644 0 0"), "{facts}");
    assert!(facts.get(&format!("read {victim}/hosts")).contains("localhost"), "{facts}");
    assert_eq!(facts.get("read /etc/name"), "\"named\\n\"");
    assert!(facts.get("link /etc/hosts").starts_with("../"), "{facts}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "something was written on the host");
}

#[test]
fn links_that_lead_to_no_file_are_the_images_choice() {
    brig_only!();
    let images = Images::new();
    let layer = Archive::new()
        .dir("etc/")
        .symlink("etc/resolv.conf", "/proc/net/pnp")
        .symlink("etc/hosts", "hosts")
        .symlink("etc/hostname", "passwd/name")
        .symlink("etc/mtab", "/dev/null");
    let script = "link /etc/resolv.conf ; stat /etc/hosts ; link /etc/hostname ; link /etc/mtab";
    let facts = said(&images, "choice", &[base(), layer.clone()], &[], script);
    assert_eq!(facts.get("link /etc/resolv.conf"), "/proc/net/pnp");
    assert!(facts.get("stat /etc/hosts").starts_with("symlink"), "{facts}");
    assert_eq!(facts.get("link /etc/hostname"), "passwd/name");
    assert_eq!(facts.get("link /etc/mtab"), "/dev/null");
    // But what the user asked for is written.
    let flags = ["--add-host", "db:10.0.0.5"];
    let facts = said(&images, "asked", &[base(), layer], &flags, "read /etc/hosts");
    assert!(facts.get("read /etc/hosts").contains("10.0.0.5\\tdb"), "{facts}");
    // Into the file that the image has behind its link.
    let layer =
        Archive::new().dir("etc/").symlink("etc/hosts", "real").file("etc/real", b"1.2.3.4 mine");
    let facts =
        said(&images, "added", &[base(), layer], &flags, "read /etc/real ; link /etc/hosts");
    assert_eq!(facts.get("read /etc/real"), "\"1.2.3.4 mine\\n10.0.0.5\\tdb\\n\"");
    assert_eq!(facts.get("link /etc/hosts"), "real");
}

#[test]
fn links_to_one_place_are_no_error() {
    brig_only!();
    let images = Images::new();
    for (name, hosts, hostname, resolv, read) in [
        ("same", "one", "one", "one", "/etc/one"),
        ("below", "one", "one/two", "one/two/three", "/etc/one"),
        ("above", "one/two", "one", "one", "/etc/one/two"),
    ] {
        let layer = Archive::new()
            .dir("etc/")
            .symlink("etc/hosts", hosts)
            .symlink("etc/hostname", hostname)
            .symlink("etc/resolv.conf", resolv);
        let facts = said(&images, name, &[base(), layer], &[], &format!("read {read}"));
        assert!(facts.get(&format!("read {read}")).contains("localhost"), "{name}: {facts}");
    }
    assert!(!Path::new("/etc/one").exists());
}
