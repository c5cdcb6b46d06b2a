"""How full the ranges are: portctl ranges, next, summary; who is told when one is nearly full, and by whom it is filled."""

import socket

import pytest

from house import wait_until

RANGE_FIELDS = {
    "name", "kind", "description", "start", "end", "exclusive", "total", "allocated", "active", "available", "utilization", "next"}


def ranges_of(house, cwd, *words):
    return {entry["name"]: entry for entry in house.ask("ranges", *words, cwd=cwd)["ranges"]}


def fill_database(house, cwd, count):
    for number in range(count):
        house.ask("get", f"db{number}", "--range", "database", cwd=cwd)


def test_ranges_are_listed_with_every_field(house, shop):
    ranges = ranges_of(house, shop)
    assert {"system", "node", "static", "python", "php", "database", "default"} <= set(ranges)
    for entry in ranges.values():
        assert RANGE_FIELDS <= set(entry)
        assert 0 <= entry["active"] <= entry["allocated"] <= entry["total"]
        assert entry["available"] + entry["allocated"] <= entry["total"]
    node = ranges["node"]
    assert (node["kind"], node["start"], node["end"], node["total"], node["exclusive"]) == ("type", 3000, 3999, 1000, False)
    assert (ranges["system"]["available"], ranges["system"]["next"]) == (0, None)
    assert ranges["default"]["total"] == 7000


def test_a_lease_and_a_listener_are_counted(house, listener, shop):
    assert ranges_of(house, shop)["node"]["allocated"] == 0
    house.portctl("get", "web", cwd=shop)
    process = house.wrap(listener, "bind", "3000", cwd=shop)
    process.wait_for(r"^\d+ (\d+)$")
    node = wait_until(lambda: (entry := ranges_of(house, shop)["node"])["active"] == 1 and entry, "the server is counted")
    assert node["allocated"] in (1, 2)  # the name's port was adopted when it is the one that was asked for
    assert node["utilization"] == node["allocated"] / 10


def test_next_is_what_get_then_gives_and_allocates_nothing(house, shop):
    said = house.portctl("next", cwd=shop)
    assert (said.returncode, said.stderr) == (0, "")
    assert house.portctl("next", cwd=shop).stdout == said.stdout
    assert house.leases(shop) == []
    assert house.portctl("get", "web", cwd=shop).stdout == said.stdout
    assert house.portctl("next", cwd=shop).stdout != said.stdout


def test_next_of_a_named_range(house, shop):
    reply = house.ask("next", "python", cwd=shop)
    assert reply["range"] == "python" and 5000 <= reply["port"] <= 5999
    assert house.refusal("next", "rubyy", cwd=shop, status=3)["code"] == "UNKNOWN_RANGE"
    assert house.refusal("next", "system", cwd=shop, status=1)["code"] == "SYSTEM_RESERVED"


def test_next_goes_round_a_stranger_on_either_address_family(house, shop):
    first = int(house.portctl("next", "testing", cwd=shop).stdout)
    with socket.socket(socket.AF_INET) as stranger:
        stranger.bind(("127.0.0.1", first))
        stranger.listen()
        assert int(house.portctl("next", "testing", cwd=shop).stdout) > first
        assert ranges_of(house, shop)["testing"]["next"] > first


def test_gaps_are_the_free_stretches(house, shop):
    taken = house.ask("get", "db", "--range", "database", cwd=shop)["lease"]["port"]
    entry = ranges_of(house, shop, "--gaps")["database"]
    free = {port for gap in entry["gaps"] for port in range(gap["start"], gap["end"] + 1)}
    assert len(free) == entry["available"] and taken not in free
    assert free <= set(range(5432, 5440))
    table = house.portctl("ranges", "--gaps", cwd=shop).stdout
    assert table.splitlines()[0].split() == ["RANGE", "FREE", "STRETCHES"]


def test_the_summary_counts_the_projects_own_ports(house, shop, blog):
    house.portctl("get", "web", cwd=shop)
    house.portctl("get", "db", "--range", "database", cwd=shop)
    house.portctl("get", "web", cwd=blog)
    reply = house.ask("summary", cwd=shop)
    assert (reply["project"]["name"], reply["range"]["name"]) == ("shop", "node")
    assert (reply["total"], reply["allocated"], reply["active"], reply["elsewhere"]) == (1000, 1, 0, 1)
    assert reply["utilization"] == 0.1
    assert house.ask("summary", "blog", cwd=shop)["allocated"] == 1
    assert "shop in " in house.portctl("summary", cwd=shop).stdout
    assert house.refusal("summary", "nobody", cwd=shop, status=3)["code"] == "NOT_FOUND"


def test_a_nearly_full_range_warns_in_the_table_the_log_and_once_a_session(house, listener, shop):
    free = ranges_of(house, shop)["database"]
    if free["available"] < 8:
        pytest.skip("a database of this machine is in the way")
    fill_database(house, shop, 6)
    assert "full" not in house.portctl("ranges", cwd=shop).stderr
    fill_database(house, shop, 7)
    done = house.portctl("ranges", cwd=shop)
    assert done.returncode == 0
    assert 'portctl: the range "database" is 87.5 % full' in done.stderr
    assert house.log.count('the range "database" is 87.5 % full (7 of 8 ports)') == 1
    done = house.run("portwrap", "--range", "database", "sh", "-c", "portwrap true", cwd=shop)
    assert done.stdout == ""
    assert done.stderr.count('the range "database" is') == 1
    assert house.run("portwrap", "-q", "--range", "database", "true", cwd=shop).stderr == ""
    assert "is 87.5 % full" not in house.run("portwrap", "true", cwd=shop).stderr


def test_who_is_refused_by_a_full_range_learns_who_holds_most(house, shop, blog):
    if ranges_of(house, shop)["database"]["available"] < 8:
        pytest.skip("a database of this machine is in the way")
    house.ask("get", "own", "--range", "database", cwd=blog)
    fill_database(house, shop, 7)
    for command in (("get", "more"), ("allocate", "more"), ("next", "database")):
        words = command if command[0] == "next" else (*command, "--range", "database")
        error = house.refusal(*words, cwd=blog, status=4)
        assert error["code"] == "RANGE_EXHAUSTED"
        assert error["message"] == 'every port of the range "database" is taken; project "shop" holds most: 7 of 8'
        details = error["details"]
        assert (details["range"], details["total"], details["allocated"], details["cleanup_frees"]) == ("database", 8, 8, 0)
        assert [(holder["project"], holder["ports"]) for holder in details["holders"]] == [("shop", 7), ("blog", 1)]
        assert details["holders"][0]["root"] == str(shop)
