"""Worktrees that are moved keep their ports, removed ones lose them: told by the kernel, seen in the stream of events, so that no
request of the test's own makes the agent look."""

import json
import shutil
import subprocess

import pytest

from house import wait_until

APP = {"package.json": '{"name": "shop"}'}


@pytest.fixture
def watcher(house):
    """The events of all projects from now on."""
    house.start_agent()
    process = house.start("portctl", "watch", "--all", "--json", cwd=house.home)

    def seen(event, port):
        def found():
            for line in process.stdout.splitlines(keepends=True):
                entry = json.loads(line) if line.endswith("\n") else {}
                lease = entry.get("lease", {})
                if entry.get("event") == event and lease["port"] == port and lease["project"]["root"] != str(spare):
                    return lease
            return None

        return wait_until(found, lambda: f"{event} {port} in {process.stdout}")

    # A first event says that the stream has begun.
    spare = house.project("spare", files=APP)

    def begun():
        house.portctl("get", "x", cwd=spare)
        house.portctl("release", "x", cwd=spare)
        return process.stdout

    wait_until(begun, "the stream begins")
    return seen


def get(house, cwd, service="web"):
    return int(house.portctl("get", service, cwd=cwd).stdout)


def roots(house):
    return {lease["project"]["root"]: lease["port"] for lease in house.leases()}


def test_a_worktree_that_git_moves_takes_its_ports_along(house, watcher):
    main, linked = house.worktrees("shop", files=APP)
    main_port, port = get(house, main), get(house, linked)
    target = house.home / "deep" / "new place"
    target.parent.mkdir()
    house.git(main, "worktree", "move", str(linked), str(target))
    moved = watcher("moved", port)
    assert moved["project"]["root"] == str(target) and moved["state"] == "allocated"
    assert moved["project"]["worktree_of"] == str(main) and moved["project"]["branch"] == "fix"
    assert roots(house) == {str(main): main_port, str(target): port}
    assert house.port(target, "web") == port
    # And back again.
    house.git(main, "worktree", "move", str(target), str(linked))
    wait_until(lambda: roots(house) == {str(main): main_port, str(linked): port}, lambda: roots(house))
    assert house.ask("list", "--orphans")["leases"] == []


def test_what_is_moved_while_no_agent_runs_is_found(house):
    main, linked = house.worktrees("shop", files=APP)
    port, api = get(house, linked), get(house, linked, "api")
    house.portctl("release", "web", cwd=linked)
    house.stop_agent()
    target = house.home / "new"
    house.git(main, "worktree", "move", str(linked), str(target))
    assert get(house, target, "api") == api
    assert get(house, target) == port  # remembered, though it was released
    assert set(roots(house)) == {str(target)}


def test_a_renamed_worktree_has_its_ports_back_once_git_knows(house):
    main, linked = house.worktrees("shop", files=APP)
    port = get(house, linked)
    target = house.home / "renamed"
    linked.rename(target)
    house.git(main, "worktree", "repair", str(target))
    assert get(house, target) == port
    assert set(roots(house)) == {str(target)}


@pytest.mark.parametrize("repaired", [True, False], ids=["repaired", "not repaired"])
def test_a_worktree_that_was_renamed_while_no_agent_ran_has_its_ports_again(house, repaired):
    """It looks like a removed one to an agent that starts: its ports are given back, and remembered until it is seen."""
    main, linked = house.worktrees("shop", files=APP)
    port = get(house, linked)
    house.stop_agent()
    target = house.home / "renamed"
    linked.rename(target)
    house.start_agent()
    wait_until(lambda: roots(house) == {}, lambda: roots(house))
    if repaired:
        house.git(main, "worktree", "repair", str(target))
    assert get(house, target) == port
    assert roots(house) == {str(target): port}


def test_a_renamed_repository_keeps_its_ports_and_so_do_the_worktrees_in_it(house):
    main = house.project("shop", files=APP)
    house.git(main, "init", "-q", "-b", "main")
    house.git(main, "add", "-A")
    house.git(main, "commit", "-q", "-m", "An app")
    inner, outer = main / "trees/inner", house.home / "outer"
    for place in (inner, outer):
        house.git(main, "worktree", "add", "-q", "-b", place.name, str(place))
    ports = {place: get(house, place) for place in (main, inner, outer)}
    target = house.home / "renamed"
    main.rename(target)
    house.git(target, "worktree", "repair", str(target / "trees/inner"), str(outer))
    assert get(house, target) == ports[main]
    assert get(house, target / "trees/inner") == ports[inner]
    assert get(house, outer) == ports[outer]
    assert roots(house) == {str(target): ports[main], str(target / "trees/inner"): ports[inner], str(outer): ports[outer]}


def test_a_locked_worktree_that_is_away_keeps_its_ports(house, watcher):
    main, locked = house.worktrees("shop", files=APP)
    other = house.home / "other"
    house.git(main, "worktree", "add", "-q", "-b", "other", str(other))
    house.git(main, "worktree", "lock", str(locked))
    kept, given_back = get(house, locked), get(house, other)
    for worktree in (locked, other):
        worktree.rename(house.home / f"{worktree.name} is away")
    watcher("released", given_back)
    assert roots(house) == {str(locked): kept}


def test_a_copy_is_no_move(house):
    main, linked = house.worktrees("shop", files=APP)
    ports = {place: get(house, place) for place in (main, linked)}
    for place in (main, linked):
        copy = house.home / f"copy of {place.name}"
        subprocess.run(["cp", "-a", str(place), str(copy)], check=True)
        ports[copy] = get(house, copy)
    assert len(set(ports.values())) == 4
    assert roots(house) == {str(place): port for place, port in ports.items()}


def test_a_server_runs_on_while_its_worktree_is_moved(house, watcher):
    main, linked = house.worktrees("shop", "express")
    server = house.wrap("node", "server.js", cwd=linked)
    server.wait_for("^ready")
    port = house.port(linked)
    target = house.home / "new"
    house.git(main, "worktree", "move", "--force", str(linked), str(target))
    moved = watcher("moved", port)
    assert moved["state"] == "active" and moved["holder"]["cwd"] == str(target)
    assert house.port(target) == port
    server.kill()
    watcher("released", port)
    house.wrap("node", "server.js", cwd=target).wait_for("^ready")
    assert house.port(target) == port


@pytest.mark.parametrize("kind", ["worktree", "worktree by git", "clone", "plain"])
def test_removing_a_project_releases_its_ports_at_once(house, watcher, kind):
    main, linked = house.worktrees("shop", files=APP)
    plain = house.project("plain", files=APP)
    victim = {"clone": main, "plain": plain}.get(kind, linked)
    port = get(house, victim)
    kept = get(house, main if victim != main else plain)
    if kind == "worktree by git":
        house.git(main, "worktree", "remove", "--force", str(linked))
    else:
        shutil.rmtree(victim)
    watcher("released", port)
    assert [lease["port"] for lease in house.leases()] == [kept]


def test_a_shell_that_stands_in_a_removed_worktree_does_not_keep_its_ports(house, watcher):
    _, linked = house.worktrees("shop", files=APP)
    port = get(house, linked)
    shell = house.start("sh", "-c", "echo here; read x", cwd=linked)
    shell.wait_for("here")
    shutil.rmtree(linked)
    watcher("released", port)
    shell.close_stdin()


@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "not seen before"])
def test_a_stranger_does_not_keep_a_removed_worktree_s_port(house, watcher, seen):
    _, linked = house.worktrees("shop", files=APP)
    port = get(house, linked)
    stranger = house.serve_unwrapped(port, house.home)
    if seen:
        assert [lease["state"] for lease in house.leases()] == ["conflict"]
    shutil.rmtree(linked)
    watcher("released", port)
    assert stranger.running()


def test_a_program_of_a_removed_worktree_beside_a_stranger_keeps_its_port(house, watcher):
    """It came after the stranger had been seen, and nobody has asked since."""
    _, linked = house.worktrees("shop", files=APP)
    port = get(house, linked)
    silent = get(house, linked, "silent")
    house.serve_unwrapped(port, house.home)
    assert {lease["port"]: lease["state"] for lease in house.leases()} == {port: "conflict", silent: "allocated"}
    own = house.start("python3", "-m", "http.server", str(port), "--bind", "::1", cwd=linked)
    own.wait_for("^Serving HTTP")
    shutil.rmtree(linked)
    watcher("released", silent)
    (lease,) = house.leases()
    assert (lease["port"], lease["state"], lease["holder"]["pid"]) == (port, "active", own.pid)


@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "not seen before"])
def test_what_runs_in_a_removed_worktree_keeps_its_port_until_it_ends(house, watcher, seen):
    _, linked = house.worktrees("shop", files=APP)
    port = get(house, linked)
    silent = get(house, linked, "silent")
    server = house.serve_unwrapped(port, linked)
    if seen:
        assert house.port(linked, "web") == port
    shutil.rmtree(linked)
    watcher("released", silent)
    (lease,) = house.leases()
    assert (lease["port"], lease["state"], lease["holder"]["pid"], lease["holder"]["cwd"]) == (port, "active", server.pid, str(linked))
    (listener,) = house.ask("check", str(port), status=1)["listeners"]
    assert (listener["cwd"], listener["project"]["root"]) == (str(linked), str(linked))
    assert house.ask("audit", "--all")["findings"] == []
    assert house.ask("list", "--orphans")["leases"][0]["port"] == port
    server.kill()
    watcher("released", port)


@pytest.mark.parametrize("started_in", ["the worktree", "the main one"])
def test_a_wrapped_server_that_starts_in_a_removed_worktree_is_that_one_s(house, listener, started_in):
    """And not that of the main worktree around it."""
    main = house.project("shop", files=APP)
    house.git(main, "init", "-q", "-b", "main")
    house.git(main, "add", "-A")
    house.git(main, "commit", "-q", "-m", "An app")
    inner = main / "trees/inner"
    house.git(main, "worktree", "add", "-q", "-b", "inner", str(inner))
    get(house, inner)
    start = inner if started_in == "the worktree" else main
    server = house.wrap("sh", "-c", 'cd "$1" && echo there && read line && exec "$2" bind 3700', "sh", str(inner), str(listener), cwd=start)
    server.wait_for("there")
    shutil.rmtree(inner)
    server.say("go on\n")
    port = int(server.wait_for(r"^\d+ (\d+)$")[1])
    lease = wait_until(lambda: next((lease for lease in house.leases() if lease["port"] == port and lease["state"] == "active"), None), lambda: house.leases())
    assert lease["project"]["root"] == lease["holder"]["cwd"] == str(inner)
    server.kill()
    wait_until(lambda: port not in [lease["port"] for lease in house.leases()], lambda: house.leases())


def test_what_was_removed_while_no_agent_ran_is_released(house):
    main, linked = house.worktrees("shop", files=APP)
    kept, _ = get(house, main), get(house, linked)
    house.stop_agent()
    shutil.rmtree(linked)
    house.start_agent()
    wait_until(lambda: list(roots(house)) == [str(main)], lambda: roots(house))
    assert roots(house) == {str(main): kept}


def test_nested_worktrees_are_projects_and_submodules_are_not(house):
    library = house.project("library", files=APP)
    main = house.project("shop", files=APP)
    for place in (library, main):
        house.git(place, "init", "-q", "-b", "main")
        house.git(place, "add", "-A")
        house.git(place, "commit", "-q", "-m", "An app")
    house.git(main, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "lib")
    house.git(main, "worktree", "add", "-q", "-b", "nested", str(main / "trees/nested"))
    assert get(house, main / "lib") == get(house, main)
    assert get(house, main / "trees/nested") != get(house, main)
    shutil.rmtree(main / "lib")
    shutil.rmtree(main / "trees")
    wait_until(lambda: list(roots(house)) == [str(main)], lambda: roots(house))


def test_an_idle_agent_is_not_woken_by_what_happens_in_projects(house):
    main, linked = house.worktrees("shop", files=APP)
    for place in (main, linked):
        get(house, place)
    pid = house.agent_pid()

    def switches():
        with open(f"/proc/{pid}/status") as status:
            return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)

    def settled():
        before = switches()
        for place in (main, linked):
            for number in range(200):
                (place / f"file-{number}").write_text("x")
                (place / f"file-{number}").unlink()
            house.git(place, "status")
        return switches() == before

    wait_until(settled, "files come and go and the agent sleeps")
