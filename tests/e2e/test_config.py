"""The user's config: what it changes, who says what is wrong with it, and that a running agent takes it over."""

import json
import os
import re
import signal
from pathlib import Path

from house import HERE, wait_until

DOCUMENT = HERE.parent.parent / "docs" / "configuration.md"


def write(house, config):
    path = house.config / "portwrap" / "config.json"
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def got(house, root, service):
    return house.ask("get", service, cwd=root)["lease"]["port"]


def values(house):
    return {entry["key"]: entry for entry in house.ask("config", "show")["values"]}


def test_every_value_is_shown_with_its_origin_and_documented(house):
    path = write(house, {"strategy": "random", "ranges": {"node": {"start": 3100, "end": 3199}}})
    shown = values(house)
    assert shown["strategy"] == {"key": "strategy", "value": "random", "origin": "file"}
    assert shown["ranges.node"]["value"]["start"] == 3100
    assert shown["block_size"]["origin"] == "default"
    assert house.portctl("config", "path").stdout == f"{path}\n"
    documented = set(re.findall(r"^\| `(\w+)`", DOCUMENT.read_text(), re.M))
    assert {key.split(".")[0] for key in shown} <= documented
    text = house.portctl("config", "show").stdout
    assert re.search(r"^strategy +random +file$", text, re.M), text


def test_ranges_of_the_config_serve_requests(house):
    write(house, {"ranges": {"node": "3100-3101"}, "reserved": [3100]})
    shop = house.project("shop", files={"package.json": "{}"})
    assert got(house, shop, "web") == 3101
    refusal = house.refusal("allocate", "web", "3100", cwd=shop, status=1)
    assert refusal["code"] == "PORT_RESERVED"


def test_a_bad_config_is_named_by_line_and_stops_nobody(house):
    path = write(house, '{\n"strategy": "best"\n}')
    shop = house.project("shop")
    done = house.run("portwrap", "echo", "hi", cwd=shop)
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert f"{path}:2: strategy: must be" in done.stderr
    assert house.portctl("config", "validate").returncode == 2
    done = house.portctl("config", "show")
    assert (done.returncode, f"{path}:2" in done.stderr) == (2, True)
    path.write_text("{}")
    assert house.portctl("config", "validate").stdout == f"{path}: good\n"


def test_a_running_agent_takes_a_new_config_over_and_keeps_the_last_good_one(house):
    shop = house.project("shop", files={"package.json": "{}"})
    pid = house.start_agent()
    path = write(house, {"ranges": {"node": "3150-3160"}})
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: values(house)["ranges.node"]["origin"] == "file", "the config is in use")
    assert got(house, shop, "web") == 3150
    path.write_text("{")
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: house.ask("config", "show")["problem"] is not None, "the mistake is known")
    assert got(house, shop, "api") == 3151
    assert house.agent_pid() == pid


def test_a_config_that_was_changed_behind_the_agent_s_back_is_said(house):
    path = write(house, {"reserved": [3000]})
    house.start_agent()
    assert house.ask("config", "show")["problem"] is None
    path.write_text('{"reserved": [3000, 3001]}')
    told = f"{path} has changed since it was read"
    assert told in house.portctl("config", "show").stderr
    check = next(check for check in house.ask("doctor")["checks"] if check["name"] == "config")
    assert check["status"] == "warning" and check["detail"].startswith(told)
    path.write_text('{"reserved": [3000')
    assert f"{path}:1" in house.ask("config", "show")["problem"]
    path.write_text('{"reserved": [3000]}')
    assert house.ask("config", "show")["problem"] is None


def test_blocks_keep_projects_apart(house):
    write(house, {"preset": "blocks", "blocks": {"pinned": 3300}})
    ports = {name: got(house, house.project(name, files={"package.json": "{}"}), "web") for name in ("shop", "blog", "pinned")}
    assert ports == {"shop": 3000, "blog": 3100, "pinned": 3300}


def test_an_editor_s_change_is_in_use_at_once(house):
    editor = Path(house.home) / "editor"
    editor.write_text("#!/bin/sh\nprintf '{\"reserved\": [3000]}' > \"$1\"\n")
    editor.chmod(0o755)
    done = house.portctl("config", "edit", env={"EDITOR": str(editor)})
    assert (done.returncode, done.stdout) == (0, "config: in use\n"), done.stderr
    assert values(house)["reserved"]["value"] == [3000]


def test_variables_of_other_tools_choose_the_ranges(house):
    root = house.project("shop", files={"package.json": "{}"})
    house.env.update(DEV_PORT_START="8500", DEV_PORT_END="8509", TEST_PORT_START="7100", TEST_PORT_END="7109", PROD_PORT_START="9500",
                     PROD_PORT_END="9509", RESERVED_PORTS="8500,8501", PORT_ALLOCATION_STRATEGY="sequential", PORT_AUTO_CLEANUP="false")
    shown = values(house)
    assert shown["preset"]["value"] == "environments"
    assert [int(house.portctl("get", "web", "--env", name, cwd=root).stdout) for name in ("dev", "test", "production")] == [8502, 7100, 9500]
    assert shown["auto_cleanup"]["value"] is False and "PORT_AUTO_CLEANUP" in shown["auto_cleanup"]["origin"]


def test_each_preset_chooses_its_range(house):
    """services: a name is a kind; environments: dev for all; localdb: one chain."""
    for preset, service, first, last in (("services", "api", 3000, 3099), ("services", "web", 8080, 8099), ("environments", "web", 8000, 8999),
                                         ("localdb", "web", 3000, 3999)):
        write(house, {"preset": preset})
        root = house.project(f"{preset}-{service}", files={"requirements.txt": ""})
        house.ask("config", "show")
        house.portctl("agent", "restart")
        assert first <= got(house, root, service) <= last, preset


def test_a_bad_config_is_said_by_commands_that_allocate(house):
    root = house.project("shop", files={"package.json": "{}"})
    path = write(house, '{"reserved": [3000],\n "colour": 1}')
    done = house.portctl("get", "web", cwd=root)
    assert done.returncode == 0
    assert f"{path}:2: colour" in done.stderr and "not in use" in done.stderr


def test_what_is_reserved_is_not_given_again_because_it_was_used_before(house):
    root = house.project("shop", files={"package.json": "{}"})
    port = got(house, root, "web")
    house.portctl("release", "web", cwd=root)
    write(house, {"reserved": [port]})
    house.portctl("agent", "restart")
    assert got(house, root, "web") != port
