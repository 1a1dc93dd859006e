# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_brig_global_optspecs
    string join \n v/version root= log= log-level= log-format= debug systemd-cgroup cgroup-manager= store= rootless= criu= h/help
end

function __fish_brig_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_brig_global_optspecs) -- $cmd 2>/dev/null
    or return
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

complete -c brig -n "__fish_brig_needs_command" -l root -d 'Where states are kept [default: /run/brig]' -r -F
complete -c brig -n "__fish_brig_needs_command" -l log -d 'Write errors and warnings there too; also file:PATH, syslog:NAME, journald:NAME' -r -F
complete -c brig -n "__fish_brig_needs_command" -l log-level -d 'How much to say [default: warning]' -r -f -a "error\t''
warning\t''
debug\t''"
complete -c brig -n "__fish_brig_needs_command" -l log-format -d 'How to write the log [default: text]' -r -f -a "text\t''
json\t''"
complete -c brig -n "__fish_brig_needs_command" -l cgroup-manager -d 'Who makes cgroups [default: cgroupfs]' -r -f -a "cgroupfs\t''
systemd\t''
disabled\t''"
complete -c brig -n "__fish_brig_needs_command" -l store -d 'Where layers of images are kept [default: /var/lib/brig]' -r -F
complete -c brig -n "__fish_brig_needs_command" -l rootless -d 'Go on without a cgroup where none may be made: true, false or auto [default: auto]' -r -f -a "true\t''
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
False\t''
\t''"
complete -c brig -n "__fish_brig_needs_command" -l criu -r
complete -c brig -n "__fish_brig_needs_command" -s v -l version -d 'Print version, commit and spec version'
complete -c brig -n "__fish_brig_needs_command" -l debug -d 'Say what is done'
complete -c brig -n "__fish_brig_needs_command" -l systemd-cgroup -d 'The same as --cgroup-manager=systemd'
complete -c brig -n "__fish_brig_needs_command" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_needs_command" -f -a "bundle" -d 'Make a bundle of an image on disk, its layers shared'
complete -c brig -n "__fish_brig_needs_command" -f -a "commit" -d 'Write an image with what a container has changed as its top layer'
complete -c brig -n "__fish_brig_needs_command" -f -a "create" -d 'Create a container; it then waits for start'
complete -c brig -n "__fish_brig_needs_command" -f -a "delete" -d 'Remove a stopped or created container'
complete -c brig -n "__fish_brig_needs_command" -f -a "diff" -d 'List what a container has changed in its layers: A added, C changed, D deleted'
complete -c brig -n "__fish_brig_needs_command" -f -a "events" -d 'Tell what a container uses up, and when it runs out of memory, until it ends'
complete -c brig -n "__fish_brig_needs_command" -f -a "exec" -d 'Run another process in a running container'
complete -c brig -n "__fish_brig_needs_command" -f -a "export" -d 'Write a container\'s whole tree as a tar archive, without what is mounted in it'
complete -c brig -n "__fish_brig_needs_command" -f -a "features" -d 'Print what this brig can do as JSON'
complete -c brig -n "__fish_brig_needs_command" -f -a "gc" -d 'Remove what nobody uses from the store of layers'
complete -c brig -n "__fish_brig_needs_command" -f -a "images" -d 'List the images whose layers are in the store'
complete -c brig -n "__fish_brig_needs_command" -f -a "kill" -d 'Send a signal to the container\'s init'
complete -c brig -n "__fish_brig_needs_command" -f -a "layers" -d 'List the layers in the store, and who uses them'
complete -c brig -n "__fish_brig_needs_command" -f -a "list" -d 'List all containers'
complete -c brig -n "__fish_brig_needs_command" -f -a "mounts" -d 'Mount more in a container that is there, or take mounts away'
complete -c brig -n "__fish_brig_needs_command" -f -a "pause" -d 'Freeze all processes of a container'
complete -c brig -n "__fish_brig_needs_command" -f -a "ps" -d 'List the processes of a container'
complete -c brig -n "__fish_brig_needs_command" -f -a "resume" -d 'Let a paused container go on'
complete -c brig -n "__fish_brig_needs_command" -f -a "rmi" -d 'Remove names of images, and with their last one the images, from the store'
complete -c brig -n "__fish_brig_needs_command" -f -a "run" -d 'Create and start a container, wait for it and delete it'
complete -c brig -n "__fish_brig_needs_command" -f -a "spec" -d 'Write a config.json to start from'
complete -c brig -n "__fish_brig_needs_command" -f -a "start" -d 'Let a created container execute its program'
complete -c brig -n "__fish_brig_needs_command" -f -a "state" -d 'Print the state of a container as JSON'
complete -c brig -n "__fish_brig_needs_command" -f -a "stats" -d 'Show what containers use; on a terminal, again and again'
complete -c brig -n "__fish_brig_needs_command" -f -a "tag" -d 'Give an image of a layout on disk one more name there'
complete -c brig -n "__fish_brig_needs_command" -f -a "update" -d 'Change the limits of a container'
complete -c brig -n "__fish_brig_using_subcommand bundle" -l network -d 'Network namespace [default: none]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l hostname -d 'Host name [default: the id]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l add-host -d 'One more line of /etc/hosts' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l entrypoint -d 'Instead of the image\'s Entrypoint and Cmd' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l env-file -d 'Variables, one NAME=VALUE a line' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s e -l env -d 'Variable; without value the caller\'s, NAME* all that begin so' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s u -l user -d 'Instead of the image\'s, names or numbers' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l group-add -d 'One more group, or keep-groups: the caller\'s' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s w -l workdir -d 'Working directory' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s v -l volume -d 'Bind mount of a file or directory of the host' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l mount -d 'Mount of type bind or tmpfs' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l tmpfs -d 'Mount of a tmpfs' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l shm-size -d 'Size of /dev/shm [default: 64m]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l read-only-tmpfs -d 'Those of --read-only [default: true]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l device -d 'Device of the host, or all in a directory' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s m -l memory -d 'Most memory, as 64m' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l memory-swap -d 'Memory and swap together; -1 is unlimited [default: twice --memory]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l cpus -d 'Most CPUs, as 1.5; 0 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l pids-limit -d 'Most tasks; -1 is unlimited [default: 2048]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l ulimit -d 'Resource limit; -1 is unlimited; host: all as the caller has them' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l sysctl -d 'Kernel parameter of a namespace of the container\'s own' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l cap-add -d 'One more, or ALL' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l cap-drop -d 'One less, or ALL' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l security-opt -d 'seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, mask=PATH, unmask=ALL|PATH' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s l -l label -d 'Annotation' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l annotation -d 'Annotation' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l stop-signal -d 'What is to end the process' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l pull -d 'Images lie on disk: nothing is ever pulled' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -s p -l publish -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l platform -d 'Which of the image\'s platforms [default: this machine\'s]' -r
complete -c brig -n "__fish_brig_using_subcommand bundle" -l init -d 'Start the program by an init of the host\'s, which reaps (catatonit)'
complete -c brig -n "__fish_brig_using_subcommand bundle" -s t -l tty -d 'Give the process a terminal'
complete -c brig -n "__fish_brig_using_subcommand bundle" -s i -l interactive -d 'Says that stdin is wanted; the process has it in any case'
complete -c brig -n "__fish_brig_using_subcommand bundle" -l read-only -d 'Root filesystem read-only, with a tmpfs on /tmp, /run, /var/tmp'
complete -c brig -n "__fish_brig_using_subcommand bundle" -l no-new-privs -d 'execve grants nothing'
complete -c brig -n "__fish_brig_using_subcommand bundle" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand commit" -s a -l author -d 'Who made it' -r
complete -c brig -n "__fish_brig_using_subcommand commit" -s m -l message -d 'For its history' -r
complete -c brig -n "__fish_brig_using_subcommand commit" -s c -l change -d 'CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR as in a Dockerfile' -r
complete -c brig -n "__fish_brig_using_subcommand commit" -l compression -d 'Of the layer [default: gzip]' -r -f -a "gzip\t''
zstd\t''
none\t''"
complete -c brig -n "__fish_brig_using_subcommand commit" -l no-pause -d 'Let a running container go on meanwhile'
complete -c brig -n "__fish_brig_using_subcommand commit" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand create" -s b -l bundle -d 'Directory with config.json [default: .]' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -s f -l config -d 'Another config than the bundle\'s' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l pid-file -d 'Write the pid of the container\'s init there' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l image -d 'Instead of a bundle: PATH, PATH:TAG or PATH@DIGEST, as for bundle' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l platform -d 'Which of the image\'s platforms [default: this machine\'s]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l layer -d 'Layer of an overlay rootfs, lowest first; once for each' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l upper -d 'Where the container\'s changes go' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l console-socket -d 'Send the master of the terminal there' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l pidfd-socket -d 'Send a pidfd of the container\'s init there' -r -F
complete -c brig -n "__fish_brig_using_subcommand create" -l preserve-fds -d 'Let the process inherit N descriptors after stderr' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l name -d 'The container\'s name, of an image\'s [default: made up]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l network -d 'Network namespace [default: none]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l hostname -d 'Host name [default: the id]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l add-host -d 'One more line of /etc/hosts' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l entrypoint -d 'Instead of the image\'s Entrypoint and Cmd' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l env-file -d 'Variables, one NAME=VALUE a line' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s e -l env -d 'Variable; without value the caller\'s, NAME* all that begin so' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s u -l user -d 'Instead of the image\'s, names or numbers' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l group-add -d 'One more group, or keep-groups: the caller\'s' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s w -l workdir -d 'Working directory' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s v -l volume -d 'Bind mount of a file or directory of the host' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l mount -d 'Mount of type bind or tmpfs' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l tmpfs -d 'Mount of a tmpfs' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l shm-size -d 'Size of /dev/shm [default: 64m]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l read-only-tmpfs -d 'Those of --read-only [default: true]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l device -d 'Device of the host, or all in a directory' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s m -l memory -d 'Most memory, as 64m' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l memory-swap -d 'Memory and swap together; -1 is unlimited [default: twice --memory]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l cpus -d 'Most CPUs, as 1.5; 0 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l pids-limit -d 'Most tasks; -1 is unlimited [default: 2048]' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l ulimit -d 'Resource limit; -1 is unlimited; host: all as the caller has them' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l sysctl -d 'Kernel parameter of a namespace of the container\'s own' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l cap-add -d 'One more, or ALL' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l cap-drop -d 'One less, or ALL' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l security-opt -d 'seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, mask=PATH, unmask=ALL|PATH' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s l -l label -d 'Annotation' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l annotation -d 'Annotation' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l stop-signal -d 'What is to end the process' -r
complete -c brig -n "__fish_brig_using_subcommand create" -l pull -d 'Images lie on disk: nothing is ever pulled' -r
complete -c brig -n "__fish_brig_using_subcommand create" -s p -l publish -r
complete -c brig -n "__fish_brig_using_subcommand create" -l no-pivot -d 'Change root without pivot_root (for an initramfs)'
complete -c brig -n "__fish_brig_using_subcommand create" -l no-new-keyring -d 'Stay in the caller\'s session keyring'
complete -c brig -n "__fish_brig_using_subcommand create" -l init -d 'Start the program by an init of the host\'s, which reaps (catatonit)'
complete -c brig -n "__fish_brig_using_subcommand create" -s t -l tty -d 'Give the process a terminal'
complete -c brig -n "__fish_brig_using_subcommand create" -s i -l interactive -d 'Says that stdin is wanted; the process has it in any case'
complete -c brig -n "__fish_brig_using_subcommand create" -l read-only -d 'Root filesystem read-only, with a tmpfs on /tmp, /run, /var/tmp'
complete -c brig -n "__fish_brig_using_subcommand create" -l no-new-privs -d 'execve grants nothing'
complete -c brig -n "__fish_brig_using_subcommand create" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand delete" -s f -l force -d 'Kill it first; no error if there is none'
complete -c brig -n "__fish_brig_using_subcommand delete" -s r -l regex -d 'ID is a regular expression: all containers that it matches'
complete -c brig -n "__fish_brig_using_subcommand delete" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand diff" -s f -l format -d 'How to print it [default: table]' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand diff" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand events" -l interval -d 'How often, as 500ms or 1m30s [default: 5s]' -r
complete -c brig -n "__fish_brig_using_subcommand events" -l stats -d 'What it has used up by now, once'
complete -c brig -n "__fish_brig_using_subcommand events" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand exec" -s p -l process -d 'Read all about the process from there, as JSON' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l cwd -d 'Working directory in the container' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -s e -l env -d 'Set beside the container\'s' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -s u -l user -d 'Who runs' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -s g -l additional-gids -d 'Supplementary group beside the container\'s' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -s c -l cap -d 'Grant beside the container\'s' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -l apparmor -d 'AppArmor profile instead of the container\'s' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -l process-label -d 'SELinux label instead of the container\'s' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -l pid-file -d 'Write the pid of the process there' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l cgroup -d 'Cgroup below the container\'s' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -l preserve-fds -d 'Let the process inherit N descriptors after stderr' -r
complete -c brig -n "__fish_brig_using_subcommand exec" -l pidfd-socket -d 'Send a pidfd of the process there' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l console-socket -d 'Send the master of the terminal there' -r -F
complete -c brig -n "__fish_brig_using_subcommand exec" -l no-new-privs -d 'execve grants nothing'
complete -c brig -n "__fish_brig_using_subcommand exec" -s d -l detach -d 'Do not wait'
complete -c brig -n "__fish_brig_using_subcommand exec" -l ignore-paused -d 'Even if the container is paused'
complete -c brig -n "__fish_brig_using_subcommand exec" -s t -l tty -d 'Give the process a terminal'
complete -c brig -n "__fish_brig_using_subcommand exec" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand export" -s o -l output -d 'Instead of stdout' -r -F
complete -c brig -n "__fish_brig_using_subcommand export" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand features" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand gc" -s a -l all -d 'Also images that no bundle and no container uses'
complete -c brig -n "__fish_brig_using_subcommand gc" -l dry-run -d 'Only tell what would be removed'
complete -c brig -n "__fish_brig_using_subcommand gc" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand images" -s f -l format -d 'How to print them [default: table]' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand images" -l inspect -d 'Print config, layers, sizes and history of this one as JSON' -r
complete -c brig -n "__fish_brig_using_subcommand images" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand kill" -s a -l all -d 'Send it to every process of the container'
complete -c brig -n "__fish_brig_using_subcommand kill" -s r -l regex -d 'ID is a regular expression: all containers that it matches'
complete -c brig -n "__fish_brig_using_subcommand kill" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand layers" -s f -l format -d 'How to print them [default: table]' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand layers" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand list" -s f -l format -d 'How to print them [default: table]' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand list" -s q -l quiet -d 'Only ids'
complete -c brig -n "__fish_brig_using_subcommand list" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand mounts" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand pause" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand ps" -s f -l format -d 'How to print them [default: table]' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand ps" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand resume" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand rmi" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand run" -s b -l bundle -d 'Directory with config.json [default: .]' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -s f -l config -d 'Another config than the bundle\'s' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l pid-file -d 'Write the pid of the container\'s init there' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l image -d 'Instead of a bundle: PATH, PATH:TAG or PATH@DIGEST, as for bundle' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l platform -d 'Which of the image\'s platforms [default: this machine\'s]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l layer -d 'Layer of an overlay rootfs, lowest first; once for each' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l upper -d 'Where the container\'s changes go' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l console-socket -d 'Send the master of the terminal there' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l pidfd-socket -d 'Send a pidfd of the container\'s init there' -r -F
complete -c brig -n "__fish_brig_using_subcommand run" -l preserve-fds -d 'Let the process inherit N descriptors after stderr' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l name -d 'The container\'s name, of an image\'s [default: made up]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l network -d 'Network namespace [default: none]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l hostname -d 'Host name [default: the id]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l add-host -d 'One more line of /etc/hosts' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l entrypoint -d 'Instead of the image\'s Entrypoint and Cmd' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l env-file -d 'Variables, one NAME=VALUE a line' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s e -l env -d 'Variable; without value the caller\'s, NAME* all that begin so' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s u -l user -d 'Instead of the image\'s, names or numbers' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l group-add -d 'One more group, or keep-groups: the caller\'s' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s w -l workdir -d 'Working directory' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s v -l volume -d 'Bind mount of a file or directory of the host' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l mount -d 'Mount of type bind or tmpfs' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l tmpfs -d 'Mount of a tmpfs' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l shm-size -d 'Size of /dev/shm [default: 64m]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l read-only-tmpfs -d 'Those of --read-only [default: true]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l device -d 'Device of the host, or all in a directory' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s m -l memory -d 'Most memory, as 64m' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l memory-swap -d 'Memory and swap together; -1 is unlimited [default: twice --memory]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l cpus -d 'Most CPUs, as 1.5; 0 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l pids-limit -d 'Most tasks; -1 is unlimited [default: 2048]' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l ulimit -d 'Resource limit; -1 is unlimited; host: all as the caller has them' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l sysctl -d 'Kernel parameter of a namespace of the container\'s own' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l cap-add -d 'One more, or ALL' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l cap-drop -d 'One less, or ALL' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l security-opt -d 'seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, mask=PATH, unmask=ALL|PATH' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s l -l label -d 'Annotation' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l annotation -d 'Annotation' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l stop-signal -d 'What is to end the process' -r
complete -c brig -n "__fish_brig_using_subcommand run" -l pull -d 'Images lie on disk: nothing is ever pulled' -r
complete -c brig -n "__fish_brig_using_subcommand run" -s p -l publish -r
complete -c brig -n "__fish_brig_using_subcommand run" -l no-pivot -d 'Change root without pivot_root (for an initramfs)'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-new-keyring -d 'Stay in the caller\'s session keyring'
complete -c brig -n "__fish_brig_using_subcommand run" -l init -d 'Start the program by an init of the host\'s, which reaps (catatonit)'
complete -c brig -n "__fish_brig_using_subcommand run" -s t -l tty -d 'Give the process a terminal'
complete -c brig -n "__fish_brig_using_subcommand run" -s i -l interactive -d 'Says that stdin is wanted; the process has it in any case'
complete -c brig -n "__fish_brig_using_subcommand run" -l read-only -d 'Root filesystem read-only, with a tmpfs on /tmp, /run, /var/tmp'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-new-privs -d 'execve grants nothing'
complete -c brig -n "__fish_brig_using_subcommand run" -s d -l detach -d 'Do not wait'
complete -c brig -n "__fish_brig_using_subcommand run" -l keep -d 'Do not delete the container when it has ended'
complete -c brig -n "__fish_brig_using_subcommand run" -l rm -d 'Says that it is deleted then, as it is in any case'
complete -c brig -n "__fish_brig_using_subcommand run" -l no-subreaper -d 'Do not adopt the orphans of the container'
complete -c brig -n "__fish_brig_using_subcommand run" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand spec" -s b -l bundle -d 'Where to write it [default: .]' -r -F
complete -c brig -n "__fish_brig_using_subcommand spec" -s f -l file -d 'Write there, from DIR, over what is there' -r -F
complete -c brig -n "__fish_brig_using_subcommand spec" -l rootless -d 'For an ordinary user, who calls it'
complete -c brig -n "__fish_brig_using_subcommand spec" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand start" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand state" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand stats" -s f -l format -d 'How to show it [default: table]' -r -f -a "table\t''
json\t''"
complete -c brig -n "__fish_brig_using_subcommand stats" -l interval -d 'How long to measure [default: 1s]' -r
complete -c brig -n "__fish_brig_using_subcommand stats" -l no-stream -d 'Once, on a terminal too'
complete -c brig -n "__fish_brig_using_subcommand stats" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand tag" -s h -l help -d 'Print help'
complete -c brig -n "__fish_brig_using_subcommand update" -s r -l resources -d 'Read linux.resources from there, as JSON; - is stdin' -r -F
complete -c brig -n "__fish_brig_using_subcommand update" -l memory -d 'Memory, as 64m; -1 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l memory-reservation -d 'Memory that nothing is reclaimed below if it can be helped' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l memory-swap -d 'Memory and swap together; -1 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-share -d 'Weight against other containers, 2 to 262144' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-quota -d 'CPU time in a period; -1 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-period -d 'Length of a period' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-burst -d 'Unused CPU time that can be saved up' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-idle -d '1: run only when nobody else wants to' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-rt-runtime -d 'Real-time processes\' time in a period of their own (v1)' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpu-rt-period -d 'Length of that period (v1)' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpuset-cpus -d 'CPUs, as 0-3,7' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l cpuset-mems -d 'Memory nodes, as 0-1' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l pids-limit -d 'Most tasks; -1 is unlimited' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l blkio-weight -d 'Share of block I/O, 10 to 1000' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l kernel-memory -d '' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l kernel-memory-tcp -d '' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l l3-cache-schema -d 'Part of the L3 cache, as L3:0=7f0;1=1f' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l mem-bw-schema -d 'Part of the memory\'s bandwidth, as MB:0=20;1=70' -r
complete -c brig -n "__fish_brig_using_subcommand update" -l dry-run -d 'Print what would be written, and write nothing'
complete -c brig -n "__fish_brig_using_subcommand update" -s h -l help -d 'Print help'
