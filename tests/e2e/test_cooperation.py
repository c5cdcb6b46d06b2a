"""What a program is told of its port before it starts, and what is left alone."""

import json
import re
import shutil
from pathlib import Path

import pytest

from house import is_listening, wait_until

SERVER = """const server = require("http").createServer((request, response) => response.end("x"));
server.listen(process.env.PORT || 3000, () => console.log(`told ${process.env.PORT} listens ${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
"""


def package(**scripts):
    return json.dumps({"name": "app", "scripts": scripts})


def explained(house, root, *command):
    """What `portwrap -n` says, as lines."""
    done = house.run("portwrap", "-n", *command, cwd=root)
    assert done.returncode == 0 and done.stdout == "", (done.stdout, done.stderr)
    return [line.removeprefix("portwrap: ") for line in done.stderr.splitlines()]


def held(house, listener, port):
    """The port in the hands of another project, or of a stranger who has it already."""
    process = house.wrap(listener, "bind", str(port), cwd=house.project(f"holder-{port}"))
    process.wait_for(r"^\d+ \d+$")


def test_a_command_is_recognised_through_its_scripts_and_told_its_port_where_that_is_taken(house, listener):
    root = house.project("shop", files={"package.json": package(dev="npm run web", web="cross-env A=b next dev")})
    held(house, listener, 3000)
    lines = explained(house, root, "npm", "run", "dev")
    assert "asks for: port 3000 (next)" in lines
    assert any(line.startswith("sets: PORT=3") for line in lines), lines
    both = house.project("both", files={"package.json": package(dev="concurrently 'next dev' 'node api.js'")})
    lines = explained(house, both, "npm", "run", "dev")
    assert not any(line.startswith("sets: ") for line in lines), lines
    done = house.run("portwrap", "-n", "npm", "run", "dev", cwd=root, env={"PORT": "4321"})
    assert "sets: PORT" not in done.stderr


@pytest.mark.parametrize("start", ["docker compose up -d db && next dev", "timeout 60 next dev", "node --max-old-space-size=2048 node_modules/.bin/next dev", "yarn next dev"])
def test_a_server_is_recognised_behind_what_only_starts_it(house, listener, start):
    root = house.project("shop", files={"package.json": package(start=start, **{"build:api": "true"})})
    held(house, listener, 3000)
    lines = explained(house, root, "timeout", "60", "npm", "start")
    assert "asks for: port 3000 (next)" in lines
    assert any(line.startswith("sets: PORT=3") for line in lines), lines


def test_a_preparation_does_not_decide_which_service_is_started(house, listener):
    config = {"services": {"web": {"port": 3000}, "api": {"port": 4100}, "db": {"kind": "database", "port": 5432}}}
    scripts = {"dev": "npm run build:api && serve public", "build:api": "true", "site": "npm run db:start && serve public", "db:start": "true"}
    root = house.project("shop", files={"package.json": package(**scripts), ".portwrap.json": json.dumps(config)})
    held(house, listener, 3000)
    for script in ("dev", "site"):
        lines = explained(house, root, "npm", "run", script)
        assert "service: web" in lines and "asks for: port 3000 (.portwrap.json)" in lines, lines
        assert any(line.startswith("sets: PORT=4") for line in lines), lines


def test_what_a_command_asked_for_once_is_known_the_next_time_and_in_a_worktree(house, listener):
    main, linked = house.worktrees("shop", files={"server.js": SERVER, "package.json": package()})
    first = house.wrap("node", "server.js", cwd=main)
    told = first.wait_for(r"told (\S+) listens (\d+)", "stdout")
    assert told[1] == "undefined"  # nothing was known of it
    fix = house.wrap("node", "server.js", cwd=linked)
    told = fix.wait_for(r"told (\S+) listens (\d+)", "stdout")
    assert told[1] == told[2] != first.wait_for(r"listens (\d+)", "stdout")[1]
    lease = house.leases(linked)[0]
    assert (lease["requested_port"], lease["port"]) == (3000, int(told[2]))
    fix.wait_for(r"^portwrap: \S+/main listens on http://localhost:\d+ \(asked for 3000: held by \S+/main, pid \d+, node server.js\)$", "stderr")


def test_configured_arguments_are_added_to_the_server_and_to_nothing_else(house):
    config = {"services": {"web": {"port": 5173, "args": ["--port", "{port}"]}}}
    root = house.project("shop", files={"package.json": package(dev="vite", build="vite build"), ".portwrap.json": json.dumps(config)})
    assert any(line.startswith("runs: npm run dev -- --port ") for line in explained(house, root, "npm", "run", "dev"))
    assert "runs: npm run build" in explained(house, root, "npm", "run", "build")
    assert any(line.startswith("runs: npx vite --port ") for line in explained(house, root, "npx", "vite"))


def test_ports_that_env_files_name_are_reported_when_they_have_moved_and_set_on_request(house, listener):
    root = house.project("shop", files={"package.json": package(dev="vite"), ".env": "VITE_API_URL=http://localhost:4000/v1\n"})
    held(house, listener, 4000)
    api = house.wrap(listener, "bind", "4000", cwd=root)
    port = api.wait_for(r"^\d+ (\d+)$")[1]
    told = house.run("portwrap", "printenv", "VITE_API_URL", cwd=root)
    assert told.stdout == ""
    assert f".env: VITE_API_URL names port 4000, which is {port} here" in told.stderr
    (root / ".portwrap.json").write_text('{"rewrite_env": true}')
    told = house.run("portwrap", "printenv", "VITE_API_URL", cwd=root)  # an edit is meant for the very next command
    assert (told.stdout, told.stderr) == (f"http://localhost:{port}/v1\n", "")
    assert house.run("portwrap", "printenv", "VITE_API_URL", cwd=root, env={"VITE_API_URL": "mine"}).stdout == "mine\n"


def test_what_was_set_for_one_project_is_not_the_users_in_another(house, listener):
    held(house, listener, 3000)
    shop = house.project("shop", files={"package.json": package()})
    blog = house.project("blog", files={"package.json": package()})
    editor = house.run("portwrap", "-p", "3456", "sh", "-c", f"echo $PORT; cd '{blog}'; portwrap sh -c 'echo \"[$PORT]\"'; PORT=77 portwrap sh -c 'echo \"[$PORT]\"'", cwd=shop)
    assert editor.stdout.splitlines()[0] == "3456"
    assert "3456" not in editor.stdout.splitlines()[1]
    assert editor.stdout.splitlines()[2] == "[77]"


API = """const server = require("http").createServer((request, response) => response.end("api"));
server.listen(process.env.API_PORT || 4000, () => console.log(`told ${process.env.API_PORT} listens ${server.address().port}`));
"""
WEB = """const http = require("http");
const server = http.createServer((request, response) => response.end("web"));
server.listen(process.env.PORT || 5173, () => {
  console.log(`PORT ${process.env.PORT} API_PORT ${process.env.API_PORT} URL ${process.env.API_URL} listens ${server.address().port}`);
  process.stdin.on("data", () => http.get("http://localhost:4000/", answer => answer.on("data", text => console.log(`api says ${text}`))).on("error", error => console.log(`api says ${error.code}`)));
});
"""


def test_a_front_end_beside_the_only_configured_service_is_not_taken_for_it(house):
    root = house.project("shop", files={"package.json": package(), "api.js": API, "web.js": WEB, ".env": "VITE_API=http://localhost:4000\n",
                                        ".portwrap.json": json.dumps({"services": {"api": {"port": 4000}}})})
    house.wrap("node", "api.js", cwd=root).wait_for(r"listens 4000$", "stdout")
    for _ in range(2):  # the second time it is known
        web = house.wrap("node", "web.js", cwd=root)
        web.wait_for(r"^PORT undefined API_PORT undefined URL undefined listens 5173$", "stdout")
        web.say("go\n")
        web.wait_for(r"^api says api$", "stdout")
        assert "portwrap: " not in web.stderr
        web.kill()
        wait_until(lambda: not is_listening(5173), "5173 is free again")
    done = house.run("portwrap", "true", cwd=root)
    assert (done.stderr, [lease["service"] for lease in house.leases(root) if lease["state"] == "active"]) == ("", ["api"])
    second = house.wrap("node", "api.js", cwd=root)  # the same service once more, and told so
    told = second.wait_for(r"told undefined listens (\d+)", "stdout")
    assert told[1] != "4000"


@pytest.mark.parametrize("first", ["api.js", "web.js"])
def test_what_is_told_of_another_service_s_port_is_where_that_runs_whichever_starts_first(house, first):
    config = {"services": {"api": {"port": 4000, "env": "API_PORT"}}, "env": {"API_URL": "http://localhost:${api}"}}
    root = house.project("shop", files={"package.json": package(), "api.js": API, "web.js": WEB, ".portwrap.json": json.dumps(config)})
    lines = {"api.js": r"^told (\d+) listens (\d+)$", "web.js": r"^PORT undefined API_PORT (\d+) URL http://localhost:(\d+) listens 5173$"}
    second = next(name for name in lines if name != first)
    told = {}
    for name in (first, second):
        told[name] = house.wrap("node", name, cwd=root).wait_for(lines[name], "stdout").groups()
    assert told == {"api.js": ("4000", "4000"), "web.js": ("4000", "4000")}


def test_a_run_with_another_port_does_not_end_cooperation(house, listener):
    root = house.project("shop", files={"package.json": package(start="node server.js"), "server.js": SERVER})
    house.wrap("npm", "start", cwd=root).wait_for(r"told undefined listens 3000", "stdout")
    other = house.project("blog", files={"package.json": package(start="node server.js", other="true"), "server.js": SERVER})  # no sibling
    for env, expected in (({}, r"told undefined listens (3\d+)"), ({"PORT": "3777"}, r"told (3777) listens 3777"), ({}, r"told (3\d+) listens \1")):
        run = house.wrap("npm", "start", cwd=other, env=env)
        assert run.wait_for(expected, "stdout")[1] != "3000"
        port = int(re.search(r"listens (\d+)", run.stdout)[1])
        run.kill()
        wait_until(lambda free=port: not is_listening(free), f"{port} is free again")


def addresses(port):
    """The local addresses on which somebody listens, as the kernel writes them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and int(address.split(":")[1], 16) == port:
                found.add(address.split(":")[0])
    return found


@pytest.mark.skipif(not shutil.which("gunicorn"), reason="needs gunicorn")
@pytest.mark.parametrize("command", [("gunicorn", "app:app"), ("make", "serve")])
def test_gunicorn_stays_on_the_address_that_it_has_without_portwrap(house, command):
    app = "def app(environ, start):\n    start('200 OK', [])\n    return [b'x']\n"
    main, linked = house.worktrees("shop", files={"app.py": app, "requirements.txt": "", "Makefile": "serve:\n\texec gunicorn app:app\n"})
    house.wrap(*command, cwd=main).wait_for(r"Listening at: http://127.0.0.1:8000", "stderr")
    port = int(house.wrap(*command, cwd=linked).wait_for(r"Listening at: http://127.0.0.1:(\d+)", "stderr")[1])
    assert port != 8000 and addresses(port) == {"0100007F"}


@pytest.mark.skipif(not shutil.which("flask"), reason="needs flask")
def test_the_port_in_flaskenv_is_the_users(house):
    files = {"app.py": "from flask import Flask\napp = Flask(__name__)\n", "requirements.txt": "flask\n", ".flaskenv": "FLASK_RUN_PORT=5050\n"}
    root = house.project("shop", files=files)
    assert "asks for: port 5050 (.flaskenv)" in explained(house, root, "flask", "run")
    house.wrap("flask", "run", cwd=root).wait_for(r"Running on http://127.0.0.1:5050", "stderr")
    (lease,) = house.leases(root)
    assert (lease["requested_port"], lease["port"]) == (5050, 5050)


def test_a_port_of_the_environment_is_said_before_a_run(house):
    root = house.project("shop", files={"server.js": SERVER, "package.json": package()})
    done = house.run("portwrap", "-n", "node", "server.js", cwd=root, env={"PORT": "4321"})
    assert "asks for: port 4321 (PORT in the environment)" in done.stderr
    assert "sets: " not in done.stderr


@pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
def test_a_container_engine_is_given_nothing_that_nobody_asked_for(house):
    root = house.project("shop", files={"package.json": package()})
    lines = explained(house, root, "podman", "run", "image")
    assert not any(line.startswith(("sets: ", "offers: ")) for line in lines) and "cannot be intercepted" not in "".join(lines), lines
    assert any("does not reach into containers" in line for line in lines)
    done = house.run("portwrap", "podman", "--version", cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert house.leases(root) == []


def test_a_server_with_a_new_name_is_told_how_it_keeps_its_port(house):
    server = SERVER.replace("process.env.PORT || 3000", "3500")
    root = house.project("shop", files={"package.json": package(), "server.js": server})

    def run():
        process = house.wrap("node", "server.js", cwd=root)
        return process, int(process.wait_for(r"^told \S+ listens (\d+)$", "stdout")[1])

    def end(process):
        process.kill()
        wait_until(lambda: not house.leases(root), "the server has ended")
    process, first = run()
    end(process)
    (root / ".portwrap.json").write_text('{"services": {"api": {"port": 3500}}}')
    wait_until(lambda: "service: api" in explained(house, root, "node", "server.js"), "the file is known")
    process, moved = run()
    assert moved != first
    advice = process.wait_for(rf"asked for 3500: kept for app/main, last used [^;]+; (portctl update {first} --service api) if that is this server\)", "stderr")
    end(process)
    assert house.run(*advice[1].split(), cwd=root).returncode == 0
    assert run()[1] == first
