#!/usr/bin/python3
"""What the shim costs (the calls that it has no part in, connections to localhost, and being loaded), each against the same
call without it in the same run. Needs no agent: the published table is made here.

    PORTWRAP_SHIM=build/release/lib/portwrap/libportwrap.so tests/bench/shim_bench.py [--json]
"""

import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
SHIM = Path(os.environ.get("PORTWRAP_SHIM", HERE.parents[1] / "build/release/lib/portwrap/libportwrap.so")).resolve()
ROUNDS = 9


def fnv(data):
    state = 0xcbf29ce484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001b3 % 2**64
    return state


def write_table(runtime, root, rows):
    """include/portwrap/remap_table.hpp: a header of 4096 bytes, 384 rows of 32."""
    (runtime / "tables").mkdir(mode=0o700)
    name = f"{fnv(str(root).encode()):016x}"
    header = struct.pack("<8Q", 0x31504d5041525750, 1, 2, os.getpid(), 0, 0, len(rows), len(str(root))) + str(root).encode()
    body = b"".join(struct.pack("<4Q", port | target << 16 | 1 << 32, 0, 0, 0) for port, target in rows)
    (runtime / "tables" / name).write_bytes((header.ljust(4096, b"\0") + body).ljust(16384, b"\0"))
    return name


def main():
    work = Path(tempfile.mkdtemp(prefix="portwrap-bench-", dir="/tmp"))
    program = work / "shim_calls"
    subprocess.run(["cc", "-O2", "-o", program, HERE / "shim_calls.c"], check=True)
    runtime, root = work / "run", work / "project"
    shim = shutil.copy(SHIM, work)  # a space in its path would be the end of it for ld.so
    runtime.mkdir(mode=0o700)
    root.mkdir()
    server = socket.create_server(("127.0.0.1", 0), backlog=4096)
    threading.Thread(target=lambda: [server.accept()[0].close() for _ in iter(int, 1)], daemon=True).start()
    target = server.getsockname()[1]
    name = write_table(runtime, root, [(20000 + i, target) for i in range(64)])
    plain = {"PATH": os.environ["PATH"]}
    shimmed = {**plain, "LD_PRELOAD": str(shim), "PORTWRAP_RUNTIME": str(runtime), "PORTWRAP_SESSION": "1.1", "PORTWRAP_TABLE": name}

    def compare(*words, shim_words=None):
        """Medians over interleaved rounds: without, with."""
        figures = ([], [])
        for _ in range(ROUNDS):
            for one, env, arguments in ((figures[0], plain, words), (figures[1], shimmed, shim_words or words)):
                one.append(float(subprocess.run([program, *map(str, arguments)], env=env, cwd=root, check=True, stdout=subprocess.PIPE).stdout))
        return tuple(statistics.median(one) for one in figures)

    rows = []
    for what, unit, limit, (floor, figure) in (
            ("bind of another family", "ns", 50, compare("bind_unix")),
            ("connect that is not loopback", "ns", 300, compare("connect_other")),
            ("loopback connect, 64 remappings, none of them meant", "ns", 500, compare("connect_loopback", 19999)),
            ("loopback connect, remapped by the last of 64", "ns", 500, compare("connect_tcp", target, shim_words=("connect_tcp", 20063))),
            ("loading the shim", "us", 60, compare("start", 300, shutil.which("true")))):
        rows.append({**table.row(what, unit, figure, floor, "the plain call", f"within {limit} {unit}", figure - floor <= limit),
                     "difference": round(figure - floor, 1)})
    shutil.rmtree(work)
    if "--json" in sys.argv:
        print(json.dumps(rows))
    else:
        for line in table.lines(rows):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
