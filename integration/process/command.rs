//! `process.args`: how the program is found, and error messages.

use crate::run::make_executable;
use crate::sandbox::Sandbox;
use serde_json::json;

#[track_caller]
fn create_fails(sandbox: &Sandbox, message: &str) {
    sandbox.create_with(&[]).fails_with(message);
    sandbox.assert_nothing_left();
}

#[test]
fn a_name_is_looked_up_in_the_containers_path() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.rootfs().join("opt/tools")).unwrap();
    sandbox.add_init("opt/tools/tool");
    sandbox.patch(|config| config["process"]["env"] = json!(["PATH=/nowhere:/opt/tools"]));
    sandbox.args(&["tool", "args", ";", "link", "/proc/self/exe"]);
    let facts = crate::facts::Facts::parse(&sandbox.run().ok().stdout);
    assert_eq!(facts.get("arg 0"), "tool");
    assert_eq!(facts.get("link /proc/self/exe"), "/opt/tools/tool");
}

#[test]
fn the_lookup_goes_on_behind_a_file_that_is_not_executable() {
    let sandbox = Sandbox::new();
    sandbox.add_file("opt/tool", "no program");
    sandbox.add_init("bin/tool");
    sandbox.patch(|config| config["process"]["env"] = json!(["PATH=/opt:/bin"]));
    sandbox.args(&["tool", "say", "found"]);
    assert_eq!(sandbox.run().ok().stdout, "found\n");
}

#[test]
fn a_path_is_relative_to_cwd() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.rootfs().join("opt/tools")).unwrap();
    sandbox.add_init("opt/tools/tool");
    sandbox.patch(|config| config["process"]["cwd"] = json!("/opt"));
    sandbox.args(&["tools/tool", "say", "found"]);
    assert_eq!(sandbox.run().ok().stdout, "found\n");
}

#[test]
fn a_name_that_is_nowhere_in_path_is_reported_by_create() {
    let sandbox = Sandbox::new();
    create_fails(
        sandbox.args(&["nosuchcommand"]),
        "exec: \"nosuchcommand\": executable file not found in $PATH",
    );
    create_fails(sandbox.args(&[""]), "exec: \"\": executable file not found in $PATH");
}

#[test]
fn a_path_that_does_not_exist_is_reported_by_create() {
    let sandbox = Sandbox::new();
    create_fails(
        sandbox.args(&["/no/such"]),
        "exec: \"/no/such\": stat /no/such: no such file or directory",
    );
}

#[test]
fn a_file_that_is_not_executable_is_reported_by_create() {
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/passwd", "root:x:0:0::/:/bin/sh\n");
    create_fails(sandbox.args(&["/etc/passwd"]), "exec: \"/etc/passwd\": permission denied");
}

#[test]
fn a_directory_is_reported_by_create() {
    let sandbox = Sandbox::new();
    create_fails(sandbox.args(&["/etc"]), "exec: \"/etc\": ");
}

#[test]
fn a_program_whose_interpreter_is_missing_is_reported_by_start() {
    let sandbox = Sandbox::new();
    sandbox.add_file("bin/broken", "#!/no/such/interpreter\n");
    make_executable(&sandbox, "bin/broken");
    sandbox.args(&["/bin/broken"]).create();
    if crate::sandbox::is_peer() {
        return crate::sandbox::skip("only brig's start knows of a failed execve");
    }
    sandbox.brig(&["start", &sandbox.id]).fails_with("no such file or directory");
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_file_of_no_executable_format_is_reported_by_start() {
    let sandbox = Sandbox::new();
    sandbox.add_file("bin/broken", "no program at all\n");
    make_executable(&sandbox, "bin/broken");
    sandbox.args(&["/bin/broken"]).create();
    if crate::sandbox::is_peer() {
        return crate::sandbox::skip("only brig's start knows of a failed execve");
    }
    sandbox.brig(&["start", &sandbox.id]).fails_with("exec format error");
    sandbox.wait_for_status("stopped");
}

#[test]
fn the_program_is_looked_up_with_the_users_rights() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.rootfs().join("secret")).unwrap();
    sandbox.add_init("secret/tool");
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(sandbox.rootfs().join("secret"), closed).unwrap();
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        config["process"].as_object_mut().unwrap().remove("capabilities");
    });
    create_fails(sandbox.args(&["/secret/tool"]), "permission denied");
}
