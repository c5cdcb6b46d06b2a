#!/usr/bin/env bash
# Installs what the tests need, builds portwrap and runs all tests. Works from a clean checkout on a Debian 12 that has
# nothing but bash and git, as root or with sudo. The last line is "N passed, N failed"; the exit status is 0 when
# nothing failed. Logs and reports are in build/test-logs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

usage() {
    cat <<'USAGE'
usage: bash tests/run.sh [--full] [--no-install]

  (default)      release build with gcc, unit and integration tests, then the end-to-end tests on an installed copy, the
                 scenes that must be the same with the shim and without, 300 kills, three minutes of soak, a part of the matrix of
                 real servers, and beside them a minute of mutations for each fuzz target
  --full         also: unit and end-to-end tests under address, undefined-behaviour and thread sanitizers, build and tests with clang,
                 clang-tidy, the installation from source, the whole matrix of real servers, a minute of fuzzing for each target
                 (PORTWRAP_FUZZ_SECONDS), 1,000 processes at once, 10,000 kills, an hour of soak, 100,000 requests and a million
                 connections without a leak, and everything else repeated 20 times (PORTWRAP_REPEAT=N for another number)
  --no-install   install no Debian packages: use what is there
  -k EXPRESSION  only the end-to-end and integration tests in Python that match (pytest's -k)
  --help         this text
USAGE
}

mode=default
install_packages=yes
select=()
while [ $# -gt 0 ]; do
    case "$1" in
        --full) mode=full ;;
        --no-install) install_packages=no ;;
        -k) select=(-k "${2:?-k needs an expression}"); shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

python=/usr/bin/python3 # Debian's, which has Debian's pytest and flask; another python may come first in PATH
repeat=1
[ "$mode" = full ] && repeat="${PORTWRAP_REPEAT:-20}"
logs="$PWD/build/test-logs"
rm -rf "$logs"
mkdir -p "$logs"
work=$(mktemp -d /tmp/portwrap-tests.XXXXXX)
trap 'rm -rf "$work"' EXIT
: > "$logs/results"

step() { printf '\n== %s\n' "$*"; }
failed_step() { echo "0 1 0" >> "$logs/results"; echo "tests/run.sh: failed: $*" >&2; }
finish() {
    awk '{ passed += $1; failed += $2; skipped += $3 }
         END { if (skipped) { printf "(%d skipped, with the reasons above)\n", skipped }
               printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || passed == 0 }' "$logs/results"
    exit $?
}

# -- what is needed ---------------------------------------------------------------------------------------------------

packages=(g++ busybox cmake ninja-build pkg-config libuv1-dev nlohmann-json3-dev libspdlog-dev libcli11-dev zlib1g-dev catch2
    python3 python3-pytest python3-flask php-cli musl-tools git strace valgrind faketime tmux zsh fish bash-completion man-db mandoc socat procps iproute2 curl ca-certificates openssl
    systemd dpkg-dev fakeroot lintian podman runc conmon slirp4netns docker-compose)
command -v node > /dev/null || packages+=(nodejs)
command -v npm > /dev/null || packages+=(npm)
packages+=(python3-django uvicorn redis-server chromium)
[ "$mode" = full ] && packages+=(clang clang-tidy gunicorn python3-hypercorn python3-fastapi python3-tornado python3-bottle python3-twisted
    python3-aiohttp python3-waitress mkdocs ruby ruby-webrick ruby-sinatra puma lighttpd nginx-light mosquitto)

if [ "$install_packages" = yes ]; then
    missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        step "Debian packages: ${missing[*]}"
        root=()
        [ "$(id -u)" = 0 ] || root=(sudo)
        # An installation that was cut off earlier stops every further one until it is finished.
        [ -z "$(dpkg --audit)" ] || "${root[@]}" env DEBIAN_FRONTEND=noninteractive dpkg --configure -a >&2
        if ! { "${root[@]}" apt-get update -q &&
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
            > "$logs/apt.log" 2>&1; then
            tail -n 20 "$logs/apt.log" >&2
            failed_step "apt-get install ${missing[*]}"
            finish
        fi
    fi
fi

# Docker's proxy alone: its package would start a daemon, on a developer's own machine, too.
if [ ! -x /usr/sbin/docker-proxy ] && [ ! -x /usr/bin/docker-proxy ]; then
    proxy="$PWD/build/docker-proxy"
    if [ ! -x "$proxy/usr/sbin/docker-proxy" ] && [ "$install_packages" = yes ]; then
        mkdir -p "$proxy"
        (cd "$proxy" && apt-get download -q docker.io && dpkg-deb -x docker.io_*.deb . && rm docker.io_*.deb) >> "$logs/apt.log" 2>&1 ||
            echo "tests/run.sh: no docker-proxy; its tests are skipped" >&2
    fi
    [ ! -x "$proxy/usr/sbin/docker-proxy" ] || export PORTWRAP_TEST_DOCKER_PROXY="$proxy/usr/sbin/docker-proxy"
fi

# A root file system made by debootstrap has no /etc/hosts; the servers under test listen on "localhost".
if ! getent ahosts localhost > /dev/null; then
    if [ "$install_packages" = yes ] && [ "$(id -u)" = 0 ]; then
        step "This machine has no name for localhost: added to /etc/hosts"
        echo "127.0.0.1 localhost" >> /etc/hosts
    else
        echo "tests/run.sh: localhost does not resolve; add \"127.0.0.1 localhost\" to /etc/hosts" >&2
    fi
fi

modules_of=(tests/servers tests/matrix)
[ "$mode" = full ] && modules_of+=(tests/matrix/heavy tests/matrix/more)
# Locks made behind a mirror without other platforms' programs are not whole in npm ci's eyes; their versions count all the same.
fetch_modules() { npm ci --ignore-scripts --no-audit --no-fund || npm install --no-save --ignore-scripts --no-audit --no-fund; }
for directory in "${modules_of[@]}"; do
    step "Node modules of $directory"
    if ! cmp -s "$directory/package-lock.json" "$directory/node_modules/.installed-lock"; then
        if (cd "$directory" && fetch_modules) > "$logs/npm.log" 2>&1; then
            cp "$directory/package-lock.json" "$directory/node_modules/.installed-lock"
        else
            tail -n 20 "$logs/npm.log" >&2
            failed_step "the node modules of $directory"
            finish
        fi
    fi
done

# -- builds -----------------------------------------------------------------------------------------------------------

launcher=()
command -v ccache > /dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)

build() { # preset
    step "Build: $1"
    if ! { cmake --preset "$1" "${launcher[@]}" && cmake --build --preset "$1"; } > "$logs/build-$1.log" 2>&1; then
        grep -iE -A 12 'error|FAILED' "$logs/build-$1.log" | head -n 60 >&2
        failed_step "build of preset $1 (build/test-logs/build-$1.log)"
        return 1
    fi
}

# The ports that others hold on this machine may not be in the tests' way, nor the tests' in theirs. Without root's rights, or
# where a container forbids it, the machine's own loopback has to do.
own_network=(unshare -n sh -c 'ip link set lo up && exec "$@"' sh)
"${own_network[@]}" true 2> /dev/null || own_network=()

# Nothing here may see the user's own agent, registry or configuration. Short paths: a socket's has room for 107 bytes.
private=("${own_network[@]}" env -u LD_PRELOAD -u PORT -u PORTWRAP_RUNTIME -u PORTWRAP_SESSION -u PORTWRAP_DISABLE -u PORTWRAP_QUIET
    "HOME=$work/home" "XDG_RUNTIME_DIR=$work/run" "XDG_STATE_HOME=$work/state" "XDG_CONFIG_HOME=$work/config" LC_ALL=C.UTF-8)
mkdir -m 0700 "$work/home" "$work/run" "$work/state" "$work/config"

# Test cases of a verbose ctest log: those of the programs that say so (Catch2), one for any other program.
count_ctest() { # log
    "$python" - "$1" >> "$logs/results" <<'PYTHON'
import re, sys
cases, passed, failed = {}, 0, 0
for line in open(sys.argv[1], errors="replace"):
    if match := re.match(r"(\d+): All tests passed \(.* in (\d+) test cases?\)", line):
        good, bad = cases.get(match[1], (0, 0))
        cases[match[1]] = good + int(match[2]), bad
    elif match := re.match(r"(\d+): test cases:\s*(\d+)(?: \|\s*(\d+) passed)?(?: \|\s*(\d+) failed)?", line):
        good, bad = cases.get(match[1], (0, 0))
        cases[match[1]] = good + int(match[3] or 0), bad + int(match[4] or 0)
    elif match := re.match(r"\s*\d+/\d+ Test\s+#(\d+): \S+ \.*\s*(\**)(Passed|\S+)", line):
        good, bad = cases.pop(match[1], (0, 0))
        if match[3] == "Passed":
            passed, failed = passed + (good or 1), failed + bad
        else:
            passed, failed = passed + good, failed + (bad or 1)
print(passed, failed, 0)
PYTHON
}

unit() { # preset, ctest options
    local preset=$1 log="$logs/ctest-$1.log"
    shift
    step "Unit and integration tests: $preset"
    "${private[@]}" "${prefix_command[@]}" ctest --test-dir "build/$preset" -V --timeout 300 "$@" > "$log" 2>&1
    local status=$?
    count_ctest "$log"
    tail -n 1 "$logs/results" | { read -r passed failed _; echo "$passed passed, $failed failed"; }
    if [ "$status" != 0 ]; then
        grep -E -B 30 'FAILED|ERROR: |runtime error' "$log" | head -n 200
        # A status that the counts do not show is a failure, too.
        tail -n 1 "$logs/results" | grep -qE '^[0-9]+ 0 ' && failed_step "ctest in build/$preset (build/test-logs/ctest-$preset.log)"
    fi
}

count_pytest() { # report
    "$python" - "$1" >> "$logs/results" <<'PYTHON'
import sys, xml.etree.ElementTree as tree
try:
    suites = tree.parse(sys.argv[1]).getroot().iter("testsuite")
    tests, bad, skipped = map(sum, zip(*((int(s.get("tests")), int(s.get("failures")) + int(s.get("errors")), int(s.get("skipped"))) for s in suites)))
    print(tests - bad - skipped, bad, skipped)
except Exception:
    print(0, 1, 0)
PYTHON
}

python_tests() { # name, directory, environment...
    local name=$1 directory=$2 round
    shift 2
    step "End to end: $directory"
    for ((round = 1; round <= repeat; round++)); do
        "${private[@]}" "PORTWRAP_PREFIX=$prefix" "PORTWRAP_SHIM=$PWD/build/release/lib/portwrap/libportwrap.so" \
            "PORTWRAP_BUILD=$PWD/build/release" "PORTWRAP_TEST_THOUSAND=$thousand" "PORTWRAP_HARM_REPEAT=$harm" "$@" \
            timeout -k 30 "$deadline" "${prefix_command[@]}" "$python" -B -m pytest -p no:cacheprovider -q -rs --tb=short --durations=5 "${select[@]}" \
            --junitxml "$logs/$name-$round.xml" "$directory" 2>&1 | tee "$logs/$name-$round.log" | tail -n 400
        local status=${PIPESTATUS[0]}
        # 5: -k selected none of them
        [ "$status" = 5 ] && [ ${#select[@]} -gt 0 ] && continue
        count_pytest "$logs/$name-$round.xml"
        [ "$status" = 124 ] && failed_step "$directory took longer than $deadline s"
        [ "$status" = 0 ] || break
    done
}

harm=5 # how often each scene of tests/harm is played, in the full form in each of its rounds
thousand=
[ "$mode" = full ] && thousand=1
deadline=900
prefix_command=()
prefix="$work/installed here" # a space in the path is part of the test

build release || finish
unit release $([ "$repeat" -gt 1 ] && echo "--repeat until-fail:$repeat")
if [ "$mode" = full ]; then
    build asan && ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 unit asan
fi
if [ "$mode" = full ]; then
    build clang && unit clang
    build tidy
    # gcc 12's thread sanitizer cannot live with the address space randomisation of newer kernels.
    prefix_command=(setarch -R)
    build tsan && unit tsan
    prefix_command=()
fi

step "Install to $prefix"
if ! cmake --install build/release --prefix "$prefix" > "$logs/install.log" 2>&1; then
    tail -n 20 "$logs/install.log" >&2
    failed_step "cmake --install"
    finish
fi
# A minute of blind mutations for each reader of what others wrote, in what the tests below leave of the processor.
minutes=
if [ "$mode" = default ] && [ ${#select[@]} = 0 ]; then
    (cd "$logs" && exec nice -n 19 ../release/bin/fuzz_replay --seconds 60 --seed 626 ../../tests/fuzz/seeds > fuzz-minutes.log 2>&1) &
    minutes=$!
    trap 'kill "$minutes" 2> /dev/null; rm -rf "$work"' EXIT
fi

# The same days each time, so that a change is judged by what it changes; the long form draws new ones.
[ "$mode" = full ] || export PORTWRAP_SOAK_SEED="${PORTWRAP_SOAK_SEED:-626}"
suites=(tests/integration/*/ tests/e2e/ tests/crash/ tests/harm/ tests/soak/)
for suite in "${suites[@]}"; do
    if compgen -G "$suite/test_*.py" > /dev/null; then
        python_tests "$(echo "${suite%/}" | tr / -)" "$suite"
    fi
done

# The whole once more with programs that watch themselves; whatever they find, they write down.
if [ "$mode" = full ]; then
    repeat=1
    deadline=3600 python_tests tests-install tests/install/
    for preset in asan tsan; do
        sanitized="$work/$preset here"
        cmake --install "build/$preset" --prefix "$sanitized" > "$logs/install-$preset.log" 2>&1 || failed_step "cmake --install of $preset"
        options="log_path=$logs/report-$preset"
        [ "$preset" = tsan ] && prefix_command=(setarch -R)
        for suite in e2e crash; do
            deadline=3600 python_tests "tests-$suite-$preset" "tests/$suite/" PORTWRAP_TEST_SANITIZED=1 "PORTWRAP_PREFIX=$sanitized" \
                "ASAN_OPTIONS=$options,detect_stack_use_after_return=1" "UBSAN_OPTIONS=$options,print_stacktrace=1" "TSAN_OPTIONS=$options"
        done
        prefix_command=()
        if compgen -G "$logs/report-$preset*" > /dev/null; then
            head -n 60 "$logs/report-$preset"*
            failed_step "the sanitizer of $preset found something (build/test-logs/report-$preset*)"
        fi
    done
fi

if [ "$mode" = full ] && [ ${#select[@]} = 0 ]; then
    deadline=9000 python_tests tests-crash-long tests/crash/ PORTWRAP_CRASH_KILLS=10000
    deadline=5400 python_tests tests-soak-long tests/soak/ PORTWRAP_SOAK_SECONDS=3600
    deadline=3600 python_tests tests-leaks-long tests/e2e/test_leaks.py PORTWRAP_TEST_REQUESTS=100000
    deadline=3600 python_tests tests-hostile-long tests/e2e/test_hostile.py PORTWRAP_TEST_CONNECTIONS=1000000
    step "Fuzzing"
    bash tests/fuzz/run.sh "${PORTWRAP_FUZZ_SECONDS:-60}" 2>&1 | tee "$logs/fuzz.log"
    read -r passed failed < <(sed -nE 's/^fuzz: ([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$logs/fuzz.log")
    echo "${passed:-0} ${failed:-1} 0" >> "$logs/results"
fi

# Real servers, two and three copies of each.
if [ ${#select[@]} = 0 ]; then
    step "The matrix of real servers"
    part=(--ci)
    [ "$mode" = full ] && part=()
    for script in variables.py run.py; do
        "${private[@]}" "PORTWRAP_PREFIX=$prefix" timeout -k 30 3600 "$python" -B "tests/matrix/$script" "${part[@]}" 2>&1 | tee "$logs/matrix-$script.log"
        read -r passed failed skipped < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' "$logs/matrix-$script.log" | tail -n 1)
        echo "${passed:-0} ${failed:-1} ${skipped:-0}" >> "$logs/results"
    done
fi

if [ -n "$minutes" ]; then
    step "A minute of fuzzing for each target"
    if wait "$minutes"; then
        cat "$logs/fuzz-minutes.log"
        echo "$(grep -c ' executions$' "$logs/fuzz-minutes.log") 0 0" >> "$logs/results"
    else
        cat "$logs/fuzz-minutes.log" >&2
        failed_step "a fuzz target (its input is build/test-logs/fuzz-finding)"
    fi
fi

step "Result"
finish
