"""Audit, health and cleanup with real servers, and ports for new worktrees by git's hook."""

import json
import shutil
import subprocess

import pytest

from house import wait_until


def test_audit_names_the_stranger_and_ends_with_1(house, shop):
    silent = int(house.portctl("get", "silent", cwd=shop).stdout)
    taken = int(house.portctl("get", "taken", cwd=shop).stdout)
    assert house.portctl("audit", cwd=shop).returncode == 0
    stranger = house.serve_unwrapped(taken, house.home)
    reply = house.ask("audit", cwd=shop, status=1)
    kinds = {finding["port"]: finding for finding in reply["findings"]}
    assert (kinds[silent]["kind"], kinds[silent]["listener"]) == ("not_running", None)
    assert kinds[taken]["kind"] == "conflict"
    assert kinds[taken]["listener"]["pid"] == stranger.pid
    assert kinds[taken]["listener"]["cwd"] == str(house.home)
    assert reply["summary"] == {"allocated": 2, "active": 0, "not_running": 1, "conflicts": 1, "active_percent": 0.0}
    table = house.portctl("audit", "--all", cwd=house.home)
    assert table.returncode == 1 and str(stranger.pid) in table.stdout
    fix = subprocess.run(["sh", "-c", kinds[silent]["fix"]], cwd=house.home, env=house.env)
    assert fix.returncode == 0 and len(house.leases()) == 1


def test_the_fixes_of_one_number_s_two_protocols_work(house, shop):
    house.portctl("allocate", "q", "3300", cwd=shop)
    house.portctl("allocate", "q", "3300", "--protocol", "udp", cwd=shop)
    house.serve_unwrapped(3300, house.home)
    fixes = {finding["kind"]: finding["fix"] for finding in house.ask("audit", cwd=shop, status=1)["findings"]}
    for kind in ("not_running", "conflict"):
        fix = subprocess.run(["sh", "-c", fixes[kind]], cwd=house.home, env=house.env, capture_output=True, text=True)
        assert fix.returncode == 0, fix.stderr
    (lease,) = house.leases(shop)
    assert lease["protocol"] == "tcp" and lease["port"] != 3300 and lease["state"] == "allocated"


def test_a_server_of_the_project_that_runs_without_portwrap_is_no_stranger(house, shop):
    house.serve_unwrapped(int(house.portctl("get", "web", cwd=shop).stdout), shop)
    reply = house.ask("audit", cwd=shop)
    assert reply["findings"] == [] and reply["summary"]["active_percent"] == 100.0


def test_health_says_who_answers(house):
    shop = house.project("shop", files={
        "package.json": "{}", "ok.txt": "fine",
        ".portwrap.json": '{"services": {"good": {"health": "/ok.txt"}, "bad": {"health": "/missing"}, "plain": {}, "mute": {"health": "/"}, "off": {}}}'})
    ports = {name: int(house.portctl("get", name, cwd=shop).stdout) for name in ("good", "bad", "plain", "mute", "off")}
    for name in ("good", "bad", "plain"):
        house.serve_unwrapped(ports[name], shop)
    house.serve_silence(ports["mute"], shop)
    reply = house.ask("health", "--timeout", "0.3", cwd=shop, status=1)
    checks = {check["lease"]["service"]: check for check in reply["checks"]}
    assert {name: check["health"] for name, check in checks.items()} == {
        "good": "healthy", "bad": "unhealthy", "plain": "healthy", "mute": "unhealthy", "off": "not_running"}
    assert checks["good"]["response_ms"] >= 0 and checks["good"]["error"] is None
    assert "404" in checks["bad"]["error"] and "300 ms" in checks["mute"]["error"]
    assert {lease["service"]: lease["health"] for lease in house.leases(shop)}["good"] == "healthy"
    assert house.portctl("health", "good", cwd=shop).returncode == 0
    assert "300 ms" in house.ask("health", "mute", "--timeout", "300ms", cwd=shop, status=1)["checks"][0]["error"]
    for wrong in ("1h", "0", "fast", "-1", "21s"):
        assert house.portctl("health", "good", "--timeout", wrong, cwd=shop).returncode == 2, wrong
    assert house.refusal("health", "nothing", cwd=shop, status=3)["code"] == "NOT_FOUND"


@pytest.mark.parametrize("taken", [False, True], ids=["silent", "taken by a stranger"])
def test_cleanup_says_why_and_a_dry_run_changes_nothing(house, taken):
    main, _ = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    house.portctl("get", "web", cwd=main)
    clone = house.home / "clone"
    house.git(main, "clone", "-q", str(main), str(clone))
    port = int(house.portctl("get", "web", cwd=clone).stdout)
    stranger = house.project("other", files={"package.json": "{}"})
    house.portctl("get", "web", cwd=stranger)
    # Not deleted, which would end the leases at once: a disk that is not there looks the same.
    for place in (stranger, clone):
        place.rename(house.home / f"away {place.name}")
    if taken:
        house.serve_unwrapped(port, house.home)
    expected = [(port, "worktree_gone")]
    for words in (["--dry-run"], []):
        reply = house.ask("cleanup", *words, cwd=main)
        assert [(entry["lease"]["port"], entry["reason"]) for entry in reply["released"]] == expected
        assert reply["dry_run"] is bool(words)
    assert {lease["project"]["root"] for lease in house.leases()} == {str(main), str(stranger)}
    assert house.refusal("cleanup", "--all", cwd=main, status=2)["code"] == "INVALID_REQUEST"
    assert len(house.ask("cleanup", "--all", "--yes", cwd=main)["released"]) == 1
    assert [lease["project"]["root"] for lease in house.leases()] == [str(main)]


# Its parent is gone at once; it binds the port that it was told when a file says so.
LATE = """
import os, socket, sys, time
if os.fork():
    os._exit(0)
os.setsid()
for stream in range(3):
    os.dup2(os.open(os.devnull, os.O_RDWR), stream)
open("late.pid", "w").write(str(os.getpid()))
while not os.path.exists("now"):
    time.sleep(0.01)
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
open("late.port", "w").write(str(server.getsockname()[1]))
time.sleep(600)
"""


@pytest.mark.parametrize("words", [["cleanup", "--dry-run"], ["cleanup", "--all", "--dry-run"], ["cleanup", "--all", "--yes"], ["agent", "restart"]])
def test_a_program_that_outlives_its_command_has_the_port_that_it_was_told(house, words):
    shop = house.project("shop", files={"package.json": "{}", "late.py": LATE})
    other = house.project("other", files={"package.json": "{}"})
    assert house.run("portwrap", "-p", "3444", "python3", "late.py", cwd=shop).returncode == 0
    before = house.leases()
    assert [lease["port"] for lease in before] == [3444]
    history = house.ask("history", cwd=shop)["events"]
    done = house.ask(*words, cwd=other if "--all" in words else shop)
    if words[0] == "cleanup":
        assert done["released"] == []
        assert house.ask("history", cwd=shop)["events"] == history
    assert house.refusal("allocate", "x", "3444", cwd=other, status=1)["code"] == "PORT_LEASED"
    (shop / "now").touch()
    wait_until((shop / "late.port").exists, "the late program binds")
    (lease,) = wait_until(lambda: [lease for lease in house.leases(shop) if lease["state"] == "active"], "its port is active")
    assert (lease["port"], lease["holder"]["pid"]) == (3444, int((shop / "late.pid").read_text()))


BIND_3000 = "import socket; print(socket.create_server(('127.0.0.1', 3000)).getsockname()[1])"


@pytest.mark.parametrize("command", [["-p", "3000", "sh", "-c", "exit 1"], ["sh", "-c", "exit 1", "{port}"]])
@pytest.mark.parametrize("then", [["portwrap", "-p", "3000", "python3", "-c", BIND_3000], ["portwrap", "python3", "-c", BIND_3000],
                                  ["portctl", "allocate", "web", "--preferred", "3000"], ["portctl", "allocate", "web", "3000"]])
def test_a_command_that_failed_keeps_its_port_from_nobody(house, command, then):
    shop, blog = (house.project(name, files={"package.json": "{}"}) for name in ("shop", "blog"))
    # Whoever looks for what the command left has much to read.
    house.start("sh", "-c", "for i in $(seq 50); do sleep 600 & done; echo up; wait", cwd=house.home, env={"LARGE": "x" * 100_000}).wait_for("^up$")
    assert house.run("portwrap", *command, cwd=shop).returncode == 1
    done = house.run(*then, cwd=blog)
    assert (done.returncode, done.stdout) == (0, "3000\n"), done.stderr


def test_a_port_is_kept_for_the_last_process_of_a_command_and_no_longer(house):
    shop, blog = (house.project(name, files={"package.json": "{}"}) for name in ("shop", "blog"))
    # One process that ends, and leaves the next one.
    one = "while [ ! -e NAME ]; do sleep 0.01; done"
    inner = one.replace("NAME", "first") + "; (" + one.replace("NAME", "last") + ") & exit"
    command = f"({inner}) > /dev/null 2>&1 & exit 1"
    assert house.run("portwrap", "-p", "3000", "sh", "-c", command, cwd=shop).returncode == 1
    for name in ("first", "last"):
        assert "shop" in house.refusal("allocate", "web", "3000", cwd=blog, status=1)["message"]
        (shop / name).touch()
    wait_until(lambda: house.leases() == [], "the last of its processes ends", 10)
    assert house.portctl("allocate", "web", "3000", cwd=blog).returncode == 0


@pytest.mark.parametrize("how", ["git", "rm"])
def test_a_removed_worktree_loses_its_ports_by_itself(house, how):
    main, linked = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    house.portctl("get", "web", cwd=main)
    house.portctl("get", "web", cwd=linked)
    if how == "git":
        house.git(main, "worktree", "remove", "--force", str(linked))
    else:
        shutil.rmtree(linked)
    wait_until(lambda: [lease["project"]["root"] for lease in house.leases()] == [str(main)], "the ports are released")


def test_the_way_out_of_a_conflict_works_from_any_directory(house, shop):
    snake = house.project("snake", files={"pyproject.toml": '[project]\nname = "snake"\n'})
    taken = {"web": int(house.portctl("get", "web", cwd=snake).stdout), "db": int(house.portctl("get", "db", "--kind", "database", cwd=snake).stdout)}
    for port in taken.values():
        house.serve_unwrapped(port, house.home)
    findings = house.ask("audit", cwd=snake, status=1)["findings"]
    assert [finding["kind"] for finding in findings] == ["conflict"] * 2
    for finding in findings:
        done = subprocess.run(["sh", "-c", finding["fix"]], cwd=shop, env=house.env, capture_output=True, text=True)
        assert done.returncode == 0, (finding["fix"], done.stderr)
    leases = {lease["service"]: lease for lease in house.leases(snake)}
    assert {name: lease["range"] for name, lease in leases.items()} == {"web": "python", "db": "database"}
    assert all(leases[name]["port"] != port for name, port in taken.items())
    assert house.portctl("audit", cwd=snake).returncode == 0


def test_a_reservation_stays_while_its_project_s_own_program_listens(house, shop):
    """Nobody asks between the end of its time and the event that says that it is in use."""
    house.start_agent()
    watch = house.start("portctl", "watch", "--json", cwd=shop)
    house.portctl("reserve", "4567", "--ttl", "8s", cwd=shop)
    house.portctl("reserve", "4568", "--ttl", "8s", cwd=shop)
    house.portctl("reserve", "4569", "--ttl", "8s", cwd=shop)
    house.serve_unwrapped(4567, shop)
    house.serve_unwrapped(4568, house.home)

    def seen(port):
        return [json.loads(line)["event"] for line in watch.stdout.splitlines(keepends=True) if line.endswith("\n") and json.loads(line)["lease"]["port"] == port]

    wait_until(lambda: "activated" in seen(4567) and "expired" in seen(4568) and "expired" in seen(4569), lambda: watch.stdout)
    assert [lease["port"] for lease in house.leases(shop)] == [4567]


def test_audit_finds_two_claims_on_one_port_and_how_to_end_one(house, shop, blog):
    """Which no request makes: somebody has written into the registry (a backup of another machine's, an editor)."""
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    other = int(house.portctl("get", "web", cwd=blog).stdout)
    house.stop_agent()
    snapshot = house.registry / "ports.json"
    content = json.loads(snapshot.read_text())
    del content["crc"]  # a file without one is taken as it is
    content["leases"] = json.loads(json.dumps(content["leases"]).replace(f'"port": {other},', f'"port": {port},'))
    snapshot.write_text(json.dumps(content))
    house.serve_unwrapped(port, shop)
    for words, cwd in ((["--all"], house.home), ([], shop), ([], blog)):
        reply = house.ask("audit", *words, cwd=cwd, status=1)
        (finding,) = [finding for finding in reply["findings"] if finding["kind"] == "duplicate"]
        assert finding["port"] == port and finding["listener"] is None
        assert finding["lease"]["project"]["root"] in (str(shop), str(blog))
    # It ends the one that nobody listens on, from wherever it is given.
    assert subprocess.run(["sh", "-c", finding["fix"]], cwd=house.home, env=house.env).returncode == 0
    assert [(lease["port"], lease["project"]["root"]) for lease in house.leases()] == [(port, str(shop))]
    assert house.ask("audit", "--all")["findings"] == []
