"""What people and programs wait for: portwrap and portctl, an intercepted bind, many starts at once."""

import os
import shutil
import statistics
import subprocess
import time
from agent_rows import STATUS
from table import row


def start_to_end(bench, *words):
    begin = time.monotonic()
    subprocess.run(words, cwd=bench.root, env=bench.house.env, stdout=subprocess.DEVNULL, check=True)
    return 1e3 * (time.monotonic() - begin)


def compare(bench, first, second, rounds=61):
    """Medians of two commands that take turns, in milliseconds."""
    times = ([], [])
    for _ in range(rounds):
        for which, words in enumerate((first, second)):
            times[which].append(start_to_end(bench, *words))
    return tuple(statistics.median(one) for one in times)


def commands(bench):
    plain, wrapped = compare(bench, ["/bin/true"], ["portwrap", "-q", "/bin/true"])
    yield row("portwrap CMD, over CMD", "ms", wrapped - plain, plain, "CMD itself", "at most 2 ms", wrapped - plain <= 2)
    bench.house.run("portctl", "get", "web", cwd=bench.root)
    nothing, port = compare(bench, [str(bench.house.directory / "nothing")], ["portctl", "port", "web"])
    yield row("portctl port", "ms", port, nothing, "an empty static C++ program", "at most 1.5 x", port <= 1.5 * nothing)


def processor_ms(bench, words):
    """What a program takes of the processor from its start to its end, its own and the kernel's work for it."""
    program = shutil.which(words[0], path=bench.house.env["PATH"])
    pid = os.posix_spawn(program, words, bench.house.env, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, words
    return 1e3 * (usage.ru_utime + usage.ru_stime)


def start_up(bench):
    """What a script feels of a program before it does anything; they ask nobody, so their time is the processor's."""
    commands = {"nothing": [str(bench.house.directory / "nothing")], **{" ".join(words): words for words in (
        ["portctl", "--version"], ["portctl", "prompt"], ["portwrap", "--version"])}}
    times = {name: [] for name in commands}
    for _ in range(201):
        for name, words in commands.items():
            times[name].append(processor_ms(bench, words))
    nothing = statistics.median(times.pop("nothing"))
    for name, taken in times.items():
        took = statistics.median(taken)
        yield row(f"start and end of {name}", "us", 1e3 * took, 1e3 * nothing, "an empty static C++ program", "at most 1.5 x", took <= 1.5 * nothing)


def binds(bench):
    """Each process in a session of its own; the echo's round trips are taken in between."""
    firsts, others, echos = [], [], []
    for index in range(41):
        echo, _ = bench.turns(STATUS, 50)
        done = subprocess.run(["portwrap", "-q", bench.calls, "binds", str(21000 + 40 * index), "20"], cwd=bench.root, env=bench.house.env,
                              check=True, capture_output=True, text=True)
        first, further = map(float, done.stdout.split())
        echos.append(echo)
        firsts.append(first)
        others.append(further)
    echo, first, further = map(statistics.median, (echos, firsts, others))
    yield row("intercepted bind, the first of a process", "us", first, echo, "echo server", "at most 3.5 x", first <= 3.5 * echo)
    yield row("intercepted bind, further ones", "us", further, echo, "echo server", "at most 2.5 x", further <= 2.5 * echo)


def crowds(bench):
    for count in (200, 1000):
        with bench.another_house(f"starts{count}") as house:
            house.start_agent()
            root = house.project("shop")
            begin = time.monotonic()
            running = [subprocess.Popen(["portwrap", "-q", bench.calls, "server", "3000"], cwd=root, env=house.env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True) for _ in range(count)]
            ports = [process.stdout.readline().strip() for process in running]
            took = time.monotonic() - begin
            known = {lease["port"] for lease in house.leases(root) if lease["state"] == "active"}
            for process in running:
                process.stdin.close()
                process.wait()
                process.stdout.close()
            different = {int(port) for port in ports if port}
            good = len(different) == count and different == known
            yield row(f"{count} starts at once: different ports that are in the registry", "", len(different & known), count, f"starts, in {took:.1f} s",
                      "all", good)


GROUPS = [commands, start_up, binds, crowds]
