//! `linux.devices`, and the devices that every container has.

use super::mounts::{c_string, clean};
use super::process::check_id;
use crate::spec::Place;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{SFlag, makedev};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A device node or a fifo.
#[derive(Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute and clean.
    pub path: CString,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: SFlag,
    /// Major and minor number as the kernel packs them; 0 of a fifo.
    pub number: u64,
    /// Permissions.
    pub mode: u32,
    /// Owner, as seen in the container.
    pub uid: u32,
    /// Group, as seen in the container.
    pub gid: u32,
    /// Its place in config.json, if it has one.
    pub place: Option<String>,
}

/// config-linux.md, Default Devices.
const DEFAULT: [(&CStr, u64, u64); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

/// Every container has this device, a node or, as /dev/console, a mount (config-linux.md, Default Devices).
pub fn is_default(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    path == b"/dev/console" || DEFAULT.iter().any(|(known, ..)| known.to_bytes() == path)
}

/// The devices to create: in the order of the config, followed by the default devices that it does not list.
/// `own_dev`: the container has its own /dev. In a bind-mounted one nothing is created, as in runc.
pub fn plan(devices: &[LinuxDevice], own_dev: bool) -> Result<Vec<Device>> {
    let mut planned = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let device = one(device, &format!("linux.devices[{index}]"))?;
        let in_dev = device.path.as_bytes().starts_with(b"/dev/");
        // ptmx is a link, which is created in any case.
        if device.path.as_c_str() != c"/dev/ptmx" && (own_dev || !in_dev) {
            planned.push(device);
        }
    }
    let named = planned.len();
    for (path, major, minor) in DEFAULT.into_iter().filter(|_| own_dev) {
        if planned[..named].iter().all(|device| device.path.as_c_str() != path) {
            let number = makedev(major, minor);
            let (kind, path) = (SFlag::S_IFCHR, path.to_owned());
            planned.push(Device { path, kind, number, mode: 0o666, uid: 0, gid: 0, place: None });
        }
    }
    Ok(planned)
}

fn one(device: &LinuxDevice, place: &str) -> Result<Device> {
    let path = path(device).at(format!("{place}.path"))?;
    let kind = kind(device.typ()).at(format!("{place}.type"))?;
    let number = match kind {
        SFlag::S_IFIFO => 0,
        _ => number(device.major(), device.minor()).at(place)?,
    };
    // Docker writes all of st_mode.
    let mode = device.file_mode().map_or(0o666, |mode| mode & 0o7777);
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    check_id(uid).at(format!("{place}.uid"))?;
    check_id(gid).at(format!("{place}.gid"))?;
    Ok(Device { path, kind, number, mode, uid, gid, place: Some(place.to_owned()) })
}

fn path(device: &LinuxDevice) -> Result<CString> {
    let path = device.path();
    ensure!(!path.as_os_str().is_empty(), "missing");
    ensure!(path.is_absolute(), "{path:?} is not an absolute path");
    let clean = clean(path.as_os_str().as_bytes());
    ensure!(clean != b"/", "{} is the container's root", path.display());
    c_string(&clean)
}

fn kind(kind: LinuxDeviceType) -> Result<SFlag> {
    Ok(match kind {
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => bail!("\"a\" is not a device type: use c, b, u or p"),
    })
}

/// The kernel's dev_t has 12 bits for the major and 20 for the minor number.
fn number(major: i64, minor: i64) -> Result<u64> {
    // 0:0 is not a device; it is what overlayfs hides files with.
    ensure!((major, minor) != (0, 0), "major and minor are missing");
    let in_range = |number: i64, most: u64| u64::try_from(number).ok().filter(|n| *n <= most);
    let major =
        in_range(major, 0xfff).with_context(|| format!("{major} is not a valid major number"))?;
    let minor = in_range(minor, 0xf_ffff)
        .with_context(|| format!("{minor} is not a valid minor number"))?;
    Ok(makedev(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str, own_dev: bool) -> Result<Vec<Device>> {
        plan(&serde_json::from_str::<Vec<_>>(json).unwrap(), own_dev)
    }

    fn error(json: &str) -> String {
        format!("{:#}", planned(json, true).unwrap_err())
    }

    #[test]
    fn the_default_ones_are_made_unless_named_or_not_ours_to_make() {
        assert_eq!(planned("[]", true).unwrap().len(), 6);
        assert_eq!(planned("[]", false).unwrap(), []);
        let null = r#"[{"path":"/dev//null","type":"c","major":1,"minor":3,"fileMode":8624}]"#;
        let devices = planned(null, true).unwrap();
        assert_eq!((devices.len(), devices[0].mode), (6, 0o660));
        assert_eq!(planned(null, false).unwrap(), []);
        let outside = r#"[{"path":"/x","type":"p"}]"#;
        assert_eq!(planned(outside, false).unwrap().len(), 1);
    }

    #[test]
    fn the_multiplexer_stays_a_link() {
        let ptmx = r#"[{"path":"/dev/ptmx","type":"c","major":5,"minor":2}]"#;
        assert_eq!(planned(ptmx, true).unwrap().len(), 6);
    }

    #[test]
    fn what_is_no_device_is_named() {
        for (json, text) in [
            (r#"[{"type":"c"}]"#, "linux.devices[0].path: missing"),
            (
                r#"[{"path":"dev/x","type":"c"}]"#,
                "linux.devices[0].path: \"dev/x\" is not an absolute path",
            ),
            (
                r#"[{"path":"/a/..","type":"c"}]"#,
                "linux.devices[0].path: /a/.. is the container's root",
            ),
            (
                r#"[{"path":"/x","type":"a"}]"#,
                "linux.devices[0].type: \"a\" is not a device type: use c, b, u or p",
            ),
            (r#"[{"path":"/x","type":"b"}]"#, "linux.devices[0]: major and minor are missing"),
            (
                r#"[{"path":"/x","type":"b","major":-1}]"#,
                "linux.devices[0]: -1 is not a valid major number",
            ),
            (
                r#"[{"path":"/x","type":"b","minor":1048576}]"#,
                "linux.devices[0]: 1048576 is not a valid minor number",
            ),
        ] {
            assert_eq!(error(json), text);
        }
    }

    #[test]
    fn unbuffered_is_a_character_device() {
        let devices = planned(r#"[{"path":"/x","type":"u","major":4,"minor":64,"uid":7}]"#, true);
        let device = &devices.unwrap()[0];
        assert_eq!((device.kind, device.number), (SFlag::S_IFCHR, makedev(4, 64)));
        assert_eq!((device.mode, device.uid, device.gid), (0o666, 7, 0));
    }
}
