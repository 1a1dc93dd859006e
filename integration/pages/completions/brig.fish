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
@SPECS@
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
