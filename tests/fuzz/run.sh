#!/usr/bin/env bash
# Builds the fuzz targets and runs each of them, two at a time, from its seeds and what earlier runs found interesting
# (build/fuzz/corpus). A finding is left in build/fuzz/findings; the last line says how many there were.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
usage="usage: bash tests/fuzz/run.sh [SECONDS [TARGET...]]   60 seconds for each target, PORTWRAP_FUZZ_JOBS=2 at once
       bash tests/fuzz/run.sh --keep [TARGET...]      no fuzzing: the smallest inputs that reach something of their own, out of all
                                                      that earlier runs found, become the corpora in the tree (tests/fuzz/seeds)"
keep=
seconds=60
case "${1:-}" in
    -h | --help) echo "$usage"; exit 0 ;;
    --keep) keep=1; shift ;;
    "") ;;
    *[!0-9]*) echo "$usage" >&2; exit 2 ;;
    *) seconds="$1"; shift ;;
esac
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(wire shim_reply project_config project_files journal snapshot recovery imports user_config texts)

launcher=()
command -v ccache > /dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p build/fuzz/findings build/fuzz/logs
if ! { cmake --preset fuzz "${launcher[@]}" && cmake --build build/fuzz --target "${targets[@]/#/fuzz_}"; } > build/fuzz/logs/build.log 2>&1; then
    tail -n 30 build/fuzz/logs/build.log >&2
    echo "tests/fuzz: cannot build the targets"
    exit 1
fi

run() { # target
    mkdir -p "build/fuzz/corpus/$1"
    # Short inputs, so that many are tried. They reach the limits on how many there may be (1,024 words of a script, 256 entries of an
    # object); those on how long something may be (64 KB of a script, 1 MB of a file) are tried in tests/unit and tests/e2e/test_hostile.py.
    "build/fuzz/bin/fuzz_$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/findings/$1-" "build/fuzz/corpus/$1" "tests/fuzz/seeds/$1" > "build/fuzz/logs/$1.log" 2>&1
    local status=$?
    awk -v target="$1" '/number_of_executed_units/ { print target ": " $2 " executions, " }' "build/fuzz/logs/$1.log" | tr -d '\n'
    if [ "$status" = 0 ]; then echo "no finding"; else
        echo "A FINDING (status $status)"
        grep -E -A 12 'ERROR|broken promise|runtime error' "build/fuzz/logs/$1.log" | head -n 40
        return 1
    fi
}

# What a person wrote stays; what a fuzzer found is named after its content, and there is room for 40 small ones of a target.
keep_corpus() { # target
    local seeds="tests/fuzz/seeds/$1" merged
    merged=$(mktemp -d)
    find "$seeds" -regextype posix-extended -regex '.*/[0-9a-f]{40}' -exec mv -t "build/fuzz/corpus/$1" {} +
    "build/fuzz/bin/fuzz_$1" -merge=1 -max_len=1500 "$merged" "$seeds" "build/fuzz/corpus/$1" > "build/fuzz/logs/$1-merge.log" 2>&1
    find "$merged" -type f -printf '%s %p\n' | sort -n | awk '{ line[NR] = $2 } END { step = NR > 40 ? NR / 40 : 1; for (i = 1; i <= NR; i += step) { print line[int(i)] } }' |
        while read -r file; do cp "$file" "$seeds/$(sha1sum < "$file" | cut -c 1-40)"; done
    rm -rf "$merged"
    echo "$1: $(find "$seeds" -type f | wc -l) inputs, $(du -sb "$seeds" | cut -f 1) bytes"
}
if [ -n "$keep" ]; then
    for target in "${targets[@]}"; do mkdir -p "build/fuzz/corpus/$target"; keep_corpus "$target"; done
    exit 0
fi

failed=0
running=0
for target in "${targets[@]}"; do
    run "$target" &
    running=$((running + 1))
    if [ "$running" -ge "${PORTWRAP_FUZZ_JOBS:-2}" ]; then
        wait -n || failed=$((failed + 1))
        running=$((running - 1))
    fi
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
done
echo "fuzz: $((${#targets[@]} - failed)) passed, $failed failed"
[ "$failed" = 0 ]
