"""Peers from npm (package-lock.json pins them), and a registry in a JSON file with a lock: time of one pick, and how many of 50
and of 200 processes that pick, wait 200 ms and bind find their port taken."""

import shutil
import subprocess
from pathlib import Path

from agent_rows import get
from table import row

HERE = Path(__file__).resolve().parent
PEERS = ["get-port", "portfinder", "detect-port", "json-file"]


def times(bench):
    echo, agent = bench.turns(get(bench.root, "peer%d"), 200)
    del echo
    for name in PEERS:
        file = bench.house.directory / f"{name}.json"
        file.write_text("{}")
        done = subprocess.run(["node", HERE / "peers.mjs", "time", name, "200", file], check=True, capture_output=True, text=True)
        yield row(f"one pick with {name}", "us", float(done.stdout), agent, "portwrap, durable", "a peer")


def race(bench, name, count, house):
    file = bench.house.directory / f"{name}-{count}.json"
    file.write_text("{}")
    words = ["node", HERE / "peers.mjs", "race", name, file]
    if name == "portwrap":
        words = ["portwrap", "-q", *words]
    running = [subprocess.Popen(words, cwd=house.home, env=house.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    said = [process.stdout.readline() for process in running]
    for process in running:
        process.stdin.close()
        process.wait()
        process.stdout.close()
    return count - len({line for line in said if line.startswith("bound")})


def races(bench):
    for name in [*PEERS, "portwrap"]:
        for count in (50, 200):
            with bench.another_house(f"race-{name}-{count}") as house:
                house.start_agent()
                collisions = race(bench, name, count, house)
            ours = name == "portwrap"
            yield row(f"{count} processes pick, wait, bind: collisions with {name}", "", collisions, None, "none is right", "none" if ours else "a peer",
                      collisions == 0 if ours else None)


GROUPS = [times, races] if shutil.which("node") and (HERE / "node_modules").is_dir() else []
