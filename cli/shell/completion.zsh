#compdef portctl portwrap
# Completions of portctl and portwrap for zsh: eval "$(portctl completion zsh)" after compinit, or installed in $fpath.
# What may follow is portctl's word (_complete); this carries the words there and back.

__portwrap_completion() {
    local line value description
    local -a values
    integer command=0
    for line in "${(@f)$(\command portctl _complete ${service:t} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null)}"; do
        case $line in
            :files)
                compset -P '--*='
                _files
                ;;
            :directories)
                compset -P '--*='
                _files -/
                ;;
            :command\ *) command=${line#:command } ;;
            ?*)
                value=${line%%$'\t'*}
                description=${line#*$'\t'}
                values+=("${${value//\\/\\\\}//:/\\:}${description:+:$description}")
                ;;
        esac
    done
    if ((command)); then
        shift $command words
        ((CURRENT -= command))
        _normal
    elif (($#values)); then
        _describe -V "${service:t}" values
    fi
}

if [[ $funcstack[1] == _port(ctl|wrap) ]]; then
    __portwrap_completion "$@"
elif (($+functions[compdef])); then
    compdef __portwrap_completion portctl portwrap
fi
