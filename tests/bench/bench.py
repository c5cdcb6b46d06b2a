#!/usr/bin/python3
"""The table of figures: each row with its figure, its floor or peer measured in the same run, their ratio, the target, met or not.

    PORTWRAP_PREFIX=/where/it/is/installed tests/bench/run.sh [--json]

Row programs (the shim's, the prompt's) are in ROWS: each prints with --json a list of objects
{"what", "unit", "figure", "floor", "ratio", "target", "met"} and is left out where it is not there. Never a test: nothing fails
because a machine is slow.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from house import House, Rpc  # noqa: E402

PREFIX = Path(os.environ["PORTWRAP_PREFIX"])
ROWS = ["shim_bench.py", "prompt_bench.py"]
STATUS = '{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{}}'


def row(what, unit, figure, floor, floor_is, target, met):
    return {"what": what, "unit": unit, "figure": round(figure, 1), "floor": round(floor, 1), "floor_is": floor_is,
            "ratio": round(figure / floor, 2) if floor else None, "target": target, "met": met}


class Bench:
    def __init__(self, house):
        self.house = house
        self.rounds = house.directory / "rounds"
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libuv"], check=True, capture_output=True, text=True).stdout.split()
        subprocess.run(["g++", "-std=c++20", "-O2", "-o", self.rounds, HERE / "rounds.cpp", *flags, "-lpthread"], check=True)
        subprocess.run(["g++", "-O2", "-static", "-o", house.directory / "nothing", "-x", "c++", "-"], input=b"int main(){}", check=True)
        self.echo = str(house.directory / "echo.sock")
        self.server = subprocess.Popen([self.rounds, "echo", self.echo], stdout=subprocess.PIPE)
        self.server.stdout.readline()
        self.root = house.project("bench")
        house.start_agent()
        self.socket = str(house.socket)

    def close(self):
        self.server.kill()
        self.server.wait()

    def numbers(self, *words):
        done = subprocess.run([self.rounds, *map(str, words)], check=True, capture_output=True, text=True)
        return [float(line) for line in done.stdout.split()]

    def get(self, service):
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.get", "params": {"cwd": str(self.root), "service": service}})

    def turns(self, request, rounds):
        """Medians of the echo server and of the agent, in microseconds."""
        echo, agent = self.numbers("turns", self.echo, request, self.socket, request, rounds)
        return echo, agent

    def start_to_end(self, *words, rounds=41):
        """Milliseconds; the median of a process's life."""
        times = []
        for _ in range(rounds):
            begin = time.monotonic()
            subprocess.run(words, cwd=self.root, env=self.house.env, stdout=subprocess.DEVNULL, check=True)
            times.append(time.monotonic() - begin)
        return 1e3 * statistics.median(times)

    def requests(self):
        echo, agent = self.turns(STATUS, 2000)
        yield row("request without a change, connect to close", "us", agent, echo, "echo server", "<= 2 x", agent <= 2 * echo)
        bind = ('{"jsonrpc":"2.0","id":1,"method":"shim.bind","params":{"port":3000,"family":10,"scope":0,"protocol":6,'
                '"reuseport":0,"cookie":%d,"netns":0,"session":[0,0]}}')
        echo, agent = self.turns(bind, 300)
        yield row("transient lease request, connect to close", "us", agent, echo, "echo server", "<= 2 x", agent <= 2 * echo)
        echo, agent = self.turns(self.get("d%d"), 300)
        append, = self.numbers("append", self.house.state / "appended", 300)
        floor = echo + append
        yield row("durable named allocation", "us", agent, floor, "echo + append and fdatasync", "<= 1.5 x", agent <= 1.5 * floor)

    def crowd(self):
        self.house.run("portctl", "release", "--all", cwd=self.root)
        rate, = self.numbers("crowd", self.socket, self.get("c%d"), 64, 8)
        floor, = self.numbers("crowd", self.echo, self.get("c%d"), 64, 100)
        yield row("64 clients at once, durable, new names", "1/s", rate, floor, "echo server", ">= 10000", rate >= 10000)

    def commands(self):
        true = self.start_to_end("/bin/true")
        wrapped = self.start_to_end("portwrap", "-q", "/bin/true")
        yield row("portwrap CMD, over CMD", "ms", wrapped - true, true, "CMD itself", "<= 2 ms", wrapped - true <= 2)
        self.house.run("portctl", "get", "web", cwd=self.root)
        nothing = self.start_to_end(str(self.house.directory / "nothing"))
        port = self.start_to_end("portctl", "port", "web")
        yield row("portctl port", "ms", port, nothing, "empty static program", "<= 1.5 x", port <= 1.5 * nothing)

    def fifty(self):
        rpc = Rpc(self.house)
        roots = [self.house.project(f"fifty{index}") for index in range(50)]
        begin = time.monotonic()
        for index, root in enumerate(roots):
            assert "result" in rpc.call("lease.get", {"cwd": str(root), "service": "web"}, index)
        took = 1e3 * (time.monotonic() - begin)
        rpc.close()
        yield row("50 projects one after another, durable", "ms", took, 2847, "what another tool says", "<= 15 ms", took <= 15)

    def memory_and_start(self):
        rpc = Rpc(self.house)
        ports = set()
        # Asked for again and again below; taken while there is room.
        rpc.call("lease.get", {"cwd": str(self.root), "service": "one"})
        for index in range(7000):
            reply = rpc.call("lease.get", {"cwd": str(self.root), "service": f"m{index}", "range": "default"}, index)
            if "result" not in reply:
                break
            ports.add(reply["result"]["lease"]["port"])
            if len(ports) == 1000:
                kb = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.house.agent_pid()}/status").read_text())[1])
                yield row("agent's memory, 1,000 leases and more", "MB", kb / 1024, 8, "target", "<= 8 MB", kb <= 8192)
        rpc.close()
        echo, agent = self.turns(self.get("one"), 200)
        yield row(f"request with {len(ports)} leases present", "us", agent, echo, "echo server", "<= 1.5 x without", None)
        self.house.kill_agent()
        begin = time.monotonic()
        self.house.start_agent()
        took = 1e3 * (time.monotonic() - begin)
        yield row(f"agent's start, {len(ports)} leases in the journal", "ms", took, 100, "target", "<= 100 ms", took <= 100)


def peers():
    """Processes that pick a port with an npm package, wait 200 ms and bind it: how many collide."""
    script = HERE / "peer.mjs"
    modules = HERE.parent / "servers" / "node_modules"
    if not script.exists():
        return
    for name in ("get-port", "portfinder", "detect-port"):
        if not (modules / name).exists():
            continue
        for count in (50, 200):
            running = [subprocess.Popen(["node", script, name], cwd=modules.parent, stdout=subprocess.PIPE, text=True) for _ in range(count)]
            good = sum(process.communicate()[0].startswith("bound") for process in running)
            yield row(f"{name}: {count} processes pick, wait, bind", "collisions", count - good, 0, "portwrap: 0", "a peer", None)


def main():
    house = House(tempfile.mkdtemp(prefix="pwb-", dir="/tmp"), PREFIX)
    rows = []
    try:
        bench = Bench(house)
        for group in (bench.requests, bench.crowd, bench.commands, bench.fifty, bench.memory_and_start):
            try:
                rows.extend(group())
            except (AssertionError, OSError, subprocess.CalledProcessError) as error:
                print(f"bench: {group.__name__}: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        bench.close()
    finally:
        house.close()
    rows.extend(peers())
    env = {"PORTWRAP_SHIM": str(PREFIX / "lib" / "portwrap" / "libportwrap.so"), **os.environ}
    for program in ROWS:
        if (HERE / program).exists():
            done = subprocess.run([sys.executable, HERE / program, "--json"], env=env, capture_output=True, text=True)
            rows.extend(json.loads(done.stdout) if done.returncode == 0 else [])
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    print(f"{'what':<52} {'figure':>12} {'floor':>10} {'ratio':>6}  target")
    for one in rows:
        met = {True: "met", False: "NOT MET", None: ""}[one["met"]]
        print(f"{one['what']:<52} {one['figure']:>8} {one['unit']:<4} {one['floor']:>9} {one['ratio'] if one['ratio'] is not None else '':>6}  "
              f"{one['target']}{': ' if met else ''}{met}  ({one.get('floor_is', 'the plain call')})")


if __name__ == "__main__":
    main()
