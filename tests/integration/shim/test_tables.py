"""The real libportwrap.so and published tables that are made here: connections, names, and a bind that nobody answers."""
import contextlib
import errno
import os
import socket
import struct
import subprocess

import pytest

from test_shim import SHIM, agents, driver, free, grants, lines, run, runtime  # noqa: F401 (fixtures)

MAGIC = 0x31504d5041525750
LIVE, STICKY, REFUSED = 1, 2, 3
ENDED = 0x40000000


@contextlib.contextmanager
def serving():
    """A port that takes many connections, on every address."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) as listener:
        yield listener.getsockname()[1]


def fnv(text):
    state = 0xcbf29ce484222325
    for byte in os.fsencode(text):
        state = (state ^ byte) * 0x100000001b3 % 2**64
    return state


def row(kind, port, target=0, session=(0, 0), directory=""):
    return struct.pack("<4Q", port | target << 16 | kind << 32, *session, fnv(directory) if directory else 0)


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def publish(runtime, root):  # noqa: F811
    """Writes a table of the project; its name."""
    def publish(*rows, name=None, where=None, magic=MAGIC, version=1, sequence=2, agent=None, netns=0, size=16384):
        where = str(where or root)
        name = name or f"{fnv(where):016x}"
        header = struct.pack("<8Q", magic, version, sequence, os.getpid() if agent is None else agent, 0, netns, len(rows), len(where))
        (runtime / "tables").mkdir(mode=0o700, exist_ok=True)
        text = ((header + where.encode()).ljust(4096, b"\0") + b"".join(rows)).ljust(size, b"\0")[:size]
        (runtime / "tables" / name).write_bytes(text)
        return {"PORTWRAP_TABLE": name}
    return publish


@pytest.fixture
def play(run, root):  # noqa: F811
    def play(*steps, env, cwd=root, **options):
        return run(*steps, env=env, cwd=cwd, **options)
    return play


def test_a_connection_goes_where_the_table_says_and_nobody_is_asked(play, publish, agents):  # noqa: F811
    agent = agents(grants(1))
    with serving() as port:
        env = publish(row(LIVE, 4242, port))
        for host in ("127.0.0.1", "127.9.8.7", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"):
            assert lines(play(f"connect={host}/4242", f"connect={host}/{port}", env=env)) == [f"connect 0 0 {port}"] * 2
        assert lines(play("errno=98", "connect=127.0.0.1/4242", env=env)) == [f"connect 0 98 {port}"]
    assert agent.connections == 0


def test_threads_handlers_and_children_find_the_table_too(play, publish):
    with serving() as port:
        env = {**publish(row(LIVE, 4242, port)), "CONNECT_IN_HANDLER": "127.0.0.1/4242"}
        done = play("connect_in_threads=127.0.0.1/4242", "connect_in_handler", "connect_in_child=127.0.0.1/4242", env=env)
        assert lines(done) == [f"connect 0 0 {port}"] * 18
        assert lines(play("connect_in_handler", env=env)) == [f"connect 0 0 {port}"]


def test_the_own_session_then_the_own_directory_is_meant(play, publish, root):
    (root / "api" / "src").mkdir(parents=True)
    with serving() as first, serving() as second, serving() as third:
        env = publish(row(LIVE, 4242, first, (1, 1), f"{root}/web"), row(LIVE, 4242, second, (2, 2), f"{root}/api"),
                      row(LIVE, 4242, third, (4242, 1234567), f"{root}/web"))
        assert lines(play("connect=127.0.0.1/4242", env=env)) == [f"connect 0 0 {third}"]
        env["PORTWRAP_SESSION"] = "9.9"
        assert lines(play("connect=127.0.0.1/4242", env=env)) == [f"connect 0 0 {first}"]
        assert lines(play("connect=127.0.0.1/4242", env=env, cwd=root / "api" / "src")) == [f"connect 0 0 {second}"]


def test_a_refusal_is_said_once_in_a_process(play, publish, agents):  # noqa: F811
    agent = agents(lambda request: {"notice": "refused"})
    with serving() as port:
        env = publish(row(REFUSED, port))
        done = play(*[f"connect=127.0.0.1/{port}"] * 3, env=env)
        assert lines(done) == [f"connect -1 {errno.ECONNREFUSED} 0"] * 3
    assert done.stderr == "refused\n"
    (asked,) = agent.params("shim.refused")
    assert (asked["port"], asked["session"]) == (port, [4242, 1234567])


def test_a_refusal_waits_for_no_agent_that_hangs(play, publish, agents):  # noqa: F811
    agent = agents(lambda request: None if request["method"] == "shim.refused" else {"lease": 0, "port": request["params"]["port"]})
    port = free()
    done = play("connect=127.0.0.1/4242", "tcp4", f"bind=127.0.0.1/{port}", env=publish(row(REFUSED, 4242)))
    assert lines(done) == [f"connect -1 {errno.ECONNREFUSED} 0", "bind 0 0"]
    assert len(agent.of("shim.bind")) == 1, "a short wait for a notice is no failure of the agent"


def test_what_a_dead_agent_or_one_of_another_network_said_is_not_believed(play, publish):
    with serving() as port, serving() as other:
        assert lines(play(f"connect=127.0.0.1/{port}", env=publish(row(REFUSED, port), agent=0))) == [f"connect 0 0 {port}"]
        assert lines(play(f"connect=127.0.0.1/{port}", env=publish(row(REFUSED, port), agent=2**22 - 1))) == [f"connect 0 0 {port}"]
        assert lines(play(f"connect=127.0.0.1/{port}", env=publish(row(LIVE, port, other), netns=77))) == [f"connect 0 0 {port}"]


@pytest.mark.parametrize("damage", [
    {"magic": 1}, {"version": 2}, {"sequence": 3}, {"size": 100}, {"size": 16385}, {"size": 0}, {"where": "/"}, {"where": "/elsewhere"}],
    ids=str)
def test_a_table_that_is_none_leaves_connections_alone(play, publish, damage):
    with serving() as port:
        env = publish(row(LIVE, port, 1), row(REFUSED, port), **damage)
        assert lines(play(f"connect=127.0.0.1/{port}", env=env)) == [f"connect 0 0 {port}"]


@pytest.mark.parametrize("kind", ["directory", "fifo", "link to nothing", "missing"])
def test_a_table_that_is_no_file_leaves_connections_alone(play, publish, runtime, kind):  # noqa: F811
    env = publish()
    table = runtime / "tables" / env["PORTWRAP_TABLE"]
    table.unlink()
    if kind == "directory":
        table.mkdir()
    elif kind == "fifo":
        os.mkfifo(table)
    elif kind == "link to nothing":
        table.symlink_to("nothing")
    with serving() as port:
        assert lines(play(f"connect=127.0.0.1/{port}", env=env)) == [f"connect 0 0 {port}"]


@pytest.fixture
def start(driver, runtime, root):  # noqa: F811
    """A program that goes on when it is told."""
    def start(*steps, env):
        return subprocess.Popen([driver, *steps], text=True, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                env={"LD_PRELOAD": str(SHIM), "PORTWRAP_RUNTIME": str(runtime), "PORTWRAP_SESSION": "4242.1234567", **env})
    return start


@pytest.mark.parametrize("now", ["in its place", "elsewhere, says the agent", "nowhere, says the agent", "nowhere"])
def test_a_table_that_is_retired_is_looked_for_anew(start, runtime, publish, agents, now):  # noqa: F811
    """Its file was deleted, or its project forgotten, while the program runs."""
    with serving() as port, serving() as later:
        env = publish(row(LIVE, 4242, port))
        table = runtime / "tables" / env["PORTWRAP_TABLE"]
        answer = {"table": 0, "connect": 1}
        agent = agents(lambda request: answer) if now != "nowhere" else None
        program = start("connect=127.0.0.1/4242", "wait", *["connect=127.0.0.1/4242"] * 3, env=env)
        assert program.stdout.readline() == f"connect 0 0 {port}\n"
        with open(table, "r+b") as old:
            table.unlink()
            if now == "in its place":
                publish(row(LIVE, 4242, later))
            elif now == "elsewhere, says the agent":
                answer["table"] = int(publish(row(LIVE, 4242, later), name="00000000000000aa")["PORTWRAP_TABLE"], 16)
            old.seek(8)
            old.write(bytes(8))
        said, _ = program.communicate("x", timeout=10)
    if now == "nowhere":
        assert said.splitlines() == [f"connect 0 0 {port}"] * 3, "the last that was known"
    elif now == "nowhere, says the agent":
        assert said.splitlines() == [f"connect -1 {errno.ECONNREFUSED} 0"] * 3
    else:
        assert said.splitlines() == [f"connect 0 0 {later}"] * 3
    if agent:
        assert len(agent.of("shim.table")) == (0 if now == "in its place" else 1)


@pytest.mark.parametrize("first", ["elsewhere", "as asked", "unknown"])
@pytest.mark.parametrize("now", ["another", "another that ended", "the same", "none", "garbage", "another project's", "retired"])
def test_where_a_table_has_ended_the_one_in_its_place_counts(start, runtime, publish, agents, first, now):  # noqa: F811
    """Its agent was killed, or has left, and its directory was deleted, before the next one made its own."""
    agent = agents(lambda request: {"table": 0, "connect": 1})
    with serving() as port, serving() as later:
        asked = port if first == "as asked" else 4242
        said_first = f"connect -1 {errno.ECONNREFUSED} 0" if first == "unknown" else f"connect 0 0 {port}"
        env = publish(*([] if first == "unknown" else [row(LIVE, asked, port)]))
        table = runtime / "tables" / env["PORTWRAP_TABLE"]
        program = start(f"connect=127.0.0.1/{asked}", "wait", *[f"connect=127.0.0.1/{asked}"] * 3, env=env)
        assert program.stdout.readline() == said_first + "\n"
        with open(table, "r+b") as old:
            if now != "the same":
                table.unlink()
            if now == "garbage":
                table.write_bytes(b"no table")
            elif now not in ("the same", "none"):
                change = {"another that ended": {"agent": ENDED}, "another project's": {"where": "/elsewhere"}, "retired": {"version": 0}}
                publish(row(LIVE, asked, later), name=table.name, **change.get(now, {}))
            old.seek(24)
            old.write(struct.pack("<Q", ENDED))
        said, _ = program.communicate("x", timeout=10)
    assert said.splitlines() == [f"connect 0 0 {later}" if now in ("another", "another that ended") else said_first] * 3
    assert agent.connections == 0


def test_an_ended_table_that_is_in_its_place_is_mapped_once_and_believed_when_it_is_written_again(start, runtime, publish):
    with serving() as port, serving() as later:
        env = publish(row(LIVE, 4242, port), agent=ENDED)
        table = runtime / "tables" / env["PORTWRAP_TABLE"]
        program = start(*["connect=127.0.0.1/4242"] * 5, "wait", "connect=127.0.0.1/4242", "wait", env=env)
        assert [program.stdout.readline() for _ in range(5)] == [f"connect 0 0 {port}\n"] * 5
        with open(f"/proc/{program.pid}/maps", encoding="utf-8") as maps:
            assert sum(str(table) in line for line in maps) == 1
        publish(row(LIVE, 4242, later))
        program.stdin.write("x")
        program.stdin.flush()
        assert program.stdout.readline() == f"connect 0 0 {later}\n"
        program.communicate("x", timeout=10)


def test_a_bind_that_nobody_answers_goes_by_the_table_that_is_in_place(start, runtime, publish):
    known, later = free(2)
    env = publish(row(STICKY, 4242, known))
    table = runtime / "tables" / env["PORTWRAP_TABLE"]
    program = start("tcp4", "bind=127.0.0.1/4242", "name", "close", "wait", "tcp4", "bind=127.0.0.1/4242", "name", env=env)
    assert [program.stdout.readline() for _ in range(2)] == ["bind 0 0\n", f"name 127.0.0.1 {known}\n"]
    with open(table, "r+b") as old:
        table.unlink()
        publish(row(STICKY, 4242, later))
        old.seek(24)
        old.write(struct.pack("<Q", ENDED))
    said, _ = program.communicate("x", timeout=10)
    assert said.splitlines() == ["bind 0 0", f"name 127.0.0.1 {later}"]


@pytest.mark.parametrize("between", [".git", ".portwrap.json"])
def test_a_directory_that_is_not_plainly_the_projects_is_asked_about_once(play, publish, agents, root, tmp_path, between):  # noqa: F811
    nested = root / "nested"
    nested.mkdir()
    (nested / between).write_text("")
    with serving() as port, serving() as wrong:
        env = publish(row(LIVE, 4242, wrong))
        other = publish(row(LIVE, 4242, port), where=nested)["PORTWRAP_TABLE"]
        agent = agents(lambda request: {"table": int(other, 16), "connect": 1})
        for directory in (nested, tmp_path):
            done = play("connect=127.0.0.1/4242", "connect=127.0.0.1/4242", env=env, cwd=directory)
            assert lines(done) == [f"connect 0 0 {port}"] * 2
        assert lines(play("connect=127.0.0.1/4242", env={}, cwd=root)) == [f"connect 0 0 {port}"]
    assert [request["method"] for request in agent.requests] == ["shim.table"] * 3
    assert agent.params("shim.table")[0] == {"session": [4242, 1234567]}


@pytest.mark.parametrize("answer", [{"table": 0, "connect": 1}, {"table": 5, "connect": 1}, {"table": -1, "connect": 1}, {"connect": 1}, b"garbage\n"])
def test_an_answer_without_a_table_leaves_connections_alone(play, agents, answer):  # noqa: F811
    agents(lambda request: answer)
    with serving() as port:
        assert lines(play(f"connect=127.0.0.1/{port}", env={})) == [f"connect 0 0 {port}"]


def test_connections_can_be_left_alone(play, publish, agents):  # noqa: F811
    with serving() as port:
        env = publish(row(LIVE, port, 1))
        assert lines(play(f"connect=127.0.0.1/{port}", env={**env, "PORTWRAP_CONNECT": "off"})) == [f"connect 0 0 {port}"]
        assert lines(play(f"connect=127.0.0.1/{port}", env={**env, "PORTWRAP_DISABLE": "1"})) == [f"connect 0 0 {port}"]
        agents(lambda request: {"table": int(env["PORTWRAP_TABLE"], 16), "connect": 0})
        assert lines(play(f"connect=127.0.0.1/{port}", env={})) == [f"connect 0 0 {port}"]


def test_a_program_without_descriptors_left_connects_as_it_said(play, publish):
    with serving() as port:
        done = play("tcp4", "tcp4", "limit", "close", f"connect=127.0.0.1/{port}", env=publish(row(LIVE, port, 1)))
        assert lines(done) == [f"connect 0 0 {port}"]


def test_no_descriptor_stays_open_after_a_connection(play, publish):
    with serving() as port:
        done = play("tcp4", "fds", "connect=127.0.0.1/4242", "fds", env=publish(row(LIVE, 4242, port)))
        assert lines(done)[0] == lines(done)[2]


def test_a_bind_that_nobody_answers_takes_the_port_of_last_time(play, publish):
    known, own = free(2)
    env = publish(row(LIVE, 4242, own, (9, 9)), row(STICKY, 4242, known))
    assert lines(play("tcp4", "bind=127.0.0.1/4242", "name", env=env)) == ["bind 0 0", f"name 127.0.0.1 {known}"]
    env = publish(row(LIVE, 4242, own, (4242, 1234567)), row(STICKY, 4242, known))
    assert lines(play("tcp4", "bind=127.0.0.1/4242", "name", env=env)) == ["bind 0 0", f"name 127.0.0.1 {own}"]
    with serving() as busy:
        asked = free()
        env = publish(row(STICKY, asked, busy))
        assert lines(play("tcp4", f"bind=127.0.0.1/{asked}", "name", env=env)) == ["bind 0 0", f"name 127.0.0.1 {asked}"]


def test_getsockname_says_what_was_asked_for_where_the_agent_says_so(play, agents):  # noqa: F811
    port, other = free(2)
    agents(lambda r: {"lease": 1, "port": port if r["params"]["port"] == 4242 else other, **({"requested": 1} if r["params"]["port"] == 4242 else {})}
           if r["method"] == "shim.bind" else {"notice": ""})
    done = play("tcp4", "bind=127.0.0.1/4242", "name", "tcp4", "bind=127.0.0.1/4243", "name", env={})
    assert lines(done) == ["bind 0 0", "name 127.0.0.1 4242", "bind 0 0", f"name 127.0.0.1 {other}"]


def test_a_cluster_worker_finds_what_was_asked_for_in_the_table(play, publish, agents):  # noqa: F811
    port = free()
    agents(grants(port))
    env = publish(row(LIVE, 4242, port, (4242, 1234567)))
    steps = ("tcp4", "bind=127.0.0.1/4242", "name")
    assert lines(play(*steps, env=env))[1] == f"name 127.0.0.1 {port}"
    assert lines(play(*steps, env={**env, "NODE_UNIQUE_ID": "1"}))[1] == "name 127.0.0.1 4242"
    assert lines(play(*steps, env={**env, "NODE_UNIQUE_ID": "1", "PORTWRAP_CONNECT": "off"}))[1] == "name 127.0.0.1 4242"
