"""The agent killed at, or failing in, every system call with which a recorded run touches the disk. The model: what was
acknowledged by name is there afterwards, what was released by name is gone, no port is held twice.

PORTWRAP_CRASH_KILLS says how many kills (300; the long form has 10,000). The seed of the random part is printed, and
PORTWRAP_CRASH_SEED plays it again."""

import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from house import PATIENCE, SANITIZED, Rpc, wait_until

KILLS = int(os.environ.get("PORTWRAP_CRASH_KILLS", "300"))
SEED = int(os.environ.get("PORTWRAP_CRASH_SEED", str(random.randrange(1 << 30))))
CALLS = ["write", "fdatasync", "fsync", "rename", "openat", "link", "unlink", "ftruncate", "close", "flock", "bind", "mkdir"]

FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Traced:
    """An agent below strace with these options; `started` is false when it ended before it listened."""

    def __init__(self, house, *options):
        reading, writing = os.pipe()
        self._popen = subprocess.Popen(
            ["strace", "-f", "-qq", *options, str(house.prefix / "bin" / "portwrap-agent"), "--ready-fd", str(writing)],
            env=house.env, pass_fds=[writing], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(writing)
        assert select.select([reading], [], [], PATIENCE)[0], "the agent neither starts nor ends"
        self.started = os.read(reading, 1) == b"+"
        os.close(reading)

    def wait(self):
        """Its exit status; strace ends as what it traces did."""
        return self._popen.wait(PATIENCE)

    def dispose(self):
        if self._popen.poll() is None:
            self._popen.terminate()
            self._popen.wait(PATIENCE)


def injecting(fault, paths=()):
    """Options for strace: this fault in that call, on these paths (on any, without)."""
    return ["-o", "/dev/null", *[word for path in paths for word in ("-P", str(path))], "-e", f"trace={fault.split(':')[0]}", "-e", f"inject={fault}"]


def tear(house):
    """What a loss of power leaves. The agent that finds it writes a snapshot at its first request, while it serves."""
    with open(house.registry / "journal.jsonl", "ab+") as journal:
        journal.seek(0)
        text = journal.read()
        assert text == b"" or text.endswith(b"\n"), text
        journal.write(b'{"seq":')


def record(house, model, torn):
    """Every call of a life with which it touches a file of the house's: (torn, call, path, how many such calls of one thread
    it takes to be there), in their order. Threads are counted for themselves, as strace does when it injects."""
    output = house.directory / "calls"
    if torn:
        tear(house)
    agent = Traced(house, "-y", "-o", str(output), "-e", "trace=" + ",".join(CALLS))
    assert agent.started and model.play()
    agent.wait()
    model.check()
    seen, found = {}, []
    for line in output.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+)\s+(\w+)\((.*)", line)
        if not match:
            continue
        thread, call, rest = match.groups()
        # Of a descriptor or a path; the directory that a path does not begin in is none of them, nor is the result.
        paths = re.findall(rf'[<"]({re.escape(str(house.directory))}[^">]*)[">]', re.sub(r"AT_FDCWD<[^>]*>", "", rest.split(" = ")[0]))
        if not paths:
            continue
        if call == "bind":
            paths = [""]  # the address of a socket is no path to strace
        for path in set(paths):
            seen[thread, call, path] = seen.get((thread, call, path), 0) + 1
        # A segment has another number in the next life.
        if not re.search(r"/journal-\d+\.jsonl$", paths[0]):
            found.append((torn, call, paths[0], seen[thread, call, paths[0]]))
    return found


class Model:
    """What the replies said, by project and service. A request without a reply may or may not have happened."""

    def __init__(self, house, rng):
        self.house, self.rng = house, rng
        self.roots = [house.project("shop"), house.project("blog")]
        self.held, self.unsure = {}, set()

    def request(self):
        """A random request: its method and parameters, the names that it may change, and what those have after it (None:
        no port, "new": one that the reply names)."""
        name = root, service = self.rng.choice(self.roots), f"s{self.rng.randrange(8)}"
        here = {"cwd": str(root), "service": service}
        sure = [other for other in ((self.rng.choice(self.roots), f"s{self.rng.randrange(8)}") for _ in range(4))
                if other not in self.held and other not in self.unsure]
        if name not in self.held or name in self.unsure:
            return "lease.get", here, {name: "new"}
        port = self.held[name]
        turn = self.rng.randrange(10)
        if turn < 3:
            return "lease.release", here, {name: None}
        if turn < 5:
            return "lease.update", {**here, "new_port": 3100 + self.rng.randrange(800)}, {name: "new"}
        if turn < 7 and sure and sure[0][0] == root:
            return "lease.update", {**here, "new_service": sure[0][1]}, {name: None, sure[0]: port}
        moved = (self.roots[root == self.roots[0]], service)
        if turn < 9 and moved not in self.held and moved not in self.unsure:
            return "lease.transfer", {**here, "to": str(moved[0])}, {name: None, moved: port}
        return "lease.get", here, {name: port}

    def play(self):
        """Requests until the agent is gone; true when it answered them all and ended as it was told to."""
        try:
            connection = Rpc(self.house)
        except OSError:
            return False
        try:
            for _ in range(4):
                method, params, after = self.request()
                known = self.unsure & set(after)
                self.unsure |= set(after)
                reply = connection.call(method, params)
                if reply is None:
                    return False
                # As it was before where it was refused, which is known unless an earlier request got no reply.
                self.unsure -= set(after)
                if "result" not in reply:
                    assert reply["error"]["data"]["code"] in ("STORAGE_ERROR", *(["PORT_LEASED"] if "new_port" in params else [])), reply
                    continue
                for name, port in after.items():
                    if port is None:
                        self.held.pop(name, None)
                        continue
                    given = reply["result"]["lease"]["port"]
                    assert port in ("new", given) and params.get("new_port", given) == given, (method, params, reply, self.held)
                    if method == "lease.get" and name not in known:
                        assert self.held.get(name, given) == given, (name, given, self.held)
                    self.held[name] = given
            return connection.call("agent.stop", {}) is not None
        except OSError:
            return False
        finally:
            connection.close()

    def check(self):
        """A sound agent on the same files says what the model says."""
        leases = self.house.leases()
        roots = {str(root): root for root in self.roots}
        found = {(roots[lease["project"]["root"]], lease["service"]): lease["port"] for lease in leases}
        assert len(found) == len(leases) == len(set(found.values())), leases
        for name in set(self.held) | set(found):
            if name in self.unsure:
                continue
            assert found.get(name) == self.held.get(name), (name, found, self.held, self.house.log[-2000:])
        self.held, self.unsure = found, set()
        self.house.stop_agent()


def test_nothing_acknowledged_is_lost_when_the_agent_is_killed_at_any_system_call(house):
    """Spread evenly over two recorded lives, from start to end: one that writes its snapshot when it ends, and one that also
    writes one while it serves."""
    print(f"PORTWRAP_CRASH_SEED={SEED}")
    model = Model(house, random.Random(SEED))
    record(house, model, False)  # until there is a snapshot, of which the next is to make a backup
    calls = record(house, model, False) + record(house, model, True)
    assert {"journal.jsonl", "ports.json.tmp", "ports.json.bak.tmp"} <= {Path(path).name for _, _, path, _ in calls}
    first, stride = model.rng.randrange(len(calls)), max(1.0, len(calls) / KILLS)
    kills = number = 0
    while kills < KILLS:
        torn, call, path, when = calls[(first + int(number * stride)) % len(calls)]
        number += 1
        # Other requests make other calls, so that some lives end before they come to theirs.
        assert number <= 3 * KILLS + len(calls), f"only {kills} kills in {number} lives"
        if torn:
            tear(house)
        agent = Traced(house, *injecting(f"{call}:signal=KILL:when={when}", [path] if path else []))
        whole = agent.started and model.play()
        # Also when all was answered: it may be hit while it ends.
        killed = agent.wait() == -signal.SIGKILL
        assert whole or killed, (torn, call, path, when)
        kills += killed
        model.check()
    print(f"{len(calls)} calls, {kills} kills in {number} lives")


@pytest.mark.parametrize("fault", ["write:error=ENOSPC", "write:error=EIO", "write:retval=10", "fdatasync:error=EIO",
                                   "fsync:error=EIO", "ftruncate:error=EIO", "rename:error=ENOSPC", "link:error=EPERM",
                                   "openat:error=EMFILE"])
def test_nothing_acknowledged_is_lost_when_the_disk_fails(house, fault):
    print(f"PORTWRAP_CRASH_SEED={SEED}")
    model = Model(house, random.Random(SEED))
    names = ["journal.jsonl", "ports.json", "ports.json.tmp", "ports.json.bak", "ports.json.bak.tmp"]
    if "retval" in fault:
        # A short write that is not a lie: ten bytes are said to be written and are then cut off again.
        names = names[:1]
    for when in ["1", "2", "3", "1+", "2+", "3+2"]:
        agent = Traced(house, *injecting(f"{fault}:when={when}", [*[house.registry] * (len(names) > 1), *[house.registry / name for name in names]]))
        if agent.started and model.play():
            agent.wait()
        agent.dispose()
        model.check()


@pytest.mark.parametrize("name", ["journal.jsonl", "ports.json"])
def test_flipped_bits_lose_at_most_what_they_hit_and_the_loss_is_said(house, name):
    print(f"PORTWRAP_CRASH_SEED={SEED}")
    rng = random.Random(SEED)
    root = house.project("shop")
    ports = {}
    for service in "abcdef":
        ports[service] = house.ask("get", service, cwd=root)["lease"]["port"]
        if service == "c" and name == "ports.json":
            house.stop_agent()
    house.kill_agent()
    files = {path.name: path.read_bytes() for path in house.registry.iterdir() if path.name != "agent.lock"}
    for _ in range(12):
        for path in house.registry.iterdir():
            path.unlink()
        for other, content in files.items():
            (house.registry / other).write_bytes(content)
        damaged = bytearray(files[name])
        position = rng.randrange(len(damaged))
        damaged[position] ^= 1 << rng.randrange(8)
        (house.registry / name).write_bytes(damaged)
        before = {json.loads(line)["lease"]["service"] for line in files["journal.jsonl"][:position].splitlines()[:-1]
                  if b'"lease"' in line} if name == "journal.jsonl" else {"d", "e", "f"}
        found = {lease["service"]: lease["port"] for lease in house.leases(root)}
        assert all(ports[service] == port for service, port in found.items()), (position, found, ports)
        assert all(service in found for service in before), (position, found, before)
        if found != ports:
            assert re.search("damaged|unusable|cut short|torn|not right", house.log), house.log
        house.kill_agent()


def test_two_agents_started_at_once_are_one(house):
    root = house.project("shop")
    agents = [house.start("portwrap-agent", cwd="/") for _ in range(8)]
    port = wait_until(lambda: house.socket.exists() and house.ask("get", "web", cwd=root)["lease"]["port"], "one of them serves")
    wait_until(lambda: sum(agent._popen.poll() is None for agent in agents) == 1, "the others end")
    assert len(house.agent_pids()) == 1
    assert house.port(root, "web") == port


def test_an_agent_with_few_descriptors_answers_or_says_why_not(house):
    root = house.project("shop")
    agent = house.start("prlimit", "--nofile=16:16", str(house.prefix / "bin" / "portwrap-agent"), cwd="/")
    wait_until(lambda: house.socket.exists() or agent._popen.poll() is not None, "it listens or ends")
    connections = []
    try:
        for _ in range(40):
            connections.append(Rpc(house))
    except OSError:
        pass
    for connection in connections:
        connection.close()
    done = house.portctl("get", "web", cwd=root)
    assert done.returncode == 0 or "portctl:" in done.stderr, (done.returncode, done.stdout, done.stderr)
    house.kill_agent()
    assert house.portctl("get", "web", cwd=root).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a boot id of one's own needs a mount namespace")
def test_after_a_reboot_names_stay_and_programs_get_their_ports_again(house, tmp_path):
    boot = tmp_path / "boot_id"
    boot.write_text("11111111-2222-3333-4444-555555555555\n")
    server = Path(__file__).resolve().parent.parent / "soak" / "server.py"
    root, other = house.project("shop"), house.project("blog")
    port = house.ask("get", "web", cwd=root)["lease"]["port"]
    ports = []
    for place in (other, root):
        process = house.wrap("python3", str(server), "3000", cwd=place)
        ports.append(int(process.wait_for(r"^port (\d+)$", "stdout")[1]))
    # The machine loses its power: agent and servers end at once, and the runtime directory, which was memory, is empty.
    house.kill_agent()
    house.end_processes()
    shutil.rmtree(house.runtime / "portwrap")

    def rebooted(*words, cwd):
        script = f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"'
        return house.run("unshare", "-m", "sh", "-c", script, "sh", *words, cwd=cwd)

    done = rebooted("portctl", "list", "--all", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    assert [(lease["service"], lease["port"]) for lease in json.loads(done.stdout)["leases"]] == [("web", port)]
    for place, sticky in ((root, ports[1]), (other, ports[0])):
        done = rebooted("portwrap", "python3", str(server), "3000", cwd=place)
        assert done.stdout == f"port {sticky}\n", (done.stdout, done.stderr)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer comes before whatever is preloaded")
@pytest.mark.parametrize("jumps", [["+40d"], ["-400d", "+0"], ["+3h", "-3h", "+0"], ["-10s", "+100d", "-100d", "+0"]], ids=" ".join)
def test_a_clock_that_jumps_loses_no_name_and_gives_no_port_twice(house, tmp_path, jumps):
    """The agent's wall clock is moved under it, and while it is away; a reservation's end may come early, or late after a jump back."""
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    root = house.project("shop")
    clock = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}

    def start():
        house.start("portwrap-agent", cwd="/", env=clock)
        wait_until(house.socket.exists, "the agent listens")

    start()
    server = Path(__file__).resolve().parent.parent / "soak" / "server.py"
    process = house.wrap("python3", str(server), "3000", cwd=root)
    active = int(process.wait_for(r"^port (\d+)$", "stdout")[1])
    names = {name: house.ask("get", name, cwd=root)["lease"]["port"] for name in "abc"}
    house.ask("reserve", "later", "--ttl", "1h", cwd=root)
    for number, jump in enumerate(jumps):
        offset.write_text(jump + "\n")
        if number % 2:
            house.kill_agent()
            house.socket.unlink(missing_ok=True)
            start()
        fresh = house.ask("get", f"n{number}", cwd=root)["lease"]["port"]
        leases = house.leases(root)
        found = {lease["service"]: lease["port"] for lease in leases}
        assert len(set(found.values())) == len(leases) and found[f"n{number}"] == fresh, (jump, leases)
        assert [lease["state"] for lease in leases if lease["port"] == active] == ["active"], (jump, leases)
        if number == 0 and jump.startswith("+"):
            assert not any(lease["service"] == "later" and lease["state"] == "reserved" for lease in leases), "its hour is over"
        if jump.startswith("+") and jump.endswith("d"):
            # Days in which nobody used them end names; what was granted in a past that never was may end later.
            names = {name: port for name, port in names.items() if found.get(name) == port}
        assert names.items() <= found.items(), (jump, names, found, house.log)
    house.kill_agent()
    house.socket.unlink(missing_ok=True)
    # Without any trick: what the last list showed is there.
    assert {lease["service"]: lease["port"] for lease in house.leases(root) if lease["service"] in names} == names
    assert not re.search("damaged|unusable|cut short|corrupt", house.log), house.log
