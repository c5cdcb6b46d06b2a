"""What is left behind: by the agent after many requests, by the shim in real programs.

PORTWRAP_TEST_REQUESTS says how many requests (6,000; the long form has 100,000)."""

import itertools
import os
import re
import shutil
from pathlib import Path

import pytest

from house import SANITIZED, SERVERS, Rpc, fetch, resident_kb, wait_until

REQUESTS = int(os.environ.get("PORTWRAP_TEST_REQUESTS", "6000"))


def holdings(pid):
    """What a process has of what it could leak."""
    proc = Path(f"/proc/{pid}")
    descriptors = {entry: os.readlink(proc / "fd" / entry) for entry in os.listdir(proc / "fd")}
    watches = sum(text.count("inotify wd") for text in ((proc / "fdinfo" / fd).read_text() for fd, what in descriptors.items() if "inotify" in what))
    maps = (proc / "maps").read_text().splitlines()
    status = (proc / "status").read_text()
    return {"descriptors": len(descriptors), "watches": watches, "tables": sum("/tables/" in line for line in maps), "maps": len(maps),
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]), "kilobytes": resident_kb(pid)}


def test_requests_leave_nothing_behind_in_the_agent(house, listener):
    roots = [house.project(name, files={"package.json": "{}", ".portwrap.json": '{"services": {"web": {"port": 3000}}}'}) for name in ("shop", "blog", "wiki")]
    pid = house.start_agent()
    runners = itertools.cycle(roots)

    def mixed(count):
        connection = None
        for number in range(count):
            root = str(roots[number % 3])
            if number % 25 == 0:
                # A connection of its own for every twenty-five, cut in the middle of the last one's message.
                if connection is not None:
                    connection.send(b'{"jsonrpc":"2.0","id":1,"meth')
                    connection.close()
                connection = Rpc(house)
            service = f"s{number % 40}"
            turn = number % 10
            if turn < 4:
                reply = connection.call("lease.get", {"cwd": root, "service": service})
            elif turn < 6:
                reply = connection.call("lease.release", {"cwd": root, "service": f"s{(number - 4) % 40}"})
            elif turn == 6:
                reply = connection.call("lease.reserve", {"cwd": root, "service": "kept", "ttl_s": 60})
            elif turn == 7:
                reply = connection.call("lease.update", {"cwd": root, "service": "kept", "description": str(number)})
            elif turn == 8:
                reply = connection.call(["lease.list", "range.list", "lease.audit"][number // 10 % 3], {"cwd": root})
            else:
                reply = connection.call(["port.check", "nothing.at_all", "lease.wait"][number // 10 % 3],
                                        [{"cwd": root, "port": 3000}, {"port": 70000}, {"cwd": root, "port": 3999, "timeout_ms": 1}][number // 10 % 3])
            assert reply is not None, (number, turn)
        connection.close()

    def run_programs(count):
        for _ in range(count):
            process = house.wrap(str(listener), "bind", "3000", cwd=next(runners))
            process.wait_for(r"^\d+ \d+$", "stdout")
            process.close_stdin()
            assert process.wait() == 0

    def settled():
        wait_until(lambda: not [lease for lease in house.leases() if lease["state"] == "active"], "all programs have ended")
        return holdings(pid)

    mixed(max(4000, REQUESTS))  # with the first snapshots of the registry
    run_programs(12)
    before = settled()
    mixed(REQUESTS)
    run_programs(max(12, REQUESTS // 500))
    wait_until(lambda: settled()["descriptors"] <= before["descriptors"], lambda: f"no descriptor is left: {before} {holdings(pid)}")
    after = settled()
    assert house.agent_pid() == pid
    assert (after["watches"], after["tables"], after["threads"]) == (before["watches"], before["tables"], before["threads"]), (before, after)
    if not SANITIZED:
        assert after["maps"] <= before["maps"] + 64, (before, after)
        assert after["kilobytes"] <= before["kilobytes"] + 2048 + REQUESTS // 100, (before, after)
        assert after["kilobytes"] < 32 * 1024


RESTING = 64  # tables that are kept up to date although nobody is known to read them


@pytest.mark.parametrize("how", ["ended", "became a run in another project"])
def test_the_tables_of_many_projects_are_let_go(house, how):
    shop = house.project("shop", files={"package.json": "{}"})
    pid = house.start_agent()
    command = ["true"] if how == "ended" else ["sh", "-c", "cd ../shop && exec portwrap -q true"]
    for number in range(RESTING + 20):
        done = house.run("portwrap", "-q", *command, cwd=house.project(f"r{number}", files={"package.json": "{}"}))
        assert done.returncode == 0, done.stderr
    house.run("portwrap", "-q", "true", cwd=shop)
    wait_until(lambda: house.ask("agent", "status")["agent"]["sessions"] == 0, "all sessions have ended")
    assert 0 < holdings(pid)["tables"] <= RESTING


def test_the_tables_of_projects_that_are_gone_go_too(house):
    house.start_agent()
    tables = house.runtime / "portwrap" / "tables"
    roots = [house.project(f"r{number}", files={"package.json": "{}"}) for number in range(6)]
    for number, root in enumerate(roots):
        assert house.run("portwrap", "-q", "true", cwd=root).returncode == 0
        if number % 2:
            house.ask("get", "web", cwd=root)
            house.ask("release", "web", cwd=root)
    assert len(list(tables.iterdir())) == len(roots)
    for root in roots[:4]:
        shutil.rmtree(root)
    house.ask("cleanup", "--all", "--yes")
    wait_until(lambda: len(list(tables.iterdir())) == 2, lambda: list(tables.iterdir()))
    house.stop_agent()
    house.start_agent()
    assert not [file for file in tables.iterdir()], "nobody uses one that says nothing"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("server", ["c", "python", "php"])
def test_memcheck_finds_nothing_of_the_shim_in_a_real_server(house, listener, tmp_path, server):
    """The server binds, listens, answers, and connects to itself by the number that it asked for."""
    words = {"c": [str(listener), "bind", "3000"],
             "python": ["python3", "-m", "http.server", "3000"],
             "php": ["php", "-n", "-S", "localhost:3000", "-t", str(SERVERS / "apps" / "php")]}[server]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    first = house.wrap(str(listener), "bind", "3000", cwd=house.project("first"))
    first.wait_for(r"^\d+ \d+$", "stdout")
    root = house.project("shop")
    log = tmp_path / "memcheck"
    # Leaks are looked for where all memory is given back at the end: interpreters do not.
    options = [f"--log-file={log}", "--error-exitcode=9", f"--leak-check={'full' if server == 'c' else 'no'}", "--track-fds=yes"]
    process = house.wrap("valgrind", *options, *words, cwd=root, env={"PYTHONMALLOC": "malloc", "USE_ZEND_ALLOC": "0"})
    port = wait_until(lambda: [lease["port"] for lease in house.leases(root) if lease["state"] == "active"], "it listens")[0]
    assert port != 3000
    if server == "c":
        process.close_stdin()
        assert process.wait() == 0, log.read_text()
    else:
        assert fetch(port)
        os.kill(process.pid, 2)
        process.wait()
    report = log.read_text()
    assert "Memcheck" in report and "ERROR SUMMARY" in report, report
    assert "libportwrap" not in report, report
    if server == "c":
        assert "ERROR SUMMARY: 0 errors" in report and "definitely lost" not in report, report


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_memcheck_finds_nothing_of_the_shim_in_a_client_with_threads(house, listener, tmp_path):
    """Binds and connects from eight threads at once, each with errors of the kernel's among them."""
    root = house.project("shop", files={"client.py": CLIENT})
    log = tmp_path / "memcheck"
    process = house.wrap("valgrind", f"--log-file={log}", "--leak-check=no", "python3", "client.py", cwd=root, env={"PYTHONMALLOC": "malloc"})
    assert process.wait(120) == 0, process.stderr
    assert process.stdout.split() == ["connected"] * 8, (process.stdout, process.stderr)
    report = log.read_text()
    assert "ERROR SUMMARY" in report and "libportwrap" not in report, report


CLIENT = """
import contextlib, socket, sys, threading

def work(number):
    with socket.create_server(("127.0.0.1", 3000 + number)) as server:
        for _ in range(5):
            with contextlib.suppress(OSError), socket.socket() as other:
                other.bind(("127.0.0.1", 3000 + number))
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 1)):
                pass
            with socket.create_connection(("localhost", 3000 + number)) as client:
                server.accept()[0].close()
    sys.stdout.write("connected" + chr(10))

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
