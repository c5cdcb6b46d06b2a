# Completions of portctl and portwrap for fish: portctl completion fish | source, or installed, found by their names.
# What may follow is portctl's word (_complete); this carries the words there and back.

function __portwrap_completion
    set -l tokens (commandline -opc)
    set -l current (commandline -ct)
    # The word without its quotes, of which the last one may be missing.
    for close in '' "'" '"'
        if set -l plain (string unescape -- "$current$close")
            set current "$plain"
            break
        end
    end
    # Of --output=FILE the shell completes the file.
    set -l kept (string match -r -- '^--[^=]*=' "$current")
    set -l path (string replace -r -- '^--[^=]*=' '' "$current")
    for line in (command portctl _complete (string replace -r '.*/' '' -- $tokens[1]) $tokens[2..] "$current" 2>/dev/null)
        switch $line
            case :files
                string replace -r -- '^' "$kept" (__fish_complete_path "$path")
            case :directories
                string replace -r -- '^' "$kept" (__fish_complete_directories "$path" '')
            case ':command *'
                set -l at (math (string replace ':command ' '' -- $line) + 1)
                complete -C (string join ' ' -- (string escape -- $tokens[$at..]) "$current")
            case '*'
                printf '%s\n' $line
        end
    end
end

for program in portctl portwrap
    complete -c $program -e
    complete -c $program -f -k -a '(__portwrap_completion)'
end
