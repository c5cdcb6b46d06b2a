#!/usr/bin/python3
"""Checks the table of agent/core/frameworks.cpp against the real programs, without portwrap: that each framework asks for
the natural port that the table says, and that each variable of its row is honoured. Prints a line for each, ends with
status 1 when one is wrong.

    python3 tests/matrix/variables.py [--ci]

With --addresses: starts the servers of the matrix with and without PORT in the environment and shows which of them listen on
other addresses then. portwrap never tells those a PORT (`only_by_user` in the table); status 1 when another one does it. The
servers use their usual ports and nothing else may listen: run it in a network namespace of its own.

Not checked, because neither Debian nor npm has it: SERVER_PORT of Spring Boot, whose documentation says it.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
sys.dont_write_bytecode = True
import house as e2e  # noqa: E402
from run import House, end_on_signals, get, missing_for, servers  # noqa: E402

STATIC = {"package.json": '{"name": "app"}\n', "index.html": "<p>@CONTENT@</p>\n"}
NUXT = {"package.json": '{"name": "app", "type": "module", "dependencies": {"nuxt": "4"}}\n', "app.vue": "<template><p>@CONTENT@</p></template>\n",
        "nuxt.config.ts": "export default defineNuxtConfig({ telemetry: false });\n"}


def of(server):
    return importlib.import_module(f"servers.{server}").SERVER.files


NITRO = of("nitro")
REMIX = {**of("react_router"), "react-router.config.js": "export default { ssr: true };\n"}
# framework, its files, its command (a list: what is run first), natural port, variables, the directories of modules that it needs
ROWS = [
    ("next", of("next"), "next dev --webpack", 3000, ["PORT"], ["heavy"]),
    ("react-scripts", of("create_react_app"), "react-scripts start", 3000, ["PORT"], ["heavy"]),
    ("nuxt", NUXT, "nuxt dev", 3000, ["NUXT_PORT", "NITRO_PORT", "PORT"], ["heavy"]),
    ("webpack-dev-server", of("webpack_dev_server"), "webpack serve", 8080, ["WEBPACK_DEV_SERVER_BASE_PORT"], []),
    ("serve", STATIC, "serve", 3000, ["PORT"], []),
    ("http-server", STATIC, "http-server", 8080, ["PORT"], []),
    ("flask", of("flask_debug"), "python3 -m flask --app app run", 5000, ["FLASK_RUN_PORT"], []),
    ("gunicorn", of("gunicorn"), "gunicorn app:app", 8000, ["PORT"], []),
    ("uvicorn", of("uvicorn_reload"), "uvicorn app:app", 8000, ["UVICORN_PORT"], []),
    ("nitro", NITRO, ["nitro build", "node .output/server/index.mjs"], 3000, ["NITRO_PORT", "PORT"], ["more"]),
    ("nitro dev", NITRO, "nitro dev", 3000, ["PORT"], ["more"]),
    ("live-server", STATIC, "live-server --no-browser", 8080, ["PORT"], ["more"]),
    ("sirv", STATIC, "sirv .", 8080, ["PORT"], ["more"]),
    ("react-router-serve", REMIX, ["react-router build", "react-router-serve ./build/server/index.js"], 3000, ["PORT"], ["more"]),
    ("vite", of("vite"), "vite", 5173, [], []),
    ("django", of("django"), "python3 manage.py runserver --noreload", 8000, [], []),
    ("http.server", STATIC, "python3 -m http.server", 8000, [], []),
]
NEEDS = {"gunicorn": "gunicorn"}  # what the quick run's machine need not have
ELSEWHERE = 4747


def environment_in(house, root):
    return {"PATH": f"{root}/node_modules/.bin:{house.env['PATH']}", "BROWSER": "none", "CI": "true"}


def listens(house, root, command, environment, port):
    """Starts the command and waits until its page comes on the port."""
    process = house.start("sh", "-c", f"exec {command}", cwd=root, env={**environment_in(house, root), **environment})
    try:
        e2e.wait_until(lambda: not process.running() or get(port, "/")[0] not in (0, 404, 503), f"a page on {port}", 120)
        return process.running(), process.stdout + process.stderr
    except AssertionError as wrong:
        return False, f"{wrong}\n{process.stdout}\n{process.stderr}"
    finally:
        process.kill()
        e2e.wait_until(lambda: not e2e.is_listening(port), f"{port} is free again")


# With PORT set they listen elsewhere than without, known and minded by the table.
TAKES_PORT_FOR_MORE = {"gunicorn"}


def listeners():
    """(address, port) of every listening socket, as the kernel writes the address."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A":
                found.add((address.split(":")[0], int(address.split(":")[1], 16)))
    return found


def addresses_of(name, server, environment):
    """The addresses of the server's page: on its usual port, or on the one that the environment says."""
    house = House(tempfile.mkdtemp(prefix="pwa-", dir="/tmp"), "/usr")
    house.modules = server.modules
    try:
        root = house.project("app", files={path: text.replace("@CONTENT@", "hello") for path, text in server.files.items()})
        house.furnish(root)
        *before, command = [["sh", "-c", one] if isinstance(one, str) else one for one in server.commands]
        for words in before:
            house.start(*words, cwd=root, env={**environment_in(house, root), **server.environment})
        house.start(*command, cwd=root, env={**environment_in(house, root), **server.environment, **environment})
        ports = {server.port, *(int(value) for value in environment.values())}
        e2e.wait_until(lambda: any(get(port, server.page)[0] == 200 for port in ports), f"{name} answers", 120)
        return {address for address, port in listeners() if port in ports}
    except AssertionError as wrong:
        return {str(wrong)[:200]}
    finally:
        house.close()


def compare_addresses(names):
    wrong = 0
    for name, server in servers().items():
        if (names and name not in names) or server.protocol != "http" or server.external or server.cannot or missing_for(server):
            continue
        plain, told = addresses_of(name, server, {}), addresses_of(name, server, {"PORT": str(ELSEWHERE)})
        moves = plain != told
        good = moves == (name in TAKES_PORT_FOR_MORE)
        wrong += not good
        print(f"{name:28} {'other addresses with PORT' if moves else 'the same addresses':26} {'ok' if good else f'WRONG: {plain} became {told}'}", flush=True)
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ci", action="store_true", help="without the large ones")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--addresses", action="store_true", help="who listens on other addresses when PORT is set")
    options = parser.parse_args()
    end_on_signals()
    if options.addresses:
        return compare_addresses(options.only.split(",") if options.only else [])
    passed = failed = 0
    for name, files, command, natural, variables, modules in ROWS:
        if (options.ci and modules) or (options.only and name not in options.only.split(",")):
            continue
        if name in NEEDS and not shutil.which(NEEDS[name]):
            print(f"{name:20} left out: no {NEEDS[name]}")
            continue
        house = House(tempfile.mkdtemp(prefix="pwv-", dir="/tmp"), "/usr")
        house.modules = modules
        house.env["NEXT_TELEMETRY_DISABLED"] = house.env["NUXT_TELEMETRY_DISABLED"] = "1"
        try:
            root = house.project("app", files={path: text.replace("@CONTENT@", "hello") for path, text in files.items()})
            house.furnish(root)
            *before, command = [command] if isinstance(command, str) else command
            for words in before:
                done = house.run("sh", "-c", words, cwd=root, env=environment_in(house, root), deadline=300)
                if done.returncode != 0:
                    print(done.stdout[-800:], done.stderr[-800:])
            for variable in [None, *variables]:
                port = ELSEWHERE if variable else natural
                good, output = listens(house, root, command, {variable: str(port)} if variable else {}, port)
                print(f"{name:20} {variable or 'natural port':30} {port:5} {'ok' if good else 'WRONG'}", flush=True)
                if not good:
                    print(output[-1500:])
                passed, failed = passed + good, failed + (not good)
        finally:
            house.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
