#!/usr/bin/python3
"""What the prompt's hook costs in each shell, against a function that does nothing in the same run.

    PORTWRAP_PREFIX=/where/it/is/installed tests/bench/prompt_bench.py [--json]
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from house import House, wait_until  # noqa: E402

PREFIX = Path(os.environ["PORTWRAP_PREFIX"])
TURNS = 3000
ROUNDS = 9
SHELLS = {"bash": ["bash", "--norc", "--noprofile"], "zsh": ["zsh", "-f"], "fish": ["fish", "--no-config"]}


def loop(shell, body):
    """The same lines so many times, without a fork or a clock of the shell's."""
    if shell == "fish":
        return f"for i in (seq $argv[1])\n{body}\nend\n"
    return f"i=0\nwhile (( i < $1 )); do\ni=$((i+1))\n{body}\ndone\n"


def microseconds(house, shell, script, turns=TURNS):
    """Of the processor: a hook waits for nothing, and what else the machine does is none of its cost."""
    def once(count):
        pid = os.posix_spawn(shutil.which(shell), [*SHELLS[shell], str(script), str(count)], house.env,
                             file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, (shell, script)
        return usage.ru_utime + usage.ru_stime
    return statistics.median(once(turns) - once(0) for _ in range(ROUNDS)) / turns * 1e6


def row(what, figure, floor, target):
    return {"what": what, "unit": "us", "figure": round(figure, 1), "floor": round(floor, 1), "ratio": round(figure / floor, 2) if floor > 0 else None,
            "floor_is": "a function that does nothing", "target": f"<= {target} us" if target else "(once for each cd)", "met": figure <= target if target else None}


def main():
    house = House(tempfile.mkdtemp(prefix="pwb-", dir="/tmp"), PREFIX)
    rows = []
    try:
        shop = house.project("shop/a/b/c", files={"package.json": "{}"})
        blog = house.project("blog/a/b/c", files={"package.json": "{}"})
        for place in (shop, blog):
            house.git(place.parents[2], "init", "-q")
            house.ask("get", "web", cwd=place)
        wait_until(lambda: house.portctl("prompt", cwd=shop).stdout and house.portctl("prompt", cwd=blog).stdout, "the segments")
        for shell in SHELLS:
            if not shutil.which(shell):
                continue
            hook = "__portwrap_update" if shell == "fish" else "__portwrap_hook"
            nothing = "function nothing; end" if shell == "fish" else "nothing() { :; }"
            init = house.portctl("init", shell).stdout + f"\n{nothing}\n"
            scripts = {}
            for name, body in (("hook", hook), ("nothing", "nothing"), ("cd and hook", f"cd {shop}\n{hook}\ncd {blog}\n{hook}"), ("cd", f"cd {shop}\nnothing\ncd {blog}\nnothing")):
                scripts[name] = house.directory / f"{shell}-{name}".replace(" ", "-")
                scripts[name].write_text(f"{init}cd {shop}\n{hook}\n" + loop(shell, body))
            figures = {name: microseconds(house, shell, script, TURNS if "cd" not in name else TURNS // 6) for name, script in scripts.items()}
            rows.append(row(f"prompt hook, {shell}", figures["hook"], figures["nothing"], 150))
            rows.append(row(f"prompt hook after a cd, {shell}", (figures["cd and hook"] - figures["cd"]) / 2 + figures["nothing"], figures["nothing"], None))
    finally:
        house.close()
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    for one in rows:
        met = {True: ": met", False: ": NOT MET", None: ""}[one["met"]]
        print(f"{one['what']:<40} {one['figure']:>8} us, nothing {one['floor']:>6} us   {one['target']}{met}")


if __name__ == "__main__":
    main()
