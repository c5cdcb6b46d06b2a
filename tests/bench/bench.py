#!/usr/bin/python3
"""The table of figures: each row with its figure, its floor or peer measured in the same run, their ratio, the target, met or not.

    PORTWRAP_PREFIX=/where/it/is/installed tests/bench/run.sh [--json|--markdown] [GROUP...]

Groups are the functions of agent_rows.py, program_rows.py and peer_rows.py, and the programs of PROGRAMS (the shim's rows, the
prompt's), each of which prints with --json a list of such rows. Never a test: nothing fails because a machine is slow.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import agent_rows  # noqa: E402
import peer_rows  # noqa: E402
import program_rows  # noqa: E402
import table  # noqa: E402
from house import House, compile_c  # noqa: E402

PREFIX = Path(os.environ["PORTWRAP_PREFIX"])
PROGRAMS = ["shim_bench.py", "prompt_bench.py"]


@contextlib.contextmanager
def open_house(directory):
    """Its runtime directory is in memory, as a login's is: what is written there waits for no disk."""
    with tempfile.TemporaryDirectory(prefix="pwb-", dir="/dev/shm") as runtime:
        house = House(directory, PREFIX, runtime)
        try:
            yield house
        finally:
            house.close()


class Bench:
    """One house with an agent and an echo server, and the programs that measure."""

    def __init__(self, house):
        self.house = house
        self.rounds = house.directory / "rounds"
        self.calls = compile_c(HERE / "shim_calls.c", house.directory / "shim_calls")
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libuv"], check=True, capture_output=True, text=True).stdout.split()
        subprocess.run(["g++", "-std=c++20", "-O2", "-o", self.rounds, HERE / "rounds.cpp", *flags, "-lpthread"], check=True)
        subprocess.run(["g++", "-O2", "-static", "-o", house.directory / "nothing", "-x", "c++", "-"], input=b"int main(){}", check=True)
        self.echo = str(house.directory / "echo.sock")
        self.server = subprocess.Popen([self.rounds, "echo", self.echo], stdout=subprocess.PIPE)
        self.server.stdout.readline()
        self.root = house.project("bench")
        house.start_agent()
        self.socket = str(house.socket)

    def close(self):
        self.server.kill()
        self.server.wait()

    @contextlib.contextmanager
    def another_house(self, name):
        """With an agent of its own, which is not started yet."""
        directory = self.house.directory / name
        directory.mkdir()
        with open_house(directory) as house:
            yield house

    def numbers(self, *words):
        done = subprocess.run([self.rounds, *map(str, words)], check=True, capture_output=True, text=True)
        return [float(line) for line in done.stdout.split()]

    def turns(self, request, rounds):
        """Medians of the echo server and of the agent, whose rounds take turns, in microseconds."""
        echo, agent = self.numbers("turns", self.echo, request, self.socket, request, rounds)
        return echo, agent


GROUPS = (*agent_rows.GROUPS, *program_rows.GROUPS, *peer_rows.GROUPS)


def measure(wanted):
    """The rows, and the groups that could not be measured."""
    rows, failed = [], []

    def fail(group, error):
        print(f"bench: {group}: {error}", file=sys.stderr)
        failed.append(group)

    with open_house(tempfile.mkdtemp(prefix="pwb-", dir="/tmp")) as house:
        bench = Bench(house)
        for group in GROUPS:
            if wanted and group.__name__ not in wanted:
                continue
            try:
                rows.extend(group(bench))
            except (AssertionError, OSError, ValueError, subprocess.CalledProcessError) as error:
                fail(group.__name__, getattr(error, "stderr", None) or error)
        bench.close()
    env = {"PORTWRAP_SHIM": str(PREFIX / "lib" / "portwrap" / "libportwrap.so"), **os.environ}
    for program in PROGRAMS:
        if wanted and program not in wanted:
            continue
        done = subprocess.run([sys.executable, HERE / program, "--json"], env=env, capture_output=True, text=True)
        if done.returncode == 0:
            rows.extend(json.loads(done.stdout))
        else:
            fail(program, done.stderr)
    return rows, failed


def main():
    names = [*(group.__name__ for group in GROUPS), *PROGRAMS]
    parser = argparse.ArgumentParser(description="Prints the table of figures.", epilog="groups: " + ", ".join(names))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="measure only these")
    options = parser.parse_args()
    if unknown := [group for group in options.groups if group not in names]:
        parser.error(f"no group {unknown[0]}")
    rows, failed = measure(options.groups)
    if options.json:
        print(json.dumps(rows))
    else:
        for line in table.lines(rows, markdown=options.markdown):
            print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
