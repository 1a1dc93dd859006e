//! The container's root filesystem, by file descriptors: layers, mounts, devices, pivot, masks.
