# Completes brig in bash. Made of the description of its commands: see integration/pages/completions.rs.
# _brig_flags: the flags of each command. _brig_values: what stands behind a flag, or at a place behind the
# command (`*`: at all further ones): words, @containers, @images, @directories or @files.
@TABLES@
# Prints what may stand there, a line each. Nothing is expanded: a name may have any character.
_brig_words() {
    case $1 in
        @containers) "${ask[@]}" list --quiet ;;
        @images) "${ask[@]}" images --format json | sed -n 's/^ *"name": "\(.*\)",\{0,1\}$/\1/p' ;;
        @directories) compgen -d -- "$2" ;;
        *) printf '%s\n' ${1//,/ } ;;
    esac 2>/dev/null
}

_brig() {
    local line=${COMP_LINE:0:COMP_POINT} typed=${COMP_WORDS[COMP_CWORD]}
    local command=brig place=0 option='' ended='' word kind before=''
    local -a words ask=("${1/#\~/$HOME}")
    # Not COMP_WORDS, which are split at `:` and `=`, too.
    read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=('')
    local wanted=${words[-1]} full=${words[-1]}
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if [[ $option ]]; then
            [[ $option != --root && $option != --store ]] || ask+=("$option" "${word/#\~/$HOME}")
            option=''
        elif [[ $word == -- ]]; then
            ended=yes
        elif [[ $word == -* && ! $ended ]]; then
            [[ $word != --root=* && $word != --store=* ]] || ask+=("$word")
            [[ $word == *=* || -z ${_brig_values[$command $word]-} ]] || option=$word
        elif [[ $command == brig ]]; then
            command=$word
        else
            place=$((place + 1))
        fi
    done
    COMPREPLY=()
    if [[ $option ]]; then
        kind=${_brig_values[$command $option]}
    elif [[ $wanted == --*=* && ! $ended ]]; then
        before=${wanted%%=*}=
        kind=${_brig_values[$command ${wanted%%=*}]-}
        wanted=${wanted#*=}
    elif [[ $wanted == -* && ! $ended ]]; then
        kind=${_brig_flags[$command]-}
    else
        kind=${_brig_values[$command $place]-${_brig_values[$command *]-}}
    fi
    # What bash itself does: names of files.
    [[ $kind != @images && $kind != @files ]] || compopt -o default 2>/dev/null
    [[ $kind != @directories ]] || compopt -o filenames 2>/dev/null
    [[ $kind && $kind != @files && $kind != @any ]] || return 0
    # bash replaces what stands behind the last `:` or `=` only.
    [[ $typed != [:=] ]] || typed=''
    while IFS= read -r word; do
        [[ $word != "$wanted"* ]] || COMPREPLY+=("${before}${word}")
    done < <(_brig_words "$kind" "$wanted")
    COMPREPLY=("${COMPREPLY[@]#"${full%"$typed"}"}")
}

complete -F _brig brig
