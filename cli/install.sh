#!/usr/bin/env bash
# Builds portwrap from this checkout and installs it for you. Can be run again at any time; on Debian and its relatives
# it installs the packages that are missing. `--demo` then shows what it is for, in directories of its own.
set -euo pipefail

usage() {
    cat <<'END'
Usage: bash cli/install.sh [--prefix DIR] [--build DIR] [--demo] [--uninstall] [--help]

  --prefix DIR   where to install (default: ~/.local)
  --build DIR    install what was built there, instead of building
  --demo         afterwards run two copies of a server that insists on port 8000, side by side
  --uninstall    remove what was installed there
  --help         this help

What it does: installs Debian packages that the build needs and that are missing (nothing else here needs root), builds
in build/install of this checkout, copies the programs, the library and their documents below the prefix, and writes the
list of them to PREFIX/lib/portwrap/installed-files. An agent of this installation that runs is restarted and keeps every
lease. Units for your systemd are linked from ~/.local/share/systemd/user where it would not find them by itself; it
starts the agent with the first command (at each login: systemctl --user enable --now portwrap-agent.socket).

--uninstall removes those files, the directories that were made for them and are empty then, and stops the agent of this
installation. Servers that run are left alone. Leases and configuration are yours: it says where they are.
END
}

unset DESTDIR # of somebody's packaging, which would send the files elsewhere

say() { printf 'install: %s\n' "$*"; }
fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build_dir=$source_dir/build/install
prefix=${HOME:-/root}/.local
built=
demo=no
uninstall=no
while (($# > 0)); do
    case $1 in
        --prefix=* | --build=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}"
            continue
            ;;
        --prefix)
            if (($# < 2)) || [[ -z $2 ]]; then fail "--prefix wants a directory"; fi
            prefix=$2
            shift
            ;;
        --build)
            if (($# < 2)) || [[ ! -f $2/cmake_install.cmake ]]; then fail "--build wants a directory that was built in"; fi
            built=$2
            shift
            ;;
        --demo) demo=yes ;;
        --uninstall) uninstall=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done
# As cmake writes it: absolute, without "..", "." and doubled slashes; a link in it stays one.
prefix=$(realpath -ms -- "$prefix")
prefix=${prefix%/}
manifest=$prefix/lib/portwrap/installed-files
made=$prefix/lib/portwrap/made-directories

# Where your systemd looks for units of yours, and where the installation has them.
unit_links=${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/systemd/user
units=$prefix/lib/systemd/user

install_packages() {
    local wanted=(g++ cmake ninja-build pkg-config libuv1-dev nlohmann-json3-dev libspdlog-dev libcli11-dev
        zlib1g-dev)
    local missing=() package as_root=()
    [[ $demo == no ]] || wanted+=(python3)
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "not a Debian system: taking for granted that these, or their like, are there: ${wanted[*]}"
        return
    fi
    for package in "${wanted[@]}"; do
        # pkg-config is provided by pkgconf in newer releases.
        if [[ $package == pkg-config ]] && command -v pkg-config >/dev/null; then continue; fi
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        say "all packages that the build needs are there"
        return
    fi
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "missing packages, and no sudo; as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing packages: ${missing[*]}"
    ${as_root[@]+"${as_root[@]}"} apt-get update -q
    ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
}

build() {
    say "building in $build_dir"
    # A checkout that was moved or copied brings a cache that belongs to another directory.
    if [[ -f $build_dir/CMakeCache.txt ]] &&
        ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$source_dir" "$build_dir/CMakeCache.txt"; then
        rm -rf "$build_dir"
    fi
    cmake -S "$source_dir" -B "$build_dir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPORTWRAP_TESTS=OFF \
        -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib >"$build_dir.log" 2>&1 ||
        { cat "$build_dir.log" >&2 && fail "configuring failed"; }
    cmake --build "$build_dir" || fail "the build failed"
}

# The pid of an agent that runs as this installation's program, also when that has just been replaced; else nothing.
own_agent() {
    local pid program
    pid=$("$prefix/bin/portctl" agent status --json 2>/dev/null | sed -n 's/.*"pid":[[:space:]]*\([0-9][0-9]*\).*/\1/p') || return 0
    [[ -n $pid ]] && program=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 0
    if [[ ${program% (deleted)} == "$(cd "$prefix/bin" && pwd -P)/portwrap-agent" ]]; then printf '%s\n' "$pid"; fi
}

tell_user_manager() {
    command -v systemctl >/dev/null || return 0
    systemctl --user --quiet "$@" >/dev/null 2>&1 || true
}

# /usr/local and /usr are searched by themselves.
link_units() {
    local unit
    if [[ $prefix == /usr || $prefix == /usr/local ]]; then return 0; fi
    mkdir -p "$unit_links"
    for unit in portwrap-agent.socket portwrap-agent.service; do
        # A file of the user's own is left alone; the link of another installation gives way to this one.
        if [[ -L $unit_links/$unit || ! -e $unit_links/$unit ]]; then ln -sfn "$units/$unit" "$unit_links/$unit"; fi
    done
}

unlink_units() {
    local unit
    for unit in portwrap-agent.socket portwrap-agent.service; do
        if [[ -L $unit_links/$unit && $(readlink "$unit_links/$unit") == "$units/$unit" ]]; then rm -f -- "$unit_links/$unit"; fi
    done
}

# Whether the user's manager has this installation's units, and no other's.
has_own_units() {
    [[ $(readlink "$unit_links/portwrap-agent.socket" 2>/dev/null) == "$units/portwrap-agent.socket" ]] ||
        [[ $prefix == /usr || $prefix == /usr/local ]]
}

install_files() {
    local file directory pid
    say "installing to $prefix"
    # Once beside the place itself, to know what belongs to the installation, and which directories will be made for it.
    local stage
    stage=$(mktemp -d "$build_dir/staged.XXXXXX")
    DESTDIR=$stage cmake --install "$build_dir" --prefix "$prefix" >/dev/null
    local -a files=()
    mapfile -t files < <(cd "$stage" && find . ! -type d | sed 's/^\.//' | sort)
    rm -rf "$stage"
    files+=("$manifest" "$made")
    local -A absent=()
    for file in "${files[@]}" "$unit_links/unit"; do
        directory=${file%/*}
        while [[ -n $directory && ! -d $directory ]]; do
            absent[$directory]=1
            directory=${directory%/*}
        done
    done
    cmake --install "$build_dir" --prefix "$prefix" >/dev/null
    mkdir -p "${manifest%/*}"
    printf '%s\n' "${files[@]}" >"$manifest.new"
    # An earlier version may have had files that this one has not.
    if [[ -f $manifest ]]; then
        while IFS= read -r file; do
            if [[ $file == "$prefix"/* ]]; then rm -f -- "$file"; fi
        done < <(grep -vxFf "$manifest.new" "$manifest" || true)
    fi
    {
        if [[ -f $made ]]; then cat "$made"; fi
        for directory in "${!absent[@]}"; do printf '%s\n' "$directory"; done
    } | sort -u >"$made.new"
    mv "$made.new" "$made"
    mv "$manifest.new" "$manifest"
    link_units
    tell_user_manager daemon-reload
    pid=$(own_agent)
    if [[ -n $pid ]]; then
        say "restarting the agent that runs (pid $pid); every lease is kept"
        "$prefix/bin/portctl" agent restart >/dev/null || say "that failed; try: portctl agent restart"
    elif "$prefix/bin/portctl" agent status >/dev/null 2>&1; then
        say "an agent of another installation runs; to replace it: $prefix/bin/portctl agent restart"
    fi
}

remove_files() {
    [[ -f $manifest ]] || fail "nothing of portwrap is installed in $prefix"
    local file pid directories=()
    while IFS= read -r file; do
        if [[ $file == */bin/portctl && $file != "$prefix"/* ]]; then fail "it was installed with another name of this directory: --prefix ${file%/bin/portctl}"; fi
    done < <(cat "$manifest")
    if has_own_units; then
        # The socket first, or the next request would start the agent again.
        tell_user_manager disable portwrap-agent.socket
        tell_user_manager stop portwrap-agent.socket portwrap-agent.service
    fi
    pid=$(own_agent)
    if [[ -n $pid ]]; then
        say "stopping the agent (pid $pid)"
        "$prefix/bin/portctl" agent stop >/dev/null || true
    fi
    unlink_units
    if [[ -f $made ]]; then mapfile -t directories < <(sort -r "$made"); fi
    while IFS= read -r file; do
        if [[ $file == "$prefix"/* ]]; then rm -f -- "$file"; fi
    done < <(cat "$manifest")
    # The deepest first; what somebody else has put there stays, and so do the directories above it.
    for file in ${directories[@]+"${directories[@]}"}; do
        if [[ -d $file && ! -L $file ]]; then rmdir --ignore-fail-on-non-empty -- "$file"; fi
    done
    tell_user_manager daemon-reload
    say "removed from $prefix"
    local state=${XDG_STATE_HOME:-${HOME:-/root}/.local/state}/portwrap config=${XDG_CONFIG_HOME:-${HOME:-/root}/.config}/portwrap
    if [[ -d $state ]]; then say "your leases are kept in $state"; fi
    if [[ -d $config ]]; then say "your configuration is kept in $config"; fi
    # What the user wrote is the user's to take out.
    local home=${HOME:-/root} config_home=${XDG_CONFIG_HOME:-${HOME:-/root}/.config}
    while IFS= read -r file; do
        say "$file still calls portctl: the lines of the prompt or the completions"
    done < <(grep -ls portctl "$home"/.bashrc "$home"/.bash_profile "$home"/.bash_completion "$home"/.profile "$home"/.envrc \
        "${ZDOTDIR:-$home}"/.zshrc "$config_home"/fish/config.fish "$config_home"/fish/conf.d/*.fish "${STARSHIP_CONFIG:-$config_home/starship.toml}" || true)
}

# The demo has an agent and a registry of its own; yours are not touched.
demo_dir=
demo_pids=()
end_demo() {
    local pid
    for pid in ${demo_pids[@]+"${demo_pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    for pid in ${demo_pids[@]+"${demo_pids[@]}"}; do wait "$pid" 2>/dev/null || true; done
    demo_pids=()
    if [[ -n $demo_dir ]]; then
        "$prefix/bin/portctl" agent stop >/dev/null 2>&1 || true
        rm -rf -- "$demo_dir"
        demo_dir=
    fi
}

# The port on which the copy in $1, started as process $2, listens.
await_port() {
    local try port
    for ((try = 0; try < 200; ++try)); do
        if port=$("$prefix/bin/portctl" -C "$1" list --state active --json 2>/dev/null |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["leases"][0]["port"])' 2>/dev/null); then
            printf '%s\n' "$port"
            return
        fi
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

fetch() {
    python3 -c 'import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.stdout.write(opener.open(sys.argv[1], timeout=5).read().decode())' "$1"
}

run_demo() {
    command -v python3 >/dev/null || fail "the demo needs python3"
    trap end_demo EXIT
    trap 'exit 130' INT TERM
    demo_dir=$(mktemp -d "${TMPDIR:-/tmp}/portwrap-demo.XXXXXX")
    export XDG_RUNTIME_DIR=$demo_dir/run XDG_STATE_HOME=$demo_dir/state XDG_CONFIG_HOME=$demo_dir/config
    unset PORT LD_PRELOAD PORTWRAP_RUNTIME PORTWRAP_SESSION PORTWRAP_DISABLE PORTWRAP_QUIET
    mkdir -m 700 "$XDG_RUNTIME_DIR" "$XDG_STATE_HOME" "$XDG_CONFIG_HOME"
    local copy port answer
    local -A seen=()
    printf '\nTwo copies of one project. Its server insists on port 8000:\n\n'
    for copy in main fix; do
        mkdir -p "$demo_dir/shop-$copy"
        printf '{"name": "shop-%s"}\n' "$copy" >"$demo_dir/shop-$copy/.portwrap.json"
        printf 'This is the copy "%s".\n' "$copy" >"$demo_dir/shop-$copy/index.html"
    done
    for copy in main fix; do
        printf '$ cd shop-%s && portwrap python3 -m http.server 8000 &\n' "$copy"
        (cd "$demo_dir/shop-$copy" && exec "$prefix/bin/portwrap" python3 -m http.server 8000 >server.log 2>&1) &
        demo_pids+=($!)
        port=$(await_port "$demo_dir/shop-$copy" $!) || {
            cat "$demo_dir/shop-$copy/server.log" >&2
            fail "the copy \"$copy\" did not come up"
        }
        # What portwrap said, without the server's own lines.
        grep '^portwrap: ' "$demo_dir/shop-$copy/server.log" || true
        seen[$copy]=$port
    done
    printf '\n'
    for copy in main fix; do
        answer=$(fetch "http://127.0.0.1:${seen[$copy]}/")
        # shellcheck disable=SC2016  # shown as one would type it
        printf '$ curl localhost:$(portctl -C shop-%s port)      # %s\n%s\n' "$copy" "${seen[$copy]}" "$answer"
        [[ $answer == "This is the copy \"$copy\"." ]] || fail "port ${seen[$copy]} does not answer for \"$copy\""
    done
    [[ ${seen[main]} != "${seen[fix]}" ]] || fail "both copies report one port"
    printf '\n$ portctl list --all\n'
    "$prefix/bin/portctl" list --all
    end_demo
    trap - EXIT INT TERM
    printf '\nBoth ran at once, unchanged, and are stopped again; nothing of the demo is left.\n'
}

if [[ $uninstall == yes ]]; then
    remove_files
    exit 0
fi
if [[ -n $built ]]; then
    build_dir=$(cd "$built" && pwd -P)
else
    install_packages
    mkdir -p "$source_dir/build"
    build
fi
install_files
say "installed: portwrap, portctl, portwrap-agent in $prefix/bin"
case :${PATH:-}: in
    *:"$prefix/bin":*) ;;
    *) say "warning: $prefix/bin is not in your PATH; add: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
if [[ $demo == yes ]]; then run_demo; fi
