"""What a program is told of its port before it starts, and what is left alone."""

import json

from house import wait_until

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
    # What was read of a directory is believed for a second.
    told = wait_until(lambda: (done := house.run("portwrap", "printenv", "VITE_API_URL", cwd=root)).stdout and done, "the variable is set")
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
