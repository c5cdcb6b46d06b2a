# portwrap's prompt for fish: portctl init fish | source, at the end of ~/.config/fish/config.fish.
# Shows the ports of the project that the shell is in, before your prompt; or wherever your fish_prompt or
# fish_right_prompt prints $PORTWRAP_PROMPT. Nothing here starts a process: the agent publishes the text in a file.

# Where the segment of this directory can be, below an agent's directory: once for each change of the directory, or of what
# makes it a root.
function __portwrap_look
    set -g __portwrap_pwd $PWD
    set -g __portwrap_marks "$argv[1]"
    set -g __portwrap_files
    set -l config
    set -l root
    set -l module
    set -l IFS # command substitutions are one value, also of a name with a line break
    set -l start (builtin realpath -- . 2>/dev/null)
    set -l home (builtin realpath -- "$HOME" 2>/dev/null)
    set -l path (string replace -r '^/$' '' -- "$start")
    set -l here "$path"
    while test -n "$start"
        set -l mirror (string replace -a / /@ -- "$path")
        set -l file "/prompt$mirror/segment"
        set -l common
        if test -f "$path/.portwrap.json"
            test -n "$config"; or set config $file
        else if test -z "$path" -o "$path" = "$home"
            set common yes # belongs to nobody who works below it
        end
        if test -z "$common" -o "$path" = "$here"
            set -a __portwrap_files $file
        end
        if test -z "$common" -a -e "$path/.git"
            if test -f "$path/.git/HEAD"
                set root $file
            else if test -f "$path/.git" -a -r "$path/.git"
                set -l line
                read line <"$path/.git"
                if string match -q 'gitdir:*/.git/*modules/*/worktrees/*' -- "$line"
                    set root $file # a worktree of a submodule
                else if string match -q -e -r '^gitdir:.*/\.git/(worktrees/.*/)?modules/' -- "$line"
                    set module $file # a submodule belongs to its superproject
                else if string match -q 'gitdir:*' -- "$line"
                    set root $file
                end
            end
        end
        if test -n "$root" -o -z "$path"
            break
        end
        set path (string replace -r '/[^/]*$' '' -- "$path")
    end
    for found in "$root" "$module" "$config"
        if test -n "$found"
            set -g __portwrap_files $found
            break
        end
    end
end

# The segment that the agent publishes whose directory is the argument: nothing but a segment, of an agent that lives.
function __portwrap_read --no-scope-shadowing
    set segment ''
    set -l agent
    set -l name
    for file in $argv[1]$__portwrap_files
        if test -f "$file" -a -r "$file"
            read -L segment agent <"$file"
            break
        end
    end
    # What has been looked at is not looked at again.
    if test "$agent:$segment" != "$__portwrap_valid"
        if string match -qr '^[0-9]{1,15}$' -- "$agent"; and string match -qr '^[0-9:~+ ]{1,64}$' -- "$segment"
            set -g __portwrap_valid "$agent:$segment"
        else
            set segment ''
        end
    end
    if test -z "$segment"; or not test -e "/proc/$agent/exe"
        set segment ''
        set -g __portwrap_agent
    else if test "$agent" != "$__portwrap_agent"
        # The number of one that died without a word may be another program's by now.
        if read name <"/proc/$agent/comm"; and test "$name" = portwrap-agent
            set -g __portwrap_agent $agent
        else
            set segment ''
        end
    end
end

# The same name may lead elsewhere by now: a link that was set anew.
function __portwrap_moved --on-variable PWD
    set -g __portwrap_pwd
end

function __portwrap_update
    set -l marks
    if test -e .git
        set marks g
    end
    if test -e .portwrap.json
        set marks "c$marks"
    end
    if test "$PWD" != "$__portwrap_pwd" -o "$marks" != "$__portwrap_marks"
        __portwrap_look "$marks"
    end
    set -l segment
    __portwrap_read $__portwrap_place
    if test -z "$segment" -a "$__portwrap_place" != "$__portwrap_runtime"
        set -g __portwrap_place $__portwrap_runtime
        __portwrap_read $__portwrap_place
    end
    if test -z "$segment" -a -f "$__portwrap_lock" -a -r "$__portwrap_lock"
        # The agent may live in another runtime directory than this shell's: its registry's lock says where.
        set -l socket
        read socket <"$__portwrap_lock"
        if string match -q '/*' -- "$socket"; and test "$socket" != "$__portwrap_runtime/agent.sock"
            set -g __portwrap_place (string replace -r '/[^/]*$' '' -- $socket)
            __portwrap_read $__portwrap_place
        end
    end
    if test "$segment" != "$__portwrap_segment"
        set -g __portwrap_segment $segment
        set -g PORTWRAP_PROMPT ''
        for word in (string split -n ' ' -- $segment)
            if string match -q '~*' -- $word
                set word \e'[2m'(string sub -s 2 -- $word)\e'[22m'
            end
            set -g PORTWRAP_PROMPT "$PORTWRAP_PROMPT$word "
        end
    end
end

function __portwrap_status
    return $argv[1]
end

set -g __portwrap_place $__portwrap_runtime # where the agent was seen last
if not set -q __portwrap_ready
    set -g __portwrap_ready 1
    set -g __portwrap_pwd
    set -g __portwrap_marks
    set -g __portwrap_valid
    set -g __portwrap_segment
    set -g __portwrap_files
    set -g PORTWRAP_PROMPT ''
end

# Also when the user's prompt was made anew, and the start file is read again; but not around a virtualenv's, which calls the
# one that it found, and brings it back.
if not functions fish_prompt _old_fish_prompt 2>/dev/null | string match -q '*__portwrap_update*'
    functions -e __portwrap_users_prompt 2>/dev/null
    if not functions -q fish_prompt
        function fish_prompt
            builtin printf '%s> ' (prompt_pwd)
        end
    end
    functions -c fish_prompt __portwrap_users_prompt
    set -g __portwrap_places_itself (functions __portwrap_users_prompt fish_right_prompt 2>/dev/null | string match -q '*PORTWRAP_PROMPT*'; and echo yes; or echo no)
    function fish_prompt --description 'The prompt, with the ports of the project'
        set -l last $status
        set -l pipe $pipestatus
        __portwrap_update
        if test $__portwrap_places_itself = no
            builtin printf %s "$PORTWRAP_PROMPT"
        end
        # The same status, and the same of each part of a pipeline.
        if test "$last" != "$pipe[-1]"
            set pipe $last
        end
        switch (count $pipe)
            case 2
                __portwrap_status $pipe[1] | __portwrap_status $pipe[2]
            case 3
                __portwrap_status $pipe[1] | __portwrap_status $pipe[2] | __portwrap_status $pipe[3]
            case 4
                __portwrap_status $pipe[1] | __portwrap_status $pipe[2] | __portwrap_status $pipe[3] | __portwrap_status $pipe[4]
            case '*'
                __portwrap_status $last
        end
        __portwrap_users_prompt
    end
end
