"""What the documentation shows is what happens: blocks marked `console` are typed into a shell, one after the other, and what
they show is compared with what is printed; commands and options that the text names exist; links lead somewhere."""

import re
from pathlib import Path

import pytest

from house import wait_until

ROOT = Path(__file__).resolve().parents[2]
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TOLD = [path for path in TEXTS if "```console" in path.read_text()]

SERVER = """const http = require("http");
const { execSync } = require("child_process");
const branch = execSync("git branch --show-current").toString().trim();
const server = http.createServer((request, response) => response.end(`Hello from the branch ${branch}\\n`));
server.listen(3000, () => console.log(`Listening on http://localhost:${server.address().port}`));
"""
API = """const http = require("http");
const server = http.createServer((request, response) => response.end("the API of " + process.cwd() + "\\n"));
server.listen(4000);
"""


def world(house):
    """What the documentation takes for granted: ~/shop, a repository with a server on 3000, and ~/blog with one on 8000."""
    shop = house.project("shop", files={"package.json": '{"name": "shop"}\n', "server.js": SERVER, "api/package.json": '{"name": "api"}\n',
                                        "api/server.js": API})
    house.git(shop, "init", "-q", "-b", "main")
    house.git(shop, "add", "-A")
    house.git(shop, "commit", "-q", "-m", "A shop")
    house.project("blog", files={"index.html": "A blog\n"})


def spoken(house, text):
    """Without what differs from run to run: pids, times, ages, the home's path; blanks of tables count once."""
    text = text.replace(str(house.home), "~")
    text = re.sub(r"\bpid \d+(?: \(\w+\)(?=,))?", "pid N", text)
    text = re.sub(r"\b\d\d:\d\d\b", "HH:MM", text)
    text = re.sub(r"\b\d+[smh] ago\b", "AGE ago", text)
    text = re.sub(r"(?<=[ ])\d+(?= +\d+[smhd](?: |$))", "N", text, flags=re.MULTILINE)
    text = re.sub(r"(?<= )\d+[smhd](?= |$)", "AGE", text, flags=re.MULTILINE)
    text = re.sub(r"\b\d+\.\d ms\b", "N ms", text)
    return "\n".join(re.sub(r" +", " ", line).rstrip() for line in text.strip("\n").splitlines())


def steps(path):
    """[(directory, command, what is shown)] of a text's blocks; a line of its own with three dots is any lines."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            prompt = re.match(r"(~[\w/.-]*)\$ (.*)$", line)
            if prompt:
                found.append([prompt[1], prompt[2], ""])
            elif found and found[-1][1].endswith("\\"):
                found[-1][1] += "\n" + line
            else:
                found[-1][2] += line + "\n"
    return found


def pattern_of(shown):
    return re.escape(shown).replace(re.escape("\n...\n"), r"\n(?:.*\n)*?") if shown else ""


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_what_is_shown_is_what_is_printed(house, path):
    world(house)
    shell = house.start("bash", cwd=house.home, env={"NO_COLOR": "1"})
    shell.say("exec 2>&1\n")
    at = 0
    for number, (directory, command, shown) in enumerate(steps(path)):
        shell.say(f"cd {directory}; {command}\necho end-of-{number}\n")
        want = pattern_of(spoken(house, shown))

        def printed():
            return spoken(house, shell.stdout[at:].replace(f"end-of-{number}\n", ""))

        # A server in the background may speak after the prompt is back.
        wait_until(lambda: f"end-of-{number}\n" in shell.stdout[at:] and re.fullmatch(want, printed()),
                   lambda: f"{path.name}: {command}\n-- shown:\n{spoken(house, shown)}\n-- printed:\n{printed()}")
        at = len(shell.stdout)
    assert at > 0


def words_of(text):
    """Commands of portctl that a text shows as code, with the options on the same line."""
    code = re.findall(r"^(?: {4}|~[\w/.-]*\$ )(.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    return [match for line in code for match in re.findall(r"(?:^|[\s(|`\"'])portctl ((?:-\S+ )*)([a-z]+)\b([^|;&`#)]*)", line)]


def test_every_command_and_option_that_the_texts_name_exists(house):
    overview = house.portctl("help").stdout
    commands = set(re.findall(r"^  ([a-z]+) +\S", overview, re.MULTILINE))
    helps = {}
    seen = 0
    for path in TEXTS:
        for before, command, rest in words_of(path.read_text()):
            assert command in commands, (path.name, command)
            said = helps.setdefault(command, house.portctl(command, "--help").stdout)
            for option in re.findall(r"(?<!\S)(--?[a-zA-Z][\w-]*)", before + rest):
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", said), (path.name, command, option)
            seen += 1
    assert seen > 50


def test_every_link_leads_somewhere():
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if not re.match(r"[a-z]+:", target):
                assert (path.parent / target).exists(), (path.name, target)


def test_the_protocol_describes_every_method_of_the_agent():
    methods = {name for source in (ROOT / "agent" / "service").glob("*.cpp") for name in re.findall(r'\{"([a-z]+\.[a-z_]+)", &Agent', source.read_text())}
    assert len(methods) > 30
    text = (ROOT / "docs" / "protocol.md").read_text()
    assert {name for name in methods if name not in text} == set()
