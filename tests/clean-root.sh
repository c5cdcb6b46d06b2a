#!/usr/bin/env bash
# The Debian package on a Debian 12 that has nothing: installed with apt, used, upgraded under a running agent and running
# servers, removed and purged, and every file counted before and after. Needs root, debootstrap and a network; run on demand.
#
#   bash tests/clean-root.sh DIRECTORY [BUILD]
#
# DIRECTORY becomes the root file system (kept, and used again next time); BUILD is where portwrap was built (build/release).
# What happens there happens in a mount and a process namespace of its own, so nothing is left running. The last line is
# "N passed, 0 failed", or what went wrong.
set -Eeuo pipefail

inside=no
[ "${1:-}" = --inside ] && inside=yes && shift
root=$(mkdir -p "${1:?DIRECTORY}" && cd "$1" && pwd -P)
build=$(cd "${2:-$(dirname "${BASH_SOURCE[0]}")/../build/release}" && pwd -P)
user=newcomer
passed=0
trap 'echo "clean-root.sh: line $LINENO failed after $passed checks" >&2' ERR

# in_root USER COMMAND...: with an environment as a first login has it.
in_root() {
    local who=$1 home=/root
    shift
    [ "$who" = root ] || home=/home/$who
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="$home" USER="$who" LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        chroot --userspec="$who" "$root" sh -c "cd; $*"
}

holds() { # what, command...
    local what=$1
    shift
    if ! "$@"; then
        echo "clean-root.sh: not so: $what" >&2
        return 1
    fi
    passed=$((passed + 1))
    echo "ok: $what"
}

is() { [ "$1" = "$2" ] || { printf 'got:      %s\nexpected: %s\n' "$1" "$2" >&2; return 1; }; }

# Every path but those that dpkg and apt keep books in.
files() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./tmp -o -path ./run -o -path ./var/lib/dpkg -o -path ./var/lib/apt \
        -o -path ./var/cache -o -path ./var/log -o -path ./etc/ld.so.cache \) -prune -o -print | LC_ALL=C sort)
}

apt() { in_root root "apt-get -q -y $*" > "$root/tmp/apt.log" 2>&1 || { cat "$root/tmp/apt.log" >&2; return 1; }; }

ports() { in_root "$user" 'portctl list --all --format csv' | cut -d, -f1-4 | LC_ALL=C sort; }

agent() { # pid version
    in_root "$user" 'portctl agent status --json' | in_root root 'python3 -c "import json, sys; a = json.load(sys.stdin)[\"agent\"]; print(a[\"pid\"], a[\"version\"])"'
}

if [ "$inside" = no ]; then
    [ -x "$root/bin/sh" ] || debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian > "$root.log" 2>&1 ||
        { tail "$root.log" >&2 && exit 1; }
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    work=$(mktemp -d)
    (umask 022 && cpack --config "$build/CPackConfig.cmake" -G DEB -B "$work" > "$work/log" 2>&1) || { tail "$work/log" >&2 && exit 1; }
    version=$(dpkg-deb -f "$work"/*.deb Version)
    # What the next version looks like to dpkg and to clients: a number of the same length.
    dpkg-deb -R "$work"/*.deb "$work/later"
    sed -i "s/^Version: .*/Version: 0.9.9/" "$work/later/DEBIAN/control"
    LC_ALL=C sed -i "s/${version//./\\.}/0.9.9/g" "$work/later/usr/bin/"*
    dpkg-deb --root-owner-group -b "$work/later" "$work/later.deb" > "$work/log"
    mkdir -p "$root/tmp"
    install -m 644 "$work"/portwrap*.deb "$root/tmp/portwrap.deb"
    install -m 644 "$work/later.deb" "$root/tmp/later.deb"
    rm -rf "$work"
    exec unshare -m -p -f --kill-child bash "${BASH_SOURCE[0]}" --inside "$root" "$build"
fi

mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
version=$(dpkg-deb -f "$root/tmp/portwrap.deb" Version)

apt update
apt install --no-install-recommends python3
if in_root root 'dpkg -s portwrap' > /dev/null 2>&1; then apt purge portwrap; fi # of a run that was broken off
apt autoremove --purge
in_root root "id $user" > /dev/null 2>&1 || in_root root "useradd -m -s /bin/bash $user"
rm -rf "$root/home/$user/.local" "$root/tmp/portwrap-"[0-9]*
before=$(files)

apt install --no-install-recommends /tmp/portwrap.deb
is "$(in_root "$user" 'portwrap --version')" "portwrap $version"
holds "apt installs it with what it depends on" in_root "$user" 'command -v portwrap portctl portwrap-agent > /dev/null'
holds "no package of it is half configured" is "$(in_root root 'dpkg --audit')" ""

serve='import http.server, os, sys
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(os.path.basename(os.getcwd()).encode())
    def log_message(self, *words): pass
http.server.HTTPServer(("", 8000), Server).serve_forever()'
fetch='import sys, urllib.request as u; print(u.urlopen("http://127.0.0.1:" + sys.argv[1]).read().decode())'
for copy in shop shop-fix; do
    in_root "$user" "mkdir -p $copy; echo '{}' > $copy/.portwrap.json; cat > $copy/server.py" <<< "$serve"
    in_root "$user" "cd $copy && exec portwrap python3 server.py" 2> "$root/tmp/$copy.log" &
    in_root "$user" "portctl -C $copy wait main --timeout 60s" > /dev/null
done
answers() { for copy in "$@"; do in_root "$user" "python3 -c '$fetch' \$(portctl -C $copy port)"; done; }
holds "two copies of a server that wants port 8000 answer, each on its own" is "$(answers shop shop-fix)" $'shop\nshop-fix'
holds "the second one was told why" grep -q '^portwrap: shop-fix/main listens on http://localhost:[0-9]* (asked for 8000: held by shop/main' "$root/tmp/shop-fix.log"
in_root "$user" 'cd shop && portctl get database --kind database' > /dev/null
had=$(ports)
old=$(agent)
is "${old#* }" "$version"

apt install /tmp/later.deb
new=$(agent)
holds "after the upgrade the agent is the new program in the same process" is "$new" "${old% *} 0.9.9"
holds "no lease is lost" is "$(ports)" "$had"
holds "and the servers answer" is "$(answers shop shop-fix)" $'shop\nshop-fix'
apt install --allow-downgrades /tmp/portwrap.deb
holds "the same on the way back" is "$(agent); $(ports)" "$old; $had"
in_root "$user" 'cd shop-fix && portctl stop main' > /dev/null
holds "a stopped server is noticed by an agent that never saw it begin" is "$(in_root "$user" 'portctl list -C shop-fix --state active --format csv' | wc -l)" 1

server=$(in_root "$user" 'portctl list -C shop --state active --json' | in_root root 'python3 -c "import json, sys; print(json.load(sys.stdin)[\"leases\"][0][\"holder\"][\"pid\"])"')
apt remove portwrap
for ((try = 0; try < 500; ++try)); do
    [ -d "/proc/${old% *}" ] || break
    sleep 0.01
done
holds "removed with its agent" [ ! -e "$root/proc/${old% *}" ]
holds "and systemd has kept nothing of it" is "$(cd "$root" && find etc/systemd var/lib/systemd -name '*portwrap*' 2>/dev/null)" ""
holds "but not with the server" in_root "$user" "python3 -c '$fetch' 8000 > /dev/null"
kill "$server"
apt purge portwrap
apt autoremove --purge
left=$(comm -13 <(printf '%s\n' "$before") <(files) | grep -v "^\./home/$user/shop" || true)
holds "what is left is the user's state" is "$(printf '%s\n' "$left" | grep -v "^\./home/$user/.local\(/state\(/portwrap\(/[^/]*\)\?\)\?\)\?$" || true)" ""
holds "and all of that is there" [ -s "$root/home/$user/.local/state/portwrap/ports.json" ]
holds "nothing that was there is missing" is "$(comm -23 <(printf '%s\n' "$before") <(files))" ""
rm -rf "$root/home/$user/.local" "$root/home/$user/shop" "$root/home/$user/shop-fix"
echo "$passed passed, 0 failed"
