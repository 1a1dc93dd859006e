//! Texts of the manual pages that are not in `--help`: DESCRIPTION, EXIT STATUS, FILES etc. They are not part
//! of the binary.

/// DESCRIPTION of a command's page: paragraphs separated by empty lines.
pub fn description(command: &str) -> &'static str {
    match command {
        "bundle" => {
            "Unpacks the layers of an image into the layer store, unless they are there already, and makes the directory DIR with a config.json that names them. Nothing is copied: all bundles and containers of an image share its layers, which are read-only.\n\n\
             The image is an OCI image layout (a directory or a tar archive) or an archive of `docker save`, with or without skopeo's prefixes oci:, oci-archive:, docker-archive:. All digests are verified. The flags are those of `brig run --image`, and config.json is what that command would use."
        }
        "checkpoint" => {
            "Has CRIU write a running or paused container to a directory: its processes, their memory and what they have open. The container is then stopped and deleted, unless `--leave-running` is given, and `brig restore` brings it back from there, here or on another host with the same bundle. CRIU 3.15 or later has to be in PATH, and only root can do this.\n\n\
             Not in the checkpoint are the root filesystem and volumes, the contents of the network namespace, and processes that `brig exec` has started. After `--leave-running` the files of the container go on changing: a restore that is to find them as they were needs a copy of them. Whoever can read the directory can read what the processes had in memory."
        }
        "commit" => {
            "Writes an image whose top layer has what the container changed in its root filesystem, into an OCI image layout. Layers that the layout has already are not written again. A running container is paused meanwhile, so that the layer is consistent; `--no-pause` lets it run.\n\n\
             What is mounted into the container (volumes, /proc, /dev) is not part of it. Only containers with overlay layers can be committed."
        }
        "create" => {
            "Creates everything that config.json asks for: namespaces, cgroups, mounts, devices. The init process then waits, and `brig start` lets it execute its program. Standard input, output and error of the container are those of brig.\n\n\
             After an error nothing is left behind. With `terminal: true` in config.json, `--console-socket` names the Unix socket that receives the master of the terminal."
        }
        "delete" => {
            "Removes the cgroups and the state of a container that has stopped, and runs its poststop hooks. A container that was created and not started is ended and deleted, too. A running container is an error unless `--force` is given, which ends all of its processes first.\n\n\
             Only what brig made is removed, never anything behind a mount or a symbolic link."
        }
        "diff" => {
            "Compares the writable layer of a container with its read-only layers, and lists each path that was added (A), changed (C) or deleted (D). Only containers with overlay layers have one."
        }
        "events" => {
            "Prints statistics of the container's cgroups as a line of JSON per interval, in the form of `runc events`, and an event when the container runs out of memory. It ends when the container does. With `--stats` it prints statistics once."
        }
        "exec" => {
            "Runs a program in the namespaces and cgroups of a running container, with its user, environment, capabilities and filters unless flags say otherwise, or as the JSON file of `--process` describes it.\n\n\
             Without `--detach`, brig waits for the process, forwards signals and, with `--tty`, the terminal."
        }
        "export" => {
            "Writes the root filesystem of a container, as its processes see it, as a tar archive to standard output or to a file. What is mounted into it is left out, and the mount points are empty directories or files."
        }
        "doctor" => {
            "Tries what this host lets this user do: namespaces of each kind, id maps, mounts, overlay and id-mapped mounts, newer system calls, cgroups and their controllers, systemd, seccomp, keyrings, CRIU. Each line is ok, a warning (brig does without, or only some containers need it) or a failure, with the reason and, below it, a command that mends it. Nothing is guessed from the version of the kernel, and nothing stays behind.\n\n\
             With BUNDLE only what its config.json needs is tried, and the last line says whether its container would start. The global options count: with `--systemd-cgroup` systemd has to answer."
        }
        "features" => {
            "Prints what this brig supports, in the form of the OCI runtime specification's features document, which engines read."
        }
        "gc" => {
            "Removes layers that no image, bundle or container uses. With `--all`, images that no bundle and no container uses are removed first. It can run at any time, beside other commands."
        }
        "images" => {
            "Lists the images whose layers are in the store: by `brig bundle`, `brig run --image` and `brig commit`; the newest first. Ids are cut to 12 digits, which every command takes, unless `--no-trunc` is given; sizes and times are rounded. `--format json` has all of it."
        }
        "inspect" => {
            "Shows what the init process of a container really has, as the kernel tells it, beside what config.json asked for: namespaces, and with which containers they are shared; ids, capabilities, no_new_privs, seccomp filter, labels, terminal; mounts, with where each comes from; values of the cgroup; resource limits. `=` means as asked, `-` nothing, and what differs is marked with `!`. A first line says how isolated the container is.\n\n\
             With `--syscall` it tells what the filter of config.json does with a system call. Nothing that the container can write is trusted, and nothing of it is executed."
        }
        "kill" => {
            "Sends a signal, by default TERM, to the init process of a container. Signals are names with or without SIG, or numbers. With `--all` every process in the container's cgroups gets it, which is what a container with the PID namespace of the host needs."
        }
        "layers" => {
            "Lists the layers in the store, the newest first: their sizes, how many images have each, and which bundles and containers use it. Ids are cut to 12 digits unless `--no-trunc` is given; sizes and times are rounded. `--format json` has all of it."
        }
        "lint" => {
            "Finds mistakes in a config.json: keys that no runtime reads, values that `brig create` refuses, and what is valid and still looks like a mistake, e.g. a mount that a later one hides. All of them are found in one run, each with its line and column. Nothing is created, and the host is not looked at unless `--here` is given: then the files that config.json names have to exist, and what this host cannot do is an error.\n\n\
             Errors are what `brig create` refuses, or what loses something its author wanted; warnings are what takes effect in another way than it reads; notes are worth knowing."
        }
        "list" => {
            "Lists the containers of the state directory with their status. A state that cannot be read is listed as far as it can be, with a warning."
        }
        "mounts" => {
            "Adds bind mounts and tmpfs to a container that exists, or removes what was added. FILE has an array of mounts as in config.json, or an object with a member `mounts`. Either all of them are mounted or none is. `remove` looks at the destinations only.\n\n\
             Destinations are resolved in the root filesystem of the container, whatever symbolic links are in it. Linux 5.12 or newer is needed."
        }
        "pause" => "Freezes all processes of a container by its cgroup, until `brig resume`.",
        "ps" => {
            "Lists the processes of a container by the ps program of the host, with its options, or their process ids as JSON."
        }
        "restore" => {
            "Makes a container anew from a directory that `brig checkpoint`, or runc or crun, has written. Root filesystem, cgroups with their limits, volumes and hooks (prestart, createRuntime) are those of the bundle; the processes go on where they were. Standard streams that were pipes or files of the host are replaced by those of brig. Under another ID it can be restored any number of times, also beside the original.\n\n\
             A process that has more privileges than config.json gives (capabilities, no_new_privs, seccomp filter, ids) is an error, unless `--trust-image` is given. After an error nothing is left behind, and it quotes the last error in restore.log of CRIU."
        }
        "resume" => "Thaws the processes of a container that `brig pause` froze.",
        "rmi" => {
            "Removes names of images from the store. When an image loses its last name, the image is removed, and `brig gc` removes the layers that nothing uses any more. Image layouts on disk are not touched."
        }
        "run" => {
            "Creates a container, starts it, waits until its init process ends, deletes it, and exits with its exit status. Signals are forwarded to the container, and so is the terminal.\n\n\
             The container is described by config.json of a bundle (`--bundle`), or made of an image on disk (`--image`); the flags from `--network` to `--pull` belong to `--image` and have podman's names and meanings."
        }
        "spec" => {
            "Writes a config.json for a container that runs sh with a terminal, to be edited. The root filesystem is expected in the directory rootfs beside it."
        }
        "start" => {
            "Lets the init process of a container that `brig create` made execute its program. An error of execve is reported here."
        }
        "state" => {
            "Prints id, process id, status, bundle and annotations of a container as JSON, in the form of the OCI runtime specification. The status is creating, created, running, paused or stopped."
        }
        "stats" => {
            "Shows what containers use of CPU, memory, tasks and block I/O, and how long they waited for these (pressure stall information). On a terminal the table is refreshed until it is interrupted; otherwise it is printed once."
        }
        "tag" => {
            "Adds a tag to an image in an OCI image layout on disk. If another image of the layout has the tag, it is moved."
        }
        "wait" => {
            "Waits until every named container has ended, and prints how each did: its exit status, or 128 plus the number of the signal that ended it, and whether the kernel killed it for lack of memory or because of its seccomp filter. What nobody can know is `unknown`: a container that had ended, and whose status its parent had taken, before this command began, or on a kernel before 6.15.\n\n\
             With `--condition` it waits for a container to be created, running or removed, and prints nothing."
        }
        "update" => {
            "Changes limits of a container that exists: by flags, or by a JSON file with the members of linux.resources. What is not named keeps its value. A refused update changes nothing."
        }
        _ => {
            "brig is an OCI container runtime: it takes a bundle, which is a directory with a config.json and a root filesystem, and runs an isolated, limited process. Docker, containerd, Podman and CRI-O call it to start containers; it has no daemon. Every command has a manual page, brig-COMMAND(8)."
        }
    }
}

/// EXIT STATUS of a command's page.
pub fn exit_status(command: &str) -> &'static str {
    match command {
        "run" => {
            "The exit status of the init process, or 128 plus the number of the signal that ended it. With `--detach` 0. After an error 1."
        }
        "restore" => {
            "The exit status of the init process, or 128 plus the number of the signal that ended it. With `--detach` 0. After an error 1."
        }
        "exec" => {
            "The exit status of the process, or 128 plus the number of the signal that ended it. With `--detach` 0. After an error of brig 255."
        }
        "doctor" => {
            "0 if all is well, 1 with a warning, 2 if something fails or the bundle cannot be read."
        }
        "inspect" => "0 if all is as config.json asked, 1 if something differs, 2 after an error.",
        "lint" => {
            "0 if nothing worse than a note was found, 1 with a warning, 2 with an error or if the file cannot be read."
        }
        "brig" => {
            "0, or 1 after an error; 3 if the command is unknown. `run` and `exec` without `--detach` exit with the status of the process; an error of `exec` is 255."
        }
        _ => "0, or 1 after an error, which is one line on standard error.",
    }
}

/// Further sections of brig(8): titles, and terms with their descriptions.
pub const MORE: &[(&str, &[(&str, &str)])] = &[
    (
        "FILES",
        &[
            (
                "/run/brig",
                "The states of containers; --root names another directory. For an unprivileged user $XDG_RUNTIME_DIR/brig.",
            ),
            (
                "/var/lib/brig",
                "The layer store; --store names another directory. For an unprivileged user ~/.local/share/brig.",
            ),
            (
                "config.json",
                "In the bundle: the container, as the OCI runtime specification describes it.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("XDG_RUNTIME_DIR", "The state directory of an unprivileged user is below it."),
            ("XDG_DATA_HOME", "The layer store of an unprivileged user is below it."),
            (
                "LISTEN_FDS, LISTEN_PID",
                "Sockets of socket activation, which are passed to the container.",
            ),
            (
                "NOTIFY_SOCKET",
                "The socket of systemd to which the container reports that it is ready.",
            ),
            (
                "RUN_OCI_SECCOMP_RECEIVER",
                "The socket of the seccomp agent, where neither config.json nor an annotation names one.",
            ),
        ],
    ),
    (
        "ANNOTATIONS",
        &[
            (
                "run.brig.overlay.layers",
                "Read-only layers of the root filesystem, lowest first, separated by colons.",
            ),
            ("run.brig.overlay.upper", "The writable layer: a directory, tmpfs, or tmpfs:SIZE."),
            (
                "run.brig.overlay.work",
                "The work directory of overlayfs, by default beside the upper.",
            ),
            (
                "run.brig.overlay.idmap",
                "Whether layers are id-mapped into the user namespace of the container.",
            ),
            (
                "org.criu.config",
                "The configuration file of CRIU for checkpoint and restore [default: /etc/criu/runc.conf]; empty: none.",
            ),
            (
                "run.brig.landlock",
                "Rights to files and ports that the container's processes give up by Landlock, as JSON; docs/security.md.",
            ),
            ("run.brig.image", "The image that a bundle was made of."),
            ("run.brig.defaults", "Limits that are left out where they cannot be set."),
            ("run.oci.keep_original_groups", "Keep the supplementary groups of the caller."),
            (
                "run.oci.mount_context_type",
                "fscontext, defcontext or rootcontext for linux.mountLabel.",
            ),
            (
                "run.oci.hooks.stdout, run.oci.hooks.stderr",
                "Files to which the output of hooks is appended.",
            ),
            ("run.oci.pidfd_receiver", "A socket that receives a pidfd of init."),
            ("run.oci.systemd.subgroup", "The cgroup of the container below the scope of systemd."),
            (
                "run.oci.timens_offset",
                "The offsets of a new time namespace, e.g. monotonic 100 0, instead of linux.timeOffsets.",
            ),
            (
                "run.oci.delegate-cgroup",
                "A cgroup below the limits that belongs to the user of the process (cgroup v2).",
            ),
            ("run.oci.seccomp_bpf_data", "The seccomp filter as base64 of its instructions."),
            ("run.oci.seccomp.receiver", "The socket of the seccomp agent."),
            (
                "run.oci.seccomp_fail_unknown_syscall",
                "An unknown system call in linux.seccomp is an error.",
            ),
            ("org.systemd.property.NAME", "A property of the scope, as GLib writes values."),
            (
                "run.oci.handler, run.oci.seccomp.plugins, run.oci.systemd.force_cgroup_v1",
                "Errors: brig does not support them.",
            ),
        ],
    ),
];
