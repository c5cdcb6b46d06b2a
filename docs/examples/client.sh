#!/bin/sh
# A client of portwrap's agent in plain shell; socat carries the lines.
#
#   client.sh port [SERVICE]     the port of the project of this directory
#   client.sh get SERVICE        the same, allocated if there is none
#   client.sh call METHOD JSON   any request; prints the reply's line
#
# Exit status 1: the agent refuses, 69: there is no agent. (`portctl agent start` starts one.)
set -u

socket=/tmp/portwrap-$(id -u)/agent.sock
if [ -w "/run/user/$(id -u)" ]; then socket=/run/user/$(id -u)/portwrap/agent.sock; fi
if [ -n "${XDG_RUNTIME_DIR-}" ]; then socket=$XDG_RUNTIME_DIR/portwrap/agent.sock; fi

# Nobody there: the agent may have been started with another XDG_RUNTIME_DIR. The registry's lock says where it listens.
lock=${XDG_STATE_HOME:-$HOME/.local/state}/portwrap/agent.lock
if ! socat -u OPEN:/dev/null "UNIX-CONNECT:$socket" 2> /dev/null && [ -s "$lock" ]; then socket=$(cat "$lock"); fi

# The text as a JSON string. Control characters have no place in a path or a name.
quoted() { printf '"%s"' "$(printf %s "$1" | tr -d '[:cntrl:]' | sed 's/[\\"]/\\&/g')"; }

# One request, one line of reply; socat keeps its side open until that has come, 30 s at most.
call() { # METHOD PARAMS
    reply=$(printf '{"jsonrpc":"2.0","id":1,"method":"%s","params":%s}\n' "$1" "$2" |
        socat -t 30 - "UNIX-CONNECT:$socket" 2> /dev/null)
    if [ -z "$reply" ]; then
        echo "no agent at $socket" >&2
        exit 69
    fi
    case $reply in
        *'"error":{'*)
            printf '%s\n' "$reply" | sed 's/.*"message":"\(\([^"\\]\|\\.\)*\)".*/\1/; s/\\\(["\\]\)/\1/g' >&2
            exit 1
            ;;
    esac
}

# The first "port" of a reply is the lease's.
port_of() { printf '%s\n' "$1" | grep -o '"port":[0-9]*' | head -n 1 | cut -d : -f 2; }

here=$(quoted "$(pwd -P)")
case ${1-} in
    port)
        params="{\"cwd\":$here}"
        if [ $# -gt 1 ]; then params="{\"cwd\":$here,\"service\":$(quoted "$2")}"; fi
        call lease.port "$params"
        port_of "$reply"
        ;;
    get)
        call lease.get "{\"cwd\":$here,\"service\":$(quoted "${2?a service}")}"
        port_of "$reply"
        ;;
    call)
        call "${2?a method}" "${3-"{\}"}"
        printf '%s\n' "$reply"
        ;;
    *)
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
