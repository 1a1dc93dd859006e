//! Every wait in brig has a deadline. All are defined here, except those for locks of the layer store.

use std::time::Duration;

/// Setting up a container, from clone to ready, without hooks; includes mounts from slow devices.
pub const SETUP: Duration = Duration::from_secs(120);
/// From releasing a created container until its execve has succeeded.
pub const EXEC: Duration = Duration::from_secs(60);
/// The helper that sends a seccomp listener, and does nothing else, exits within this time.
pub const COURIER: Duration = Duration::from_secs(10);
/// The timeout of a hook that does not set one.
pub const HOOK: Duration = Duration::from_secs(24 * 3600);
/// The longest wait that a user can ask for, some 68 years: the kernel's and std's clocks end somewhere above.
pub const FOREVER: Duration = Duration::from_secs(1 << 31);
/// A killed init has exited after this time, unless it is stuck in the kernel.
pub const KILL: Duration = Duration::from_secs(10);
/// Between SIGKILL and exit: how often brig checks that the container has not been frozen.
pub const KILL_AGAIN: Duration = Duration::from_millis(50);
/// All processes of a paused container are frozen after this time, unless one is stuck in the kernel.
pub const FREEZE: Duration = Duration::from_secs(10);
/// The same when they are frozen only in order to be killed: after this time brig kills them anyway.
pub const FREEZE_TO_KILL: Duration = Duration::from_millis(500);
/// After this time every process of a cgroup has been sent SIGKILL, including those forked in the meantime.
/// Their exit is awaited with [`KILL`] or [`CGROUP`].
pub const SWEEP: Duration = Duration::from_millis(100);
/// The host's ps has listed all processes within this time.
pub const PS: Duration = Duration::from_secs(30);
/// A cgroup can be removed within this time after its last process has exited.
pub const CGROUP: Duration = Duration::from_secs(10);
/// Another brig working on the same container finishes within this time.
pub const LOCK: Duration = Duration::from_secs(10);
/// The same if that brig is an ancestor, and so waits for this one: only what a hook has left in the
/// background can outlast it.
pub const LOCK_OF_ANCESTOR: Duration = Duration::from_secs(1);
/// The listener of a socket given to brig accepts the connection within this time.
pub const SOCKET: Duration = Duration::from_secs(10);

/// The process of one of doctor's probes has reported its result within this time.
pub const PROBE: Duration = Duration::from_secs(10);

/// Another brig has removed its note of the options of cgroup2 within this time.
pub const OPTIONS: Duration = Duration::from_secs(1);
/// CRIU sends its next notification within this time after brig was interrupted by a signal.
pub const CRIU: Duration = Duration::from_secs(60);

/// systemd, or its bus, accepts a connection and answers a call within this time.
pub const BUS: Duration = Duration::from_secs(10);
/// A systemd job that starts or stops a unit finishes within this time.
pub const JOB: Duration = Duration::from_secs(30);
