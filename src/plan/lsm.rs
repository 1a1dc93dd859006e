//! Labels of security modules for the process and its mounts.

use super::Host;
use crate::spec::{self, Place};
use anyhow::{Result, anyhow};
use nix::sys::statfs::{FsType, statfs};
use std::collections::BTreeMap;
use std::ffi::CString;

/// A label to execute a process under.
#[derive(Debug)]
pub struct Label {
    /// Files in the process's directory of /proc: the first existing one is used.
    pub files: &'static [&'static str],
    /// The text to write.
    pub text: CString,
    /// Its place in config.json.
    pub place: &'static str,
    /// The error if the kernel does not know the label.
    pub missing: String,
}

/// The labels of `process`. A label for a module that is not enabled is an error.
///
/// # Errors
///
/// If the module is not enabled, or a label is not valid.
pub fn labels(spec: &spec::Process, host: &Host) -> Result<Vec<Label>> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut labels = Vec::new();
    if let Some(profile) = given(&spec.apparmor_profile) {
        labels.push(apparmor(&profile, host).at(APPARMOR)?);
    }
    if let Some(label) = given(&spec.selinux_label) {
        labels.push(selinux(&label, host).at(SELINUX)?);
    }
    Ok(labels)
}

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";

fn apparmor(profile: &str, host: &Host) -> Result<Label> {
    if !host.has_apparmor() {
        return Err(anyhow!(
            "{profile:?} has no effect, because AppArmor is not enabled on this host: remove it, or \
             boot with apparmor=1"
        ));
    }
    Ok(Label {
        // The first exists since Linux 5.8, and is AppArmor's even if another module comes before it.
        files: &["attr/apparmor/exec", "attr/exec"],
        text: text(&format!("exec {profile}"))?,
        place: APPARMOR,
        missing: format!("profile {profile:?} is not loaded (aa-status lists the loaded ones)"),
    })
}

fn selinux(label: &str, host: &Host) -> Result<Label> {
    if !host.has_selinux() {
        return Err(anyhow!(
            "{label:?} has no effect, because SELinux is not enabled on this host: remove it, or \
             boot with selinux=1"
        ));
    }
    Ok(Label {
        files: &["attr/exec"],
        text: text(label)?,
        place: SELINUX,
        missing: format!("the loaded policy does not define {label:?}"),
    })
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| anyhow!("contains a NUL byte"))
}

/// Queries whether AppArmor is enabled.
pub(super) fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether SELinux is enabled: then its filesystem is mounted here.
pub(super) fn has_selinux() -> bool {
    /// linux/magic.h
    const SELINUX_MAGIC: u32 = 0xf97c_ff8c;
    let kind = statfs("/sys/fs/selinux").map(|stat| stat.filesystem_type());
    kind == Ok(FsType(SELINUX_MAGIC.into()))
}

/// `linux.mountLabel`: the label of new filesystems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLabel {
    /// `context`, or the type given by the annotation.
    pub key: CString,
    /// The label.
    pub label: CString,
}

/// crun's annotation for it.
const CONTEXT_TYPE: &str = "run.oci.mount_context_type";

impl MountLabel {
    /// The label of new filesystems. Without SELinux it has no effect, which is only a warning.
    ///
    /// # Errors
    ///
    /// If the label or its type is not valid.
    pub fn new(
        label: Option<&str>,
        annotations: &BTreeMap<String, String>,
        host: &Host,
        warnings: &mut Vec<String>,
    ) -> Result<Option<MountLabel>> {
        let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(None) };
        let label = text(label).at("linux.mountLabel")?;
        let key = annotations.get(CONTEXT_TYPE).map_or("context", String::as_str);
        if !["context", "fscontext", "defcontext", "rootcontext"].contains(&key) {
            Err(anyhow!("{key:?} is not one of context, fscontext, defcontext, rootcontext"))
                .at(format_args!("annotations[{CONTEXT_TYPE:?}]"))?;
        }
        if !host.has_selinux() {
            warnings.push("linux.mountLabel: has no effect without SELinux".into());
            return Ok(None);
        }
        Ok(Some(MountLabel { key: CString::new(key)?, label }))
    }

    /// For mount(2): in quotes, because a label can contain commas.
    pub fn quoted(&self) -> Vec<u8> {
        [self.key.as_bytes(), b"=\"", self.label.as_bytes(), b"\""].concat()
    }

    /// For fsconfig(2).
    pub fn option(&self) -> (CString, Option<CString>) {
        (self.key.clone(), Some(self.label.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;

    #[test]
    fn a_context_is_quoted_for_mount_2_alone() {
        let label = c"u:object_r:t:s0:c1,c2".to_owned();
        let context = MountLabel { key: c"context".to_owned(), label: label.clone() };
        assert_eq!(context.quoted(), b"context=\"u:object_r:t:s0:c1,c2\"");
        assert_eq!(context.option(), (c"context".to_owned(), Some(label)));
    }

    #[test]
    fn nothing_asked_for_is_nothing() {
        let spec = serde_json::from_str(r#"{"cwd":"/","apparmorProfile":"","selinuxLabel":""}"#);
        let host = Host::from(Facts::ROOT);
        assert!(labels(&spec.unwrap(), &host).unwrap().is_empty());
        let none = MountLabel::new(Some(""), &BTreeMap::new(), &host, &mut Vec::new()).unwrap();
        assert_eq!(none, None);
    }

    #[test]
    fn a_label_needs_its_module() {
        let spec = r#"{"cwd":"/","apparmorProfile":"p","selinuxLabel":"u:r:t"}"#;
        let spec: spec::Process = serde_json::from_str(spec).unwrap();
        let refused = |facts: Facts| format!("{:#}", labels(&spec, &facts.into()).unwrap_err());
        let neither = refused(Facts::ROOT);
        assert!(neither.starts_with("process.apparmorProfile: \"p\" has no effect"), "{neither}");
        let one = Facts { has_apparmor: true, ..Facts::ROOT };
        assert!(refused(one.clone()).starts_with("process.selinuxLabel: \"u:r:t\" has no effect"));
        let both = Facts { has_selinux: true, ..one };
        assert_eq!(labels(&spec, &both.into()).unwrap().len(), 2);
    }

    #[test]
    fn a_mount_label_without_selinux_is_a_warning() {
        let of = |facts: Facts| {
            let mut warnings = Vec::new();
            let label = MountLabel::new(Some("l"), &BTreeMap::new(), &facts.into(), &mut warnings);
            (label.unwrap().is_some(), warnings.len())
        };
        assert_eq!(of(Facts::ROOT), (false, 1));
        assert_eq!(of(Facts { has_selinux: true, ..Facts::ROOT }), (true, 0));
    }

    #[test]
    fn the_type_of_a_context_is_one_of_four() {
        let annotations = [(CONTEXT_TYPE.to_owned(), "mycontext".to_owned())].into();
        let error =
            MountLabel::new(Some("u:r:t"), &annotations, &Host::from(Facts::ROOT), &mut Vec::new())
                .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(r#""mycontext" is not one of context, fscontext"#), "{text}");
    }
}
