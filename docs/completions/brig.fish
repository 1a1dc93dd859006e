# Runs brig with the --root and --store of the line that is being typed.
function __brig_ask
    set -l line (commandline -opc)
    set -l ask $line[1]
    for i in (seq 2 (count $line))
        switch $line[$i]
            case '--root=*' '--store=*'
                set -a ask $line[$i]
            case --root --store
                set -a ask $line[$i] $line[(math $i + 1)]
        end
    end
    set -l program (string replace -r '^~' $HOME -- $ask[1])
    command $program $ask[2..-1] $argv 2>/dev/null
end

function __brig_containers
    __brig_ask list --quiet
end

function __brig_images
    __brig_ask images --format json | string replace -rf '^ *"name": "(.*)",?$' '$1'
end

# The flags of a command, for argparse.
function __brig_optspecs
    switch $argv[1]
        case bundle
            string join \n hostname=+ add-host=+ entrypoint=+ init env-file=+ e/env=+ u/user=+ group-add=+ w/workdir=+ t/tty i/interactive v/volume=+ mount=+ tmpfs=+ shm-size=+ read-only read-only-tmpfs=+ device=+ m/memory=+ memory-swap=+ cpus=+ pids-limit=+ ulimit=+ sysctl=+ cap-add=+ cap-drop=+ security-opt=+ no-new-privs l/label=+ annotation=+ stop-signal=+ pull=+ platform=+ network=+ h/help
        case checkpoint
            string join \n image-path=+ work-path=+ parent-path=+ auto-dedup ext-unix-sk file-locks lazy-pages link-remap shell-job tcp-close tcp-established tcp-skip-in-flight manage-cgroups-mode=+ network-lock=+ empty-ns=+ pre-dump leave-running status-fd=+ page-server=+ h/help
        case commit
            string join \n a/author=+ m/message=+ c/change=+ compression=+ no-pause h/help
        case create
            string join \n b/bundle=+ f/config=+ strict pid-file=+ layer=+ upper=+ console-socket=+ pidfd-socket=+ no-pivot no-new-keyring preserve-fds=+ name=+ hostname=+ add-host=+ entrypoint=+ init env-file=+ e/env=+ u/user=+ group-add=+ w/workdir=+ t/tty i/interactive v/volume=+ mount=+ tmpfs=+ shm-size=+ read-only read-only-tmpfs=+ device=+ m/memory=+ memory-swap=+ cpus=+ pids-limit=+ ulimit=+ sysctl=+ cap-add=+ cap-drop=+ security-opt=+ no-new-privs l/label=+ annotation=+ stop-signal=+ pull=+ network=+ image=+ platform=+ h/help
        case delete
            string join \n f/force r/regex h/help
        case diff
            string join \n f/format=+ h/help
        case doctor
            string join \n f/format=+ h/help
        case events
            string join \n stats interval=+ h/help
        case exec
            string join \n p/process=+ cwd=+ e/env=+ u/user=+ g/additional-gids=+ c/cap=+ apparmor=+ process-label=+ no-new-privs d/detach pid-file=+ cgroup=+ ignore-paused preserve-fds=+ pidfd-socket=+ t/tty console-socket=+ h/help
        case export
            string join \n o/output=+ h/help
        case features
            string join \n h/help
        case gc
            string join \n a/all dry-run h/help
        case images
            string join \n f/format=+ q/quiet no-trunc inspect=+ h/help
        case inspect
            string join \n f/format=+ syscall=+ h/help
        case kill
            string join \n a/all r/regex h/help
        case layers
            string join \n f/format=+ q/quiet no-trunc h/help
        case lint
            string join \n format=+ here h/help
        case list
            string join \n f/format=+ q/quiet h/help
        case mounts
            string join \n h/help
        case pause
            string join \n h/help
        case ps
            string join \n f/format=+ h/help
        case restore
            string join \n image-path=+ work-path=+ parent-path=+ auto-dedup ext-unix-sk file-locks lazy-pages link-remap shell-job tcp-close tcp-established tcp-skip-in-flight manage-cgroups-mode=+ network-lock=+ empty-ns=+ b/bundle=+ f/config=+ layer=+ upper=+ d/detach pid-file=+ console-socket=+ pidfd-socket=+ no-subreaper no-new-keyring preserve-fds=+ lsm-profile=+ lsm-mount-context=+ hostname=+ trust-image h/help
        case resume
            string join \n h/help
        case rmi
            string join \n h/help
        case run
            string join \n b/bundle=+ f/config=+ strict pid-file=+ layer=+ upper=+ console-socket=+ pidfd-socket=+ no-pivot no-new-keyring preserve-fds=+ name=+ hostname=+ add-host=+ entrypoint=+ init env-file=+ e/env=+ u/user=+ group-add=+ w/workdir=+ t/tty i/interactive v/volume=+ mount=+ tmpfs=+ shm-size=+ read-only read-only-tmpfs=+ device=+ m/memory=+ memory-swap=+ cpus=+ pids-limit=+ ulimit=+ sysctl=+ cap-add=+ cap-drop=+ security-opt=+ no-new-privs l/label=+ annotation=+ stop-signal=+ pull=+ d/detach keep rm no-subreaper network=+ image=+ platform=+ h/help
        case seccomp
            string join \n f/format=+ cap=+ h/help
        case spec
            string join \n b/bundle=+ f/file=+ rootless h/help
        case start
            string join \n h/help
        case state
            string join \n h/help
        case stats
            string join \n f/format=+ no-stream interval=+ h/help
        case tag
            string join \n h/help
        case update
            string join \n r/resources=+ memory=+ memory-reservation=+ memory-swap=+ cpu-share=+ cpu-quota=+ cpu-period=+ cpu-burst=+ cpu-idle=+ cpu-rt-runtime=+ cpu-rt-period=+ cpuset-cpus=+ cpuset-mems=+ pids-limit=+ blkio-weight=+ l3-cache-schema=+ mem-bw-schema=+ dry-run h/help
        case wait
            string join \n condition=+ timeout=+ f/format=+ q/quiet h/help
    end
end

# Whether this command was called, and as many of its arguments stand there already (or more).
function __brig_at
    set -l wanted $argv
    set -l line (commandline -opc)
    set -e line[1]
    argparse -s (__fish_brig_global_optspecs) -- $line 2>/dev/null
    or return
    test "$argv[1]" = $wanted[1]
    or return
    set -e argv[1]
    argparse (__brig_optspecs $wanted[1]) -- $argv 2>/dev/null
    or return
    test (count $argv) -eq $wanted[2]
    or test (count $wanted) -gt 2 -a (count $argv) -ge $wanted[2]
end

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_brig_global_optspecs
    string join \n v/version root= log= log-level= log-format= debug trace= timings systemd-cgroup cgroup-manager= store= rootless= criu= h/help
end

function __fish_brig_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_brig_global_optspecs) -- $cmd 2>/dev/null
    or return 0
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_brig_using_subcommand
    set -l cmd (__fish_brig_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c brig -n "__fish_brig_needs_command" -l root -d 'State directory [default: /run/brig]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_needs_command" -l log -d 'Log file; also syslog:NAME, journald:NAME' -r -F
complete -c brig -n "__fish_brig_needs_command" -l log-level -d 'error, warning (the default) or debug' -r -f -a "error\t''
warning\t''
debug\t''"
complete -c brig -n "__fish_brig_needs_command" -l log-format -d 'text (the default) or json' -r -f -a "text\t''
json\t''"
complete -c brig -n "__fish_brig_needs_command" -l trace -d 'Add phases and their times to a Chrome trace' -r -F
complete -c brig -n "__fish_brig_needs_command" -l cgroup-manager -d 'cgroupfs (the default), systemd, disabled' -r -f -a "cgroupfs\t''
systemd\t''
disabled\t''"
complete -c brig -n "__fish_brig_needs_command" -l store -d 'Layer store [default: /var/lib/brig]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_needs_command" -l rootless -d 'Go without a cgroup: true, false or auto' -r -f -a "true\t''
false\t''
auto\t''
1\t''
0\t''
t\t''
f\t''
T\t''
F\t''
TRUE\t''
FALSE\t''
True\t''
False\t''"
complete -c brig -n "__fish_brig_needs_command" -l criu -d 'CRIU program [default: criu in PATH]' -r -f
complete -c brig -n "__fish_brig_needs_command" -s v -l version -d 'Print the version and exit'
complete -c brig -n "__fish_brig_needs_command" -l debug -d 'Enable debug logging'
complete -c brig -n "__fish_brig_needs_command" -l timings -d 'Print phases and their times to stderr'
complete -c brig -n "__fish_brig_needs_command" -l systemd-cgroup -d 'Same as --cgroup-manager=systemd'
complete -c brig -n "__fish_brig_needs_command" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_needs_command" -f -a "bundle" -d 'Create a bundle from an image on disk; its layers are shared'
complete -c brig -n "__fish_brig_needs_command" -f -a "checkpoint" -d 'Write a running container to disk by CRIU, and remove it'
complete -c brig -n "__fish_brig_needs_command" -f -a "commit" -d 'Write an image with the changes of a container as its top layer'
complete -c brig -n "__fish_brig_needs_command" -f -a "create" -d 'Create a container, which then waits for `brig start`'
complete -c brig -n "__fish_brig_needs_command" -f -a "delete" -d 'Delete a stopped or created container'
complete -c brig -n "__fish_brig_needs_command" -f -a "diff" -d 'List what a container changed: A added, C changed, D deleted'
complete -c brig -n "__fish_brig_needs_command" -f -a "doctor" -d 'Try what this host and user can do, or what a bundle needs of it'
complete -c brig -n "__fish_brig_needs_command" -f -a "events" -d 'Print statistics and out-of-memory events until a container ends'
complete -c brig -n "__fish_brig_needs_command" -f -a "exec" -d 'Run a process in a running container'
complete -c brig -n "__fish_brig_needs_command" -f -a "export" -d 'Write the root filesystem of a container as a tar archive'
complete -c brig -n "__fish_brig_needs_command" -f -a "features" -d 'Print the supported features as JSON'
complete -c brig -n "__fish_brig_needs_command" -f -a "gc" -d 'Remove unused layers from the store'
complete -c brig -n "__fish_brig_needs_command" -f -a "images" -d 'List the images in the store'
complete -c brig -n "__fish_brig_needs_command" -f -a "inspect" -d 'Show what a container really has, beside what its config asked for'
complete -c brig -n "__fish_brig_needs_command" -f -a "kill" -d 'Send a signal to the init process of a container'
complete -c brig -n "__fish_brig_needs_command" -f -a "layers" -d 'List the layers in the store and what uses them'
complete -c brig -n "__fish_brig_needs_command" -f -a "lint" -d 'Find mistakes in a config.json, without running it'
complete -c brig -n "__fish_brig_needs_command" -f -a "list" -d 'List containers'
complete -c brig -n "__fish_brig_needs_command" -f -a "mounts" -d 'Add or remove mounts of an existing container'
complete -c brig -n "__fish_brig_needs_command" -f -a "pause" -d 'Pause a container: freeze its processes'
complete -c brig -n "__fish_brig_needs_command" -f -a "ps" -d 'List the processes of a container'
complete -c brig -n "__fish_brig_needs_command" -f -a "restore" -d 'Restore a container that `brig checkpoint` has written to disk'
complete -c brig -n "__fish_brig_needs_command" -f -a "resume" -d 'Resume a paused container'
complete -c brig -n "__fish_brig_needs_command" -f -a "rmi" -d 'Remove images from the store'
complete -c brig -n "__fish_brig_needs_command" -f -a "run" -d 'Create and start a container, wait until it ends, delete it'
complete -c brig -n "__fish_brig_needs_command" -f -a "seccomp" -d 'Explain what a seccomp filter does, how two differ, or record one'
complete -c brig -n "__fish_brig_needs_command" -f -a "spec" -d 'Write a config.json to start from'
complete -c brig -n "__fish_brig_needs_command" -f -a "start" -d 'Start a created container'
complete -c brig -n "__fish_brig_needs_command" -f -a "state" -d 'Print the state of a container as JSON'
complete -c brig -n "__fish_brig_needs_command" -f -a "stats" -d 'Show the resource usage of containers; refreshed on a terminal'
complete -c brig -n "__fish_brig_needs_command" -f -a "tag" -d 'Add a tag to an image of an OCI image layout'
complete -c brig -n "__fish_brig_needs_command" -f -a "update" -d 'Change the resource limits of a container'
complete -c brig -n "__fish_brig_needs_command" -f -a "wait" -d 'Wait until containers have ended, and print how'
complete -c brig -n "__fish_brig_using_subcommand bundle" -l hostname -d 'Host name [default: the id]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l add-host -d 'Add a line to /etc/hosts' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l entrypoint -d 'Program instead of the image\'s Entrypoint and Cmd' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l env-file -d 'File of environment variables, NAME=VALUE per line' -r -F
complete -c brig -n "__fish_brig_using_subcommand bundle" -s e -l env -d 'Set an environment variable; without a value the caller\'s' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -s u -l user -d 'User to run as, by name or number' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l group-add -d 'Add a supplementary group; keep-groups: the caller\'s' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -s w -l workdir -d 'Working directory' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand bundle" -s v -l volume -d 'Bind mount a file or directory of the host' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l mount -d 'Add a mount of type bind or tmpfs' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l tmpfs -d 'Mount a tmpfs' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l shm-size -d 'Size of /dev/shm [default: 64m]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l read-only-tmpfs -d 'Mount the tmpfs of --read-only [default: true]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l device -d 'Add a device of the host, or all devices of a directory' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -s m -l memory -d 'Memory limit, e.g. 64m' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l memory-swap -d 'Memory and swap together; -1 is unlimited [default: twice --memory]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l cpus -d 'CPU limit, e.g. 1.5; 0 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l pids-limit -d 'Maximum number of tasks; -1 is unlimited [default: 2048]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l ulimit -d 'Resource limit; -1 is unlimited; host: those of the caller' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l sysctl -d 'Set a kernel parameter of the container\'s namespaces' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l cap-add -d 'Add a capability, or ALL' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand bundle" -l cap-drop -d 'Drop a capability, or ALL' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand bundle" -l security-opt -d 'seccomp=, apparmor=, no-new-privileges, mask=, unmask=' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -s l -l label -d 'Add an annotation' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l annotation -d 'Add an annotation' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l stop-signal -d 'Signal that stops the container' -r -f -a "ABRT\t''
ALRM\t''
BUS\t''
CHLD\t''
CLD\t''
CONT\t''
FPE\t''
HUP\t''
ILL\t''
INT\t''
IO\t''
IOT\t''
KILL\t''
PIPE\t''
POLL\t''
PROF\t''
PWR\t''
QUIT\t''
SEGV\t''
STKFLT\t''
STOP\t''
SYS\t''
TERM\t''
TRAP\t''
TSTP\t''
TTIN\t''
TTOU\t''
URG\t''
USR1\t''
USR2\t''
VTALRM\t''
WINCH\t''
XCPU\t''
XFSZ\t''"
complete -c brig -n "__fish_brig_using_subcommand bundle" -l pull -d 'Images are on disk: nothing is ever pulled' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l platform -d 'Platform of the image [default: of this machine]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l network -d 'Network namespace [default: none]' -r -f
complete -c brig -n "__fish_brig_using_subcommand bundle" -l init -d 'Run the host\'s catatonit as init, which reaps processes'
complete -c brig -n "__fish_brig_using_subcommand bundle" -s t -l tty -d 'Allocate a terminal'
complete -c brig -n "__fish_brig_using_subcommand bundle" -s i -l interactive -d 'Keep stdin open (the default)'
complete -c brig -n "__fish_brig_using_subcommand bundle" -l read-only -d 'Read-only root filesystem; tmpfs on /tmp, /run, /var/tmp'
complete -c brig -n "__fish_brig_using_subcommand bundle" -l no-new-privs -d 'Set no_new_privs'
complete -c brig -n "__fish_brig_using_subcommand bundle" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l image-path -d 'Image directory [default: ./checkpoint]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l work-path -d 'Directory for logs [default: --image-path]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l parent-path -d 'Earlier pre-dump, relative to image-path' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l manage-cgroups-mode -d 'soft (the default), full, strict or ignore' -r -f -a "soft\t''
full\t''
strict\t''
ignore\t''"
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l network-lock -d 'iptables, nftables or skip' -r -f -a "iptables\t''
nftables\t''
skip\t''"
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l empty-ns -d 'Leave the network namespace out: network' -r -f
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l status-fd -d 'Gets a NUL byte when pages can be served' -r -f
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l page-server -d 'Send the memory to a page server' -r -f
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l auto-dedup -d 'Free memory in the image that is replaced'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l ext-unix-sk -d 'Allow external Unix socket connections'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l file-locks -d 'Include file locks'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l lazy-pages -d 'Load memory on demand, by a page server'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l link-remap -d 'Allow open files that have been unlinked'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l shell-job -d 'Allow an external terminal'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l tcp-close -d 'Close established TCP connections'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l tcp-established -d 'Include established TCP connections'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'Ignore unestablished TCP connections'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l pre-dump -d 'Write its memory only; the container runs on'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -l leave-running -d 'The container runs on'
complete -c brig -n "__fish_brig_using_subcommand checkpoint" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand commit" -s a -l author -d 'Author of the image' -r -f
complete -c brig -n "__fish_brig_using_subcommand commit" -s m -l message -d 'Message in the history of the image' -r -f
complete -c brig -n "__fish_brig_using_subcommand commit" -s c -l change -d 'Apply a Dockerfile instruction, e.g. USER web' -r -f
complete -c brig -n "__fish_brig_using_subcommand commit" -l compression -d 'gzip (the default), zstd or none' -r -f -a "gzip\t''
zstd\t''
none\t''"
complete -c brig -n "__fish_brig_using_subcommand commit" -l no-pause -d 'Do not pause the container during the commit'
complete -c brig -n "__fish_brig_using_subcommand commit" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand create" -s b -l bundle -d 'Directory with config.json [default: .]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand create" -s f -l config -d 'Use this file instead of config.json' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l pid-file -d 'Write the pid of the init process to FILE' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l layer -d 'Overlay layer; repeat it, lowest first' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand create" -l upper -d 'Writable overlay layer [default: tmpfs]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l console-socket -d 'Socket that receives the terminal' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l pidfd-socket -d 'Socket that receives a pidfd of init' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l preserve-fds -d 'Pass N additional file descriptors' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l name -d 'Container id, with --image [default: generated]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l hostname -d 'Host name [default: the id]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l add-host -d 'Add a line to /etc/hosts' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l entrypoint -d 'Program instead of the image\'s Entrypoint and Cmd' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l env-file -d 'File of environment variables, NAME=VALUE per line' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -s e -l env -d 'Set an environment variable; without a value the caller\'s' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -s u -l user -d 'User to run as, by name or number' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l group-add -d 'Add a supplementary group; keep-groups: the caller\'s' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -s w -l workdir -d 'Working directory' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand create" -s v -l volume -d 'Bind mount a file or directory of the host' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l mount -d 'Add a mount of type bind or tmpfs' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l tmpfs -d 'Mount a tmpfs' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l shm-size -d 'Size of /dev/shm [default: 64m]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l read-only-tmpfs -d 'Mount the tmpfs of --read-only [default: true]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l device -d 'Add a device of the host, or all devices of a directory' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -s m -l memory -d 'Memory limit, e.g. 64m' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l memory-swap -d 'Memory and swap together; -1 is unlimited [default: twice --memory]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l cpus -d 'CPU limit, e.g. 1.5; 0 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l pids-limit -d 'Maximum number of tasks; -1 is unlimited [default: 2048]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l ulimit -d 'Resource limit; -1 is unlimited; host: those of the caller' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l sysctl -d 'Set a kernel parameter of the container\'s namespaces' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l cap-add -d 'Add a capability, or ALL' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand create" -l cap-drop -d 'Drop a capability, or ALL' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand create" -l security-opt -d 'seccomp=, apparmor=, no-new-privileges, mask=, unmask=' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -s l -l label -d 'Add an annotation' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l annotation -d 'Add an annotation' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l stop-signal -d 'Signal that stops the container' -r -f -a "ABRT\t''
ALRM\t''
BUS\t''
CHLD\t''
CLD\t''
CONT\t''
FPE\t''
HUP\t''
ILL\t''
INT\t''
IO\t''
IOT\t''
KILL\t''
PIPE\t''
POLL\t''
PROF\t''
PWR\t''
QUIT\t''
SEGV\t''
STKFLT\t''
STOP\t''
SYS\t''
TERM\t''
TRAP\t''
TSTP\t''
TTIN\t''
TTOU\t''
URG\t''
USR1\t''
USR2\t''
VTALRM\t''
WINCH\t''
XCPU\t''
XFSZ\t''"
complete -c brig -n "__fish_brig_using_subcommand create" -l pull -d 'Images are on disk: nothing is ever pulled' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l network -d 'Network namespace [default: none]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l image -d 'Image instead of a bundle: PATH, PATH:TAG or PATH@DIGEST' -r -f -a "(__brig_images)"
complete -c brig -n "__fish_brig_using_subcommand create" -l platform -d 'Platform of the image [default: of this machine]' -r -f
complete -c brig -n "__fish_brig_using_subcommand create" -l strict -d 'Refuse a config that `brig lint` finds an error in'
complete -c brig -n "__fish_brig_using_subcommand create" -l no-pivot -d 'Do not use pivot_root(2) (for an initramfs)'
complete -c brig -n "__fish_brig_using_subcommand create" -l no-new-keyring -d 'Keep the session keyring of the caller'
complete -c brig -n "__fish_brig_using_subcommand create" -l init -d 'Run the host\'s catatonit as init, which reaps processes'
complete -c brig -n "__fish_brig_using_subcommand create" -s t -l tty -d 'Allocate a terminal'
complete -c brig -n "__fish_brig_using_subcommand create" -s i -l interactive -d 'Keep stdin open (the default)'
complete -c brig -n "__fish_brig_using_subcommand create" -l read-only -d 'Read-only root filesystem; tmpfs on /tmp, /run, /var/tmp'
complete -c brig -n "__fish_brig_using_subcommand create" -l no-new-privs -d 'Set no_new_privs'
complete -c brig -n "__fish_brig_using_subcommand create" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand delete" -s f -l force -d 'Kill it first; no error if it does not exist'
complete -c brig -n "__fish_brig_using_subcommand delete" -s r -l regex -d 'ID is a regular expression: all containers that match'
complete -c brig -n "__fish_brig_using_subcommand delete" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand diff" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand diff" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand doctor" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand events" -l interval -d 'Interval, e.g. 500ms or 1m30s [default: 5s]' -r -f
complete -c brig -n "__fish_brig_using_subcommand events" -l stats -d 'Print statistics once'
complete -c brig -n "__fish_brig_using_subcommand events" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand exec" -s p -l process -d 'Read the process from FILE, as JSON' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l cwd -d 'Working directory in the container' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand exec" -s e -l env -d 'Set an environment variable' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -s u -l user -d 'User (UID[:GID]) to run as' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -s g -l additional-gids -d 'Additional supplementary group' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -s c -l cap -d 'Add a capability' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand exec" -l apparmor -d 'AppArmor profile of the process' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -l process-label -d 'SELinux label of the process' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -l pid-file -d 'Write the pid of the process to FILE' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l cgroup -d 'Cgroup below that of the container' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -l preserve-fds -d 'Pass N additional file descriptors' -r -f
complete -c brig -n "__fish_brig_using_subcommand exec" -l pidfd-socket -d 'Socket that receives a pidfd of the process' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l console-socket -d 'Socket that receives the terminal' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l no-new-privs -d 'Set no_new_privs'
complete -c brig -n "__fish_brig_using_subcommand exec" -s d -l detach -d 'Do not wait until the process ends'
complete -c brig -n "__fish_brig_using_subcommand exec" -l ignore-paused -d 'Run it even if the container is paused'
complete -c brig -n "__fish_brig_using_subcommand exec" -s t -l tty -d 'Allocate a terminal'
complete -c brig -n "__fish_brig_using_subcommand exec" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand export" -s o -l output -d 'Write to FILE instead of stdout' -r -F
complete -c brig -n "__fish_brig_using_subcommand export" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand features" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand gc" -s a -l all -d 'Also remove images that nothing uses'
complete -c brig -n "__fish_brig_using_subcommand gc" -l dry-run -d 'Print what would be removed, and remove nothing'
complete -c brig -n "__fish_brig_using_subcommand gc" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand images" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand images" -l inspect -d 'Print config, layers, sizes and history as JSON' -r -f -a "(__brig_images)"
complete -c brig -n "__fish_brig_using_subcommand images" -s q -l quiet -d 'Print ids only'
complete -c brig -n "__fish_brig_using_subcommand images" -l no-trunc -d 'Print full ids'
complete -c brig -n "__fish_brig_using_subcommand images" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand inspect" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand inspect" -l syscall -d 'Tell what the filter does with a system call' -r -f
complete -c brig -n "__fish_brig_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand kill" -s a -l all -d 'Send it to all processes of the container'
complete -c brig -n "__fish_brig_using_subcommand kill" -s r -l regex -d 'ID is a regular expression: all containers that match'
complete -c brig -n "__fish_brig_using_subcommand kill" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand layers" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand layers" -s q -l quiet -d 'Print ids only'
complete -c brig -n "__fish_brig_using_subcommand layers" -l no-trunc -d 'Print full ids'
complete -c brig -n "__fish_brig_using_subcommand layers" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand lint" -l format -d 'text (the default), json, sarif or github' -r -f -a "text\t''
json\t''
sarif\t''
github\t''"
complete -c brig -n "__fish_brig_using_subcommand lint" -l here -d 'Check against this host and the files of the bundle too'
complete -c brig -n "__fish_brig_using_subcommand lint" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand list" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand list" -s q -l quiet -d 'Print ids only'
complete -c brig -n "__fish_brig_using_subcommand list" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand mounts" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand pause" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand ps" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand ps" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand restore" -l image-path -d 'Image directory [default: ./checkpoint]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand restore" -l work-path -d 'Directory for logs [default: --image-path]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand restore" -l parent-path -d 'Earlier pre-dump, relative to image-path' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand restore" -l manage-cgroups-mode -d 'soft (the default), full, strict or ignore' -r -f -a "soft\t''
full\t''
strict\t''
ignore\t''"
complete -c brig -n "__fish_brig_using_subcommand restore" -l network-lock -d 'iptables, nftables or skip' -r -f -a "iptables\t''
nftables\t''
skip\t''"
complete -c brig -n "__fish_brig_using_subcommand restore" -l empty-ns -d 'Leave the network namespace out: network' -r -f
complete -c brig -n "__fish_brig_using_subcommand restore" -s b -l bundle -d 'Directory with config.json [default: .]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand restore" -s f -l config -d 'Use this file instead of config.json' -r -F
complete -c brig -n "__fish_brig_using_subcommand restore" -l layer -d 'Overlay layer; repeat it, lowest first' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand restore" -l upper -d 'Writable overlay layer [default: tmpfs]' -r -f
complete -c brig -n "__fish_brig_using_subcommand restore" -l pid-file -d 'Write the pid of the init process to FILE' -r -F
complete -c brig -n "__fish_brig_using_subcommand restore" -l console-socket -d 'Socket that receives the terminal' -r -F
complete -c brig -n "__fish_brig_using_subcommand restore" -l pidfd-socket -d 'Socket that receives a pidfd of init' -r -F
complete -c brig -n "__fish_brig_using_subcommand restore" -l preserve-fds -d 'Pass N additional file descriptors' -r -f
complete -c brig -n "__fish_brig_using_subcommand restore" -l lsm-profile -d 'Label: apparmor:PROFILE or selinux:LABEL' -r -f
complete -c brig -n "__fish_brig_using_subcommand restore" -l lsm-mount-context -d 'Other SELinux context of mounts' -r -f
complete -c brig -n "__fish_brig_using_subcommand restore" -l hostname -d 'Host name instead of the one in the image' -r -f
complete -c brig -n "__fish_brig_using_subcommand restore" -l auto-dedup -d 'Free memory in the image that is replaced'
complete -c brig -n "__fish_brig_using_subcommand restore" -l ext-unix-sk -d 'Allow external Unix socket connections'
complete -c brig -n "__fish_brig_using_subcommand restore" -l file-locks -d 'Include file locks'
complete -c brig -n "__fish_brig_using_subcommand restore" -l lazy-pages -d 'Load memory on demand, by a page server'
complete -c brig -n "__fish_brig_using_subcommand restore" -l link-remap -d 'Allow open files that have been unlinked'
complete -c brig -n "__fish_brig_using_subcommand restore" -l shell-job -d 'Allow an external terminal'
complete -c brig -n "__fish_brig_using_subcommand restore" -l tcp-close -d 'Close established TCP connections'
complete -c brig -n "__fish_brig_using_subcommand restore" -l tcp-established -d 'Include established TCP connections'
complete -c brig -n "__fish_brig_using_subcommand restore" -l tcp-skip-in-flight -d 'Ignore unestablished TCP connections'
complete -c brig -n "__fish_brig_using_subcommand restore" -s d -l detach -d 'Do not wait until it ends'
complete -c brig -n "__fish_brig_using_subcommand restore" -l no-subreaper -d 'Do not reap orphans of the container'
complete -c brig -n "__fish_brig_using_subcommand restore" -l no-new-keyring -d 'Keep the session keyring of the caller'
complete -c brig -n "__fish_brig_using_subcommand restore" -l trust-image -d 'Allow privileges beyond config.json'
complete -c brig -n "__fish_brig_using_subcommand restore" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand resume" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand rmi" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand run" -s b -l bundle -d 'Directory with config.json [default: .]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand run" -s f -l config -d 'Use this file instead of config.json' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l pid-file -d 'Write the pid of the init process to FILE' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l layer -d 'Overlay layer; repeat it, lowest first' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand run" -l upper -d 'Writable overlay layer [default: tmpfs]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l console-socket -d 'Socket that receives the terminal' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l pidfd-socket -d 'Socket that receives a pidfd of init' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l preserve-fds -d 'Pass N additional file descriptors' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l name -d 'Container id, with --image [default: generated]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l hostname -d 'Host name [default: the id]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l add-host -d 'Add a line to /etc/hosts' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l entrypoint -d 'Program instead of the image\'s Entrypoint and Cmd' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l env-file -d 'File of environment variables, NAME=VALUE per line' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -s e -l env -d 'Set an environment variable; without a value the caller\'s' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -s u -l user -d 'User to run as, by name or number' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l group-add -d 'Add a supplementary group; keep-groups: the caller\'s' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -s w -l workdir -d 'Working directory' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand run" -s v -l volume -d 'Bind mount a file or directory of the host' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l mount -d 'Add a mount of type bind or tmpfs' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l tmpfs -d 'Mount a tmpfs' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l shm-size -d 'Size of /dev/shm [default: 64m]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l read-only-tmpfs -d 'Mount the tmpfs of --read-only [default: true]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l device -d 'Add a device of the host, or all devices of a directory' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -s m -l memory -d 'Memory limit, e.g. 64m' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l memory-swap -d 'Memory and swap together; -1 is unlimited [default: twice --memory]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l cpus -d 'CPU limit, e.g. 1.5; 0 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l pids-limit -d 'Maximum number of tasks; -1 is unlimited [default: 2048]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l ulimit -d 'Resource limit; -1 is unlimited; host: those of the caller' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l sysctl -d 'Set a kernel parameter of the container\'s namespaces' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l cap-add -d 'Add a capability, or ALL' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand run" -l cap-drop -d 'Drop a capability, or ALL' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand run" -l security-opt -d 'seccomp=, apparmor=, no-new-privileges, mask=, unmask=' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -s l -l label -d 'Add an annotation' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l annotation -d 'Add an annotation' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l stop-signal -d 'Signal that stops the container' -r -f -a "ABRT\t''
ALRM\t''
BUS\t''
CHLD\t''
CLD\t''
CONT\t''
FPE\t''
HUP\t''
ILL\t''
INT\t''
IO\t''
IOT\t''
KILL\t''
PIPE\t''
POLL\t''
PROF\t''
PWR\t''
QUIT\t''
SEGV\t''
STKFLT\t''
STOP\t''
SYS\t''
TERM\t''
TRAP\t''
TSTP\t''
TTIN\t''
TTOU\t''
URG\t''
USR1\t''
USR2\t''
VTALRM\t''
WINCH\t''
XCPU\t''
XFSZ\t''"
complete -c brig -n "__fish_brig_using_subcommand run" -l pull -d 'Images are on disk: nothing is ever pulled' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l network -d 'Network namespace [default: none]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l image -d 'Image instead of a bundle: PATH, PATH:TAG or PATH@DIGEST' -r -f -a "(__brig_images)"
complete -c brig -n "__fish_brig_using_subcommand run" -l platform -d 'Platform of the image [default: of this machine]' -r -f
complete -c brig -n "__fish_brig_using_subcommand run" -l strict -d 'Refuse a config that `brig lint` finds an error in'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-pivot -d 'Do not use pivot_root(2) (for an initramfs)'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-new-keyring -d 'Keep the session keyring of the caller'
complete -c brig -n "__fish_brig_using_subcommand run" -l init -d 'Run the host\'s catatonit as init, which reaps processes'
complete -c brig -n "__fish_brig_using_subcommand run" -s t -l tty -d 'Allocate a terminal'
complete -c brig -n "__fish_brig_using_subcommand run" -s i -l interactive -d 'Keep stdin open (the default)'
complete -c brig -n "__fish_brig_using_subcommand run" -l read-only -d 'Read-only root filesystem; tmpfs on /tmp, /run, /var/tmp'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-new-privs -d 'Set no_new_privs'
complete -c brig -n "__fish_brig_using_subcommand run" -s d -l detach -d 'Do not wait until it ends'
complete -c brig -n "__fish_brig_using_subcommand run" -l keep -d 'Keep the container after it has ended'
complete -c brig -n "__fish_brig_using_subcommand run" -l rm -d 'Delete the container after it has ended (the default)'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-subreaper -d 'Do not reap orphans of the container'
complete -c brig -n "__fish_brig_using_subcommand run" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand seccomp" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand seccomp" -l cap -d 'Capability that docker\'s rules depend on' -r -f -a "CAP_CHOWN\t''
CAP_DAC_OVERRIDE\t''
CAP_DAC_READ_SEARCH\t''
CAP_FOWNER\t''
CAP_FSETID\t''
CAP_KILL\t''
CAP_SETGID\t''
CAP_SETUID\t''
CAP_SETPCAP\t''
CAP_LINUX_IMMUTABLE\t''
CAP_NET_BIND_SERVICE\t''
CAP_NET_BROADCAST\t''
CAP_NET_ADMIN\t''
CAP_NET_RAW\t''
CAP_IPC_LOCK\t''
CAP_IPC_OWNER\t''
CAP_SYS_MODULE\t''
CAP_SYS_RAWIO\t''
CAP_SYS_CHROOT\t''
CAP_SYS_PTRACE\t''
CAP_SYS_PACCT\t''
CAP_SYS_ADMIN\t''
CAP_SYS_BOOT\t''
CAP_SYS_NICE\t''
CAP_SYS_RESOURCE\t''
CAP_SYS_TIME\t''
CAP_SYS_TTY_CONFIG\t''
CAP_MKNOD\t''
CAP_LEASE\t''
CAP_AUDIT_WRITE\t''
CAP_AUDIT_CONTROL\t''
CAP_SETFCAP\t''
CAP_MAC_OVERRIDE\t''
CAP_MAC_ADMIN\t''
CAP_SYSLOG\t''
CAP_WAKE_ALARM\t''
CAP_BLOCK_SUSPEND\t''
CAP_AUDIT_READ\t''
CAP_PERFMON\t''
CAP_BPF\t''
CAP_CHECKPOINT_RESTORE\t''"
complete -c brig -n "__fish_brig_using_subcommand seccomp" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand spec" -s b -l bundle -d 'Directory to write it to [default: .]' -r -f -a "(__fish_complete_directories)"
complete -c brig -n "__fish_brig_using_subcommand spec" -s f -l file -d 'Write to FILE, relative to DIR; replaces an existing file' -r -F
complete -c brig -n "__fish_brig_using_subcommand spec" -l rootless -d 'For the unprivileged user who calls it'
complete -c brig -n "__fish_brig_using_subcommand spec" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand start" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand state" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand stats" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand stats" -l interval -d 'Measuring interval [default: 1s]' -r -f
complete -c brig -n "__fish_brig_using_subcommand stats" -l no-stream -d 'Print once, on a terminal too'
complete -c brig -n "__fish_brig_using_subcommand stats" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand tag" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand update" -s r -l resources -d 'Read linux.resources from FILE, as JSON' -r -F
complete -c brig -n "__fish_brig_using_subcommand update" -l memory -d 'Memory limit, e.g. 64m; -1 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l memory-reservation -d 'Memory soft limit' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l memory-swap -d 'Memory and swap; -1 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-share -d 'CPU weight, 2 to 262144' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-quota -d 'CPU time per period; -1 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-period -d 'Length of the period' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-burst -d 'Unused CPU time that can be saved' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-idle -d '1: run only when the CPU is idle' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-rt-runtime -d 'Real-time CPU time per period (v1)' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-rt-period -d 'Length of the real-time period (v1)' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpuset-cpus -d 'CPUs, e.g. 0-3,7' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l cpuset-mems -d 'Memory nodes, e.g. 0-1' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l pids-limit -d 'Maximum number of tasks; -1 is unlimited' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l blkio-weight -d 'Block I/O weight, 10 to 1000' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l l3-cache-schema -d 'L3 cache schema, e.g. L3:0=7f0;1=1f' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l mem-bw-schema -d 'Memory bandwidth, e.g. MB:0=20;1=70' -r -f
complete -c brig -n "__fish_brig_using_subcommand update" -l dry-run -d 'Print the writes without doing them'
complete -c brig -n "__fish_brig_using_subcommand update" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand wait" -l condition -d 'created, running, stopped (default) or removed' -r -f -a "created\t''
running\t''
stopped\t''
removed\t''"
complete -c brig -n "__fish_brig_using_subcommand wait" -l timeout -d 'Fail after this long, e.g. 10s' -r -f
complete -c brig -n "__fish_brig_using_subcommand wait" -s f -l format -d 'Output format: table (the default) or json' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand wait" -s q -l quiet -d 'Print the exit statuses only'
complete -c brig -n "__fish_brig_using_subcommand wait" -s h -l help -d 'Print help'
complete -c brig -n "__brig_at bundle 0" -a "(__brig_images)"
complete -c brig -n "__brig_at checkpoint 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at commit 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at create 0" -f -a ""
complete -c brig -n "__brig_at delete 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at diff 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at events 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at exec 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at export 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at inspect 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at kill 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at kill 1" -f -a "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ"
complete -c brig -n "__brig_at mounts 0" -f -a "add remove"
complete -c brig -n "__brig_at mounts 1" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at pause 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at ps 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at restore 0" -f -a ""
complete -c brig -n "__brig_at resume 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at rmi 0 or more" -a "(__brig_images)"
complete -c brig -n "__brig_at run 0" -f -a ""
complete -c brig -n "__brig_at seccomp 0" -f -a "explain diff record"
complete -c brig -n "__brig_at start 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at state 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at stats 0 or more" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at tag 0" -a "(__brig_images)"
complete -c brig -n "__brig_at update 0" -f -a "(__brig_containers)"
complete -c brig -n "__brig_at wait 0 or more" -f -a "(__brig_containers)"
