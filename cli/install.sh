#!/usr/bin/env bash
# Builds portwrap from this checkout and installs it for you. Can be run again at any time; on Debian and its relatives
# it installs the packages that are missing. `--demo` then shows what it is for, in directories of its own.
set -euo pipefail

usage() {
    cat <<'END'
Usage: bash cli/install.sh [--prefix DIR] [--demo] [--uninstall] [--help]

  --prefix DIR   where to install (default: ~/.local)
  --demo         afterwards run two copies of a server that insists on port 8000, side by side
  --uninstall    remove what was installed there
  --help         this help
END
}

say() { printf 'install: %s\n' "$*"; }
fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build_dir=$source_dir/build/install
prefix=${HOME:-/root}/.local
demo=no
uninstall=no
while (($# > 0)); do
    case $1 in
        --prefix)
            if (($# < 2)) || [[ -z $2 ]]; then fail "--prefix wants a directory"; fi
            prefix=$2
            shift
            ;;
        --prefix=?*) prefix=${1#*=} ;;
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
[[ $prefix == /* ]] || prefix=$PWD/$prefix
manifest=$prefix/lib/portwrap/installed-files

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

install_files() {
    say "installing to $prefix"
    cmake --install "$build_dir" --prefix "$prefix" >/dev/null
    mkdir -p "${manifest%/*}"
    { cat "$build_dir/install_manifest.txt" && printf '\n%s\n' "$manifest"; } >"$manifest.new"
    mv "$manifest.new" "$manifest"
    if ! "$prefix/bin/portctl" agent status >/dev/null 2>&1; then return; fi
    say "restarting the agent that runs (every lease is kept)"
    "$prefix/bin/portctl" agent restart >/dev/null || say "that failed; try: portctl agent restart"
}

remove_files() {
    [[ -f $manifest ]] || fail "nothing of portwrap is installed in $prefix"
    if "$prefix/bin/portctl" agent status >/dev/null 2>&1; then
        say "stopping the agent"
        "$prefix/bin/portctl" agent stop >/dev/null || true
    fi
    local file
    while IFS= read -r file; do
        if [[ $file == "$prefix"/* ]]; then rm -f -- "$file"; fi
    done <"$manifest"
    rmdir --ignore-fail-on-non-empty "$prefix/lib/portwrap"
    say "removed from $prefix; the registry in ${XDG_STATE_HOME:-~/.local/state}/portwrap is left, it is yours"
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
install_packages
mkdir -p "$source_dir/build"
build
install_files
say "installed: portwrap, portctl, portwrap-agent in $prefix/bin"
case :${PATH:-}: in
    *:"$prefix/bin":*) ;;
    *) say "warning: $prefix/bin is not in your PATH; add: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
if [[ $demo == yes ]]; then run_demo; fi
