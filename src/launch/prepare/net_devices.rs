//! Moves network devices of the host into the container's network namespace. The parent does this, because
//! the child has no privileges on the host's.

use crate::launch::spawn::Joined;
use crate::plan::Plan;
use crate::plan::netdev::NetDevice;
use crate::spec::Place;
use anyhow::{Context, Error, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use std::fs::File;
use std::os::fd::AsFd;
use sys::Errno;
use sys::netlink::{Address, Link, Socket};

/// The namespace to move devices to: the joined one, or None as long as it is not created.
pub fn destination(plan: &Plan, joined: &[Joined]) -> Result<Option<File>> {
    match joined.iter().find(|joined| joined.kind() == libc::CLONE_NEWNET) {
        Some(joined) if !plan.net_devices.is_empty() => joined.file().map(Some),
        _ => Ok(None),
    }
}

/// Devices that were moved to the container, as long as they can be moved back.
pub struct MovedDevices {
    host: Side,
    container: Side,
    devices: Vec<Device>,
}

/// A network namespace, and a socket in it.
struct Side {
    namespace: File,
    socket: Socket,
}

/// One of them: its properties on the host, and its index in the container.
struct Device {
    was: Link,
    addresses: Vec<Address>,
    index: u32,
}

impl MovedDevices {
    /// Sockets in both namespaces, brig's own and the container's.
    pub fn new(container: File) -> Result<MovedDevices> {
        let path = "/proc/self/ns/net";
        let host = File::open(path).with_context(|| format!("open {path}"))?;
        ensure!(
            fstat(&host)?.st_ino != fstat(&container)?.st_ino,
            "the container shares brig's network namespace"
        );
        let host = Side { namespace: host, socket: Socket::open()? };
        setns(&container, CloneFlags::CLONE_NEWNET)
            .context("enter the container's network namespace")?;
        let socket = Socket::open();
        setns(&host.namespace, CloneFlags::CLONE_NEWNET)
            .context("return to brig's network namespace")?;
        let container = Side { namespace: container, socket: socket? };
        Ok(MovedDevices { host, container, devices: Vec::new() })
    }

    /// Moves one device to the container, with its addresses, and brings it up.
    pub fn give(&mut self, device: &NetDevice) -> Result<()> {
        let (host, container) = (&self.host.socket, &self.container.socket);
        let was = host.link(&device.host).map_err(|error| match error.errno {
            Errno::ENODEV => anyhow!("the host has no such network device"),
            _ => error.into(),
        })?;
        // Before it is moved: moving removes its addresses and all routes.
        if !device.is_template() && container.link(&device.name).is_ok() {
            return Err(taken(device));
        }
        let addresses = host.addresses(was.index)?;
        // Under a temporary unique name, by which it is found again: its index may change.
        let passing = format!("brig{}", std::process::id());
        host.move_link(was.index, self.container.namespace.as_fd(), &passing)?;
        let index = container.link(&passing)?.index;
        self.devices.push(Device { was, addresses: addresses.clone(), index });
        container.rename(index, &device.name).map_err(|error| match error.errno {
            Errno::EEXIST => taken(device),
            _ => error.into(),
        })?;
        for address in &addresses {
            container.add_address(index, address)?;
        }
        Ok(container.set_up(index)?)
    }

    /// Moves all of them back as far as possible: routes are lost. The container's processes are dead.
    pub fn take_back(self) -> Vec<Error> {
        let back = |device: &Device| self.back(device).err();
        self.devices.iter().filter_map(back).collect()
    }

    fn back(&self, device: &Device) -> Result<()> {
        let Side { namespace, socket: host } = &self.host;
        let container = &self.container.socket;
        let back = || -> Result<()> {
            container.move_link(device.index, namespace.as_fd(), &device.was.name)?;
            let index = host.link(&device.was.name)?.index;
            for address in &device.addresses {
                host.add_address(index, address)?;
            }
            if device.was.up {
                host.set_up(index)?;
            }
            Ok(())
        };
        back().with_context(|| format!("move network device {} back to the host", device.was.name))
    }
}

fn taken(device: &NetDevice) -> Error {
    anyhow!("a device named {:?} already exists in the container's network namespace", device.name)
}

/// Moves all devices of the plan to the container. On an error, `moved` has those that were moved.
pub fn give_all(
    moved: &mut Option<MovedDevices>,
    plan: &Plan,
    container: Option<File>,
) -> Result<()> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let container = container.context("did not receive the container's network namespace");
    let moved = moved.insert(container.and_then(MovedDevices::new).at("linux.netDevices")?);
    plan.net_devices.iter().try_for_each(|device| moved.give(device).at(&device.place))
}
