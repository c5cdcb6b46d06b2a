"""Ports that portwrap offers instead of intercepting: `-p N`, `{port}` in the arguments, and variables, which are set only
where the user, the configuration or the command asks for them."""

import json

import pytest

from house import RANGES, is_listening, wait_until

# Prints what it was told and binds it, as a server does that reads its port from the environment or the command line.
SERVER = """
import os, socket, sys
port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT") or 3000)
server = socket.create_server(("127.0.0.1", port))
print("told", port, "got", server.getsockname()[1])
sys.stdin.readline()
"""


def project(house, name, **files):
    return house.project(name, files={"server.py": SERVER, "requirements.txt": "", **files})


def told_and_got(process):
    match = process.wait_for(r"^told (\d+) got (\d+)$", "stdout")
    return int(match[1]), int(match[2])


def free_port(*, start=3400, end=3500):
    return next(port for port in range(start, end) if not is_listening(port))


def test_an_explicit_port_is_given_or_refused_but_never_changed(house):
    wanted = free_port()
    shop, blog = project(house, "shop"), project(house, "blog")
    first = house.wrap("-p", str(wanted), "python3", "server.py", cwd=shop)
    assert told_and_got(first) == (wanted, wanted)
    assert house.port(shop) == wanted
    (lease,) = house.leases(shop)
    assert lease["state"] == "active"

    refused = house.run("portwrap", "-p", str(wanted), "python3", "server.py", cwd=blog)
    assert (refused.returncode, refused.stdout) == (125, "")
    assert str(wanted) in refused.stderr and "shop" in refused.stderr, refused.stderr

    # What somebody else's process listens on is refused as well.
    stranger = house.start("python3", "-c", SERVER, str(free_port()), cwd=house.home)
    _, taken = told_and_got(stranger)
    refused = house.run("portwrap", "-p", str(taken), "true", cwd=blog)
    assert refused.returncode == 125 and str(taken) in refused.stderr, refused.stderr


@pytest.mark.parametrize("how", [["get", "web"], ["reserve", "3005"]])
def test_an_explicit_port_of_the_project_s_own_is_given_to_a_program_with_a_number_in_its_code(house, how):
    shop = house.project("shop", files={"package.json": "{}", "server.py": SERVER.replace('os.environ.get("PORT")', "0")})
    assert house.portctl(*how, cwd=shop).returncode == 0
    (named,) = house.leases(shop)
    if named["port"] == 3000:
        assert house.portctl("update", "web", "--port", "3005", cwd=shop).returncode == 0
    told, got = told_and_got(house.wrap("-p", "3005", "python3", "server.py", cwd=shop))
    assert (told, got) == (3000, 3005)
    (lease,) = house.leases(shop)
    assert (lease["service"], lease["port"], lease["requested_port"], lease["state"]) == (named["service"], 3005, 3000, "active")


def test_an_explicit_port_may_take_what_is_only_claimed(house):
    wanted = free_port()
    shop, blog = project(house, "shop"), project(house, "blog")
    first = house.wrap("-p", str(wanted), "python3", "server.py", cwd=shop)
    told_and_got(first)
    first.kill()
    wait_until(lambda: house.leases(shop) == [], "the lease ends", 2)
    second = house.wrap("-p", str(wanted), "python3", "server.py", cwd=blog)
    assert told_and_got(second) == (wanted, wanted)


def test_a_port_in_the_arguments_is_filled_in(house):
    ports = []
    for name in ("shop", "blog"):
        root = project(house, name)
        process = house.wrap("python3", "server.py", "{port}", cwd=root)
        told, got = told_and_got(process)
        assert told == got == house.port(root)
        (lease,) = house.leases(root)
        assert (lease["port"], lease["state"], lease["holder"]["pid"]) == (got, "active", process.pid)
        ports.append(got)
    assert ports[0] != ports[1]
    assert all(RANGES["python"][0] <= port <= RANGES["python"][1] for port in ports), ports


def test_several_ports_in_the_arguments_are_those_of_their_services(house):
    root = project(house, "shop")
    done = house.run("portwrap", "echo", "{port}", "{port:api}", "--api={port:api}", "{other}", cwd=root)
    main, api, option, other = done.stdout.split()
    assert main != api and main.isdigit() and option == f"--api={api}" and other == "{other}"


def variables(house, root, *prefix, env=None):
    output = house.run(*prefix, "env", "-0", cwd=root, env=env).stdout
    return dict(item.split("=", 1) for item in output.split("\0") if item)


def test_no_variable_is_set_for_a_command_that_did_not_ask(house):
    root = project(house, "shop", **{"package.json": '{"name": "shop"}'})
    assert "PORT" not in variables(house, root, "portwrap")


def test_a_variable_of_the_configuration_holds_the_port_of_its_service(house):
    config = {"name": "shop", "services": {"web": {"port": 3000, "env": "WEB_PORT"}, "api": {"port": 3001, "env": "API_PORT"}},
              "env": {"API_URL": "http://localhost:${api}"}}
    root = project(house, "shop", **{".portwrap.json": json.dumps(config)})
    told = variables(house, root, "portwrap")
    assert told["WEB_PORT"].isdigit() and told["API_PORT"].isdigit() and told["WEB_PORT"] != told["API_PORT"]
    assert told["API_URL"] == f"http://localhost:{told['API_PORT']}"
    assert "PORT" not in told
    kept = variables(house, root, "portwrap", env={"WEB_PORT": "4321"})
    assert kept["WEB_PORT"] == "4321"


def test_a_script_that_mentions_port_is_given_one_and_two_copies_differ(house):
    manifest = json.dumps({"name": "app", "scripts": {"dev": "python3 server.py $PORT"}})
    ports = []
    for name in ("shop", "blog"):
        root = house.project(name, files={"server.py": SERVER, "package.json": manifest})
        process = house.wrap("npm", "run", "dev", cwd=root)
        told, got = told_and_got(process)
        assert told == got == house.port(root)
        ports.append(got)
    assert ports[0] != ports[1]
    root = house.project("own", files={"server.py": SERVER, "package.json": manifest})
    wanted = free_port()
    process = house.wrap("npm", "run", "dev", cwd=root, env={"PORT": str(wanted)})
    assert told_and_got(process) == (wanted, wanted)
    assert house.port(root, str(wanted)) == wanted


# Listens where its command line says.
API = """
const port = Number(process.argv.find((word) => word.startsWith("--port=")).slice(7));
const server = require("http").createServer((request, response) => response.end(process.cwd()));
server.listen(port, () => console.log(`told ${port} got ${server.address().port}`));
"""
CLIENT = "import sys, urllib.request; print(urllib.request.urlopen('http://127.0.0.1:' + sys.argv[1]).read().decode())"


@pytest.mark.parametrize("script", ["node api.js --port=${PORT:-%d}", "npm run serve"])
def test_the_default_that_a_script_gives_its_port_is_what_it_asks_for(house, script):
    """The front end connects to that number, in whichever worktree it runs."""
    wanted = free_port(start=4400, end=4500)
    scripts = {"api": script.replace("%d", str(wanted)), "serve": f"node api.js --port=${{PORT-{wanted}}}"}
    worktrees = house.worktrees("shop", files={"package.json": json.dumps({"name": "shop", "scripts": scripts}), "api.js": API})
    servers = []
    for root in worktrees:
        servers.append(house.wrap("npm", "run", "api", cwd=root))
        told, got = told_and_got(servers[-1])
        assert told == got == house.port(root)
        (lease,) = house.leases(root)
        assert (lease["port"], lease["requested_port"], lease["state"]) == (got, wanted, "active")
        assert (got == wanted) == (len(servers) == 1)
        assert house.port(root, str(wanted)) == got
    for root in worktrees:
        reached = house.run("portwrap", "python3", "-c", CLIENT, str(wanted), cwd=root)
        assert reached.stdout.strip() == str(root), reached
    main, linked = servers
    linked.wait_for(rf"^portwrap: \S+ listens on http://localhost:{house.port(worktrees[1])} \(asked for {wanted}: held by shop/main, ", "stderr")
    assert "portwrap:" not in main.stderr
    users = house.wrap("npm", "run", "api", cwd=worktrees[1], env={"PORT": str(wanted + 100)})
    assert told_and_got(users) == (wanted + 100, wanted + 100)


def test_variables_that_run_code_are_refused_in_a_project_s_configuration(house):
    config = {"name": "shop", "env": {"LD_PRELOAD": "/tmp/evil.so", "NODE_OPTIONS": "--require evil", "BASH_ENV": "evil", "FINE": "1"}}
    root = project(house, "shop", **{".portwrap.json": json.dumps(config)})
    told = variables(house, root, "portwrap")
    assert not {"NODE_OPTIONS", "BASH_ENV"} & set(told)
    assert "evil" not in told.get("LD_PRELOAD", "")


@pytest.mark.parametrize("name", ["OPENSSL_CONF", "GCONV_PATH", "LESSOPEN", "PHP_INI_SCAN_DIR", "MAKEFLAGS", "Npm_Config_script_shell", "https_proxy", "MANPAGER"])
def test_a_variable_that_an_ordinary_program_obeys_makes_the_whole_file_count_for_nothing(house, name):
    root = project(house, "shop", **{".portwrap.json": json.dumps({"name": "shop", "env": {"API_URL": "http://localhost:1", name: "./evil"}})})
    done = house.run("portwrap", "env", cwd=root)
    assert done.returncode == 0
    assert "./evil" not in done.stdout and "API_URL" not in done.stdout
    assert f"a repository may not set {name}" in done.stderr


def test_a_port_got_by_name_is_adopted_by_the_server_of_that_service(house):
    root = project(house, "shop")
    port = int(house.portctl("get", "main", cwd=root).stdout)
    process = house.wrap("python3", "server.py", str(port), cwd=root)
    assert told_and_got(process) == (port, port)
    (lease,) = house.leases(root)
    assert (lease["port"], lease["service"], lease["state"]) == (port, "main", "active")
