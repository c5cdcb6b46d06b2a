"""Random days of real servers: starts, stops, crashes of servers and of the agent, worktrees that come and go, ports by name,
strangers on ports, compared after each step with a model that knows what must hold:

- no port has two live leases; what a server listens on is its active lease, with the right holder, project and requested port;
- the same server gets the same port again, and the lowest instance that is free;
- nobody is given what another one has claimed, has by name or listens on;
- what was acknowledged by name is there, what was released is not;
- no lease outlives its sockets, nor its process;
- the registry is what a second agent reads from a copy of the files (every twenty steps);
- the agent does not grow.

PORTWRAP_SOAK_SECONDS says how long (180; the long form has 3600). The seed is printed; PORTWRAP_SOAK_SEED plays it again (tests/run.sh
has a seed of its own but for --full)."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

from house import PATIENCE, SANITIZED, House, Rpc, is_alive, is_listening, really_listens, resident_kb, wait_until

SECONDS = float(os.environ.get("PORTWRAP_SOAK_SECONDS", "180"))
SEED = int(os.environ.get("PORTWRAP_SOAK_SEED", str(random.randrange(1 << 30))))
HERE = Path(__file__).resolve().parent
ASKED = [3000, 3000, 3000, 3001, 5000, 8080]
MOST_SERVERS = 14
EVERY_STATE = ["reserved", "allocated", "active", "released", "conflict"]


class Server:
    """A wrapped program that listens, and what is known of it."""

    def __init__(self, process, root, service, asked, kind):
        self.process, self.root, self.service, self.asked, self.kind = process, root, service, asked, kind
        self.pid = process.pid
        self.lines = 0
        self.port = None
        self.key = None  # of its lease: root, service, requested port, instance
        self.adopted = False  # that is another one's key
        self.open = True
        self.forked = False

    @property
    def group(self):
        return self.root, self.service, self.asked

    def __str__(self):
        return f"{self.root.name}/{self.service}:{self.asked}#{self.key and self.key[3]} on {self.port} (pid {self.pid})"

    def said(self, word):
        """What the next line with this word says; none when the program failed instead."""
        self.lines += 1
        match = self.process.wait_for(r"^(port|failed|child|closed) ?(-?\d*)$", "stdout", 2 * PATIENCE, self.lines)
        return int(match[2] or 0) if match[1] == word else None


class World:
    def __init__(self, house, rng):
        self.house, self.rng = house, rng
        self.servers, self.strangers = [], []
        self.sticky = {}  # (root, service, asked, instance): port, claimed for it
        self.last = {}    # (root, service, asked, instance): the server that had it last
        self.named = {}   # (root, service): port, acknowledged
        self.worktrees = []
        self.done = []
        self.serial = 0
        self._rpc = None
        self.shop = self.furnished("shop", {"package.json": '{"name": "shop"}', "api/package.json": '{"name": "api"}'})
        house.git(self.shop, "init", "-q", "-b", "main")
        house.git(self.shop, "add", "-A")
        house.git(self.shop, "commit", "-q", "-m", "A shop")
        self.blog = self.furnished("blog", {"package.json": '{"name": "blog"}'})
        self.tool = self.furnished("tool", {"requirements.txt": "\n"})

    def furnished(self, name, files):
        return self.house.project(name, files=files)

    @property
    def roots(self):
        return [self.shop, self.blog, self.tool, *self.worktrees]

    # -- talking to the agent

    def call(self, method, **params):
        """A reply of the agent, started where there is none; the second try is for one that was killed since."""
        for last in (False, True):
            try:
                if self._rpc is None:
                    self._rpc = Rpc(self.house)
                reply = self._rpc.call(method, {key: str(value) if isinstance(value, Path) else value for key, value in params.items()})
                if reply is not None:
                    return reply
            except OSError:
                assert not last, f"{method}: the agent does not answer"
            self.hang_up()
            self.house.start_agent()
        raise AssertionError(f"{method}: the agent closed the connection")

    def hang_up(self):
        if self._rpc is not None:
            self._rpc.close()
            self._rpc = None

    def leases(self, **params):
        return self.call("lease.list", all=True, **params)["result"]["leases"]

    def say(self, text):
        self.done.append(text)

    # -- what must hold

    def complaints(self):
        """What is not as the model says; empty when all is well."""
        wrong = []
        leases = self.leases()
        by_port = {}
        for lease in leases:
            other = by_port.setdefault((lease["port"], lease["protocol"]), lease)
            if other is not lease:
                wrong.append(f"two live leases on {lease['port']}: {other} {lease}")
            holder = lease["holder"]
            if holder and not is_alive(holder["pid"]):
                wrong.append(f"the holder is dead: {lease}")
            if lease["state"] == "active" and not (holder and really_listens(holder["pid"], lease["port"])):
                wrong.append(f"nobody listens: {lease}")
        mine = set()
        for server in self.servers:
            if not server.open:
                continue
            lease = by_port.get((server.port, "tcp"))
            mine.add(server.port)
            if lease is None or lease["state"] != "active":
                wrong.append(f"{server} has no active lease: {lease}")
                continue
            said = lease["project"]["root"], lease["holder"] and lease["holder"]["pid"]
            if said != (str(server.root), server.pid):
                wrong.append(f"{server}: the lease says {said}")
            if not server.adopted and lease["requested_port"] != server.asked:
                wrong.append(f"{server}: the lease says {lease['requested_port']}")
        found = {(Path(lease["project"]["root"]), lease["service"]): lease for lease in leases if re.fullmatch(r"n\d", lease["service"])}
        for name in set(found) | set(self.named):
            port = found[name]["port"] if name in found else None
            if port != self.named.get(name):
                wrong.append(f"{name} has {port}, but {self.named.get(name)} was acknowledged")
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        for lease in leases:
            # What was offered to a program that was killed before it bound is kept for its children, for a minute.
            kept = lease["holder"] is None and lease["state"] == "allocated" and (lease["expires_at"] or "") >= now
            if lease["port"] not in mine and not re.fullmatch(r"n\d", lease["service"]) and not kept:
                wrong.append(f"nobody has {lease}")
        return wrong

    def check(self):
        """The agent hears of the ends of sockets a moment after they end: all is right within that moment."""
        wait_until(lambda: not self.complaints(), lambda: "\n".join(self.complaints()), 15)

    def check_copy(self):
        """What another agent reads from the files: the same, without a loss."""
        other = House(tempfile.mkdtemp(prefix="pws-", dir="/tmp"), self.house.prefix)
        try:
            here = self.leases(states=EVERY_STATE)
            (pid,) = self.house.agent_pids()
            os.kill(pid, signal.SIGSTOP)
            try:
                shutil.copytree(self.house.registry, other.registry, ignore=shutil.ignore_patterns("agent.*"))
            finally:
                os.kill(pid, signal.SIGCONT)
            other.start_agent()
            connection = Rpc(other)
            there = connection.call("lease.list", {"all": True, "states": EVERY_STATE})["result"]["leases"]
            connection.close()
            differ = [(lease in here, lease) for lease in there + here if (lease in there) != (lease in here)]
            assert not differ, "\n".join(f"{'here' if mine else 'read'}: {lease}\n{self.story(lease['port'])}" for mine, lease in differ)
            assert len(there) == len(here)
            assert not re.search("damaged|unusable|cut short|torn|corrupt", other.log), other.log
            other.stop_agent()
        finally:
            other.close()

    # -- servers

    def taken(self):
        """Ports that nobody else may be given."""
        return ({server.port for server in self.servers if server.open} | {port for port, _ in self.strangers} | set(self.named.values()))

    def launch(self):
        root = self.rng.choice(self.roots)
        directory = root
        if (root / "api").exists() and self.rng.random() < 0.3:
            directory = root / "api"
        asked = self.rng.choice(ASKED)
        kind = self.rng.choice(["python", "python", "node"])
        words = ["python3", str(HERE / "server.py"), str(asked), *(["both"] if self.rng.random() < 0.3 else [])]
        if kind == "node":
            words = ["node", str(HERE / "server.mjs"), str(asked)]
        process = self.house.wrap(*words, cwd=directory)
        return Server(process, root, "api" if directory != root else "main", asked, kind)

    def settle(self, started, agent_was_killed=False):
        """Servers that were started together, when each has said what it got."""
        before = {server.key for server in self.servers if server.open}
        taken = self.taken()
        for server in started:
            server.port = server.said("port")
        if agent_was_killed:
            # Between the question and the answer: such a program ran as without portwrap. It is of no further interest.
            for server in started:
                self.forget_keys(server)
                server.process.dispose()
            return
        by_port = {lease["port"]: lease for lease in self.leases()}
        for server in started:
            assert server.port, f"{server}: {server.process.stdout} {server.process.stderr}"
            assert "unmanaged" not in server.process.stderr, server.process.stderr
            assert server.port in by_port, f"{server} has no lease"
            lease = by_port[server.port]
            server.key = Path(lease["project"]["root"]), lease["service"], lease["requested_port"], lease["instance"]
            server.adopted = server.key[:3] != server.group
            self.say(f"started {server}")
        self.servers += started
        for group in {server.group for server in started}:
            same = [server for server in started if server.group == group]
            for server in same:
                # It asked for a number that its own project had: by a name, or for another server.
                assert not server.adopted or (server.port == server.asked and server.key[0] == server.root), f"{server}: {server.key}"
            same = [server for server in same if not server.adopted]
            lowest = [i for i in range(MOST_SERVERS * 2) if (*group, i) not in before][:len(same)]
            assert sorted(server.key[3] for server in same) == lowest, [str(server) for server in same]
            for server in same:
                expected = self.sticky.get(server.key)
                claims = {port: key for key, port in self.sticky.items() if key != server.key}
                if expected is not None and expected not in taken:
                    assert server.port == expected, f"{server} had {expected}; {server.process.stderr}; {self.story(expected)}"
                else:
                    assert server.port not in taken, f"{server} had {expected}; {server.process.stderr}; {self.story(server.port)}"
                    # A project's own claim does not keep its other services from a number that is in their code.
                    if claims.get(server.port, server.key)[0] == server.root and server.port == server.asked:
                        self.unclaim(server.port)
                    else:
                        assert server.port not in claims, f"{server} had {expected}; {claims[server.port]}; {self.story(server.port)}"
                self.sticky[server.key] = server.port
            for server in started:
                self.last[server.key] = server

    def start(self):
        if len(self.servers) < MOST_SERVERS:
            self.settle([self.launch()])

    def start_many(self):
        if len(self.servers) < MOST_SERVERS:
            self.settle([self.launch() for _ in range(self.rng.randrange(2, 6))])

    def start_many_and_kill_the_agent(self):
        started = [self.launch() for _ in range(self.rng.randrange(2, 5))]
        time.sleep(self.rng.random() * 0.2)
        self.house.kill_serving_agent()
        self.hang_up()
        self.say(f"killed the agent while {len(started)} started")
        self.settle(started, agent_was_killed=True)

    def unclaim(self, port):
        self.sticky = {key: claimed for key, claimed in self.sticky.items() if claimed != port}

    def forget_keys(self, server):
        self.sticky = {key: port for key, port in self.sticky.items() if key[:3] != server.group}
        self.last = {key: last for key, last in self.last.items() if key[:3] != server.group}
        self.unclaim(server.port)

    def story(self, port):
        """All that is known of a port, for a failure's report."""
        leases = [lease for lease in self.leases(states=EVERY_STATE) if lease["port"] == port]
        said = [line for line in self.house.log.splitlines() if f"port={port} " in line]
        sockets = self.house.run("ss", "-Htuanp", f"sport = {port} or dport = {port}").stdout
        return "\n".join([f"listening: {is_listening(port)}", sockets, *map(json.dumps, leases), *said[-30:]])

    def pick(self, **wanted):
        fitting = [server for server in self.servers if all(getattr(server, name) == value for name, value in wanted.items())]
        return self.rng.choice(fitting) if fitting else None

    def end(self, server, how):
        if how == "stdin":
            server.process.close_stdin()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, how)
        wait_until(lambda: not is_alive(server.pid), f"{server} ends")
        self.servers.remove(server)
        server.process.dispose()
        self.say(f"ended {server} by {how}")

    def stop(self):
        if server := self.pick():
            how = self.rng.choice(["stdin", signal.SIGTERM, signal.SIGKILL])
            self.end(server, how)

    def stop_by_command(self):
        server = self.pick(forked=False, open=True)
        if server and not server.adopted:
            done = self.house.portctl("stop", str(server.port), cwd=server.root)
            assert done.returncode == 0, (str(server), done.stdout, done.stderr)
            wait_until(lambda: not is_alive(server.pid), f"{server} ends")
            self.end(server, signal.SIGKILL)

    def close(self):
        if server := self.pick(kind="python", open=True):
            server.process.say("close\n")
            server.said("closed")
            server.open = False
            self.say(f"closed {server}")

    def open(self):
        server = self.pick(kind="python", open=False)
        if server is None:
            return
        # Its own instance, unless somebody had it meanwhile; else the lowest.
        used = {other.key for other in self.servers if other.open}
        own_key = [server.key] if self.last.get(server.key) is server and server.key[:3] == server.group else []
        key = next(key for key in (*own_key, *((*server.group, i) for i in range(MOST_SERVERS * 2))) if key not in used)
        taken, expected = self.taken(), self.sticky.get(key)
        # Who had its instance last is not known where keys were forgotten since, nor, of one that was forked, whether its session, which
        # may have ended with its parent, is still known to have had it.
        known = server.key in self.last and not server.forked and not server.adopted
        own = {lease["port"] for lease in self.leases(states=EVERY_STATE) if lease["project"]["root"] == str(server.root) and
               (lease["service"], lease["requested_port"], lease["instance"]) != key[1:]}
        server.process.say("open\n")
        server.port = server.said("port")
        assert server.port, server.process.stderr
        server.key, server.open = key, True
        self.last[key] = server
        self.say(f"opened {server}")
        if expected is not None and expected not in taken and server.asked not in own and known:
            assert server.port == expected, f"{server} had {expected}; {self.story(expected)}"
            return
        # Under which key it is now is looked at when servers start.
        assert server.port not in taken - own, f"{server}; {self.story(server.port)}"
        self.servers.remove(server)
        server.process.dispose()
        wait_until(lambda: not is_alive(server.pid), f"{server} ends")
        self.forget_keys(server)

    def fork(self):
        if server := self.pick(kind="python", open=True, forked=False):
            server.process.say("fork\n")
            child = server.said("child")
            parent = server.pid
            wait_until(lambda: not is_alive(parent), f"{server} ends")
            server.pid, server.forked = child, True
            self.say(f"{server} was forked from {parent}")

    # -- names

    def name(self):
        return self.rng.choice(self.roots), f"n{self.rng.randrange(6)}"

    def get(self):
        root, service = self.name()
        claims = set(self.sticky.values())
        taken = self.taken()
        port = self.call("lease.get", cwd=root, service=service)["result"]["lease"]["port"]
        if (root, service) in self.named:
            assert self.named[root, service] == port, (root, service, port)
        else:
            assert port not in taken and port not in claims, (root, service, port)
        self.named[root, service] = port
        self.say(f"got {root.name}/{service}: {port}")

    def own_name(self):
        """A name whose port no program has."""
        used = {server.port for server in self.servers if server.open} | {port for port, _ in self.strangers}
        free = sorted((str(root), root, service) for (root, service), port in self.named.items() if port not in used)
        return self.rng.choice(free)[1:] if free else None

    def release(self):
        if name := self.own_name():
            reply = self.call("lease.release", cwd=name[0], service=name[1])
            assert "result" in reply, reply
            port = self.named.pop(name)
            self.say(f"released {name[0].name}/{name[1]}: {port}")

    def move(self):
        if name := self.own_name():
            port = 3200 + self.rng.randrange(100)
            reply = self.call("lease.update", cwd=name[0], service=name[1], new_port=port, range="node")
            if "result" in reply:
                assert port not in self.taken() - {self.named[name]}, reply
                self.named[name] = port
                self.unclaim(port)
                self.say(f"moved {name[0].name}/{name[1]} to {port}")
            else:
                assert reply["error"]["data"]["code"] in ("PORT_LEASED", "PORT_IN_USE"), reply
                assert port in self.taken() or port in self.sticky.values(), (port, reply)

    def transfer(self):
        if name := self.own_name():
            to = self.rng.choice(self.roots), name[1]
            if to not in self.named:
                reply = self.call("lease.transfer", cwd=name[0], service=name[1], to=to[0])
                assert "result" in reply, reply
                self.named[to] = self.named.pop(name)
                self.say(f"gave {name[0].name}/{name[1]} to {to[0].name}")

    # -- worktrees, strangers, the agent

    def add_worktree(self):
        if len(self.worktrees) < 3:
            self.serial += 1
            root = self.house.home / f"shop-{self.serial % 5}"
            if root in self.worktrees:
                return
            self.house.git(self.shop, "worktree", "add", "-q", "--detach", str(root))
            self.worktrees.append(root)
            self.say(f"added {root.name}")

    def remove_worktree(self):
        if not self.worktrees:
            return
        root = self.rng.choice(self.worktrees)
        for server in [server for server in self.servers if server.root == root]:
            self.end(server, signal.SIGKILL)
        self.house.git(self.shop, "worktree", "remove", "--force", str(root))
        self.worktrees.remove(root)
        # Its files are gone, its ports go at the next look; a person looks now.
        self.check_without(root)
        assert self.house.portctl("cleanup", cwd=self.shop).returncode == 0
        self.named = {name: port for name, port in self.named.items() if name[0] != root}
        self.sticky = {key: port for key, port in self.sticky.items() if key[0] != root}
        self.say(f"removed {root.name}")

    def check_without(self, root):
        wait_until(lambda: not [lease for lease in self.leases() if lease["project"]["root"] == str(root) and lease["holder"]],
                   "the programs of the worktree are gone", 15)

    def stranger(self):
        if len(self.strangers) >= 3:
            port, process = self.strangers.pop(0)
            process.dispose()
            return self.say(f"a stranger left {port}")
        ports = [port for port in [*sorted(self.sticky.values()), 3000, 3002, 5000] if not is_listening(port)]
        if not ports:
            return None
        port = self.rng.choice(ports)
        process = self.house.start("python3", str(HERE / "server.py"), str(port), cwd="/")
        if process.wait_for(r"^(port|failed) \d+$", "stdout")[1] == "failed":
            return process.dispose()
        self.strangers.append((port, process))
        return self.say(f"a stranger came to {port}")

    def kill_agent(self):
        self.house.kill_agent()
        self.hang_up()
        self.say("killed the agent")

    def kill_agent_and_stop(self):
        self.kill_agent()
        for _ in range(self.rng.randrange(1, 3)):
            self.stop()

    def restart_agent(self):
        done = self.house.portctl("agent", "restart")
        assert done.returncode == 0, (done.stdout, done.stderr)
        self.hang_up()
        self.say("restarted the agent")

    def delete_socket(self):
        self.hang_up()
        self.house.start_agent()
        self.house.socket.unlink()
        wait_until(self.house.socket.exists, "the socket is made again")
        self.say("deleted the socket")

    def look(self):
        """Commands that change nothing."""
        root = self.rng.choice(self.roots)
        for words in (["list", "--all"], ["audit", "--all"], ["ranges"], ["doctor"], ["history"], ["cleanup", "--all", "--dry-run"]):
            done = self.house.portctl(*words, cwd=root)
            assert done.returncode in (0, 1), (words, done.returncode, done.stdout, done.stderr)
        self.say("looked")

    STEPS = {start: 24, start_many: 8, stop: 20, stop_by_command: 4, close: 5, open: 8, fork: 4, get: 8, release: 4, move: 3, transfer: 2,
             add_worktree: 3, remove_worktree: 2, stranger: 5, kill_agent: 4, kill_agent_and_stop: 4, restart_agent: 2,
             start_many_and_kill_the_agent: 2, delete_socket: 1, look: 2}

    def step(self):
        (step,) = self.rng.choices(list(self.STEPS), list(self.STEPS.values()))
        step(self)


def test_days_of_real_servers_are_as_the_model_says(house):
    print(f"PORTWRAP_SOAK_SEED={SEED}")
    world = World(house, random.Random(SEED))
    end = time.monotonic() + SECONDS
    steps = 0
    try:
        while time.monotonic() < end:
            world.step()
            steps += 1
            world.check()
            if steps % 20 == 0:
                world.check_copy()
            (pid,) = house.agent_pids()
            assert SANITIZED or resident_kb(pid) < 32 * 1024
        for server in list(world.servers):
            world.end(server, signal.SIGKILL)
        world.check()
        world.check_copy()
        (pid,) = house.agent_pids()
        assert len(os.listdir(f"/proc/{pid}/fd")) < 60, os.listdir(f"/proc/{pid}/fd")
    except Exception:
        print(f"after {steps} steps of PORTWRAP_SOAK_SEED={SEED}, the last of them:")
        print("\n".join(world.done[-25:]))
        print(house.log[-12000:])
        raise
    finally:
        world.hang_up()
    print(f"{steps} steps")
