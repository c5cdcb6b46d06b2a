"""The commands about what was, is and will be: allocate, reserve, list, history, watch, wait, stop, doctor."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from house import is_alive, wait_until


def serve(house, listener, cwd, port="3000"):
    process = house.wrap(listener, "bind", port, cwd=cwd)
    return process, int(process.wait_for(r"^\d+ (\d+)$")[1])


def test_allocate_gives_instances_and_blocks(house, shop):
    first, second = (int(house.portctl("allocate", "web", cwd=shop).stdout) for _ in range(2))
    assert first != second
    block = [int(line) for line in house.portctl("allocate", "shard", "--count", "3", "--block", cwd=shop).stdout.split()]
    assert block == list(range(block[0], block[0] + 3))
    leases = house.leases(shop)
    assert sorted(lease["instance"] for lease in leases if lease["service"] == "shard") == [0, 1, 2]


def test_a_reservation_is_for_the_program_that_asks_for_it(house, shop, blog, listener):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
    reserved = house.ask("reserve", "3900", "--ttl", "2h", cwd=shop)["lease"]
    assert (reserved["state"], reserved["service"]) == ("reserved", "main")
    assert reserved["expires_at"] is not None
    _, moved = serve(house, listener, blog, "3900")
    assert moved != 3900
    _, own = serve(house, listener, shop, "3900")
    assert own == 3900


def test_update_and_transfer(house, shop, blog):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    lease = house.ask("update", "web", "--description", "the shop", "--hostname", "shop.example.org", cwd=shop)["lease"]
    assert (lease["description"], lease["hostname"]) == ("the shop", "shop.example.org")
    assert house.ask("update", "web", "--description", "", cwd=shop)["lease"]["description"] is None
    assert house.ask("transfer", str(port), "--to", "../blog", cwd=shop)["lease"]["project"]["name"] == "blog"
    assert house.leases(shop) == []
    assert house.port(blog) == port


def test_register_warns_about_the_environment(house, shop):
    reply = house.ask("register", "web", "9876", cwd=shop)
    assert "production" in reply["warning"]
    assert house.ask("register", "api", "9877", "--env", "production", cwd=shop)["warning"] is None


def test_list_formats_and_filters(house, shop):
    house.portctl("get", "web", "--description", 'a "b", c|d', cwd=shop)
    house.portctl("get", "job", "--env", "test", cwd=shop)
    csv = house.portctl("list", "--format", "csv", cwd=shop).stdout
    assert csv.startswith("service,port,asked,state,health,pid,allocated_at,description\r\n")
    assert '"a ""b"", c|d"' in csv
    assert "c\\|d |" in house.portctl("list", "--format", "markdown", cwd=shop).stdout
    assert json.loads(house.portctl("list", "--format", "json", cwd=shop).stdout)["ok"] is True
    assert [lease["service"] for lease in house.ask("list", "--env", "test", cwd=shop)["leases"]] == ["job"]
    assert [lease["service"] for lease in house.ask("list", "--range", "node", cwd=shop)["leases"]] == ["web"]


def test_list_of_worktrees_and_orphans(house):
    main, linked = house.worktrees("repo", files={"package.json": '{"name": "repo"}'})
    for root in (main, linked):
        house.portctl("get", "web", cwd=root)
    assert len(house.ask("list", "--worktree", cwd=main)["leases"]) == 2
    (lease,) = house.ask("list", "--worktree", "fix", cwd=main)["leases"]
    assert lease["project"]["root"] == str(linked)
    assert house.ask("list", "--orphans")["leases"] == []
    house.git(main, "worktree", "remove", "--force", str(linked))
    wait_until(lambda: len(house.leases()) == 1, "a worktree that is removed loses its ports")
    assert house.ask("list", "--orphans")["leases"] == []
    other = house.project("other", files={"package.json": "{}"})
    house.portctl("get", "web", cwd=other)
    other.rename(house.home / "away")  # a disk that is not there looks the same
    (lease,) = house.ask("list", "--orphans")["leases"]
    assert lease["project"]["root"] == str(other)


def test_who_and_url(house, shop, listener):
    process, port = serve(house, listener, shop)
    (seen,) = house.ask("who", str(port))["listeners"]
    assert seen["pid"] == process.pid
    assert seen["parents"]
    assert seen["project"]["name"] == "shop"
    assert house.portctl("url", cwd=shop).stdout == f"http://localhost:{port}\n"


def test_open_uses_the_browser(house, shop, tmp_path):
    house.portctl("get", "web", cwd=shop)
    fifo = tmp_path / "address"
    subprocess.run(["mkfifo", fifo], check=True)
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {fifo}\n')
    script.chmod(0o755)
    assert house.portctl("open", "web", cwd=shop, env={"BROWSER": f"{script} %s"}).returncode == 0
    assert fifo.read_text() == house.portctl("url", "web", cwd=shop).stdout
    assert house.portctl("open", "web", cwd=shop, env={"BROWSER": "/no/such"}).returncode == 3


def test_history_tells_who_had_a_port(house, shop, listener):
    process, port = serve(house, listener, shop)
    process.kill()
    wait_until(lambda: not house.leases(shop), "the lease ends")
    events = house.ask("history", str(port), cwd=shop)["events"]
    assert [event["event"] for event in events if event["event"] in ("activated", "released")] == ["activated", "released"]
    assert all(event["lease"]["port"] == port for event in events)
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    house.stop_agent()  # sealed by now
    assert house.ask("history", str(port), cwd=shop)["events"] == events
    assert house.ask("history", "main", "--since", "1h", cwd=shop)["events"] == events
    assert house.ask("history", "nobody", cwd=shop)["events"] == []


def test_watch_prints_events_as_they_happen(house, shop, blog, listener):
    house.start_agent()
    watch = house.start("portctl", "watch", cwd=shop)
    # It watches when an event arrives that happened afterwards.
    wait_until(lambda: house.portctl("update", house.portctl("get", "web", cwd=shop).stdout.strip(), "--kind", "", cwd=shop) and (
        house.portctl("release", "web", cwd=shop), watch.stdout)[1], "an event is printed")
    house.portctl("get", "other", cwd=blog)
    process, port = serve(house, listener, shop)
    watch.wait_for(r'"event":"activated"')
    process.kill()
    watch.wait_for(r'"event":"released","lease":\{.*"service":"main"')
    for line in watch.stdout.splitlines():
        event = json.loads(line)
        assert event["lease"]["project"]["name"] == "shop"


def test_wait_ends_when_the_service_listens(house, shop, listener):
    house.start_agent()
    waiting = house.start("portctl", "wait", "main", "--timeout", "20s", cwd=shop)
    serve(house, listener, shop)
    assert waiting.wait() == 0


def test_wait_outlives_the_agent(house, shop, listener):
    first = house.start_agent()
    waiting = house.start("portctl", "wait", "main", "--timeout", "20s", cwd=shop)
    fds = Path(f"/proc/{waiting.pid}/fd")
    wait_until(lambda: any(os.readlink(fd).startswith("socket:") for fd in fds.iterdir()), "it waits")
    assert house.portctl("agent", "restart").returncode == 0
    assert house.agent_pid() != first
    serve(house, listener, shop)
    assert waiting.wait() == 0


def test_wait_sees_a_listener_outside_of_portwrap(house, shop, listener):
    house.start_agent()
    waiting = house.start("portctl", "wait", "3917", "--timeout", "20s", cwd=shop)
    process = house.start(listener, "bind", "3917", cwd=house.home)
    process.wait_for(r"^\d+ 3917$")
    assert waiting.wait() == 0


def test_wait_says_that_it_was_in_vain(house, shop):
    reply = house.ask("wait", "nothing", "--timeout", "1s", cwd=shop, status=1)
    assert reply["listening"] is False


def test_stop_ends_the_whole_session_and_nothing_else(house, shop, blog, listener):
    other, _ = serve(house, listener, blog)
    process = house.wrap("sh", "-c", f"exec 3<&0; '{listener}' bind 3000 <&3 & wait", cwd=shop)
    holder = int(process.wait_for(r"^(\d+) \d+$")[1])
    stopped = house.ask("stop", "main", cwd=shop)["stopped"]
    assert {entry["pid"] for entry in stopped} == {process.pid, holder}
    assert all(entry["signal"] in ("TERM", "KILL") for entry in stopped)
    assert not is_alive(holder)
    process.wait()
    assert other.running()
    wait_until(lambda: not house.leases(shop), "the lease ends")


def test_stop_only_leaves_the_command(house, shop, listener):
    process = house.wrap("sh", "-c", f"'{listener}' bind 3000; read line", cwd=shop)
    holder = int(process.wait_for(r"^(\d+) \d+$")[1])
    assert [entry["pid"] for entry in house.ask("stop", "main", "--only", cwd=shop)["stopped"]] == [holder]
    assert process.running()


def test_stop_never_touches_another_project(house, shop, blog, listener):
    process, port = serve(house, listener, shop)
    assert house.refusal("stop", str(port), cwd=blog, status=1)["code"] == "NOT_OWNER"
    assert house.refusal("stop", "main", "--project", str(shop), cwd=blog, status=1)["code"] == "NOT_OWNER"
    assert process.running()


def test_what_is_handed_over_while_it_runs_is_not_the_new_owner_s_to_stop(house, shop, blog, listener):
    process = house.wrap("sh", "-c", f"exec 3<&0; '{listener}' bind 3000 <&3 & '{listener}' bind 3100 <&3 & wait", cwd=shop)
    process.wait_for(r"^\d+ 3000$")
    process.wait_for(r"^\d+ 3100$")
    lease = house.ask("transfer", "3000", "--to", str(blog), "--force", cwd=blog)["lease"]
    assert (lease["state"], lease["holder"], lease["project"]["name"]) == ("conflict", None, "blog")
    refusal = house.refusal("stop", lease["service"], cwd=blog, status=3)
    assert "portctl who 3000" in refusal["message"]
    assert house.refusal("stop", "3000", cwd=shop, status=1)["code"] == "NOT_OWNER"
    assert process.running() and [lease["port"] for lease in house.leases(shop)] == [3100]
    house.ask("stop", "3100", cwd=shop)
    process.wait()
    assert {lease["port"]: lease["state"] for lease in house.leases(blog)}[3000] == "allocated"


def test_a_server_that_another_project_s_session_started_here_is_stopped_alone(house, listener):
    main, linked = house.worktrees("app", files={"package.json": "{}"})
    process = house.wrap("sh", "-c", f"exec 3<&0; '{listener}' bind 3100 <&3 & cd '{linked}'; '{listener}' bind 3000 <&3 & wait", cwd=main)
    process.wait_for(r"^\d+ 3100$")
    here = int(process.wait_for(r"^(\d+) 3000$")[1])
    assert [entry["pid"] for entry in house.ask("stop", "3000", cwd=linked)["stopped"]] == [here]
    assert process.running() and [lease["port"] for lease in house.leases(main)] == [3100]


def shell_with_runs(house, listener, shop, blog, main, then=""):
    """A wrapped shell in the project shop: `main` is run in it, and nested runs of shop's package api and of blog. Their pids."""
    house.git(shop, "init", "-q", "-b", "main")
    (shop / "api").mkdir()
    (shop / "api" / "package.json").write_text('{"name": "api"}')
    nested = "".join(f"(cd '{directory}'; exec portwrap '{listener}' bind {port} <&3) & " for directory, port in (("api", 4000), (blog, 4500)))
    shell = house.wrap("sh", "-c", f"exec 3<&0; {main} & {nested} {then} wait", cwd=shop)
    return shell, *(int(shell.wait_for(rf"^(\d+) {port}$")[1]) for port in (3000, 4000, 4500))


def test_stop_ends_the_nested_run_that_the_server_belongs_to_alone(house, shop, blog, listener):
    run = f'portwrap sh -c "echo run \\$\\$; \'{listener}\' bind 3000 <&3 & wait"'
    shell, main, api, other = shell_with_runs(house, listener, shop, blog, run)
    command = int(shell.wait_for(r"^run (\d+)$")[1])
    assert {entry["pid"] for entry in house.ask("stop", "main", cwd=shop)["stopped"]} == {command, main}
    assert not is_alive(command) and not is_alive(main)
    assert shell.running() and is_alive(api) and is_alive(other)
    # A nested run's command that has the port itself.
    assert [entry["pid"] for entry in house.ask("stop", "api", cwd=shop)["stopped"]] == [api]
    assert shell.running() and is_alive(other)
    wait_until(lambda: [lease["holder"]["pid"] for lease in house.leases()] == [other], "the leases end with the servers, the other project's stays")


def test_stop_of_a_server_started_in_a_wrapped_shell_spares_another_project_s_nested_run(house, shop, blog, listener):
    shell, main, api, other = shell_with_runs(house, listener, shop, blog, f"'{listener}' bind 3000 <&3")
    assert {entry["pid"] for entry in house.ask("stop", "main", cwd=shop)["stopped"]} == {shell.pid, main, api}
    shell.wait()
    assert is_alive(other)
    assert [entry["pid"] for entry in house.ask("stop", "main", cwd=blog)["stopped"]] == [other]


def test_stop_within_a_wrapped_shell_ends_the_nested_run_alone(house, shop, blog, listener):
    os.mkfifo(shop / "go")
    stop = 'read line <go; portctl stop main; echo "status $?"; portctl stop 4000 --only; echo "status $?"; portctl stop main;'
    shell, main, api, other = shell_with_runs(house, listener, shop, blog, f"portwrap '{listener}' bind 3000 <&3", stop)
    (shop / "go").write_text("now\n")
    shell.wait_for(rf"^stopped pid {main} .*\nstatus 0\nstopped pid {api} .*\nstatus 0$")
    assert shell.running() and is_alive(other)
    shell.wait_for('"main" has a port, but no program runs on it|nothing of this project runs as "main"', stream="stderr")


def test_stop_kills_what_ignores_the_request(house, shop, listener):
    process = house.wrap("sh", "-c", f"trap '' TERM; '{listener}' bind 3000", cwd=shop)
    process.wait_for(r"^\d+ \d+$")
    stopped = house.ask("stop", "main", "--grace", "1s", cwd=shop)["stopped"]
    assert "KILL" in {entry["signal"] for entry in stopped}
    assert process.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL)  # the shell, killed or telling of its child


def test_doctor_finds_a_sound_installation(house, shop):
    checks = {check["name"]: check["status"] for check in house.ask("doctor", cwd=shop)["checks"]}
    assert {"portwrap", "portwrap-agent", "shim", "socket", "agent", "registry", "journal", "snapshot", "sock_diag", "destroy groups"} <= set(checks)
    assert "error" not in checks.values()


def test_doctor_tells_of_a_damaged_registry(house, shop):
    house.portctl("get", "web", cwd=shop)
    house.stop_agent()
    (house.registry / "ports.json").write_text("{ not json")
    checks = {check["name"]: check for check in house.ask("doctor", cwd=shop)["checks"]}
    assert checks["registry"]["status"] == "warning"
    assert "corrupt" in checks["registry"]["detail"]


def test_doctor_tells_of_a_mistake_in_the_projects_file(house, shop):
    checks = {check["name"]: check for check in house.ask("doctor", cwd=shop)["checks"]}
    assert (checks["project"]["status"], checks["project"]["detail"]) == ("ok", f"shop: {shop}")
    (shop / ".portwrap.json").write_text('{"services": {"web": {"port": 70000}}}')
    wait_until(lambda: house.ask("doctor", cwd=shop)["checks"][-1]["status"] == "warning", "the file is read anew")
    detail = house.ask("doctor", "-C", str(shop))["checks"][-1]["detail"]
    assert detail.startswith(f"{shop}/.portwrap.json:1:") and detail.endswith("(the file is ignored)")


def test_the_log_and_its_level(house, shop):
    house.portctl("get", "web", cwd=shop)
    assert "allocated port=" in house.portctl("agent", "log").stdout
    assert house.portctl("agent", "log", "--level", "debug").returncode == 0
    assert house.portctl("agent", "log", "--level", "loud").returncode == 2


def test_a_log_that_is_no_file_is_not_waited_for(house):
    house.registry.mkdir(mode=0o700, parents=True)
    os.mkfifo(house.registry / "agent.log")
    refusal = house.refusal("agent", "log", status=3)
    assert refusal["code"] == "NOT_FOUND" and "agent.log is no regular file" in refusal["message"]


def test_every_command_has_help_with_an_example(house):
    overview = house.portctl("help").stdout
    names = [line.split()[0] for line in overview.split("Commands:\n")[1].split("\n\n")[0].splitlines()]
    assert {"allocate", "stop", "watch", "doctor"} <= set(names)
    for name in names:
        done = house.portctl(name, "--help")
        assert done.returncode == 0, name
        assert f"Usage: portctl {name}" in done.stdout
        assert "Examples:" in done.stdout, name


def test_each_environment_has_an_instance_of_its_own(house, shop):
    dev, test = (house.ask("get", "web", "--env", name, cwd=shop)["lease"] for name in ("dev", "test"))
    assert 3000 <= dev["port"] <= 3999 and 7000 <= test["port"] <= 7999
    assert (dev["environment"], test["environment"]) == ("dev", "test")
    assert house.ask("get", "web", cwd=shop)["lease"]["port"] == dev["port"]
    assert house.ask("get", "web", "--env", "test", cwd=shop)["lease"]["port"] == test["port"]


def test_check_and_who_show_datagrams_too(house, shop):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = str(held.getsockname()[1])
        for reply in (house.ask("check", port, cwd=shop, status=1), house.ask("who", port, cwd=shop)):
            [seen] = reply["listeners"]
            assert (seen["protocol"], seen["address"], seen["pid"]) == ("udp", "127.0.0.1", os.getpid())


def test_check_tells_the_block_and_the_claim(house, shop, blog, listener):
    (house.config / "portwrap").mkdir()
    (house.config / "portwrap/config.json").write_text('{"preset": "blocks"}')
    process, port = serve(house, listener, shop, "3000")
    block = house.ask("check", "3007", cwd=blog)["block"]
    assert (block["project"]["name"], block["start"], block["end"]) == ("shop", 3000, 3099)
    assert f"block: 3000-3099 of {shop}" in house.portctl("check", "3007", cwd=blog).stdout
    process.kill()
    wait_until(lambda: house.ask("check", str(port), cwd=blog)["claimed"], "the ended server's port is kept for it")
    assert "kept for: shop/main" in house.portctl("check", str(port), cwd=blog).stdout
