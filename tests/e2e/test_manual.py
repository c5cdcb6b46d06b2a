"""The manual: what --help says is on the pages, and the pages are clean."""

import os
import re
import shutil
import subprocess

import pytest

PAGES = {"portwrap": 1, "portctl": 1, "portwrap.json": 5, "portwrap-agent": 8}

GLOBAL = ("--help", "--json", "-C", "--project", "--all")

pytestmark = pytest.mark.skipif(bool(os.environ.get("PORTWRAP_TEST_SANITIZED")), reason="builds with sanitizers write no manual")


def page_file(house, page):
    return house.prefix / "share" / "man" / f"man{PAGES[page]}" / f"{page}.{PAGES[page]}"


@pytest.fixture
def read(house):
    """The text of a page as man(1) shows it, its lines joined."""
    def text(page):
        done = house.run("man", "-l", page_file(house, page), env={"MANWIDTH": "1000", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
        return done.stdout
    return text


def section(text, command):
    """From the command's heading to the next heading."""
    found = re.search(rf"^   {command}\n(.*?)(?=^ {{0,3}}\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{command} has no section"
    return found[1]


def help_of(house, *command):
    done = house.run(*command, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_of(text):
    """[(names, label, description)] of a --help; long names push the description to the next line."""
    found = [(names.split(","), label, " ".join(description.split())) for names, label, description in
             re.findall(r"^  (-[-\w,]+)(?: (\S+(?: in \[.*\])?))?(?:  +|\n {10,})(\S.*)$", text, re.MULTILINE)]
    assert len(found) == len(re.findall(r"^  -", text, re.MULTILINE)), text
    return found


def commands_of(house):
    text = help_of(house, "portctl")
    return dict(re.findall(r"^  ([a-z]+) +(\S.*)$", text[text.index("Commands:"):text.index("Global options:")], re.MULTILINE))


def assert_lists(text, options):
    for names, label, description in options:
        heading = ", ".join(names) + (f" {label}" if label else "")
        assert re.search(rf"^ +{re.escape(heading)}(?: |$)", text, re.MULTILINE), heading
        assert re.sub(r"\s+", " ", description.rstrip(".")) in re.sub(r"\s+", " ", text), description


def test_every_command_has_its_section_with_all_its_options_and_its_examples(house, read):
    text = read("portctl")
    commands = commands_of(house)
    assert len(commands) > 30
    for command in commands:
        said = help_of(house, "portctl", command)
        about = section(text, command)
        options = [option for option in options_of(said[said.index("Usage:"):]) if option[0][-1] not in GLOBAL]
        assert_lists(about, options)
        examples = said[said.index("Examples:\n") + 10:].rstrip("\n").split("\n")
        assert examples and all(example.strip() for example in examples), command
        for example in examples:
            assert example.strip() in about, (command, example)
        usage = re.search(r"^Usage: (.*)$", said, re.MULTILINE)[1]
        assert re.sub(r"\s+", " ", usage) in re.sub(r"\s+", " ", about), command


def test_no_section_names_an_option_that_its_command_has_not(house, read):
    """Neither in its list, nor in what is said about it by hand, nor in its examples as far as they are portctl's."""
    text = read("portctl")
    for command in commands_of(house):
        known = {name for names, _, _ in options_of(help_of(house, "portctl", command)) for name in names}
        about = re.sub(r"\| *(?!portctl )\w.*$", "", section(text, command), flags=re.MULTILINE)
        assert set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", about)) <= known, command


@pytest.mark.parametrize("page", PAGES)
def test_head_and_foot_of_a_page_say_whose_it_is(house, page):
    done = house.run("man", "-l", page_file(house, page), env={"MANWIDTH": "80", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
    lines = done.stdout.strip().splitlines()
    assert re.search(r"\bportwrap\b", lines[0]) and lines[-1].startswith("portwrap "), (lines[0], lines[-1])
    assert "BSD" not in lines[0] + lines[-1]


def test_every_command_of_a_section_exists(house, read):
    commands = commands_of(house)
    text = read("portctl")
    named = re.findall(r"^   ([a-z]+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(commands)


def test_each_example_of_a_help_is_about_its_command(house):
    for command in commands_of(house):
        said = help_of(house, "portctl", command)
        assert re.search(rf"portctl (\S+ )*{command}\b", said[said.index("Examples:"):]), command


def test_the_options_of_all_commands_are_on_the_page(house, read):
    said = help_of(house, "portctl")
    options = options_of(said[said.index("Global options:"):])
    assert [names[-1] for names, _, _ in options] == ["--help", "--version", "--json", "-C", "--project", "--all"]
    assert_lists(read("portctl"), options)


@pytest.mark.parametrize("program", ("portwrap", "portwrap-agent"))
def test_every_option_of_a_program_is_on_its_page_and_no_other(house, read, program):
    text = read(program)
    options = options_of(help_of(house, program))
    assert len(options) >= 4
    names = {name for named, _, _ in options for name in named}
    assert names <= set(re.findall(r"(?<![\w-])--?\w[\w-]*", text))
    listed = re.findall(r"^ +((?:-\S+, )*-\S+)(?: [A-Z]+)?(?:  .*)?$", text[text.index("DESCRIPTION"):], re.MULTILINE)
    assert {name for entry in listed for name in entry.split(", ")} == names
    assert_lists(text, options)


def test_every_key_of_the_configs_is_on_the_page_and_every_key_of_the_page_is_known(house, read):
    text = read("portwrap.json")
    user = {value["key"].split(".")[0] for value in house.ask("config", "show")["values"]}
    about_user = text[text.index("The user's config.json"):text.index("EXAMPLES")]
    keys = re.findall(r"^     ([a-z_]+(?:, [a-z_]+)*)(?:  .*)?$", about_user, re.MULTILINE)
    assert {key for entry in keys for key in entry.split(", ")} == user
    # The project's keys: whatever is written there, the agent complains about the value, not about the key.
    about_project = text[text.index("A project's .portwrap.json"):text.index("The user's config.json")]
    keys = {key for entry in re.findall(r"^     ([a-z_]+(?:, [a-z_]+)*)(?:  .*)?$", about_project, re.MULTILINE) for key in entry.split(", ")}
    of_services = set(re.findall(r"^             ([a-z_]+)(?:  .*)?$", about_project, re.MULTILINE))
    assert {"name", "services", "env"} <= keys and {"port", "health"} <= of_services
    for number, body in enumerate([f'{{"{key}": [[]]}}' for key in keys] + [f'{{"services": {{"web": {{"{key}": [[]]}}}}}}' for key in of_services]):
        root = house.project(f"p{number}", files={".portwrap.json": body})
        problem = house.portctl("get", "web", cwd=root).stderr + house.run("portwrap", "-n", "true", cwd=root).stderr
        assert "must be" in problem and "unknown" not in problem, (body, problem)


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_clean(house, page):
    path = page_file(house, page)
    warned = house.run("man", "--warnings", "-E", "UTF-8", "-l", path, env={"MANPAGER": "cat"})
    assert (warned.returncode, warned.stderr) == (0, "")
    if shutil.which("mandoc"):
        linted = subprocess.run(["mandoc", "-Tlint", "-Wstyle", str(path)], capture_output=True, text=True, check=False)
        # Whether the pages that it names are in this machine's index is not the page's matter.
        mistakes = [line for line in linted.stdout.splitlines() if "referenced manual not found" not in line]
        assert mistakes == []


def test_pages_that_are_referred_to_exist(house):
    for page in PAGES:
        for name, number in re.findall(r"^\.Xr (\S+) (\d)", page_file(house, page).read_text(), re.MULTILINE):
            if name.startswith("port"):
                assert PAGES[name] == int(number), (page, name)


def test_the_agents_page_names_its_exit_statuses(house, read):
    page = read("portwrap-agent")
    told = page[page.index("EXIT STATUS"):page.index("SEE ALSO")]
    root = house.project("shop")
    found = {}

    def run(*options):
        done = house.run("portwrap-agent", *options)
        found[done.returncode] = done.stderr

    house.start_agent()
    run("--foreground")
    assert house.portctl("get", "web", cwd=root).returncode == 0
    house.stop_agent()
    run("--bogus")
    run("--log-level", "loud")
    house.registry.chmod(0o755)
    run("--foreground")
    house.registry.chmod(0o700)
    house.make_registry_newer()
    run("--foreground")
    (house.registry / "ports.json").unlink()
    os.mkfifo(house.registry / "ports.json")
    run("--foreground")
    assert sorted(found) == [0, 1, 2, 5, 69], found
    assert sorted(map(int, re.findall(r"^ +(\d+) ", told, re.MULTILINE))) == sorted(found), told
