"""The example clients of docs/protocol.md, against a real agent."""

import json
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(params=["client.py", "client.sh"])
def client(house, request):
    """Runs an example client in a directory."""
    interpreter = {"client.py": "/usr/bin/python3", "client.sh": "/bin/sh"}[request.param]
    return lambda *words, cwd: house.run(interpreter, EXAMPLES / request.param, *words, cwd=cwd)


@pytest.fixture
def shop(house):
    house.start_agent()
    return house.project("the \"shop\"", files={"package.json": "{}"})


def test_a_port_is_got_and_asked_for(house, client, shop):
    got = client("get", "web", cwd=shop)
    assert (got.returncode, got.stderr) == (0, "")
    assert int(got.stdout) == house.port(shop, "web")
    assert client("get", "web", cwd=shop).stdout == got.stdout
    assert client("port", cwd=shop).stdout == got.stdout
    assert client("port", "web", cwd=shop).stdout == got.stdout


def test_an_agent_in_another_runtime_directory_is_found(house, client, shop):
    elsewhere = house.directory / "elsewhere"
    elsewhere.mkdir()
    port = house.portctl("get", "web", cwd=shop).stdout
    house.env["XDG_RUNTIME_DIR"] = str(elsewhere)
    assert client("port", "web", cwd=shop).stdout == port
    assert list(elsewhere.iterdir()) == []
    house.kill_agent()
    alone = client("port", cwd=shop)
    assert (alone.returncode, alone.stdout) == (69, "") and "no agent" in alone.stderr


def test_a_refusal_has_words_and_a_status(house, client, shop):
    refused = client("port", "nothing", cwd=shop)
    assert refused.returncode == 1 and refused.stdout == ""
    assert house.portctl("port", "nothing", cwd=shop).stderr.strip().removeprefix("portctl: ") in refused.stderr


def test_without_an_agent_there_is_none(house, client):
    alone = client("port", cwd=house.project("quiet"))
    assert (alone.returncode, alone.stdout) == (69, "")
    assert "no agent" in alone.stderr
    assert house.agent_pids() == []


def test_wrong_usage_prints_the_usage(house, client, shop):
    wrong = client("frobnicate", cwd=shop)
    assert wrong.returncode == 2 and "get SERVICE" in wrong.stderr


def test_the_python_client_checks_lists_and_watches(house, shop):
    run = lambda *words: house.run("/usr/bin/python3", EXAMPLES / "client.py", *words, cwd=shop)
    port = run("get", "web").stdout.strip()
    assert run("list").stdout == f"the \"shop\"/web {port} allocated\n"
    elsewhere = house.run("/usr/bin/python3", EXAMPLES / "client.py", "check", port, cwd=house.project("blog"))
    assert re.fullmatch(r"taken, free instead: \[\d+, \d+, \d+\]\n", elsewhere.stdout)
    assert run("check", "4321").stdout == "free\n"
    watching = house.start("/usr/bin/python3", EXAMPLES / "client.py", "watch", "1", cwd=shop)
    # It may begin to watch after this: new ones until it has seen one.
    number = 0
    while watching.running():
        number += 1
        assert house.portctl("get", f"more{number}", cwd=shop).returncode == 0
    assert watching.wait() == 0
    assert re.fullmatch(r"allocated the \"shop\"/more\d+ \d+ allocated\n", watching.stdout)


def test_the_shell_client_carries_any_request(house, shop):
    reply = house.run("/bin/sh", EXAMPLES / "client.sh", "call", "agent.status", cwd=shop)
    assert json.loads(reply.stdout)["result"]["agent"]["pid"] == house.agent_pid()
    reply = house.run("/bin/sh", EXAMPLES / "client.sh", "call", "lease.list", '{"all":true}', cwd=shop)
    assert json.loads(reply.stdout)["result"]["leases"] == []


def test_the_protocol_names_the_examples(house):
    text = (EXAMPLES.parent / "protocol.md").read_text()
    for name in ("examples/client.py", "examples/client.sh"):
        assert f"]({name})" in text and (EXAMPLES.parent / name).stat().st_mode & 0o111
