"""What strangers, accidents and malice do to a running agent: it goes on serving the others, in little memory.

PORTWRAP_TEST_CONNECTIONS says how many connections one after another (20,000; the long form has a million)."""

import contextlib
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import zlib
import threading

import pytest

from house import SANITIZED, Rpc, connect_to_agent, peak_kb, resident_kb, wait_until

LIMIT_KB = 32 * 1024


@pytest.fixture
def shop(house):
    return house.project("shop")


@pytest.fixture
def served(house, shop):
    """The same agent answers before and after, and has not grown."""
    pid = house.start_agent()
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    yield pid
    assert house.agent_pid() == pid
    assert house.port(shop, "web") == port
    if not SANITIZED:
        assert resident_kb(pid) < LIMIT_KB


def test_a_socket_file_that_somebody_deletes_is_made_again(house, shop):
    pid = house.start_agent()
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    house.socket.unlink()
    wait_until(house.socket.exists, "the socket is there again")
    assert house.port(shop, "web") == port
    wait_until(lambda: house.agent_pids() == [pid], "agents that came second are gone")


def bound(held, count):
    """Sockets on ports that nobody has, until `held` ends."""
    sockets = [held.enter_context(socket.socket()) for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    return sockets


def listen(sockets):
    for one in sockets:
        one.listen(1)


def import_files():
    """Each as large as a file may be, or with as many rows."""
    most = 5_900_000
    yield "rows.csv", "project,service,port\n" + "".join(f"shop,s{number},{20000 + number}\n" for number in range(4000))
    yield "short.csv", "project,service,port\n" + "a,b,1\n" * (most // 6)
    yield "wide.csv", "port\n" + "," * most
    yield "zeros.json", '{"leases":[' + "0," * (most // 2) + "0]}"
    yield "bare.json", "[" + "0," * (most // 2) + "0]"
    yield "text.json", '{"leases":"' + "x" * most + '"}'
    yield "names.json", '{"ports":{' + ",".join(f'"{number}":[]' for number in range(most // 13)) + "}}"
    yield "members.json", '{"leases":[{' + ",".join(f'"{number}":0' for number in range(most // 10)) + "}]}"
    yield "nested.json", '{"leases":[' + ",".join('{"port":' * 12 + "1" + "}" * 12 for _ in range(most // 110)) + "]}"
    yield "deep.json", '{"x":' + "[" * most
    names = ("".join(letter.upper() if number >> at & 1 else letter for at, letter in enumerate("cloudflarehostname")) for number in range(100_000))
    yield "spellings.json", '{"leases":[{"port":3999' + "".join(f',"{name[:10]}_{name[10:]}":{{}}' for name in names) + "}]}"
    yield "history.json", '{"history":[' + ",".join('{"port":1}' for _ in range(most // 11)) + '],"leases":[]}'


def test_no_import_takes_much_memory_or_others_time(house, shop, served):
    importers = []
    for name, text in import_files():
        path = house.home / name
        path.write_text(text)
        params = {"cwd": str(shop), "path": str(path), "dry_run": True}
        importers.append((name, Rpc(house), json.dumps({"jsonrpc": "2.0", "id": 1, "method": "exchange.import", "params": params}).encode() + b"\n"))
    for _, importer, request in importers:
        importer.send(request)
    other = Rpc(house)
    answers = {}
    while len(answers) < len(importers):
        assert other.call("agent.status", {})["result"]["ok"]
        for name, importer, request in importers:
            if name not in answers and select.select([importer.connection], [], [], 0.01)[0]:
                answers[name] = importer.line()
                if "another import is still being read" in answers[name].get("error", {}).get("message", ""):  # slow ones on a busy machine: asked again
                    del answers[name]
                    importer.send(request)
    assert len(answers["rows.csv"]["result"]["imported"]) == 4000
    assert answers["history.json"]["result"]["imported"] == []
    assert len(answers["spellings.json"]["result"]["imported"]) == 1
    assert "nested deeper" in answers["deep.json"]["error"]["message"]
    for name in ("short.csv", "zeros.json", "names.json"):
        assert "it has more than 4000 rows" in answers[name]["error"]["message"], name
    for importer in [*(importer for _, importer, _ in importers), other]:
        importer.close()
    assert SANITIZED or peak_kb(served) < LIMIT_KB


def test_no_import_into_a_deep_directory_takes_much_memory(house, served):
    """Each port of it would have kilobytes of its root in the registry and in the reply."""
    deep = house.home / "/".join(["d" * 200] * 18)
    deep.mkdir(parents=True)
    (deep / "package.json").write_text('{"name": "deep"}')
    file = house.home / "deep.csv"
    file.write_text("port,service,description\n" + "".join(f"{10000 + number},s{number},{'d' * 1000}\n" for number in range(4000)))
    rpc = Rpc(house)
    for dry_run in (True, False):
        reply = rpc.call("exchange.import", {"cwd": str(deep), "path": str(file), "dry_run": dry_run})
        assert reply["error"]["message"] == f"{file}: its ports would take too much memory; import it in parts"
    rpc.close()
    assert SANITIZED or peak_kb(served) < LIMIT_KB


def test_a_thousand_who_wait_cost_no_more_than_one_look(house, shop, served):
    with contextlib.ExitStack() as held:
        listen(bound(held, 500))
        *awaited, never = bound(held, 101)
        ports = [one.getsockname()[1] for one in awaited]
        waiting = [held.enter_context(contextlib.closing(Rpc(house))) for _ in range(1000)]
        for number, connection in enumerate(waiting):
            params = {"cwd": str(shop), "port": ports[number % 100], **({"timeout_ms": 1} if number == 999 else {})}
            connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.wait", "params": params}).encode() + b"\n")
        assert waiting[999].line()["result"]["listening"] is False
        listen(awaited)
        for connection in waiting[:999]:
            assert connection.line()["result"]["listening"] is True
        # One that listens already is seen at once, and one whose time is over too.
        for port, heard in ((ports[0], True), (never.getsockname()[1], False)):
            assert waiting[0].call("lease.wait", {"cwd": str(shop), "port": port, "timeout_ms": 0})["result"]["listening"] is heard


def test_a_runtime_directory_that_somebody_deletes_is_made_again(house, shop, listener):
    pid = house.start_agent()
    first = house.wrap(listener, "bind", "3000", cwd=shop)
    port = int(first.wait_for(r"^\d+ (-?\d+)$", "stdout")[1])
    shutil.rmtree(house.runtime / "portwrap", ignore_errors=True)  # the agent may be quicker
    wait_until(house.socket.exists, "the socket is there again")
    assert (house.runtime / "portwrap").stat().st_mode & 0o777 == 0o700
    lease, = house.leases(shop)
    assert (lease["port"], lease["state"]) == (port, "active")
    wait_until(lambda: house.agent_pids() == [pid], "agents that came second are gone")


def test_an_agent_whose_login_has_ended_leaves(house, shop):
    house.start_agent()
    # At once: the agent makes its own directory anew while there is one to make it in.
    house.runtime.rename(house.directory / "gone")
    shutil.rmtree(house.directory / "gone")
    wait_until(lambda: not house.agent_pids(), "the agent ends")
    assert not house.runtime.exists()
    house.runtime.mkdir(mode=0o700)
    assert house.portctl("get", "web", cwd=shop).returncode == 0


def test_a_thousand_connections_at_once_are_served(house, served):
    connections = []
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            connections.append(stack.enter_context(connect_to_agent(house)))
        for number, connection in enumerate(connections):
            connection.sendall(b'{"jsonrpc":"2.0","id":%d,"method":"agent.status","params":{}}\n' % number)
        for number, connection in enumerate(connections):
            assert json.loads(connection.makefile().readline())["id"] == number


def test_connections_in_sequence_leave_nothing_behind(house, served):
    def one():
        with connect_to_agent(house) as connection:
            connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{}}\n')
            connection.recv(4096)

    for _ in range(500):
        one()
    before, descriptors = resident_kb(served), len(os.listdir(f"/proc/{served}/fd"))
    for _ in range(int(os.environ.get("PORTWRAP_TEST_CONNECTIONS", "20000"))):
        one()
    wait_until(lambda: len(os.listdir(f"/proc/{served}/fd")) <= descriptors, "no descriptor is left open")
    assert SANITIZED or resident_kb(served) - before < 1024


@pytest.mark.parametrize("value", ["[" * 30_000, '{"a":' * 10_000, "[" * 31 + "]" * 31, '"' + "\\u0041" * 10_000 + '"',
                                   "[" + "0," * 30_000 + "0]", "1" * 60_000, '{"\x00":1}'],
                         ids=["arrays", "objects", "just deep enough", "escapes", "many", "digits", "nul"])
def test_monstrous_json_is_refused(house, served, value):
    connection = Rpc(house)
    connection.send(b'{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{"x":' + value.encode() + b"}}\n")
    assert "error" in connection.line()
    connection.close()


def flood(house, connections, requests, method="lease.list", params='{"all":true}'):
    """Connections that ask for so many lists at once, as far as their buffers take them."""
    asked = b'{"jsonrpc":"2.0","id":1,"method":"%s","params":%s}\n' % (method.encode(), params.encode()) * requests
    asking = []
    for _ in range(connections):
        connection = connect_to_agent(house)
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(asked)
        asking.append(connection)
    return asking


def test_a_flood_on_many_connections_delays_others_but_does_not_stop_them(house, served, shop):
    connections = flood(house, connections=50, requests=500)
    assert house.portctl("port", "web", cwd=shop).returncode == 0
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("method, params", [
    ("agent.status", lambda root, number: {}), ("lease.wait", lambda root, number: {"cwd": str(root), "port": 2900 + number % 50}),
    ("lease.list", lambda root, number: {"cwd": str(root / str(number))})])
def test_long_requests_take_no_memory_when_they_are_answered_nor_much_while_they_wait(house, served, shop, method, params):
    """Together they are longer than all the memory that the agent may take."""
    connections = []
    for number in range(700):
        (shop / str(number)).mkdir()
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params(shop, number)}
        connection = Rpc(house)
        connection.send(json.dumps(request).encode() + b" " * 60_000 + b"\n")
        connections.append(connection)
    if method != "lease.wait":
        replies = [connection.line() for connection in connections]
        refusals = {reply["error"]["message"] for reply in replies if "error" in reply}
        assert "result" in replies[0] and refusals <= {"too many messages wait at once"}, refusals
    assert house.portctl("port", "web", cwd=shop).returncode == 0
    assert SANITIZED or peak_kb(served) < LIMIT_KB
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("method", ["lease.wait", "lease.list"])
def test_those_who_wait_in_a_deep_worktree_take_little_memory(house, served, method):
    """Of such a project four paths are known, each of kilobytes."""
    main, linked = house.worktrees("/".join(["d" * 200] * 17) + "/main", files={"package.json": '{"name": "deep"}'})
    house.serve_unwrapped(house.ask("get", "web", cwd=linked)["lease"]["port"], house.home)
    (lease,) = house.leases(linked)
    params = {"lease.wait": {"cwd": str(linked), "service": "nobody"}, "lease.list": {"project": lease["project"]["name"]}}[method]
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(contextlib.closing(Rpc(house))) for _ in range(2500)]
        for connection in connections:
            connection.send(request)
        assert house.portctl("port", "web", cwd=main).returncode == 3
        assert method == "lease.wait" or all("result" in connection.line() for connection in connections)
        assert SANITIZED or peak_kb(served) < LIMIT_KB


@pytest.mark.parametrize("method", ["range.list", "range.summary", "lease.get", "lease.update", "lease.port", "lease.list", "exchange.export"])
def test_requests_that_wait_for_a_look_share_their_project(house, served, method):
    """Its config alone takes fifty kilobytes; each stands in a package of its own."""
    services = {f"s{number}": {"dir": "d" * 80 + str(number)} for number in range(256)}
    root = house.project("large", files={".portwrap.json": json.dumps({"services": services})} | {f"{number}/package.json": "{}" for number in range(800)})
    house.serve_unwrapped(house.ask("get", "web", cwd=root)["lease"]["port"], house.home)  # so that somebody has to look
    more = {"lease.get": {"service": "web"}, "lease.update": {"service": "web", "description": "x"}}
    with contextlib.ExitStack() as held:
        listen(bound(held, 4000))
        connections = [held.enter_context(contextlib.closing(Rpc(house))) for _ in range(800)]
        for number, connection in enumerate(connections):
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"cwd": str(root / str(number))} | more.get(method, {})}
            connection.send(json.dumps(request).encode() + b"\n")
        assert all("result" in connection.line() for connection in connections)
    assert SANITIZED or peak_kb(served) < LIMIT_KB


def test_questions_about_ranges_leave_the_looks_of_others_a_turn(house, served, shop):
    """Each of them looks for itself who listens: thousands wait for their turns."""
    house.serve_unwrapped(house.ask("get", "web", cwd=shop)["lease"]["port"], house.home)  # so that a list has to look, too
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "range.list", "params": {"cwd": str(shop)}}).encode() + b"\n"
    with contextlib.ExitStack() as held:
        listen(bound(held, 2000))
        connections = [held.enter_context(contextlib.closing(Rpc(house))) for _ in range(2000)]
        for connection in connections:
            connection.send(request)
        assert "result" in connections[0].line()
        assert house.leases(shop)
        poll = select.poll()
        for connection in connections[1:]:
            poll.register(connection.connection, select.POLLIN)
        assert len(poll.poll(0)) < 1000  # answered before it, behind it


def test_long_requests_for_slow_checks_keep_nobody_else_out(house, shop, served):
    """They may wait for many minutes, together longer than the agent's room for lines that wait; other long ones are decided."""
    other = house.project("other")
    house.ask("get", "web", cwd=other)
    server = house.wrap("python3", "-c", "import socket; s = socket.create_server(('127.0.0.1', 3500)); print('up', flush=True); input()", cwd=shop)
    server.wait_for("^up$")
    (shop / ".portwrap.json").write_text('{"services": {"main": {"port": 3500, "health": "/"}}}')
    with contextlib.ExitStack() as held:
        for number in range(100):
            connection = held.enter_context(contextlib.closing(Rpc(house)))
            request = {"jsonrpc": "2.0", "id": 1, "method": "lease.health", "params": {"cwd": str(shop), "timeout_ms": 20000 - number}}
            connection.send(json.dumps(request).encode() + b" " * 60_000 + b"\n")
        # A line as long as all of those: there would be no room for it beside them.
        connection = held.enter_context(contextlib.closing(Rpc(house)))
        update = {"jsonrpc": "2.0", "id": 1, "method": "lease.update", "params": {"cwd": str(other), "service": "web", "description": "d" * 1000}}
        connection.send(json.dumps(update).encode() + b" " * 60_000 + b"\n")
        assert "result" in connection.line()
        run = house.run("portwrap", "sh", "-c", "# " + "x" * 1000, cwd=other)
        assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("method", ["config.show", "agent.doctor"])
def test_pipelined_requests_starve_nobody(house, served, shop, method):
    """Together they would take many seconds, and their replies many times the agent's memory."""
    connections = flood(house, connections=100, requests=900, method=method, params="{}")
    for _ in range(3):
        done = house.run("portwrap", "true", cwd=shop)
        assert (done.returncode, done.stderr) == (0, "")
        assert house.portctl("port", "web", cwd=shop).returncode == 0
    assert SANITIZED or peak_kb(served) < LIMIT_KB
    for connection in connections:
        connection.close()


def test_all_pipelined_requests_are_answered_in_their_order(house, served):
    """Also those that had to wait for a turn, or for their peer to read; and none twice."""
    connection = connect_to_agent(house)
    requests = b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"%s","params":{}}\n' % (number, method)
                        for number, method in enumerate([b"config.show", b"agent.status", b"range.list"] * 200))
    sender = threading.Thread(target=connection.sendall, args=(requests,))
    sender.start()
    with connection.makefile("rb") as lines:
        for number in range(600):
            assert json.loads(lines.readline())["id"] == number
    sender.join()
    connection.close()


def test_small_replies_that_nobody_reads_take_little_memory(house, served, shop):
    asked = b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":{}}\n' * 1000
    connections = [connect_to_agent(house) for _ in range(4)]
    for connection in connections:
        connection.setblocking(False)
    # Until the agent takes no more, or far more than it should have taken.
    for _ in range(2000):
        writable = select.select([], connections, [], 0.5)[1]
        if not writable:
            break
        for connection in writable:
            connection.send(asked)
    assert house.portctl("port", "web", cwd=shop).returncode == 0
    assert SANITIZED or peak_kb(served) < LIMIT_KB
    for connection in connections:
        connection.close()


def test_connections_that_wait_for_nothing_make_room_for_new_ones(house, shop):
    """The agent may have 256 descriptors. Who watches or waits is not idle; of the others the one that asked last stays."""
    assert house.run("prlimit", "--nofile=256:256", "portctl", "agent", "start").returncode == 0
    pid = house.agent_pid()
    watching, waiting, half, idle = (Rpc(house) for _ in range(4))
    watching.send(b'{"jsonrpc":"2.0","id":1,"method":"lease.watch","params":{"all":true}}\n')
    assert watching.line()["result"]["watching"]
    waiting.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "lease.wait", "params": {"cwd": str(shop), "port": 3999}}).encode() + b"\n")
    half.send(b'{"jsonrpc":"2.0","id":3,')
    crowd = [connect_to_agent(house) for _ in range(400)]
    for number in range(3):
        assert house.portctl("get", f"s{number}", cwd=shop).returncode == 0
        done = house.run("portwrap", "true", cwd=shop)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(os.listdir(f"/proc/{pid}/fd")) < 200
    told = idle.line()["error"]
    assert told["data"]["code"] == "AGENT_UNAVAILABLE" and "idle longest" in told["message"]
    assert crowd[0].makefile().readline() and crowd[-1].getpeername()
    half.send(b'"method":"agent.status","params":{}}\n')
    assert half.line()["id"] == 3
    for _ in range(3):
        assert watching.line()["method"] == "event"
    with socket.create_server(("127.0.0.1", 3999)):
        assert waiting.line()["result"]["listening"]
    # It was said once, not for each of them.
    assert house.log.count("dropped a connection for a new one") == 1
    for connection in (*crowd, watching, waiting, half, idle):
        connection.close()


def test_a_process_with_most_of_the_connections_makes_room_for_others(house, shop):
    """All of its connections wait for something; those of another process, which is no newcomer, stay."""
    assert house.run("prlimit", "--nofile=256:256", "portctl", "agent", "start").returncode == 0
    watching = house.start("portctl", "watch", cwd=shop)
    # It watches when an event arrives that happened afterwards.
    wait_until(lambda: house.portctl("get", "first", cwd=shop) and house.portctl("release", "first", cwd=shop) and watching.stdout, "an event is printed")
    waiting = [Rpc(house) for _ in range(200)]
    for connection in waiting:
        with contextlib.suppress(OSError):  # those that find no room are closed at once
            connection.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "lease.wait", "params": {"cwd": str(shop), "port": 3999}}).encode() + b"\n")
    assert "too many connections" in waiting[-1].line()["error"]["message"]
    for number in range(20):
        assert house.portctl("get", f"s{number}", cwd=shop).returncode == 0
    # The one that has waited longest; which that is depends on the order in which they were heard.
    readable, _, _ = select.select([connection.connection for connection in waiting], [], [], 0)
    told = [line["error"] for connection in waiting if connection.connection in readable and (line := connection.line())]
    assert {error["data"]["code"] for error in told} == {"AGENT_UNAVAILABLE"}
    assert any("this process has most of them" in error["message"] for error in told)
    watching.wait_for("s19", "stdout")
    with socket.create_server(("127.0.0.1", 3999)):
        kept = [connection for connection in waiting if connection.connection not in readable]
        assert len(kept) > 100 and all(connection.line()["result"]["listening"] for connection in kept)
    for connection in waiting:
        connection.close()


def test_readers_that_do_not_read_are_dropped_and_the_others_served(house, served, shop):
    """Each asks for more than a socket's buffer holds and never reads a byte of it."""
    for name in (f"s{number}" for number in range(60)):
        assert house.portctl("get", name, cwd=shop).returncode == 0
    before = len(os.listdir(f"/proc/{served}/fd"))
    slow = flood(house, connections=200, requests=100)
    for _ in range(5):
        assert house.portctl("port", "web", cwd=shop).returncode == 0
        assert SANITIZED or resident_kb(served) < LIMIT_KB
    # One of them reads after all: whole lines, to the last one or to where the agent let go of it.
    slow[0].setblocking(True)
    with contextlib.suppress(ConnectionResetError), slow[0].makefile("rb") as lines:
        for _ in range(100):
            line = lines.readline()
            assert not line.endswith(b"\n") or json.loads(line)["result"]["ok"]
            if not line.endswith(b"\n"):
                break
    for connection in slow:
        connection.close()
    wait_until(lambda: len(os.listdir(f"/proc/{served}/fd")) <= before, "their descriptors are closed")


@pytest.mark.parametrize("hostile", [
    '{"services":' * 5000, '{"name":"\\u001b[2J\\u0007evil"}', '{"env":{"LD_PRELOAD":"/tmp/x.so","PATH":"/tmp"}}',
    '{"services":{"web":{"port":70000}}}', '{"services":{"web":{"dir":"../../../etc"}}}', '{"name":"' + "x" * 900_000 + '"}',
    '{"services":{' + ",".join(f'"s{i}":{{"port":{3000 + i % 900}}}' for i in range(20_000)) + "}}", "\xff\xfe\x00", "/*" * 100_000,
    '{"name":1,"name":2}'], ids=["deep", "escapes", "variables", "port", "outside", "long name", "many services", "bytes", "comments", "twice"])
def test_a_hostile_project_config_harms_nobody(house, served, hostile):
    root = house.project("evil", files={"package.json": "{}"})
    (root / ".portwrap.json").write_bytes(hostile.encode("latin1"))
    done = house.run("portwrap", "sh", "-c", 'echo "$LD_PRELOAD $PATH"', cwd=root)
    assert done.returncode == 0 and "/tmp/x.so" not in done.stdout and done.stdout.endswith(f" {house.env['PATH']}\n"), (done.stdout, done.stderr)
    for words in (["get", "web"], ["list", "--all"], ["doctor"]):
        done = house.portctl(*words, cwd=root)
        assert "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout + done.stderr, (words, done.stdout, done.stderr)


def test_projects_with_large_configs_stay_small_in_memory(house, served, shop):
    """The largest that is taken, and one that is not, each read by many at once; and many that wait in one such project."""
    services = {f"s{number}": {"args": ["x" * 40] * 4, "dir": "d" * 80 + str(number)} for number in range(256)}
    large = json.dumps({"services": services, "env": {f"V{number}": "y" * 1000 for number in range(64)}})
    refused = json.dumps({"services": {f"s{number}": {"args": ["0123456789abcdef"] * 200} for number in range(250)}}, separators=(",", ":"))
    roots = [house.project(f"large{number}", files={".portwrap.json": large if number % 2 == 0 else refused}) for number in range(60)]
    for _ in range(2):
        asking = [Rpc(house) for _ in roots]
        for connection, root in zip(asking, roots):
            connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.get", "params": {"cwd": str(root), "service": "web"}}).encode() + b"\n")
        for connection in asking:
            assert connection.line()["result"]["ok"]
            connection.close()
    assert SANITIZED or resident_kb(served) < LIMIT_KB
    waiting = [Rpc(house) for _ in range(200)]
    for number, connection in enumerate(waiting):
        connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.wait", "params": {"cwd": str(roots[0]), "port": 2900 + number}}).encode() + b"\n")
    assert house.portctl("port", "web", cwd=shop).returncode == 0
    assert SANITIZED or resident_kb(served) < LIMIT_KB
    for connection in waiting:
        connection.close()
    told = house.portctl("doctor", cwd=roots[1])
    assert "more than 8192 values" in told.stdout, told.stdout


def test_names_of_directories_do_not_write_into_the_log(house, served):
    root = house.project("evil\x1b]0;title\x07\x1b[2J\n2026-01-01T00:00:00.000+00:00 error forged")
    assert house.portctl("get", "web", cwd=root).returncode == 0
    for words in (["list", "--all", "--format", "csv"], ["list", "--all", "--format", "markdown"], ["export", "--format", "csv"],
                  ["export", "--format", "markdown"], ["agent", "log"]):
        done = house.portctl(*words, cwd=root)
        assert done.returncode == 0 and "forged" in done.stdout, (words, done.stdout)
        assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", done.stdout), (words, done.stdout)
    assert "forged" in house.log and not re.search("[\x00-\x09\x0b-\x1f\x7f]", house.log)
    assert not [line for line in house.log.splitlines() if line.startswith("2026-01-01")]


@pytest.mark.parametrize("name, content", [
    ("HEAD", "ref: " + "../" * 2000 + "etc/passwd"), ("HEAD", "ref: refs/heads/\x1b[2Jevil\n"), ("commondir", "/proc/self/root\n"),
    ("commondir", "../.git/" * 4000), ("config", "[remote " * 50_000), ("packed-refs", "x" * 4_000_000), ("shallow", "0" * 40 + "\n"),
    ("objects/info/alternates", "/dev/zero\n/dev/stdin\n"), ("objects/info/commit-graph", "CGPH" + "\xff" * 5000)])
def test_hostile_git_files_harm_nobody(house, served, name, content):
    root = house.project("evil", files={"package.json": "{}", f".git/{name}": ""})
    (root / ".git/refs").mkdir(exist_ok=True)
    (root / ".git/objects").mkdir(exist_ok=True)
    if name != "HEAD":
        (root / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (root / ".git" / name).write_bytes(content.encode("latin1"))
    done = house.portctl("get", "web", cwd=root)
    assert done.returncode == 0, (done.stdout, done.stderr)
    done = house.portctl("list", "--all")
    assert "\x1b" not in done.stdout, done.stdout


def test_packs_that_unpack_to_much_more_than_they_are_take_no_memory(house, served):
    """An object that is a delta of itself: 64 times a megabyte for each project, were it unpacked before it is followed."""
    oid = b"\xab" * 20
    pack = b"PACK" + struct.pack(">II", 2, 1) + b"\xf0\x80\x80\x04" + oid + zlib.compress(bytes(1 << 20))
    index = b"\xfftOc\0\0\0\2" + b"".join(struct.pack(">I", i >= 0xAB) for i in range(256)) + oid + struct.pack(">II", 0, 12) + bytes(40)
    roots = [house.project(f"packed{i}") for i in range(40)]
    for root in roots:
        (root / ".git/objects/pack").mkdir(parents=True)
        (root / ".git/HEAD").write_text(oid.hex() + "\n")
        (root / ".git/objects/pack/pack-1.pack").write_bytes(pack)
        (root / ".git/objects/pack/pack-1.idx").write_bytes(index)
    with contextlib.ExitStack() as stack:
        asked = [(root, stack.enter_context(contextlib.closing(Rpc(house)))) for root in roots]
        for root, rpc in asked:
            rpc.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.list", "params": {"cwd": str(root)}}).encode() + b"\n")
        for _, rpc in asked:
            assert rpc.line()["result"]["leases"] == []
    assert SANITIZED or peak_kb(served) < LIMIT_KB


@pytest.mark.parametrize("script", ["craco start;" * 60_000, "npm run dev;" * 8 + "a;" * 470_000, "A=1 " * 240_000 + "node x", "env " * 200_000 + "x",
                                    "craco start;" * 60, "dotenv -e x -- " * 60 + "x", "npm run nowhere;" * 60_000], ids=lambda script: script[:12])
def test_a_launch_is_decided_whatever_its_package_s_files_hold(house, served, shop, script):
    filler = "react-script " * 76_000
    files = {name: filler for name in ("pom.xml", "build.gradle", "build.gradle.kts", "pyproject.toml", "requirements.txt", ".env")}
    root = house.project("evil", files={"package.json": json.dumps({"scripts": {"dev": script}}), **files})
    runs = [house.start("portwrap", "-n", "npm", "run", "dev", cwd=root) for _ in range(1 if SANITIZED else 4)]
    assert house.port(shop, "web")
    for run in runs:
        assert run.wait() == 0
        assert "unmanaged" not in run.stderr and "runs: npm run dev" in run.stderr


def test_many_launches_among_large_files_at_once_take_little_memory(house, served):
    scripts = ["A=1 " * 240_000 + "node x", "craco start;" * 80_000, "env " * 240_000 + "x"]
    filler = 'name = "x"\n' * 80_000
    roots = [house.project(f"large{number}", files={"package.json": json.dumps({"name": "x", "scripts": {"dev": script}}), "pom.xml": filler, "pyproject.toml": filler})
             for number, script in enumerate(scripts * (1 if SANITIZED else 8))]
    runs = [house.start("portwrap", "-n", "npm", "run", "dev", cwd=root) for root in roots]
    for run in runs:
        assert run.wait() == 0
        assert "unmanaged" not in run.stderr and "runs: npm run dev" in run.stderr
    assert SANITIZED or peak_kb(served) < LIMIT_KB


def test_sessions_in_a_project_with_the_largest_config_share_it(house, served):
    services = {f"s{number}": {"dir": "d" * 80 + str(number)} for number in range(256)}
    root = house.project("large", files={".portwrap.json": json.dumps({"services": services})})
    before = resident_kb(served)
    runs = [house.wrap("sh", "-c", "echo up; sleep 600", cwd=root) for _ in range(100)]
    for run in runs:
        run.wait_for("^up$", "stdout")
    # A session itself takes a kilobyte or two; the largest config fifty times as much.
    assert SANITIZED or resident_kb(served) - before < 6000


def test_a_list_that_is_longer_than_all_replies_together_may_be_is_told_to_who_reads_it(house, shop):
    assert house.ask("get", "web", cwd=shop)["ok"]
    connection = Rpc(house)
    words = {"description": '"' * 1000, "hostname": ".".join(["h" * 60] * 4)}  # each quote is two bytes of a reply
    for number in range(4):
        assert connection.call("lease.allocate", {"cwd": str(shop), "service": f"s{number}", "count": 1000, "range": "default", **words})["result"]["ok"]
    listed = house.portctl("list", "--all", "--json", cwd=shop)
    assert len(json.loads(listed.stdout)["leases"]) == 4001 and len(listed.stdout) > 8 * 1024 * 1024
    asking = flood(house, connections=2 if SANITIZED else 20, requests=2)
    assert house.port(shop, "web")
    for one in (connection, *asking):
        one.close()


def test_the_names_of_one_client_have_a_bound(house, shop):
    house.start_agent()
    connection = Rpc(house)
    deep = str(house.project("/".join(["p" * 200] * 3)))
    words = {"cwd": deep, "range": "default", "description": "d" * 1000, "hostname": ".".join(["h" * 60] * 4)}
    granted, refusal = 0, None
    while refusal is None and granted < 20:
        reply = connection.call("lease.allocate", {"service": f"s{granted}", "count": 1000, **words})
        granted, refusal = granted + ("result" in reply), reply.get("error")
    assert granted >= 2 and "the registry is full with" in refusal["message"], refusal
    # A dry run of an import says the same as the import.
    file = house.home / "more.csv"
    file.write_text("port,service,description\n" + "".join(f"{20000 + number},more{number},{'d' * 1000}\n" for number in range(1000)))
    for dry_run in (True, False):
        reply = connection.call("exchange.import", {"cwd": deep, "path": str(file), "dry_run": dry_run})
        assert reply["error"]["message"] == refusal["message"]
    # Programs have ports all the same, and so have those who give something back.
    assert house.run("portwrap", "-p", "2999", "true", cwd=shop).returncode == 0
    for number in range(granted):
        assert connection.call("lease.release", {"cwd": deep, "service": f"s{number}"})["result"]["ok"]
    assert house.ask("get", "another", cwd=shop)["ok"]
    connection.close()


def test_a_long_history_is_told_in_pages_and_takes_little_memory(house, served, shop):
    connection = Rpc(house)
    for number in range(1500):
        for method in ("get", "release"):
            assert connection.call(f"lease.{method}", {"cwd": str(shop), "service": f"s{number % 50}"})["result"]["ok"]
    whole = house.ask("history", "--limit", "10000", cwd=shop)["events"]
    assert len(whole) == 3001 and [event["seq"] for event in whole] == sorted({event["seq"] for event in whole})
    for limit in (1, 1000, 1001, 2500, 3001):
        assert house.ask("history", "--limit", str(limit), cwd=shop)["events"] == whole[-limit:]
    assert house.portctl("history", "--limit", "1200", cwd=shop).stdout.count("\n") == 1200
    assert "limit" in connection.call("lease.history", {"cwd": str(shop), "limit": 1001})["error"]["message"]
    asking = flood(house, connections=5 if SANITIZED else 60, requests=3, method="lease.history", params=json.dumps({"cwd": str(shop)}))
    assert house.port(shop, "web")
    assert len(connection.call("lease.history", {"cwd": str(shop)})["result"]["events"]) == 1000
    for one in (connection, *asking):
        one.close()
    assert SANITIZED or peak_kb(served) < LIMIT_KB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("whose", ["runtime", "registry"])
def test_a_directory_of_somebody_else_is_refused(house, shop, whose):
    directory = house.runtime / "portwrap" if whose == "runtime" else house.registry
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    done = house.run("portwrap-agent", "--foreground")
    assert done.returncode == 1 and str(directory) in done.stderr, done.stderr
    assert house.portctl("get", "web", cwd=shop).returncode == 69
    assert house.run("portwrap", "echo", "hi", cwd=shop).stdout == "hi\n"
    wait_until(lambda: not house.agent_pids(), "the agent that refused has ended")
    os.chown(directory, 0, 0)


@pytest.mark.parametrize("kind", ["symbolic link", "FIFO", "directory", "text"])
def test_something_else_in_the_place_of_the_socket_is_no_harm(house, shop, tmp_path, kind):
    """A link there leads nobody elsewhere: what is in the way is removed, or the agent says that it cannot be."""
    (house.runtime / "portwrap").mkdir(mode=0o700)
    if kind == "symbolic link":
        house.socket.symlink_to(tmp_path / "theirs")
    elif kind == "FIFO":
        os.mkfifo(house.socket)
    elif kind == "directory":
        house.socket.mkdir()
    else:
        house.socket.write_text("x")
    done = house.portctl("get", "web", cwd=shop)
    assert not (tmp_path / "theirs").exists()
    if kind == "directory":
        assert done.returncode == 69, (done.stdout, done.stderr)
        assert house.run("portwrap", "echo", "hi", cwd=shop).stdout == "hi\n"
    else:
        assert done.returncode == 0, (done.stdout, done.stderr)


def test_files_of_a_project_may_be_anything(house, served):
    root = house.project("odd", files={"src/a": ""})
    for name in ("package.json", ".portwrap.json", "pyproject.toml"):
        os.mkfifo(root / name)
    (root / ".git").symlink_to("/dev/zero")
    assert house.portctl("get", "web", cwd=root).returncode == 0
    root = house.project("huge")
    with open(root / "package.json", "wb") as file:
        file.truncate(1 << 40)
    (root / ".portwrap.json").symlink_to(".portwrap.json")
    assert house.portctl("get", "web", cwd=root).returncode == 0
    root = house.project("deep", files={"package.json": '{"name":' + "[" * 400_000, ".portwrap.json": "[" * 400_000})
    assert house.portctl("get", "web", cwd=root).returncode == 0


@pytest.mark.parametrize("trick", ["link", "open to others", "file"])
def test_a_runtime_directory_that_is_not_private_is_refused(house, shop, tmp_path, trick):
    runtime = house.runtime / "portwrap"
    if trick == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        runtime.symlink_to(tmp_path / "theirs")
    elif trick == "file":
        runtime.write_text("")
    else:
        runtime.mkdir(mode=0o777)
        runtime.chmod(0o777)
    done = house.portctl("get", "web", cwd=shop)
    assert done.returncode == 69, (done.stdout, done.stderr)
    wait_until(lambda: not house.agent_pids(), "the agent that refused has ended")
    # The reason is the agent's to say.
    done = house.run("portwrap-agent", "--foreground")
    assert done.returncode == 1 and "portwrap-agent: " + str(runtime) in done.stderr, done.stderr
    # Programs run all the same.
    assert house.run("portwrap", "echo", "hi", cwd=shop).stdout == "hi\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_not_served(house, served):
    # The modes keep others out; were they lost, the agent would still ask the kernel who is there.
    for path in (house.directory, house.runtime, house.runtime / "portwrap"):
        path.chmod(0o755)
    house.socket.chmod(0o777)
    code = ("import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "try:\n s.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.status\",\"params\":{}}\\n'); print(s.recv(4096).decode())\n"
            "except OSError: print()")
    done = subprocess.run(["/usr/bin/python3", "-c", code, str(house.socket)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "socket" not in done.stdout, done.stdout
    for path in (house.directory, house.runtime, house.runtime / "portwrap"):
        path.chmod(0o700)


@pytest.mark.parametrize("directories", ["that are not there", "that are removed again", "that are there"])
def test_launches_in_ever_new_directories_take_little_memory(house, shop, directories):
    """One process that says to be in 1,500 of them, one after another, with paths as long as they may be."""
    pid = house.start_agent()
    house.ask("get", "web", cwd=shop)
    client = Rpc(house)
    deep = house.home / "/".join(["x" * 200] * 15)
    deep.mkdir(parents=True)
    for number in range(1500):
        directory = deep / f"q{number}"
        if directories != "that are not there":
            directory.mkdir()
        reply = client.call("session.open", {"cwd": str(directory), "command": ["x"]})
        assert ("result" in reply) == (directories != "that are not there"), reply
        if "error" in reply:
            assert reply["error"]["data"]["code"] == "NOT_FOUND" and "there is no directory" in reply["error"]["message"], reply
        if directories == "that are removed again":
            directory.rmdir()
    assert SANITIZED or peak_kb(pid) < LIMIT_KB
    client.close()
    tables = house.runtime / "portwrap" / "tables"
    assert len(list(tables.glob("*"))) <= 66  # those that nobody reads any more, and those of who lives
    assert house.ask("cleanup", "--all", "--yes")["released"] == []
    house.stop_agent()
    snapshot = json.loads((house.registry / "ports.json").read_text())
    assert len(snapshot["projects"]) == 1 if directories == "that are not there" else len(snapshot["projects"]) < 100


def test_a_program_works_in_a_directory_that_the_agent_cannot_see(house, shop, listener):
    """In a mount namespace of its own: it has its ports all the same."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces here")
    house.start_agent()
    script = 'mount -t tmpfs none "$1" && mkdir "$1/within" && cd "$1/within" && exec portwrap "$2" bind 3000'
    program = house.start("unshare", "-m", "sh", "-c", script, "sh", str(shop), str(listener), cwd=house.home)
    program.wait_for(r"^\d+ \d+$", "stdout")
    (lease,) = house.leases()
    assert (lease["requested_port"], lease["project"]["root"]) == (3000, str(shop / "within")), lease
    program.close_stdin()
    assert program.wait() == 0
