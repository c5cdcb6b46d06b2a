# portwrap's prompt for zsh: eval "$(portctl init zsh)" at the end of ~/.zshrc.
# Shows the ports of the project that the shell is in, before your prompt; or wherever you put ${PORTWRAP_PROMPT} into
# PROMPT or RPROMPT (with setopt prompt_subst). Nothing here starts a process: the agent publishes the text in a file.

# Where the segment of this directory can be, below an agent's directory: once for each change of the directory, or of what
# makes it a root.
__portwrap_look() {
    emulate -L zsh
    local real=${${PWD:A}%/} file= common= config= line= root= module= # "/" is empty
    local dir=$real
    __portwrap_pwd=:$PWD __portwrap_marks=$marks __portwrap_real=:
    __portwrap_files=()
    if [[ ! $PWD -ef . ]]; then return 0; fi # deleted, or moved: nobody knows its name
    __portwrap_real=:${PWD:A}
    while true; do
        file=/prompt${dir//\///@}/segment common=
        if [[ -f $dir/.portwrap.json ]]; then
            config=${config:-$file}
        elif [[ -z $dir || $dir -ef ${HOME:-/} ]]; then
            common=1 # belongs to nobody who works below it
        fi
        if [[ -z $common || $dir == "$real" ]]; then __portwrap_files+=("$file"); fi
        if [[ -z $common && -e $dir/.git ]]; then
            if [[ -f $dir/.git/HEAD ]]; then
                root=$file
            elif [[ -f $dir/.git && -r $dir/.git ]]; then
                line=
                { IFS= builtin read -r line < $dir/.git; } 2> /dev/null
                if [[ $line == gitdir:*/.git/*modules/*/worktrees/* ]]; then
                    root=$file # a worktree of a submodule
                elif [[ $line == gitdir:*/.git/modules/* || $line == gitdir:*/.git/worktrees/*/modules/* ]]; then
                    module=$file # a submodule belongs to its superproject
                elif [[ $line == gitdir:* ]]; then
                    root=$file
                fi
            fi
        fi
        if [[ -n $root || -z $dir ]]; then break; fi
        dir=${dir%/*}
    done
    root=${root:-${module:-$config}}
    if [[ -n $root ]]; then __portwrap_files=("$root"); fi
}

# The segment that the agent publishes whose directory is $1: nothing but a segment, of an agent that lives.
__portwrap_read() {
    emulate -L zsh
    local file agent= name=
    segment=
    for file in "${__portwrap_files[@]}"; do
        if [[ -f $1$file && -r $1$file ]]; then
            # The number of one that died without a word may be another program's by now; and who waits to be reaped has no exe.
            {
                { IFS= builtin read -r segment && IFS= builtin read -r agent; } < $1$file
                if [[ $agent != *[^0123456789]* && -e /proc/$agent/exe ]]; then
                    name=portwrap-agent # seen to be one at an earlier prompt
                    if [[ $agent != "${__portwrap_agent-}" ]]; then IFS= builtin read -r name < /proc/$agent/comm; fi
                fi
            } 2> /dev/null
            break
        fi
    done
    if [[ $name == portwrap-agent ]]; then __portwrap_agent=$agent; else __portwrap_agent= segment=; fi
    if [[ $#segment -gt 64 || $segment == *[^0123456789:~+\ ]* ]]; then segment=; fi
}

__portwrap_hook() {
    if [[ ! -o prompt_percent ]]; then return 0; fi # no way to say what is invisible
    emulate -L zsh
    local segment= socket= word text= lead= marks= rest=${PROMPT-} runtime=${__portwrap_runtime#:} lock=${__portwrap_lock#:}
    # Shows nothing (no command ends with 999) and says where the segment begins and ends, also in copies of the prompt that
    # somebody kept and brings back, as a virtualenv does.
    local mark='%(999?.portwrap.)'
    if [[ -e .git ]]; then marks=g; fi
    if [[ -e .portwrap.json ]]; then marks+=c; fi
    # The same name may lead elsewhere now (a link that was set anew), and the same directory may have another name.
    if [[ :$PWD != "$__portwrap_pwd" || $marks != "$__portwrap_marks" || ! . -ef ${__portwrap_real#:} ]]; then __portwrap_look; fi
    __portwrap_read "${__portwrap_place#:}"
    if [[ -z $segment && $__portwrap_place != "$__portwrap_runtime" ]]; then
        __portwrap_place=$__portwrap_runtime
        __portwrap_read "$runtime"
    fi
    if [[ -z $segment && -f $lock && -r $lock ]]; then
        # The agent may live in another runtime directory than this shell's: its registry's lock says where.
        { IFS= builtin read -r socket < $lock; } 2> /dev/null
        if [[ $socket == /* && $socket != "$runtime/agent.sock" ]]; then
            __portwrap_place=:${socket%/*}
            __portwrap_read "${socket%/*}"
        fi
    fi
    if [[ $segment != "$__portwrap_segment" ]]; then
        __portwrap_segment=$segment
        for word in ${(s: :)segment}; do
            if [[ $word == '~'* ]]; then word=$'%{\e[2m%}'${word#\~}$'%{\e[22m%}'; fi
            text+="$word "
        done
        typeset -g PORTWRAP_PROMPT=$text
    fi
    # Out with what was put in earlier; then in with what is true now.
    while [[ $rest == *"$mark"*"$mark"* ]]; do
        rest=${rest%%"$mark"*}${${rest#*"$mark"}#*"$mark"}
    done
    if [[ -n $PORTWRAP_PROMPT && $rest${RPROMPT-} != *PORTWRAP_PROMPT* ]]; then
        while [[ $rest == $'\n'* ]]; do lead+=$'\n' rest=${rest#?}; done
        rest=$lead$mark$PORTWRAP_PROMPT$mark$rest
    fi
    if [[ ${PROMPT-} != "$rest" ]]; then PROMPT=$rest; fi
}

# What begins with a slash becomes a name of a directory in every prompt with auto_name_dirs: paths are kept behind a colon.
typeset -g __portwrap_place=$__portwrap_runtime # where the agent was seen last
if [[ -z ${__portwrap_ready-} ]]; then
    typeset -g __portwrap_ready=1 __portwrap_agent= __portwrap_pwd= __portwrap_real= __portwrap_marks= __portwrap_segment= PORTWRAP_PROMPT=
    typeset -ga __portwrap_files
    __portwrap_files=()
fi
autoload -Uz add-zsh-hook
add-zsh-hook precmd __portwrap_hook # once, however often the start file is read
