//! Every wait of brig has a deadline, and all of them stand here, but for those for locks of the layer store.

use std::time::Duration;

/// The container's own set-up, from clone to ready, without hooks: mounts of slow devices included.
pub const SETUP: Duration = Duration::from_secs(120);
/// From the release of a created container to its known execve.
pub const EXEC: Duration = Duration::from_secs(60);
/// Who has sent a filter's listener, and has nothing else to do, has ended after this.
pub const COURIER: Duration = Duration::from_secs(10);
/// A hook that names no timeout of its own.
pub const HOOK: Duration = Duration::from_secs(24 * 3600);
/// A killed init is gone after this, unless it is stuck in the kernel.
pub const KILL: Duration = Duration::from_secs(10);
/// Between SIGKILL and death: how often it is seen to that nobody has frozen the container.
pub const KILL_AGAIN: Duration = Duration::from_millis(50);
/// The processes of a container that is paused are all frozen after this, unless one is stuck in the
/// kernel.
pub const FREEZE: Duration = Duration::from_secs(10);
/// The same, where they are frozen only to be killed: then it goes on without.
pub const FREEZE_TO_KILL: Duration = Duration::from_millis(500);
/// All processes of a cgroup have got SIGKILL after this, those too that were forked meanwhile. Who
/// wants them dead waits for that by [`KILL`] or [`CGROUP`].
pub const SWEEP: Duration = Duration::from_millis(100);
/// The host's ps has listed all processes after this.
pub const PS: Duration = Duration::from_secs(30);
/// A cgroup whose last process has died can be removed after this.
pub const CGROUP: Duration = Duration::from_secs(10);
/// Another brig that works on the same container is done after this.
pub const LOCK: Duration = Duration::from_secs(10);
/// Whoever listens at a socket that brig was given accepts the connection within this.
pub const SOCKET: Duration = Duration::from_secs(10);

/// CRIU sends its next notification within this time after brig was interrupted by a signal.
pub const CRIU: Duration = Duration::from_secs(60);

/// systemd, or the bus to it, takes a connection, and answers a call, within this.
pub const BUS: Duration = Duration::from_secs(10);
/// A job of systemd's, to start or to stop a unit, is done after this.
pub const JOB: Duration = Duration::from_secs(30);
