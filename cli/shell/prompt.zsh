# portwrap's prompt for zsh: eval "$(portctl init zsh)" at the end of ~/.zshrc.
# Shows the ports of the project that the shell is in, before your prompt; or wherever you put ${PORTWRAP_PROMPT} into
# PROMPT or RPROMPT (with setopt prompt_subst). Nothing here starts a process: the agent publishes the text in a file.

# Where the segment of this directory can be: once for each change of the directory, or of what makes it a root.
__portwrap_look() {
    emulate -L zsh
    local dir=${PWD:A} config= line= root= module=
    __portwrap_pwd=$PWD __portwrap_marks=$marks
    __portwrap_files=()
    while [[ -n $dir && $dir != / ]]; do
        __portwrap_files+=("$__portwrap_runtime/prompt${dir//\///@}/segment")
        if [[ -f $dir/.portwrap.json && -z $config ]]; then config=$dir; fi
        if [[ -e $dir/.git && ( -f $dir/.portwrap.json || ! $dir -ef ${HOME:-/} ) ]]; then
            if [[ -f $dir/.git/HEAD ]]; then
                root=$dir
            elif [[ -f $dir/.git && -r $dir/.git ]]; then
                line=
                { IFS= read -r line < $dir/.git } 2> /dev/null
                if [[ $line == gitdir:*/.git/*modules/*/worktrees/* ]]; then
                    root=$dir # a worktree of a submodule
                elif [[ $line == gitdir:*/.git/modules/* || $line == gitdir:*/.git/worktrees/*/modules/* ]]; then
                    module=$dir # a submodule belongs to its superproject
                elif [[ $line == gitdir:* ]]; then
                    root=$dir
                fi
            fi
        fi
        if [[ -n $root ]]; then break; fi
        dir=${dir%/*}
    done
    root=${root:-${module:-$config}}
    if [[ -n $root ]]; then __portwrap_files=("$__portwrap_runtime/prompt${root//\///@}/segment"); fi
}

__portwrap_hook() {
    if [[ ! -o prompt_percent ]]; then return 0; fi # no way to say what is invisible
    emulate -L zsh
    local file segment= agent= word text= marks= rest=${PROMPT-}
    # Shows nothing (no command ends with 999) and says where the segment begins and ends, also in copies of the prompt that
    # somebody kept and brings back, as a virtualenv does.
    local mark='%(999?.portwrap.)'
    if [[ -e .git ]]; then marks=g; fi
    if [[ -e .portwrap.json ]]; then marks+=c; fi
    if [[ $PWD != "$__portwrap_pwd" || $marks != "$__portwrap_marks" ]]; then __portwrap_look; fi
    for file in "${__portwrap_files[@]}"; do
        if [[ -f $file && -r $file ]]; then
            { { IFS= read -r segment && IFS= read -r agent } < $file } 2> /dev/null
            break
        fi
    done
    # Nothing but a segment, of an agent that lives, may come into the prompt.
    if [[ -z $agent || $agent == *[^0123456789]* || ! -e /proc/$agent/exe || $#segment -gt 64 || $segment == *[^0123456789:~+\ ]* ]]; then
        segment=
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
    if [[ -n $PORTWRAP_PROMPT && $rest${RPROMPT-} != *PORTWRAP_PROMPT* ]]; then rest=$mark$PORTWRAP_PROMPT$mark$rest; fi
    if [[ ${PROMPT-} != "$rest" ]]; then PROMPT=$rest; fi
}

if [[ -z ${__portwrap_ready-} ]]; then
    typeset -g __portwrap_ready=1 __portwrap_pwd= __portwrap_marks= __portwrap_segment= PORTWRAP_PROMPT=
    typeset -ga __portwrap_files
    __portwrap_files=()
fi
autoload -Uz add-zsh-hook
add-zsh-hook precmd __portwrap_hook # once, however often the start file is read
