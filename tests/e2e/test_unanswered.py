"""Servers under portwrap that bind while no agent answers: they run as without portwrap, and the next agent knows them."""

import itertools
import os
import signal

import pytest

from house import assert_active, is_listening, wait_until

# Binds and connects when it is told to; whoever connects reads where it works.
PROGRAM = """
import os, socket, sys, threading

def serve(server):
    while True:
        peer, _ = server.accept()
        peer.sendall(os.getcwd().encode())
        peer.close()

servers = []
print("ready", flush=True)
for line in sys.stdin:
    word, port = line.split()
    if word == "bind":
        servers.append(socket.create_server(("127.0.0.1", int(port))))
        threading.Thread(target=serve, args=(servers[-1],), daemon=True).start()
        print("bound", servers[-1].getsockname()[1], flush=True)
    else:
        try:
            with socket.create_connection(("127.0.0.1", int(port)), 20) as peer:
                print("reached", peer.recv(4096).decode(), flush=True)
        except OSError as error:
            print("reached", error, flush=True)
"""


class Program:
    """PROGRAM, running and waiting for its orders. Each is another command, so that none is offered what an earlier run had."""

    _count = itertools.count()

    def __init__(self, house, cwd, *before, wrapped=True):
        self.process = (house.wrap if wrapped else house.start)(*before, "python3", "-c", f"# {next(self._count)}{PROGRAM}", cwd=cwd)
        self.process.wait_for("^ready$")
        self.pid, self.cwd = self.process.pid, cwd
        self._told = {"bound": 0, "reached": 0}

    def _tell(self, order, answer):
        self.process.say(order)
        self._told[answer] += 1
        return self.process.wait_for(f"^{answer} (.*)\n", stream="stdout", count=self._told[answer])[1]

    def bind(self, port):
        return int(self._tell(f"bind {port}\n", "bound"))

    def reach(self, port):
        return self._tell(f"connect {port}\n", "reached")

    def end(self, house):
        self.process.kill()
        wait_until(lambda: all(lease["holder"] is None or lease["holder"]["pid"] != self.pid for lease in house.leases()), "its leases end")


def without_agent(house, how, bind):
    """`bind` while the agent is away in some way; then there is an agent again."""
    pid = house.agent_pid()
    if how == "killed":
        house.kill_agent()
        answer = bind()
        assert house.agent_pids() == [], "the program's bind has started no agent"
        house.start_agent()
        return answer
    os.kill(pid, signal.SIGSTOP)
    answer = bind()
    if how == "stopped, then killed":
        house.kill_agent()
        house.start_agent()
    else:
        os.kill(pid, signal.SIGCONT)
    return answer


AWAY = ["killed", "stopped, then killed", "stopped for a while"]


def lease_of(house, root):
    [lease] = house.leases(root)
    return lease


def last_events(house, root):
    """What was written down; asking for it looks at no sockets."""
    return [(event["event"], event["lease"]["port"]) for event in house.ask("history", cwd=root)["events"]]


@pytest.fixture
def shop(house):
    return house.project("shop", files={"package.json": '{"name": "shop"}'})


@pytest.mark.parametrize("how", AWAY)
def test_the_next_agent_knows_a_server_that_bound_while_none_answered(house, shop, how):
    house.start_agent()
    server = Program(house, shop)
    assert without_agent(house, how, lambda: server.bind(4000)) == 4000
    assert_active(lease_of(house, shop), port=4000, asked=4000, root=shop)
    assert lease_of(house, shop)["holder"]["pid"] == server.pid
    assert house.port(shop, "4000") == 4000
    assert house.port(shop) == 4000
    assert house.ask("check", "4000", cwd=shop, status=1)["lease"]["state"] == "active"

    second = Program(house, shop)
    port = second.bind(4000)
    assert port != 4000
    second.process.wait_for(r"\(4000: already running here since", stream="stderr")
    assert {(lease["port"], lease["instance"]) for lease in house.leases(shop)} == {(4000, 0), (port, 1)}
    second.end(house)

    assert house.portctl("agent", "restart").returncode == 0
    assert lease_of(house, shop)["holder"]["pid"] == server.pid
    assert [entry["pid"] for entry in house.ask("stop", "main", cwd=shop)["stopped"]] == [server.pid]
    server.process.wait()
    wait_until(lambda: house.leases(shop) == [], "its lease ends with its socket")


@pytest.mark.parametrize("how", AWAY)
@pytest.mark.parametrize("other", ["sibling", "stranger"])
def test_a_server_that_took_its_projects_last_port_has_its_number_again(house, how, other):
    if other == "sibling":
        main, fix = house.worktrees("blog", files={"package.json": '{"name": "blog"}'})
    else:
        main, fix = (house.project(name, files={"package.json": f'{{"name": "{name}"}}'}) for name in ("shop", "blog"))
    house.start_agent()
    assert Program(house, main).bind(4000) == 4000
    earlier = Program(house, fix)
    port = earlier.bind(4000)
    assert port != 4000
    before = lease_of(house, fix)
    earlier.end(house)

    server, client = Program(house, fix), Program(house, fix)
    # A process finds its table with its first connection or bind; this one has it before.
    assert client.reach(port) != str(fix)
    assert without_agent(house, how, lambda: server.bind(4000)) == port
    lease = lease_of(house, fix)
    assert_active(lease, port=port, asked=4000, root=fix)
    assert (lease["service"], lease["instance"], lease["range"]) == (before["service"], before["instance"], before["range"])
    assert house.port(fix, "4000") == port
    assert client.reach(4000) == str(fix), "its own project's server, and nobody else's"
    assert Program(house, fix).reach(4000) == str(fix)
    assert Program(house, main).reach(4000) == str(main)

    second = Program(house, fix)
    assert second.bind(4000) not in (4000, port)
    assert sorted(lease["instance"] for lease in house.leases(fix)) == [0, 1]
    second.end(house)
    assert [entry["pid"] for entry in house.ask("stop", "main", cwd=fix)["stopped"]] == [server.pid]
    server.process.wait()
    assert is_listening(4000), "the other project's server runs on"


def test_what_was_never_to_be_asked_for_stays_unknown(house, shop):
    other = house.project("other", files={"package.json": "{}"})
    house.start_agent()
    owner = Program(house, other)
    assert owner.bind(4100) == 4100
    owner.end(house)
    programs = {
        "a program without portwrap": (Program(house, shop, wrapped=False), 4000),
        "one that switched it off": (Program(house, shop, "env", "PORTWRAP_DISABLE=1"), 4001),
        "one on another project's claim": (Program(house, shop), 4100),
        "one that lets the kernel choose": (Program(house, shop), 0),
    }
    house.kill_agent()
    ports = {name: program.bind(port) for name, (program, port) in programs.items()}
    house.start_agent()
    assert house.leases() == []
    assert ports["one on another project's claim"] == 4100
    events = house.ask("history", cwd=other)["events"]
    assert [event["event"] for event in events][-1] == "released", events
    for program, _ in programs.values():
        program.process.kill()
    wait_until(lambda: not is_listening(4100), "the port is free again")
    assert Program(house, other).bind(4100) == 4100, "the claim is as it was"


def test_a_program_that_asks_nobody_for_a_while_is_found_although_nobody_asks(house, shop):
    """Having got no answer, a program asks nobody for ten seconds; what it binds meanwhile is known when these are over."""
    house.start_agent()
    server = Program(house, shop)
    house.kill_agent()
    server.bind(4000)
    house.start_agent()
    assert lease_of(house, shop)["port"] == 4000
    server.bind(4001)
    wait_until(lambda: ("activated", 4001) in last_events(house, shop), "the agent has looked")
    assert [(lease["port"], lease["requested_port"]) for lease in house.leases(shop)] == [(4000, 4000), (4001, 4001)]


def test_a_server_of_another_directory_below_the_session_belongs_to_that_project(house, shop):
    """As for every bind: what works in another worktree is that one's."""
    main, fix = house.worktrees("blog", files={"package.json": '{"name": "blog"}'})
    house.start_agent()
    shell = house.wrap("sh", "-c", f"cd {fix}; exec python3 -c '{PROGRAM}'", cwd=main)
    shell.wait_for("^ready$")
    house.kill_agent()
    shell.say("bind 4000\n")
    shell.wait_for("^bound 4000\n")
    house.start_agent()
    assert house.leases(main) == []
    assert_active(lease_of(house, fix), port=4000, asked=4000, root=fix)
