# Runs brig with the --root and --store of the line that is being typed.
_brig_ask() {
    local -a ask=(${~${(Q)_brig_line[1]}})
    local -i i
    for ((i = 2; i <= $#_brig_line; i++)); do
        case ${(Q)_brig_line[i]} in
            --root=*|--store=*) ask+=(${(Q)_brig_line[i]}) ;;
            --root|--store) ask+=(${(Q)_brig_line[i]} ${~${(Q)_brig_line[i + 1]}}) ;;
        esac
    done
    command $ask "$@" 2>/dev/null
}

_brig_containers() {
    local -a found=(${(f)"$(_brig_ask list --quiet)"})
    local expl
    _wanted containers expl container compadd -a found
}

_brig_images() {
    local -a found=(${(f)"$(_brig_ask images --format json | sed -n 's/^ *"name": "\(.*\)",\{0,1\}$/\1/p')"})
    local expl
    _wanted images expl image compadd -a found
    _files
}

