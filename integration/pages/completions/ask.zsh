# Prints what zsh offers at the end of the line $2, with the completions of the directory $1.
zmodload zsh/zpty || exit 9
zpty shell zsh -f -i
zpty -w shell "PROMPT= RPROMPT= LISTMAX=0; setopt nozle_bracketed_paste 2>/dev/null; fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w shell 'compadd() { local -a hits; if [[ " $* " == *" -"[OAD]" "* ]]; then builtin compadd "$@"; return; fi; builtin compadd -O hits "$@"; print; print -rl -- "<"${^hits}">"; builtin compadd "$@" }'
zpty -w shell 'ended() { print -r -- "<<en""d>>" }; zle -N ended; bindkey "^T" ended; print -r -- "<<read""y>>"'
zpty -r shell said '*<<ready>>*'
zpty -n -w shell "$2"$'\t\x14'
zpty -r shell said '*<<end>>*'
zpty -d shell
print -r -- "$said" | sed -n 's/^<\([^<].*\)>\r*$/\1/p'
