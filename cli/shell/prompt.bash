# portwrap's prompt for bash: eval "$(portctl init bash)" at the end of ~/.bashrc.
# Shows the ports of the project that the shell is in, before your prompt; or wherever you write '${PORTWRAP_PROMPT-}' in PS1.
# Nothing here starts a process: the agent publishes the text in a file, which the builtin read reads.

# While this is read, aliases of yours mean nothing; afterwards they do again.
if [[ :$BASHOPTS: == *:expand_aliases:* ]]; then __portwrap_aliases=-s; else __portwrap_aliases=-u; fi
\builtin shopt -u expand_aliases

# Where the segment of this directory can be, below an agent's directory: once for each change of the directory, or of what
# makes it a root.
__portwrap_look() {
    __portwrap_pwd=$PWD __portwrap_marks=$marks
    __portwrap_files=() __portwrap_real=
    local old=${OLDPWD-} here=$PWD real= path= file= common= config= line= root= module=
    if [[ ! $PWD -ef . ]]; then return 0; fi # deleted: cd would make the shell's name for it longer each time
    # The physical path without a fork: there, and back the way that the shell knows.
    if ! builtin cd -P . 2> /dev/null; then return 0; fi
    real=$PWD __portwrap_real=$PWD
    if [[ $here != "$real" && $here -ef . ]]; then builtin cd -L "$here" 2> /dev/null; fi
    if [[ -n $old ]]; then OLDPWD=$old; else builtin unset OLDPWD && builtin declare -gx OLDPWD; fi # as it is in a shell that begins
    real=${real%/} path=$real # "/" is empty
    while true; do
        file=/prompt${path//\//\/@}/segment common=
        if [[ -f $path/.portwrap.json ]]; then
            config=${config:-$file}
        elif [[ -z $path || $path -ef ${HOME-/} ]]; then
            common=1 # belongs to nobody who works below it
        fi
        if [[ -z $common || $path == "$real" ]]; then __portwrap_files+=("$file"); fi
        if [[ -z $common && -e $path/.git ]]; then
            if [[ -f $path/.git/HEAD ]]; then
                root=$file
            elif [[ -f $path/.git && -r $path/.git ]]; then
                line=
                { IFS= builtin read -r line < "$path/.git"; } 2> /dev/null
                if [[ $line == gitdir:*/.git/*modules/*/worktrees/* ]]; then
                    root=$file # a worktree of a submodule
                elif [[ $line == gitdir:*/.git/modules/* || $line == gitdir:*/.git/worktrees/*/modules/* ]]; then
                    module=$file # a submodule belongs to its superproject
                elif [[ $line == gitdir:* ]]; then
                    root=$file
                fi
            fi
        fi
        if [[ -n $root || -z $path ]]; then break; fi
        path=${path%/*}
    done
    root=${root:-${module:-$config}}
    if [[ -n $root ]]; then __portwrap_files=("$root"); fi
    return 0
}

# The segment that the agent publishes whose directory is $1: nothing but a segment, of an agent that lives.
__portwrap_read() {
    local file agent= name=
    segment=
    for file in ${__portwrap_files[@]+"${__portwrap_files[@]}"}; do
        if [[ -f $1$file && -r $1$file ]]; then
            # The number of one that died without a word may be another program's by now; and who waits to be reaped has no exe.
            {
                { IFS= builtin read -r -n 64 segment && IFS= builtin read -r -n 16 agent; } < "$1$file"
                if [[ $agent != *[!0123456789]* && -e /proc/$agent/exe ]]; then
                    name=portwrap-agent # seen to be one at an earlier prompt
                    if [[ $agent != "${__portwrap_agent-}" ]]; then IFS= builtin read -r -n 16 name < "/proc/$agent/comm"; fi
                fi
            } 2> /dev/null
            break
        fi
    done
    if [[ $name == portwrap-agent ]]; then __portwrap_agent=$agent; else __portwrap_agent= segment=; fi
    if [[ $segment == *[!0123456789:~+\ ]* ]]; then segment=; fi
}

__portwrap_hook() {
    local status=$? segment= socket= word text= lead= marks= shown='${PORTWRAP_PROMPT-}' rest=${PS1-}
    if [[ -e .git ]]; then marks=g; fi
    if [[ -e .portwrap.json ]]; then marks+=c; fi
    # The same name may lead elsewhere now (a link that was set anew), and the same directory may have another name.
    if [[ $PWD != "$__portwrap_pwd" || $marks != "$__portwrap_marks" || ! . -ef ${__portwrap_real-} ]]; then __portwrap_look; fi
    __portwrap_read "$__portwrap_place"
    if [[ -z $segment && $__portwrap_place != "$__portwrap_runtime" ]]; then
        __portwrap_place=$__portwrap_runtime
        __portwrap_read "$__portwrap_place"
    fi
    if [[ -z $segment && -f $__portwrap_lock && -r $__portwrap_lock ]]; then
        # The agent may live in another runtime directory than this shell's: its registry's lock says where.
        { IFS= builtin read -r -n 128 socket < "$__portwrap_lock"; } 2> /dev/null
        if [[ $socket == /* && $socket != "$__portwrap_runtime/agent.sock" ]]; then
            __portwrap_place=${socket%/*}
            __portwrap_read "$__portwrap_place"
        fi
    fi
    if [[ $segment != "$__portwrap_segment" ]]; then
        __portwrap_segment=$segment
        while [[ -n $segment ]]; do
            word=${segment%% *}
            if [[ $segment == *' '* ]]; then segment=${segment#* }; else segment=; fi
            # 001 and 002 are what bash makes of \[ and \]: no width.
            if [[ $word == '~'* ]]; then word=$'\001\e[2m\002'${word#'~'}$'\001\e[22m\002'; fi
            text+="$word "
        done
        PORTWRAP_PROMPT=$text
    fi
    # PS1 gets a reference: who keeps a copy of it (a virtualenv, a theme, another shell) keeps no number that will be wrong.
    if [[ :$BASHOPTS: != *:promptvars:* ]]; then
        # References mean nothing here: the text itself, in the place of the one that was put in last.
        shown=$PORTWRAP_PROMPT
        if [[ -n $__portwrap_shown && $rest == *"$__portwrap_shown"* ]]; then
            rest=${rest%%"$__portwrap_shown"*}${rest#*"$__portwrap_shown"}
        fi
        __portwrap_shown=$shown
    fi
    if [[ -n $shown && $rest != *PORTWRAP_PROMPT* ]]; then
        while [[ $rest == '\n'* || $rest == $'\n'* ]]; do
            if [[ $rest == $'\n'* ]]; then lead+=$'\n' rest=${rest#?}; else lead+='\n' rest=${rest#??}; fi
        done
        rest=$lead$shown$rest
    fi
    if [[ ${PS1-} != "$rest" ]]; then PS1=$rest; fi
    return "$status"
}

__portwrap_place=$__portwrap_runtime # where the agent was seen last
if [[ -z ${__portwrap_ready-} ]]; then
    __portwrap_ready=1 __portwrap_agent= __portwrap_pwd= __portwrap_marks= __portwrap_segment= __portwrap_shown= PORTWRAP_PROMPT=
    __portwrap_files=()
fi
# After whatever the user has there, which may make PS1 anew each time; also when the start file is read again. The status that
# the hook hands on ends no shell with "set -e" where something follows it; and a shell that inherits the variable alone, without
# the hook, runs nothing.
if [[ ${PROMPT_COMMAND[*]-} != *__portwrap_hook* ]]; then
    if [[ -n ${PROMPT_COMMAND[*]-} && ${PROMPT_COMMAND@a} == *a* ]]; then
        PROMPT_COMMAND+=('${__portwrap_ready:+"__portwrap_hook"} && \:')
    else
        PROMPT_COMMAND=${PROMPT_COMMAND-}${PROMPT_COMMAND:+$'\n'}'${__portwrap_ready:+"__portwrap_hook"} && \:'
    fi
fi
builtin shopt "$__portwrap_aliases" expand_aliases
builtin unset __portwrap_aliases
