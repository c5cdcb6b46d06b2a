# Completions of portctl and portwrap for bash: eval "$(portctl completion bash)", or installed, found by their names.
# What may follow is portctl's word (_complete); this carries the words there and back.

# While this is read, aliases of yours mean nothing; afterwards they do again.
if [[ :$BASHOPTS: == *:expand_aliases:* ]]; then __portwrap_aliases=-s; else __portwrap_aliases=-u; fi
\builtin shopt -u expand_aliases

# What $1 says without its quotes is put into `plain`, and the quote that is open at its end into `open`.
__portwrap_unquote() {
    local rest=$1 piece=
    plain= open=
    while true; do
        case $open in
            \') piece=${rest%%\'*} ;;
            \") piece=${rest%%[\\\"]*} ;;
            *) piece=${rest%%[\\\'\"]*} ;;
        esac
        plain+=$piece rest=${rest:${#piece}}
        if [[ -z $rest ]]; then break; fi
        if [[ $rest == \\* ]]; then
            # Between double quotes a backslash is itself before most characters.
            if [[ $open == \" && $rest != \\[\$\`\"\\]* ]]; then plain+=\\; fi
            plain+=${rest:1:1} rest=${rest:2}
        else
            if [[ -n $open ]]; then open=; else open=${rest:0:1}; fi
            rest=${rest:1}
        fi
    done
}

__portwrap_completion() {
    local program=${1##*/} line=${COMP_LINE:0:COMP_POINT} piece= blank= plain= open= raw= value= command=
    local -a words=() at=() starts=() offered=()
    local -i i
    COMPREPLY=()
    # The words up to the cursor. What stands together is one word: of --format=csv COMP_WORDBREAKS makes three.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${line%%[![:space:]]*}
        line=${line:${#blank}}
        piece=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then piece=$line; fi
        if ((i == 0)) || [[ -n $blank ]]; then
            words+=("$piece")
            at+=("$i")
            starts+=("$((COMP_POINT - ${#line}))")
        else
            words[-1]+=$piece
        fi
        line=${line:${#piece}}
    done
    raw=${words[-1]}
    for ((i = 0; i < ${#words[@]}; i++)); do
        __portwrap_unquote "${words[i]}"
        words[i]=$plain
    done
    mapfile -t offered < <(\command portctl _complete "$program" "${words[@]:1}" 2> /dev/null)
    # The shell replaces $2, which may be the end of a word only; what stands before it, perhaps an open quote, stays.
    if [[ $raw == *"$2" ]]; then raw=${raw:0:${#raw}-${#2}}; else raw=; fi
    __portwrap_unquote "$raw"
    for line in "${offered[@]}"; do
        case $line in
            :files) compopt -o default 2> /dev/null ;;
            :directories) compopt -o dirnames 2> /dev/null ;;
            :command\ *) command=${line#:command } ;;
            *)
                value=${line%%$'\t'*}
                if [[ $value != "$plain"* ]]; then continue; fi
                value=${value:${#plain}}
                case $open in
                    \') value=${value//\'/\'\\\'\'} ;;
                    \") value=${value//\\/\\\\} value=${value//\"/\\\"} value=${value//\$/\\\$} value=${value//\`/\\\`} ;;
                    *) if [[ -n $value ]]; then printf -v value %q "$value"; value=${value//\\,/,}; fi ;;
                esac
                # The shell closes the quote, unless it takes a last character of the value's for the end of it.
                if [[ -n $open && $value == *"$open" ]]; then value+=$open; fi
                COMPREPLY+=("$value")
                ;;
        esac
    done
    if [[ -n $command ]]; then __portwrap_command "${at[command]}" "${starts[command]}" "$2" "$3"; fi
}

# The rest of the line is another command's, which begins at word $1 and at character $2.
__portwrap_command() {
    if declare -F _command_offset > /dev/null; then
        _command_offset "$1"
        return
    fi
    if ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(\compgen -c -- "$3")
        compopt -o default 2> /dev/null
        return
    fi
    local own= COMP_LINE=${COMP_LINE:$2}
    local -i cursor=COMP_CWORD-$1 point=COMP_POINT-$2
    local -a words=("${COMP_WORDS[@]:$1}")
    own=$(\complete -p -- "${words[0]}" 2> /dev/null) || : # none; not the end of a shell with "set -e"
    local -a COMP_WORDS=("${words[@]}")
    local -i COMP_CWORD=cursor COMP_POINT=point
    if [[ $own =~ \ -F\ ([^ ]+)\  ]]; then
        "${BASH_REMATCH[1]}" "${words[0]}" "$3" "$4"
    else
        compopt -o bashdefault -o default 2> /dev/null
    fi
}

complete -F __portwrap_completion portctl portwrap
builtin shopt "$__portwrap_aliases" expand_aliases
builtin unset __portwrap_aliases
