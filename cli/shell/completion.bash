# Completions of portctl and portwrap for bash: eval "$(portctl completion bash)", or installed, found by their names.
# What may follow is portctl's word (_complete); this carries the words there and back.

__portwrap_completion() {
    local program=${1##*/} typed=$2 word line command=
    local -a words=() at=() offered=()
    local -i i
    COMPREPLY=()
    # The words as typed, without quotes; --format=csv is one, though COMP_WORDBREAKS makes it three.
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]//[\\\'\"]/}
        if ((${#words[@]} > 0)) && [[ $word == = || ( ${COMP_WORDS[i - 1]} == = && ${words[-1]} == --*= ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
            at+=("$i")
        fi
    done
    mapfile -t offered < <(command portctl _complete "$program" "${words[@]}" 2> /dev/null)
    for line in "${offered[@]}"; do
        case $line in
            :files) compopt -o default 2> /dev/null ;;
            :directories) compopt -o dirnames 2> /dev/null ;;
            :command\ *) command=${line#:command } ;;
            *)
                word=${line%%$'\t'*}
                if [[ ${words[-1]} == --*=* ]]; then word=${word#*=}; fi
                if [[ $typed != [\'\"]* ]]; then printf -v word %q "$word"; word=${word//\\,/,}; fi
                COMPREPLY+=("$word")
                ;;
        esac
    done
    if [[ -n $command ]]; then __portwrap_command "${at[command - 1]}" "$2" "$3"; fi
}

# The rest of the line is another command's, which begins at word $1.
__portwrap_command() {
    if declare -F _command_offset > /dev/null; then
        _command_offset "$1"
        return
    fi
    if ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$2")
        compopt -o default 2> /dev/null
        return
    fi
    local own=
    local -i cursor=COMP_CWORD-$1
    local -a words=("${COMP_WORDS[@]:$1}")
    own=$(complete -p -- "${words[0]}" 2> /dev/null)
    local -a COMP_WORDS=("${words[@]}")
    local -i COMP_CWORD=cursor
    if [[ $own =~ \ -F\ ([^ ]+)\  ]]; then
        "${BASH_REMATCH[1]}" "${words[0]}" "$2" "$3"
    else
        compopt -o bashdefault -o default 2> /dev/null
    fi
}

complete -F __portwrap_completion portctl portwrap
