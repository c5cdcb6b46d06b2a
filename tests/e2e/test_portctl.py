"""The first commands of portctl: what they print, their JSON shapes, their refusals and exit statuses."""

import json
import re

import pytest

from house import RANGES, SANITIZED, is_listening, wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
LEASE_FIELDS = {
    "port", "requested_port", "protocol", "service", "instance", "project", "range", "environment", "kind", "state", "health",
    "holder", "description", "hostname", "allocated_by", "allocated_at", "last_active_at", "released_at", "expires_at"}
PROJECT_FIELDS = {"name", "root", "branch", "worktree_of"}
HOLDER_FIELDS = {"pid", "command", "cwd", "started_at"}
LISTENER_FIELDS = {"address", "protocol", "pid", "user", "command", "cwd", "project", "container", "started_at"}
DETAILS_FIELDS = {
    "conflicting_project", "conflicting_root", "conflicting_service", "started_at", "pid", "user", "command", "external"}


def assert_lease_shape(lease):
    assert LEASE_FIELDS <= set(lease), LEASE_FIELDS - set(lease)
    assert PROJECT_FIELDS <= set(lease["project"])
    assert lease["holder"] is None or HOLDER_FIELDS <= set(lease["holder"])
    for field in ("allocated_at", "last_active_at", "released_at", "expires_at"):
        assert lease[field] is None or TIME.fullmatch(lease[field]), (field, lease[field])
    assert lease["state"] in ("reserved", "allocated", "active", "released", "conflict")
    assert lease["health"] in ("unknown", "healthy", "unhealthy", "not_running")
    assert type(lease["port"]) is int and 1 <= lease["port"] <= 65535


def free_port():
    return next(number for number in range(3700, 3990) if not is_listening(number))


@pytest.fixture
def running(house, listener, shop):
    """A wrapped server in shop: (process, port)."""
    process = house.wrap(listener, "bind", "3000", cwd=shop)
    return process, int(process.wait_for(r"^\d+ (\d+)$")[1])


def test_get_prints_a_port_alone_and_the_same_one_again(house, shop):
    first = house.portctl("get", "web", cwd=shop)
    assert (first.returncode, first.stderr) == (0, "")
    assert re.fullmatch(r"\d+\n", first.stdout)
    assert RANGES["node"][0] <= int(first.stdout) <= RANGES["node"][1]
    assert house.portctl("get", "web", cwd=shop).stdout == first.stdout
    assert house.portctl("get", "api", cwd=shop).stdout != first.stdout
    assert house.portctl("port", "web", cwd=shop).stdout == first.stdout
    assert len(house.leases(shop)) == 2


def test_get_from_a_subdirectory_belongs_to_the_project(house, shop):
    (shop / "src" / "deep").mkdir(parents=True)
    port = house.portctl("get", "web", cwd=shop).stdout
    assert house.portctl("get", "web", cwd=shop / "src" / "deep").stdout == port


def test_worktrees_are_projects_of_their_own(house):
    main, linked = house.worktrees("repo", files={"package.json": '{"name": "repo"}'})
    ports = {int(house.portctl("get", "web", cwd=root).stdout) for root in (main, linked)}
    assert len(ports) == 2
    lease = house.ask("get", "web", cwd=linked)["lease"]
    assert lease["project"] == {"name": "repo", "root": str(linked), "branch": "fix", "worktree_of": str(main)}
    lease = house.ask("get", "web", cwd=main)["lease"]
    assert lease["project"] == {"name": "repo", "root": str(main), "branch": "main", "worktree_of": None}


def test_the_lease_has_every_field(house, shop, running):
    process, port = running
    named = house.ask("get", "web", cwd=shop)["lease"]
    assert_lease_shape(named)
    assert (named["state"], named["requested_port"], named["holder"], named["environment"]) == ("allocated", None, None, "dev")
    assert (named["project"]["name"], named["project"]["root"]) == ("shop", str(shop))
    (active,) = [lease for lease in house.leases(shop) if lease["state"] == "active"]
    assert_lease_shape(active)
    assert (active["port"], active["requested_port"], active["service"], active["instance"]) == (port, 3000, "main", 0)
    assert active["holder"]["pid"] == process.pid
    assert active["holder"]["cwd"] == str(shop)
    assert "listener bind 3000" in active["holder"]["command"]
    assert active["released_at"] is None


def test_port_maps_a_requested_number_to_the_assigned_one(house, shop, blog, listener, running):
    _, held = running
    moved = house.wrap(listener, "bind", "3000", cwd=blog)
    port = int(moved.wait_for(r"^\d+ (\d+)$")[1])
    assert port != held
    assert house.port(blog) == house.port(blog, "3000") == house.port(blog, "main") == port
    assert house.port(shop) == house.port(shop, "3000") == held
    reply = house.ask("port", "3000", cwd=blog)
    assert reply["lease"]["port"] == port
    assert_lease_shape(reply["lease"])


def test_another_project_is_named_by_option(house, shop, blog, running):
    _, port = running
    for words in (["--project", str(shop)], ["--project", "shop"], ["-C", str(shop)]):
        done = house.portctl("port", *words, cwd=blog)
        assert (done.returncode, done.stdout) == (0, f"{port}\n"), (words, done.stderr)
    error = house.refusal("port", "--project", "no-such", cwd=blog, status=3)
    assert error["code"] == "NOT_FOUND"


def test_the_active_port_is_preferred_and_a_released_one_never_named(house, shop, running):
    process, port = running
    house.portctl("get", "aaa", cwd=shop)
    assert house.port(shop) == port
    process.kill()
    wait_until(lambda: [lease["service"] for lease in house.leases(shop)] == ["aaa"], "the lease ends", 2)
    assert house.port(shop, "aaa") == house.port(shop)
    error = house.refusal("port", "3000", cwd=shop, status=3)
    assert set(error) >= {"code", "message", "details", "suggestions"}
    assert error["code"] == "NOT_FOUND"


@pytest.mark.parametrize("words", [["port"], ["port", "nothing"], ["port", "3000"], ["release", "nothing"]])
def test_what_does_not_exist_is_not_found(house, shop, words):
    done = house.portctl(*words, cwd=shop)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("portctl: ")
    assert house.refusal(*words, cwd=shop, status=3)["code"] == "NOT_FOUND"


@pytest.mark.parametrize("text", ["3000 ", " 3000", "3e3", "0", "65536", "-1", "+3000", "0x10", "", "99999999999999999999", "3000.0", "03000 x"])
def test_what_is_no_port_is_an_invalid_request(house, shop, text):
    done = house.portctl("check", "--json", "--", text, cwd=shop)
    assert done.returncode == 2, (done.stdout, done.stderr)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "INVALID_REQUEST"
    assert set(error) >= {"code", "message", "details", "suggestions"}
    plain = house.portctl("check", "--", text, cwd=shop)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr.startswith("portctl: ")


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["get"], ["check"], ["list", "--no-such"], ["port", "a", "b"], ["release"]])
def test_wrong_usage_is_an_invalid_request(house, shop, words):
    done = house.portctl(*words, cwd=shop)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr


def test_check_of_a_free_port(house, shop):
    house.start_agent()
    port = free_port()
    reply = house.ask("check", str(port), cwd=shop)
    assert (reply["port"], reply["available"], reply["code"], reply["lease"], reply["listeners"]) == (port, True, None, None, [])
    assert "suggestions" in reply
    assert house.portctl("check", str(port), cwd=shop).returncode == 0


def test_check_of_a_port_that_a_stranger_listens_on(house, shop):
    port = free_port()
    stranger = house.start("python3", "-m", "http.server", str(port), "--bind", "127.0.0.1", cwd=house.home)
    stranger.wait_for("^Serving HTTP")
    reply = house.ask("check", str(port), cwd=shop, status=1)
    assert (reply["port"], reply["available"], reply["code"], reply["lease"]) == (port, False, "PORT_IN_USE", None)
    (found,) = reply["listeners"]
    assert LISTENER_FIELDS <= set(found)
    assert (found["pid"], found["address"], found["protocol"], found["cwd"]) == (stranger.pid, "127.0.0.1", "tcp", str(house.home))
    assert "http.server" in found["command"]
    assert TIME.fullmatch(found["started_at"])
    suggestions = reply["suggestions"]
    assert len(suggestions) == 3 and len(set(suggestions)) == 3 and port not in suggestions
    assert not any(is_listening(number) for number in suggestions)
    text = house.portctl("check", str(port), cwd=shop)
    assert text.returncode == 1 and str(stranger.pid) in text.stdout + text.stderr


def test_check_of_a_wrapped_server_s_port_names_its_lease(house, shop, blog, running):
    process, port = running
    reply = house.ask("check", str(port), cwd=blog, status=1)
    assert (reply["available"], reply["code"]) == (False, "PORT_IN_USE")
    assert_lease_shape(reply["lease"])
    assert reply["lease"]["project"]["root"] == str(shop)
    assert [found["pid"] for found in reply["listeners"]] == [process.pid]


def test_check_of_a_silent_lease_of_another_project(house, shop, blog):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    reply = house.ask("check", str(port), cwd=blog, status=1)
    assert (reply["available"], reply["code"], reply["listeners"]) == (False, "PORT_LEASED", [])
    assert reply["lease"]["project"]["name"] == "shop"


def test_check_of_a_system_port(house, shop):
    reply = house.ask("check", "2601", cwd=shop, status=1)
    assert (reply["available"], reply["code"]) == (False, "SYSTEM_RESERVED")


def test_release_by_name_by_port_and_of_everything(house, shop):
    ports = {name: int(house.portctl("get", name, cwd=shop).stdout) for name in ("a", "b", "c", "d")}
    reply = house.ask("release", "a", cwd=shop)
    (lease,) = reply["leases"] if "leases" in reply else [reply["lease"]]
    assert_lease_shape(lease)
    assert (lease["port"], lease["state"]) == (ports["a"], "released")
    assert TIME.fullmatch(lease["released_at"])
    assert house.portctl("release", str(ports["b"]), cwd=shop).returncode == 0
    assert {lease["service"] for lease in house.leases(shop)} == {"c", "d"}
    assert house.portctl("release", "--all", cwd=shop).returncode == 0
    assert house.leases(shop) == []


def test_release_of_another_project_s_port_needs_force(house, shop, blog):
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    error = house.refusal("release", port, cwd=blog, status=1)
    assert error["code"] == "NOT_OWNER"
    assert len(house.leases(shop)) == 1
    assert house.portctl("release", port, "--force", cwd=blog).returncode == 0
    assert house.leases(shop) == []


def test_release_of_a_port_that_is_listening_needs_force(house, shop, running):
    process, port = running
    error = house.refusal("release", str(port), cwd=shop, status=1)
    assert error["code"] == "PORT_IN_USE"
    assert DETAILS_FIELDS <= set(error["details"])
    assert error["details"]["pid"] == process.pid
    assert len(house.leases(shop)) == 1
    assert house.portctl("release", str(port), "--force", cwd=shop).returncode == 0
    assert process.running()


def test_release_ends_the_claim(house, shop, blog, listener, running):
    process, port = running
    process.kill()
    wait_until(lambda: house.leases(shop) == [], "the lease ends", 2)
    assert house.portctl("release", str(port), cwd=shop).returncode == 0
    second = house.wrap(listener, "bind", str(port), cwd=blog)
    assert int(second.wait_for(r"^\d+ (\d+)$")[1]) == port


def test_list_shows_the_project_or_all_as_a_table_or_json(house, shop, blog, running):
    _, port = running
    other = house.portctl("get", "web", cwd=blog).stdout.strip()
    table = house.portctl("list", cwd=shop)
    assert table.returncode == 0
    assert str(port) in table.stdout and "3000" in table.stdout and "main" in table.stdout
    assert not re.search(rf"\b{other}\b", table.stdout)
    everything = house.portctl("list", "--all", cwd=house.home).stdout
    assert str(port) in everything and other in everything
    assert "\x1b" not in everything
    for lease in house.leases():
        assert_lease_shape(lease)
    assert {lease["project"]["name"] for lease in house.leases()} == {"shop", "blog"}


def test_listing_nothing_is_no_error(house, shop):
    assert house.leases(shop) == []
    assert house.portctl("list", cwd=shop).returncode == 0


def test_a_project_whose_names_hold_control_characters_cannot_write_to_the_terminal(house):
    root = house.project("odd", files={"package.json": json.dumps({"name": "a\x1b[31mb\nc"})})
    house.portctl("get", "web", cwd=root)
    assert "\x1b" not in house.portctl("list", cwd=root).stdout
    (lease,) = house.leases(root)
    assert not re.search(r"[\x00-\x1f]", lease["project"]["name"])


@pytest.mark.parametrize("service", ["", " ", "a\nb", "\x1b[0m", "x" * 1000])
def test_a_service_s_name_is_checked(house, shop, service):
    done = house.portctl("get", "--", service, cwd=shop)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert house.leases(shop) == []


def test_help_and_version_are_printed(house):
    assert "0.1.0" in house.portctl("--version").stdout
    usage = house.portctl("--help")
    assert usage.returncode == 0
    for command in ("port", "get", "list", "release", "check", "agent"):
        assert re.search(rf"\b{command}\b", usage.stdout), command
    assert house.agent_pids() == []


@pytest.mark.skipif(SANITIZED, reason="sanitizers fill the programs with checks")
@pytest.mark.parametrize("program", ("portctl", "portwrap"))
def test_the_programs_are_small(house, program):
    """They start in every prompt's command and script: static, so their size is their start."""
    assert (house.prefix / "bin" / program).stat().st_size < 2_000_000
