#!/usr/bin/env bash
# Prints the table of figures, measured on an installed copy (PORTWRAP_PREFIX) or on one that is made from build/release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ -z "${PORTWRAP_PREFIX:-}" ]; then
    PORTWRAP_PREFIX=$(mktemp -d /tmp/portwrap-bench.XXXXXX)
    trap 'rm -rf "$PORTWRAP_PREFIX"' EXIT
    cmake --install build/release --prefix "$PORTWRAP_PREFIX" > /dev/null
    export PORTWRAP_PREFIX
fi
# The peers; without npm their rows are left out.
if [ ! -d tests/bench/node_modules ] && command -v npm > /dev/null; then
    npm ci --prefix tests/bench --no-audit --no-fund > /dev/null || echo "run.sh: no peers: npm ci failed" >&2
fi
/usr/bin/python3 -B tests/bench/bench.py "$@"
