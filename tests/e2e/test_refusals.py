"""Every refusal of portctl end to end: its code, exit status, details, and suggestions that are really free."""

import json
import os
import socket
from pathlib import Path

import pytest

from house import SANITIZED, is_listening, wait_until

DETAILS = {"conflicting_project", "conflicting_root", "conflicting_service", "started_at", "pid", "user", "command", "container", "external"}


@pytest.fixture
def stranger():
    """A listener that portwrap does not know, on a port of node's range."""
    with socket.socket(socket.AF_INET6) as held:
        for port in range(3700, 3990):
            try:
                held.bind(("::", port))
            except OSError:
                continue
            held.listen()
            yield port
            return


def assert_free(suggestions):
    assert len(suggestions) == 3
    assert len(set(suggestions)) == 3
    for port in suggestions:
        assert not is_listening(port)


def test_port_in_use_by_a_stranger_names_it(house, shop, stranger):
    error = house.refusal("allocate", "web", str(stranger), cwd=shop, status=1)
    assert error["code"] == "PORT_IN_USE"
    assert set(error["details"]) == DETAILS
    assert error["details"]["external"] is True
    assert error["details"]["pid"] is not None
    assert f"pid {error['details']['pid']}" in error["message"]
    assert error["suggestions"][0] > stranger
    assert_free(error["suggestions"])
    assert house.leases(shop) == []
    assert house.portctl("allocate", "web", str(stranger), "--force", cwd=shop).stdout == f"{stranger}\n"


def test_port_in_use_by_another_project_names_it(house, shop, blog, listener):
    process = house.wrap(listener, "bind", "3000", cwd=shop)
    port = int(process.wait_for(r"^\d+ (\d+)$")[1])
    for words in ((), ("--force",)):
        error = house.refusal("allocate", "web", str(port), *words, cwd=blog, status=1)
        assert error["code"] == "PORT_IN_USE"
        details = error["details"]
        assert (details["conflicting_project"], details["conflicting_root"], details["external"]) == ("shop", str(shop), False)
        assert details["pid"] == process.pid
        assert f'already used by project "shop" (pid {process.pid}' in error["message"]


def test_port_leased(house, shop, blog):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    for words in (("allocate", "web", str(port)), ("reserve", str(port)), ("register", "web", str(port)), ("allocate", "web", str(port), "--force")):
        error = house.refusal(*words, cwd=blog, status=1)
        assert error["code"] == "PORT_LEASED", words
        assert error["details"]["conflicting_service"] == "web"
        assert_free(error["suggestions"])


def test_system_reserved(house, shop):
    for words in (("allocate", "web", "2601", "--force"), ("reserve", "2699"), ("register", "web", "2650")):
        error = house.refusal(*words, cwd=shop, status=1)
        assert error["code"] == "SYSTEM_RESERVED", words
        assert error["details"]["port"] == int(words[-1] if words[-1].isdigit() else words[2])


def test_permission_denied(house, shop):
    """A port that the system lets this user not bind; root may, unless it lacks the capability for it."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 900:
        pytest.skip("anybody may bind low ports here")
    (house.config / "portwrap").mkdir()
    (house.config / "portwrap/config.json").write_text('{"ranges": {"low": {"start": 900, "end": 910, "kind": "type"}}}')
    without = ("setpriv", "--bounding-set=-net_bind_service") if os.geteuid() == 0 else ()
    done = house.run(*without, "portctl", "allocate", "web", "905", "--range", "low", "--json", cwd=shop)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["error"]["code"] == "PERMISSION_DENIED"
    launch = house.run("portwrap", "-p", "905", "true", cwd=shop)
    assert launch.returncode == 125 and "905" in launch.stderr
    assert house.leases(shop) == []


def test_out_of_range_names_the_range(house, shop):
    for port in ("2999", "4000", "8080", "65535"):
        error = house.refusal("allocate", "web", port, cwd=shop, status=1)
        assert error["code"] == "OUT_OF_RANGE", port
        assert error["details"] == {"port": int(port), "range": "node"}
        assert all(3000 <= free <= 3999 for free in error["suggestions"])
        assert_free(error["suggestions"])
    assert house.portctl("allocate", "web", "8090", "--range", "php", cwd=shop).returncode == 0
    assert house.refusal("allocate", "web", "3000", "--range", "php", cwd=shop, status=1)["code"] == "OUT_OF_RANGE"


def test_not_owner(house, shop, blog):
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    for words in (("release", port), ("update", port, "--description", "x"), ("transfer", port, "--to", str(blog))):
        error = house.refusal(*words, cwd=blog, status=1)
        assert error["code"] == "NOT_OWNER", words
        assert error["details"]["conflicting_root"] == str(shop)
    assert house.portctl("transfer", port, "--to", str(blog), "--force", cwd=blog).returncode == 0
    assert house.port(blog) == int(port)


def test_not_found(house, shop):
    for words in (("port", "nothing"), ("release", "nothing"), ("release", "3999"), ("update", "nothing", "--description", "x"),
                  ("transfer", "3999", "--to", "."), ("stop", "nothing"), ("url", "nothing"), ("list", "--project", "nowhere")):
        assert house.refusal(*words, cwd=shop, status=3)["code"] == "NOT_FOUND", words


def test_unknown_range(house, shop):
    for words in (("allocate", "web", "--range", "nowhere"), ("get", "web", "--range", "nowhere"), ("list", "--range", "nowhere")):
        assert house.refusal(*words, cwd=shop, status=3)["code"] == "UNKNOWN_RANGE", words


def test_range_exhausted(house, shop):
    error = house.refusal("allocate", "db", "--kind", "database", "--count", "9", cwd=shop, status=4)
    assert error["code"] == "RANGE_EXHAUSTED"
    assert house.leases(shop) == []


def test_more_ports_than_a_range_has(house, shop):
    words = ("allocate", "db", "--range", "database", "--count", "1000")
    error = house.refusal(*words, cwd=shop, status=4)
    assert error["message"] == 'the range "database" has 8 free ports for this, and 1000 were asked for'
    error = house.refusal(*words, "--block", cwd=shop, status=4)
    assert error["message"] == 'the range "database" has no 1000 free ports in a row'


@pytest.mark.skipif(SANITIZED, reason="the sanitizer wants descriptors of its own")
def test_an_agent_that_cannot_look_does_not_say_that_all_ports_are_taken(house, shop):
    assert house.run("prlimit", "--nofile=20:20", "portctl", "agent", "start").returncode == 0
    error = house.refusal("get", "web", cwd=shop, status=69)
    assert error["code"] == "AGENT_UNAVAILABLE"
    assert "no descriptor left" in error["message"]
    assert house.leases() == []


@pytest.mark.parametrize("number", ["0", "-1", "65536", "3000 ", " 3000", "3e3", "03000", "0x1000", "3000.0", "+3000", ""])
def test_what_is_no_port_is_refused(house, shop, number):
    for words in (("allocate", "web", "--preferred=" + number), ("register", "web", "--", number), ("check", "--", number), ("reserve", "--", number)):
        assert house.refusal(*words[:1], *words[1:], cwd=shop, status=2)["code"] == "INVALID_REQUEST", words
    assert house.leases(shop) == []


@pytest.mark.parametrize("name", ["", "a" * 65, "a" * 10_000, "two\nlines", "bell\a", " edge", "edge ", b"\xff", "3000"])
def test_what_is_no_name_is_refused(house, shop, name):
    for command in ("get", "allocate"):
        assert house.refusal(command, "--", name, cwd=shop, status=2)["code"] == "INVALID_REQUEST", (command, name)
    assert house.leases(shop) == []


@pytest.mark.parametrize("name", ["a", "a" * 64, "it's", 'say "hi"', "größe", "服务", "apps/web", "two words"])
def test_what_is_a_name_comes_back_as_it_is(house, shop, name):
    lease = house.ask("allocate", name, cwd=shop)["lease"]
    assert lease["service"] == name
    assert house.port(shop, name) == lease["port"]


@pytest.mark.parametrize("words", [
    ("allocate", "web", "3100", "--preferred", "3200"), ("allocate", "web", "3100", "--count", "2"), ("allocate", "web", "--count", "0"),
    ("allocate", "web", "--count", "1001"), ("allocate", "web", "--env", "nowhere"), ("update", "web"), ("reserve", "3000", "--ttl", "5"),
    ("reserve", "3000", "--ttl", "0s"), ("reserve", "3000", "--ttl", "11000d"), ("release",), ("list", "--state", "gone"), ("wait",)])
def test_wrong_usage(house, shop, words):
    assert house.refusal(*words, cwd=shop, status=2)["code"] == "INVALID_REQUEST"


def test_an_empty_project_is_not_the_directory_s_own(house, shop):
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    for words in (("release", "web"), ("release", "--all"), ("list",)):
        assert house.refusal("--project", "", *words, cwd=shop, status=2)["code"] == "INVALID_REQUEST", words
    assert house.port(shop, "web") == port


def test_directories_whose_names_are_not_utf8_do_not_become_one(house):
    for name in (b"caf\xe9", b"caf\xe8"):
        directory = os.path.join(os.fsencode(house.home), name)
        os.mkdir(directory)
        for words in (("get", "web"), ("list",), ("--project", directory, "list")):
            cwd = house.home if words[0] == "--project" else directory
            done = house.run("portctl", *[os.fsdecode(word) for word in words], cwd=cwd)
            assert (done.returncode, "is not UTF-8" in done.stderr) == (2, True), (words, done)


def test_a_number_names_no_service(house):
    root = house.project("shop", files={".portwrap.json": '{"services": {"3000": {"port": 3600}}}'})
    house.portctl("get", "web", cwd=root)
    check = next(check for check in house.ask("doctor", cwd=root)["checks"] if check["name"] == "project")
    assert "must not be a number" in check["detail"]
    done = house.run("portwrap", "echo", "{port:3000}", "{port:web}", cwd=house.project("blog"))
    assert done.stdout.startswith("{port:3000} 3"), done


def test_a_mistyped_command(house, shop):
    error = house.refusal("alocate", "web", cwd=shop, status=2)
    assert "did you mean 'allocate'" in error["message"]


def test_a_path_that_is_no_directory_is_no_project(house, shop):
    missing = house.home / "shopp"
    for words in (("--project", str(missing), "get", "web"), ("--project", str(missing), "list")):
        assert house.refusal(*words, cwd=shop, status=3)["code"] == "NOT_FOUND", words
    house.portctl("get", "web", cwd=shop)
    assert house.refusal("transfer", "web", "--to", str(missing), cwd=shop, status=3)["code"] == "NOT_FOUND"
    assert house.portctl("list", "--orphans", cwd=shop).stdout.count("shopp") == 0


@pytest.mark.parametrize("hostname", ["bad host", "a;b", "a\nb", "ü.example", "a" * 254])
def test_what_is_no_hostname_is_refused(house, shop, hostname):
    assert house.refusal("allocate", "web", "--hostname", hostname, cwd=shop, status=2)["code"] == "INVALID_REQUEST"
    assert house.portctl("allocate", "web", "--hostname", "*.web_1.example.org", cwd=shop).returncode == 0


@pytest.mark.parametrize("words, meant", [(("agent", "strat"), "start"), (("config", "shwo"), "show"), (("hooks", "instal"), "install")])
def test_a_mistyped_action(house, shop, words, meant):
    assert f"did you mean '{meant}'" in house.refusal(*words, cwd=shop, status=2)["message"]


def test_stop_of_a_silent_port_of_another_project(house, shop, blog):
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    assert house.refusal("stop", port, cwd=blog, status=1)["code"] == "NOT_OWNER"
