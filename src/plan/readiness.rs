//! How the container's init reports its readiness to brig, sd_notify(3): with a socket in a directory that
//! brig mounts in the container, and whose path is in the environment.

use crate::spec::{Mount, Spec};
use oci_spec::runtime::LinuxNamespaceType;
use std::ffi::CString;
use std::path::Path;

/// The directory, below the state directory.
pub const DIRECTORY: &str = "notify";
/// The socket in it.
pub const SOCKET: &str = "notify.sock";
/// The directory as seen in the container.
pub const TARGET: &str = "/run/notify";

/// The mount for a socket below the state directory `state`; None if nothing can be mounted there.
pub(super) fn mount(spec: &Spec, state: &Path) -> Option<Mount> {
    let own = |typ, path: &Option<_>| typ == LinuxNamespaceType::Mount && path.is_none();
    let mut namespaces = spec.linux.namespaces.iter();
    namespaces.find(|namespace| own(namespace.typ(), namespace.path()))?;
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
    Some(Mount {
        destination: TARGET.into(),
        source: Some(state.join(DIRECTORY)),
        options: options.map(String::from).to_vec(),
        ..Mount::default()
    })
}

/// Adds NOTIFY_SOCKET to the environment.
pub(super) fn add_variable(env: &mut Vec<CString>) {
    env.retain(|entry| !entry.as_bytes().starts_with(b"NOTIFY_SOCKET="));
    // It contains no NUL byte, so the conversion cannot fail.
    env.extend(CString::new(format!("NOTIFY_SOCKET={TARGET}/{SOCKET}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_mounted_where_something_can_be_mounted() {
        let mount = |namespaces: &str| {
            let linux = format!(r#"{{"namespaces":{namespaces}}}"#);
            let spec = format!(r#"{{"ociVersion":"1.3.0","linux":{linux}}}"#);
            mount(&serde_json::from_str(&spec).unwrap(), Path::new("/run/brig/x"))
        };
        let mounted = mount(r#"[{"type":"mount"}]"#).unwrap();
        assert_eq!(mounted.source.as_deref(), Some(Path::new("/run/brig/x/notify")));
        assert!(mount(r#"[{"type":"mount","path":"/proc/1/ns/mnt"}]"#).is_none());
        assert!(mount(r#"[{"type":"pid"}]"#).is_none());
    }

    #[test]
    fn the_environment_names_one_socket() {
        let mut env = vec![c"NOTIFY_SOCKET=/x".to_owned(), c"A=1".to_owned()];
        add_variable(&mut env);
        assert_eq!(env, [c"A=1".to_owned(), c"NOTIFY_SOCKET=/run/notify/notify.sock".to_owned()]);
    }
}
