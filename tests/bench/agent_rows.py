"""The agent's rows: requests, their cost among many leases and listeners, memory, wake-ups, its start."""

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

from table import row

STATUS = '{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{}}'
BIND = ('{"jsonrpc":"2.0","id":1,"method":"shim.bind","params":{"port":3000,"family":10,"scope":0,"protocol":6,'
        '"reuseport":0,"cookie":%d,"netns":0,"session":[0,0]}}')


def get(cwd, service, **more):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.get", "params": {"cwd": str(cwd), "service": service, **more}})


def memory(pid, what):
    return int(re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def switches(pid):
    """How often the threads of a process went to sleep or were stopped."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        count += sum(int(number) for number in re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text()))
    return count


@contextlib.contextmanager
def helper(bench, *words):
    """A program of rounds.cpp that says a number when it is ready and stays until its stdin ends."""
    running = subprocess.Popen([bench.rounds, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield int(running.stdout.readline())
    finally:
        running.stdin.close()
        running.wait()
        running.stdout.close()


def requests(bench):
    echo, agent = bench.turns(STATUS, 2000)
    yield row("request without a change, connect to close", "us", agent, echo, "echo server", "at most 2 x", agent <= 2 * echo)
    echo, agent = bench.turns(BIND, 1000)
    yield row("transient lease request, connect to close", "us", agent, echo, "echo server", "at most 2 x", agent <= 2 * echo)
    echo, agent = bench.turns(get(bench.root, "d%d"), 500)
    append, = bench.numbers("append", bench.house.state / "appended", 500)
    floor = echo + append
    yield row("durable named allocation", "us", agent, floor, "echo + append and fdatasync", "at most 1.5 x", agent <= 1.5 * floor)


def crowd(bench):
    bench.house.run("portctl", "release", "--all", cwd=bench.root)
    ask = get(bench.root, "c%d", range="default")
    rate, = bench.numbers("crowd", bench.socket, ask, 64, 40)
    floor, = bench.numbers("crowd", bench.echo, ask, 64, 400)
    yield row("64 clients at once, durable, new names", "1/s", rate, floor, "echo server", "at least 10000", rate >= 10000)
    bench.house.run("portctl", "release", "--all", cwd=bench.root)


def fifty(bench):
    for index in range(50):
        bench.house.project(f"fifty{index}", files={"package.json": "{}"})
    ask = get(bench.house.home / "fifty%d", "web")
    echo, = bench.numbers("series", bench.echo, ask, 50)
    append, = bench.numbers("append", bench.house.state / "appended", 50)
    took, = bench.numbers("series", bench.socket, ask, 50)
    floor = (echo + 50 * append) / 1000
    yield row("50 projects one after another, durable", "ms", took / 1000, floor, "echo + append and fdatasync", "at most 15 ms", took <= 15000)
    yield row("the same", "ms", took / 1000, 2847, "what a tool of this kind advertises", "a peer")


def among_many(bench):
    """The ratio of two ratios: an allocation's cost to the echo's, with many listeners or leases present and without."""
    def cost(name):
        echo, agent = bench.turns(get(bench.root, name + "%d", range="python"), 200)
        bench.house.run("portctl", "release", "--all", cwd=bench.root)
        return agent, agent / echo

    agent, alone = cost("alone")
    with contextlib.ExitStack() as held:
        # A process may not have so many descriptors everywhere.
        count = sum(held.enter_context(helper(bench, "listeners", 20000 + 4000 * part, 4000)) for part in range(5))
        among, ratio = cost("listeners")
        yield row(f"an allocation with {count} listeners present", "us", among, agent, "without", "at most 1.5 x", ratio <= 1.5 * alone)
    allocate_many(bench, 7000)
    leases = bench.house.ask("agent", "status")["agent"]["leases"]
    among, ratio = cost("leases")
    yield row(f"an allocation with {leases} leases present", "us", among, agent, "without", "at most 1.5 x", ratio <= 1.5 * alone)


def allocate_many(bench, count, clients=50, projects=70):
    """Reservations of many projects, away from the ranges."""
    for index in range(projects):
        root = bench.house.project(f"many{index}")
        ask = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.reserve", "params": {"cwd": str(root), "service": "some", "port": 0}})
        bench.numbers("crowd", bench.socket, ask.replace('"port": 0', '"port": %d'), clients, count // projects // clients, 12000 + index * count // projects)


def resident(bench):
    """In a house of its own: nothing but a thousand leases has happened to this agent."""
    with bench.another_house("memory") as house:
        pid = house.start_agent()
        empty = memory(pid, "VmRSS")
        root = house.project("thousand")
        socket = str(house.socket)
        bench.numbers("series", socket, get(root, "m%d", range="default"), 1000)
        full = memory(pid, "VmRSS")
        yield row("agent's memory with 1,000 leases", "MB", full, empty, "an agent without leases", "at most 8 MB", full <= 8)
        time.sleep(3)  # what the last requests left to do
        before = switches(pid)
        time.sleep(10)
        yield row("wake-ups of the idle agent in 10 s, 1,000 leases", "", switches(pid) - before, None, "none", "none", switches(pid) == before)
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): VmHWM begins anew
        with helper(bench, "flood", socket, 4000) as count:
            took, = bench.numbers("series", socket, STATUS, 100)
            time.sleep(2)
            most = memory(pid, "VmHWM")
        yield row(f"agent's memory under a flood from {count} connections", "MB", most, full, "before it", "at most 32 MB", most <= 32)
        yield row("a request meanwhile", "us", took / 100, None, "", "answered", True)


def start(bench):
    """From the start of the process to the byte that says that it listens."""
    def measure(house):
        reader, writer = os.pipe()
        begin = time.monotonic()
        agent = subprocess.Popen([house.prefix / "bin" / "portwrap-agent", "--ready-fd", str(writer)], env=house.env, pass_fds=[writer],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(writer)
        word = os.read(reader, 1)
        took = 1e3 * (time.monotonic() - begin)
        os.close(reader)
        assert word == b"+", "the agent did not start"
        return took, agent

    def median_start(house):
        times = []
        for _ in range(7):
            took, agent = measure(house)
            agent.kill()
            agent.wait()
            times.append(took)
        return sorted(times)[3]

    with bench.another_house("empty") as house:
        empty = median_start(house)
    house = bench.house
    if house.ask("agent", "status")["agent"]["leases"] < 7000:  # among_many was not asked for
        allocate_many(bench, 7000)
    house.stop_agent()  # a snapshot of all leases
    house.start_agent()
    leases = house.ask("agent", "status")["agent"]["leases"]
    ask = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.get", "params": {"cwd": str(house.project("busy")), "service": "web", "description": "%d"}})
    bench.numbers("crowd", bench.socket, ask, 50, 200)
    house.kill_agent()
    events = sum(1 for _ in (house.registry / "journal.jsonl").open())
    took = median_start(house)
    yield row(f"agent's start, {leases} leases and a journal of {events} events", "ms", took, empty, "an empty registry", "at most 100 ms", took <= 100)
    house.start_agent()


GROUPS = [requests, crowd, fifty, among_many, resident, start]
