"""Programs that run without portwrap on a port that was got by name."""

import socket

import pytest

from house import wait_until


@pytest.fixture
def shop(house):
    return house.project("shop", files={"package.json": '{"name": "shop"}', "src/.keep": ""})


def lease_of(house, root):
    [lease] = house.leases(root)
    return lease


def last_event(house, root):
    """What was written down last; asking for the history looks at no sockets."""
    return house.ask("history", cwd=root)["events"][-1]["event"]


def test_a_server_below_the_root_is_the_holder_while_it_lives(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    server = house.serve_unwrapped(port, shop / "src")
    lease = lease_of(house, shop)
    assert (lease["state"], lease["holder"]["pid"], lease["holder"]["cwd"]) == ("active", server.pid, str(shop / "src"))
    assert house.ask("port", "web", cwd=shop)["lease"]["holder"]["pid"] == server.pid
    server.kill()
    wait_until(lambda: last_event(house, shop) == "silenced", "the lease follows the socket, although nobody asks who listens")
    lease = lease_of(house, shop)
    assert (lease["state"], lease["holder"]) == ("allocated", None)


def test_what_runs_when_the_agent_starts_is_found(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    house.stop_agent()
    server = house.serve_unwrapped(port, shop)
    assert lease_of(house, shop)["holder"]["pid"] == server.pid


def test_stop_ends_it_only_from_its_own_project(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    server = house.serve_unwrapped(port, shop)
    other = house.project("other", files={"package.json": "{}"})
    assert house.refusal("stop", str(port), cwd=other, status=1)["code"] == "NOT_OWNER"
    assert server.running()
    assert [entry["pid"] for entry in house.ask("stop", "web", cwd=shop)["stopped"]] == [server.pid]
    server.wait()


@pytest.mark.parametrize("what", ["web", "PORT", "--all"])
def test_a_port_on_which_it_listens_is_released_by_force_only(house, shop, what):
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    house.serve_unwrapped(int(port), shop)
    words = ["release", port if what == "PORT" else what]
    assert house.refusal(*words, cwd=shop, status=1)["code"] == "PORT_IN_USE"
    assert house.portctl(*words, "--force", cwd=shop).returncode == 0


def test_a_stranger_is_a_conflict_until_it_goes(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    with socket.create_server(("127.0.0.1", port)):
        # This process works outside of the project.
        lease = lease_of(house, shop)
        assert (lease["state"], lease["holder"]) == ("conflict", None)
        again = house.portctl("get", "web", cwd=shop)
        assert (again.returncode, again.stdout) == (0, f"{port}\n")
        assert "another program listens on" in again.stderr
    wait_until(lambda: last_event(house, shop) == "silenced", "the conflict ends with the socket")
    assert lease_of(house, shop)["state"] == "allocated"
    assert house.portctl("get", "web", cwd=shop).stderr == ""


def test_a_conflict_is_left_by_moving_to_another_port(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    with socket.create_server(("127.0.0.1", port)):
        assert lease_of(house, shop)["state"] == "conflict"
        other = house.portctl("next", cwd=shop).stdout.strip()
        moved = house.ask("update", "web", "--port", other, cwd=shop)["lease"]
        assert (moved["port"], moved["state"]) == (int(other), "allocated")


def test_a_wrapped_program_of_the_project_goes_beside_an_unwrapped_one(house, shop, listener):
    port = int(house.portctl("get", "main", cwd=shop).stdout)
    house.serve_unwrapped(port, shop)
    wrapped = house.wrap(listener, "bind", str(port), cwd=shop)
    got = int(wrapped.wait_for(r"^\d+ (\d+)$")[1])
    assert got != port
    wait_until(lambda: {lease["port"]: lease["state"] for lease in house.leases(shop)} == {port: "active", got: "active"}, "both are active")


@pytest.mark.parametrize("words", [["transfer", "PORT", "--to", "other"], ["update", "web", "--port", "3950"]], ids=["transfer", "update"])
def test_a_server_that_nobody_has_seen_yet_keeps_its_lease_where_it_is(house, shop, words):
    house.project("other", files={"package.json": "{}"})
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    house.serve_unwrapped(int(port), shop)
    words = [port if word == "PORT" else str(house.home / word) if word == "other" else word for word in words]
    assert house.refusal(*words, cwd=shop, status=1)["code"] == "PORT_IN_USE"
    lease = lease_of(house, shop)
    assert (lease["port"], lease["state"]) == (int(port), "active")
