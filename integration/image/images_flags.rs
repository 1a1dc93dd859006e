//! `run --image` and its flags in real containers, and what these may not do by default.

use crate::facts::Facts;
use crate::images::{Images, base};
use crate::layout::Archive;
use crate::sandbox::{Done, brig_only, skip};
use serde_json::json;
use std::fs;
use std::path::Path;

struct Flagged {
    images: Images,
    image: String,
}

impl Flagged {
    fn new() -> Flagged {
        let images = Images::new();
        let mut layout = images.layout("image");
        layout.layer(base()).layer(Archive::new().dir("var/").dir("var/tmp/").dir("run/"));
        let config =
            json!({"Entrypoint": ["/init"], "Cmd": ["exit", "7"], "Env": ["PATH=/", "A=image"]});
        let image = layout.finish("v1", &config);
        Flagged { images, image }
    }

    fn run(&self, flags: &[&str], script: &str) -> Done {
        let id = self.images.sandbox.id.as_str();
        let mark = format!("BRIG_TEST={id}");
        let words: Vec<&str> = script.split_whitespace().collect();
        let front = ["run", "--image", &self.image, "-e", &mark];
        self.images.brig(&[&front, flags, &[id, "--"], &words].concat())
    }

    #[track_caller]
    fn facts(&self, flags: &[&str], script: &str) -> Facts {
        Facts::parse(&self.run(flags, script).ok().stdout)
    }
}

#[test]
fn containers_of_images_are_confined_unless_asked() {
    brig_only!();
    let flagged = Flagged::new();
    let plain = flagged.facts(&[], "status Seccomp NoNewPrivs");
    assert_eq!(plain.get("Seccomp"), "2");
    assert_eq!(plain.get("NoNewPrivs"), "0");
    let facts = flagged.facts(
        &["--security-opt", "seccomp=unconfined", "--no-new-privs"],
        "status Seccomp NoNewPrivs",
    );
    assert_eq!((facts.get("Seccomp"), facts.get("NoNewPrivs")), ("0", "1"));
    flagged.images.sandbox.assert_nothing_left();
}

#[test]
fn a_profile_of_a_file_is_in_force_and_one_that_never_ends_is_refused() {
    brig_only!();
    let flagged = Flagged::new();
    let file = flagged.images.sandbox.dir.join("profile.json");
    // In docker's format: the entry takes effect only without the capability.
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errno": "ENOTTY",
            "excludes": {"caps": ["CAP_NET_RAW"]}}],
    });
    fs::write(&file, profile.to_string()).unwrap();
    let option = format!("seccomp={}", file.display());
    let facts = flagged.facts(&["--security-opt", &option], "mkdir /tmp/x");
    assert!(facts.get("mkdir /tmp/x").contains("ENOTTY"));
    let facts = flagged.facts(&["--security-opt", &option, "--cap-add", "net_raw"], "mkdir /tmp/x");
    assert!(!facts.get("mkdir /tmp/x").contains("ENOTTY"));
    let fifo = flagged.images.sandbox.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in ["/dev/zero", fifo.to_str().unwrap()] {
        let option = format!("seccomp={path}");
        flagged.run(&["--security-opt", &option], "true").fails_with("is not a regular file");
        flagged.run(&["--env-file", path], "true").fails_with("is not a regular file");
    }
}

#[test]
fn flags_change_what_podmans_do() {
    brig_only!();
    let flagged = Flagged::new();
    let dir = flagged.images.sandbox.dir.join("data");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "host").unwrap();
    let file = flagged.images.sandbox.dir.join("variables");
    fs::write(&file, "# a comment\nA=file\nB=file\n\n").unwrap();
    let volume = format!("{}:/srv:ro", dir.display());
    let facts = flagged.facts(
        &["--env-file", file.to_str().unwrap(), "-e", "B=flag", "-v", &volume, "-w", "/tmp",
            "-u", "web", "--hostname", "h", "--add-host", "db:10.0.0.5", "--read-only",
            "--group-add", "tape", "--tmpfs", "/opt:size=64k"],
        "env ; cwd ; ids ; read /srv/f ; write /srv/x y ; write /new x ; mounts ; read /etc/hosts ; uname",
    );
    let env = facts.all("env");
    assert!(env.contains(&"A=file") && env.contains(&"B=flag"), "{env:?}");
    assert_eq!(facts.get("cwd"), "/tmp");
    assert_eq!(facts.get("read /srv/f"), "\"host\"");
    assert!(facts.get("write /new").contains("EROFS"));
    assert!(facts.mount("/srv").has("ro") && facts.mount("/opt").has("noexec"));
    assert!(!facts.mount("/run").has("ro") && facts.mount("/").has("ro"));
    assert!(facts.get("read /etc/hosts").contains("10.0.0.5\\tdb"));
    assert!(!dir.join("x").exists());
    flagged.images.sandbox.assert_nothing_left();
}

#[test]
fn an_init_of_the_host_starts_the_program_and_ends_as_it_does() {
    brig_only!();
    let known = ["/usr/libexec/podman/catatonit", "/usr/bin/catatonit", "/usr/bin/tini-static"];
    if !known.iter().any(|path| Path::new(path).exists()) {
        return skip("no catatonit and no tini-static on this host");
    }
    let flagged = Flagged::new();
    let facts = flagged.facts(&["--init", "--read-only"], "pid ; mounts");
    assert_eq!(facts.get("pid"), "2 ppid 1");
    assert!(facts.mount("/run/brig-init").has("ro"));
    assert_eq!(flagged.run(&["--init"], "exit 9").code, Some(9));
    // Its mount point is not a change of the container.
    let id = flagged.images.sandbox.id.as_str();
    flagged.run(&["--init", "--keep"], "true").ok();
    assert_eq!(flagged.images.brig(&["diff", id]).ok().stdout, "");
    flagged.images.brig(&["delete", id]).ok();
    flagged.images.sandbox.assert_nothing_left();
}

#[test]
fn a_directory_of_devices_is_all_devices_in_it() {
    brig_only!();
    let flagged = Flagged::new();
    let dir = flagged.images.sandbox.dir.join("devices");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    std::os::unix::fs::symlink("/dev/null", dir.join("link")).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o640);
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod(&dir.join("sub/n"), nix::sys::stat::SFlag::S_IFCHR, mode, null).unwrap();
    let device = format!("{}:/dev/q:rw", dir.display());
    let facts = flagged.facts(&["--device", &device], "write /dev/q/sub/n x ; list /dev/q");
    assert!(facts.get("write /dev/q/sub/n").contains("ok"));
    assert_eq!(facts.get("list /dev/q"), "1", "neither the file nor the link");
    flagged.images.sandbox.assert_nothing_left();
}

#[test]
fn proc_is_mounted_as_engines_do_and_a_new_volume_is_no_directory_for_all() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().raw(b'5', b"tmp/", b"", 0o1777, b""));
    let volumes = json!({"/tmp": {}, "/new": {}, "/dev/shm": {}, "/sys/fs/cgroup": {}});
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"], "Volumes": volumes}));
    let bundle = images.bundle(&image, "bundle-of-volumes");
    let facts = images.facts(&bundle, "mounts ; stat /new ; stat /tmp ; stat /dev/shm");
    let proc = facts.mount("/proc");
    assert!(proc.has("nosuid") && proc.has("noexec") && proc.has("nodev"));
    assert!(facts.get("stat /new").contains("755"), "{}", facts.get("stat /new"));
    assert!(facts.get("stat /tmp").contains("1777"), "{}", facts.get("stat /tmp"));
    // A volume hides no mount that every container has.
    assert!(facts.get("stat /dev/shm").contains("1777"), "{}", facts.get("stat /dev/shm"));
    assert_eq!(facts.mounts().iter().filter(|mount| mount.target == "/dev/shm").count(), 1);
}

#[test]
fn without_a_word_before_the_dashes_the_container_gets_a_name_and_says_it() {
    brig_only!();
    let flagged = Flagged::new();
    let run =
        |args: &[&str]| flagged.images.brig(&[&["run", "--image", &flagged.image], args].concat());
    let facts = Facts::parse(&run(&["--", "read", "/etc/hostname"]).ok().stdout);
    assert_eq!(facts.get("read /etc/hostname").len(), 12 + 4);
    assert_eq!(run(&[]).code, Some(7), "the image's own arguments");
    run(&[""]).fails_with("container id cannot be empty");
    run(&["--name", "a", "b"]).fails_with("give either --name or an ID, not both");
    run(&["--rm", "--detach"]).fails_with("brig delete");
    run(&["-p", "80:80"]).fails_with("docs/images.md");
    flagged.images.brig(&["run", "--env", "A=b", "x"]).fails_with("needs --image");
    // The id is the name of a program in the image.
    let done = run(&["init"]);
    assert!(done.stderr.contains("-- init`"), "{done:?}");
    let mark = format!("BRIG_TEST={}", flagged.images.sandbox.id);
    let done = run(&["-e", &mark, "-d", "--", "sleep", "60"]).ok();
    let name = done.stdout.trim();
    assert!(name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    flagged.images.brig(&["delete", "-f", name]).ok();
}

#[test]
fn networks_are_none_the_hosts_a_path_or_another_containers() {
    brig_only!();
    let flagged = Flagged::new();
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let of = |network: &str| {
        let facts = flagged.facts(&["--network", network], "link /proc/self/ns/net");
        facts.get("link /proc/self/ns/net").to_owned()
    };
    let host = host.to_str().unwrap();
    assert_ne!(of("none"), host);
    assert_eq!(of("host"), host);
    assert_eq!(of("ns:/proc/self/ns/net"), host);
    let other = format!("{}-other", flagged.images.sandbox.id);
    let mark = format!("BRIG_TEST={}", flagged.images.sandbox.id);
    let args = ["run", "-d", "-e", &mark, "--image", &flagged.image, &other, "--", "sleep", "60"];
    flagged.images.brig(&args).ok();
    let state: serde_json::Value =
        serde_json::from_str(&flagged.images.brig(&["state", &other]).ok().stdout).unwrap();
    let theirs = fs::read_link(Path::new("/proc").join(state["pid"].to_string()).join("ns/net"));
    assert_eq!(of(&format!("container:{other}")), theirs.unwrap().to_str().unwrap());
    flagged.images.brig(&["delete", "-f", &other]).ok();
    flagged.run(&["--network", &format!("container:{other}")], "true").fails_with("does not exist");
    flagged.run(&["--network", "bridge"], "true").fails_with("docs/images.md");
}

#[test]
fn images_are_inspected_tagged_and_removed() {
    brig_only!();
    let flagged = Flagged::new();
    let brig = |args: &[&str]| flagged.images.brig(args);
    let bundle = flagged.images.bundle(&flagged.image, "bundle-of-it");
    let listed = || -> serde_json::Value {
        serde_json::from_str(&brig(&["images", "--format", "json"]).ok().stdout).unwrap()
    };
    let name = listed()[0]["name"].as_str().unwrap().to_owned();
    let all: serde_json::Value =
        serde_json::from_str(&brig(&["images", "--inspect", &name]).ok().stdout).unwrap();
    assert_eq!(all["config"]["Entrypoint"], json!(["/init"]));
    assert_eq!(all["layers"].as_array().unwrap().len(), 2);
    assert!(all["bytes"].as_u64().unwrap() > 1000 && all["names"] == json!([name]), "{all}");
    brig(&["tag", &flagged.image, "v2"]).ok();
    let layout = flagged.images.sandbox.dir.join("image");
    brig(&["run", "--image", &format!("{}:v2", layout.display()), "--", "true"]).ok();
    let refused = brig(&["rmi", all["id"].as_str().unwrap()]).fails();
    assert!(refused.contains("bundle-of-it"), "{refused}");
    fs::remove_dir_all(&bundle).unwrap();
    let removed = brig(&["rmi", &all["id"].as_str().unwrap()[..20]]).ok().stdout;
    assert!(removed.starts_with("removed sha256:"), "{removed}");
    assert_eq!(listed(), json!([]));
    assert_eq!(fs::read_dir(flagged.images.store().join("layers")).unwrap().count(), 0);
    brig(&["rmi", "nothing"]).fails_with("no such image");
}

/// The line of a text that contains a word.
fn line_with<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in {text}"))
}

#[test]
fn people_get_short_digests_sizes_and_ages_and_programs_whole_ones() {
    brig_only!();
    let flagged = Flagged::new();
    let brig = |args: &[&str]| flagged.images.brig(args).ok().stdout;
    flagged.images.bundle(&flagged.image, "bundle-of-it");
    for (command, made) in [("images", "CREATED"), ("layers", "UNPACKED")] {
        let json: serde_json::Value =
            serde_json::from_str(&brig(&[command, "--format", "json"])).unwrap();
        let whole = json[0]["id"].as_str().unwrap();
        assert_eq!(whole.len(), "sha256:".len() + 64);
        let short = &whole["sha256:".len()..][..12];
        let table = brig(&[command]);
        let head = table.lines().next().unwrap();
        assert!(head.contains("SIZE") && head.ends_with(made), "{table}");
        let line = line_with(&table, short);
        assert!(!table.contains(whole) && line.contains("B  "), "{table}");
        assert!(line.ends_with(" ago") || line.ends_with("  -"), "{table}");
        assert_eq!(line_with(&brig(&[command, "-q"]), short), short);
        assert_eq!(line_with(&brig(&[command, "-q", "--no-trunc"]), short), whole);
        assert!(brig(&[command, "--no-trunc"]).contains(whole));
    }
    let listed: serde_json::Value =
        serde_json::from_str(&brig(&["layers", "--format", "json"])).unwrap();
    let times: Vec<_> =
        listed.as_array().unwrap().iter().map(|row| row["unpacked"].as_str()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
}

#[test]
fn a_short_digest_is_enough_unless_it_is_of_several() {
    brig_only!();
    let flagged = Flagged::new();
    let images = &flagged.images;
    images.bundle(&flagged.image, "bundle-of-it");
    let dir = images.sandbox.dir.join("image");
    let index = dir.join("index.json");
    let mut listed: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let digest = listed["manifests"][0]["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let short = |length: usize| format!("{}@{}", dir.display(), &digest[..length]);
    images.brig(&["run", "--image", &short(12), "--", "true"]).ok();
    images.brig(&["tag", &short(6), "by-digest"]).ok();
    images.brig(&["run", "--image", &short(5), "--", "true"]).fails_with("is not a digest");
    // Another manifest whose digest begins the same.
    listed = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let other = format!("sha256:{}{}", &digest[..12], "0".repeat(52));
    let mut second = listed["manifests"][0].clone();
    second["digest"] = json!(other);
    listed["manifests"].as_array_mut().unwrap().push(second);
    fs::write(&index, listed.to_string()).unwrap();
    let said =
        images.brig(&["run", "--image", &short(12), "--", "true"]).fails_with("is ambiguous");
    assert!(said.contains(&digest) && said.contains(&other), "{said}");
    let said = images.brig(&["tag", &short(6), "x"]).fails_with("is ambiguous");
    assert!(said.contains(&other), "{said}");
    images.brig(&["run", "--image", &short(64), "--", "true"]).ok();

    // Two images of the store whose ids begin the same.
    let id = images.brig(&["images", "--quiet"]).ok().stdout.trim().to_owned();
    let twin = format!("{id}{}", "0".repeat(52));
    let record = json!({"id": format!("sha256:{twin}"), "names": ["twin"], "source": "/nowhere",
        "config": "{}", "layers": [], "blobs": []});
    let path = images.store().join(format!("images/sha256-{twin}.json"));
    fs::write(path, record.to_string()).unwrap();
    for args in [vec!["rmi", &id], vec!["images", "--inspect", &id]] {
        let said = images.brig(&args).fails_with("is ambiguous");
        assert!(said.contains(&twin), "{said}");
    }
    assert!(images.brig(&["rmi", &twin]).ok().stdout.starts_with("removed sha256:"));
    images.brig(&["images", "--inspect", &id]).ok();
}
