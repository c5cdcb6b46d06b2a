"""What the agent does with a registry that is torn, damaged, read-only, out of space or from the future: what was
acknowledged is kept, losses are said, programs run."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from house import RANGES, Rpc, is_listening, wait_until


def get(house, service, cwd):
    done = house.portctl("get", service, cwd=cwd)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return int(done.stdout)


def services(house, cwd):
    return {lease["service"]: lease["port"] for lease in house.leases(cwd)}


def set_aside(house):
    return sorted(path.name for path in house.registry.iterdir() if ".corrupt-" in path.name)


def contents(house):
    """Every file of the registry but the log and the lock."""
    return {path.name: path.read_bytes() for path in house.registry.iterdir() if not path.name.startswith("agent.")}


def two_listeners_run(house, listener, managed=None):
    """Two copies of a server that hard-codes its port both listen."""
    ports = []
    for name in ("left", "right"):
        process = house.wrap(listener, "bind", "3000", cwd=house.project(name))
        ports.append(int(process.wait_for(r"^\d+ (-?\d+)$", "stdout")[1]))
        if managed:
            assert "unmanaged" not in process.stderr
    assert ports[0] != ports[1] and all(port > 0 and is_listening(port) for port in ports), ports


def fill(directory):
    """A file that takes the rest of the disk; truncate it to free the disk."""
    file = open(directory / "filler", "wb", buffering=0)
    with pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    return file


def test_the_files_are_private_and_readable_json(house):
    root = house.project("shop")
    port = get(house, "web", root)
    journal = (house.registry / "journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in journal]
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    house.stop_agent()
    snapshot = json.loads((house.registry / "ports.json").read_text())
    assert isinstance(snapshot["schema_version"], int)
    assert "last_updated" in json.dumps(snapshot)
    assert f'{port}' in json.dumps(snapshot)
    assert house.registry.stat().st_mode & 0o077 == 0


def test_a_torn_last_line_is_dropped_and_everything_before_it_kept(house):
    root = house.project("shop")
    kept = {name: get(house, name, root) for name in ("a", "b")}
    get(house, "c", root)
    house.kill_agent()
    journal = house.registry / "journal.jsonl"
    whole = journal.read_bytes()
    assert whole.endswith(b"\n")
    last = whole[:-1].rfind(b"\n") + 1
    journal.write_bytes(whole[: (last + len(whole)) // 2])

    assert services(house, root) == kept
    assert set_aside(house) == []
    kept["d"] = get(house, "d", root)
    house.kill_agent()
    assert services(house, root) == kept


def test_every_length_of_a_cut_journal_leaves_a_registry_that_works(house):
    root = house.project("shop")
    for name in ("a", "b"):
        get(house, name, root)
    house.kill_agent()
    journal = house.registry / "journal.jsonl"
    whole = journal.read_bytes()
    ports = None
    for length in sorted({0, 1, len(whole) // 3, len(whole) // 2, whole.find(b"\n"), whole.find(b"\n") + 1, len(whole) - 1}):
        journal.write_bytes(whole[:length])
        lines = whole[:length].splitlines()
        found = services(house, root)
        assert {service for service in "ab" if any(f'"service":"{service}"'.encode() in line for line in lines if line.endswith(b"}"))} <= set(found) <= {"a", "b"}
        ports = services(house, root)
        assert len(set(ports.values())) == len(ports)
        house.kill_agent()


def test_damage_in_the_middle_of_the_journal_keeps_what_is_before_it_and_says_so(house):
    root = house.project("shop")
    ports = {name: get(house, name, root) for name in ("a", "b", "c", "d")}
    house.kill_agent()
    journal = house.registry / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    (hit,) = [index for index, line in enumerate(lines) if b'"c"' in line][:1]
    lines[hit] = lines[hit][:20] + b"\x00\xff garbage \xfe" + lines[hit][40:]
    journal.write_bytes(b"".join(lines))

    found = services(house, root)
    assert {name: found.get(name) for name in ("a", "b")} == {name: ports[name] for name in ("a", "b")}
    assert "c" not in found
    assert set_aside(house), os.listdir(house.registry)
    assert re.search("corrupt|damage", house.log, re.IGNORECASE), house.log
    again = get(house, "c", root)
    house.kill_agent()
    assert services(house, root) == {**found, "c": again}


def test_one_changed_digit_in_the_journal_is_noticed(house):
    root = house.project("shop")
    port = get(house, "a", root)
    get(house, "b", root)
    house.kill_agent()
    journal = house.registry / "journal.jsonl"
    whole = journal.read_bytes()
    position = whole.find(str(port).encode())
    journal.write_bytes(whole[:position + 3] + (b"7" if whole[position + 3:position + 4] != b"7" else b"6") + whole[position + 4:])
    assert services(house, root).get("a") in (None, port)
    assert set_aside(house)


@pytest.mark.parametrize("garbage", [b"", b"{", b"\x00\xff\xfe" * 100, b'{"schema_version": 1}', b"[]", b'"x"'],
                         ids=["empty", "cut", "binary", "bare", "array", "text"])
def test_a_damaged_snapshot_is_set_aside_and_the_backup_and_the_journal_are_used(house, garbage):
    root = house.project("shop")
    ports = {"a": get(house, "a", root)}
    house.stop_agent()
    ports["b"] = get(house, "b", root)
    house.stop_agent()
    ports["c"] = get(house, "c", root)
    house.kill_agent()
    (house.registry / "ports.json").write_bytes(garbage)

    found = services(house, root)
    assert found == ports
    assert any(name.startswith("ports.json.corrupt-") for name in set_aside(house)), os.listdir(house.registry)
    assert re.search("corrupt|damage", house.log, re.IGNORECASE), house.log
    ports["d"] = get(house, "d", root)
    house.kill_agent()
    assert services(house, root) == ports


def test_a_registry_of_a_newer_version_is_not_touched_and_commands_run_unmanaged(house):
    root = house.project("shop")
    get(house, "web", root)
    house.stop_agent()
    house.make_registry_newer()
    before = contents(house)

    refusal = house.refusal("list", cwd=root, status=69)
    assert refusal["code"] == "VERSION_MISMATCH" and "schema_version 99 is newer" in refusal["message"]
    done = house.run("portwrap", "echo", "hi", cwd=root)
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert "unmanaged" in done.stderr
    wait_until(lambda: house.agent_pids() == [], "the agent that refused to serve is gone")
    assert contents(house) == before


def test_a_read_only_registry_keeps_programs_running_and_refuses_new_names(house, listener):
    root = house.project("shop")
    if os.geteuid() == 0 and not house.mount_registry():
        pytest.skip("this root may not mount a file system")
    port = get(house, "web", root)
    house.stop_agent()
    if os.geteuid() == 0:
        house.remount_registry("ro")
    else:
        for name in contents(house):
            (house.registry / name).chmod(0o400)
        house.registry.chmod(0o500)
    try:
        before = contents(house)
        assert get(house, "web", root) == port
        error = house.refusal("get", "more", cwd=root, status=5)
        assert error["code"] == "STORAGE_ERROR"
        assert services(house, root) == {"web": port}
        two_listeners_run(house, listener, managed=True)
        assert contents(house) == before
    finally:
        if os.geteuid() != 0:
            house.registry.chmod(0o700)


def test_a_full_disk_refuses_names_keeps_the_old_ones_and_programs_get_ports(house, listener):
    if not house.mount_registry("256k"):
        pytest.skip("a small file system can be mounted by root only")
    root = house.project("shop")
    acknowledged = {"web": get(house, "web", root)}
    filler = fill(house.registry)

    # The journal's last page has room for some more events; whatever is granted there must be kept as well.
    refused = None
    for index in range(200):
        done = house.portctl("get", f"s{index}", "--json", cwd=root)
        if done.returncode != 0:
            refused = done
            break
        acknowledged[f"s{index}"] = json.loads(done.stdout)["lease"]["port"]
    assert refused is not None, "the disk was full, but every name was granted"
    assert refused.returncode == 5, refused.stdout
    assert json.loads(refused.stdout)["error"]["code"] == "STORAGE_ERROR"
    assert services(house, root) == acknowledged
    two_listeners_run(house, listener, managed=True)
    house.kill_agent()
    assert services(house, root) == acknowledged

    filler.truncate(0)
    filler.close()
    acknowledged["after"] = get(house, "after", root)
    house.kill_agent()
    assert services(house, root) == acknowledged


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root only")
@pytest.mark.parametrize("disk", ["full", "without a registry, read-only"])
def test_the_first_agent_on_a_disk_that_takes_nothing_gives_ports_to_programs(house, listener, disk):
    """No file can be made there, not even the lock: names are refused with the reason, and there is still one agent."""
    if not (house.mount_registry("64k,nr_inodes=1") if disk == "full" else house.mount(house.state, "size=64k,ro")):
        pytest.skip("this root may not mount a file system")
    root = house.project("shop")
    agents = [house.start("portwrap-agent", cwd="/") for _ in range(8)]
    wait_until(lambda: house.socket.exists() and len(house.agent_pids()) == 1, lambda: f"one of {len(agents)} agents serves")
    error = house.refusal("get", "web", cwd=root, status=5)
    assert error["code"] == "STORAGE_ERROR", error
    two_listeners_run(house, listener, managed=True)
    assert len(house.leases()) == 2
    assert len(house.agent_pids()) == 1
    doctor = house.portctl("doctor", cwd=root)
    assert re.search("cannot be written", doctor.stdout), doctor.stdout
    subprocess.run(["mount", "-o", "remount,rw,nr_inodes=100", str(house.registry if disk == "full" else house.state)], check=True)
    assert house.portctl("agent", "restart").returncode == 0
    port = get(house, "web", root)
    house.kill_agent()
    assert services(house, root) == {"web": port}


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_a_full_disk_refused_does_not_happen_after_the_next_start(house, end):
    if not house.mount_registry("400k"):
        pytest.skip("a small file system can be mounted by root only")
    root = house.project("shop")
    ports = {service: get(house, service, root) for service in "abc"}
    journal = house.registry / "journal.jsonl"
    connection = Rpc(house)

    def ask(method, **params):
        reply = connection.call(method, {"cwd": str(root), **params})
        return reply["error"]["data"]["code"] if "error" in reply else "ok"

    # The journal's last page gets room for one more line, and not for two.
    line = len(journal.read_bytes().splitlines()[-1]) + 1
    for index in range(60):
        if line + 150 < -journal.stat().st_size % 4096 < 2 * line - 60:
            break
        assert ask("lease.update", service="b", description="x" * (index * 37 % 300)) == "ok"
    filler = fill(house.registry)
    assert ask("lease.update", service="b", description="y" * 1000) == "STORAGE_ERROR"
    assert ask("lease.release", service="a") == "STORAGE_ERROR"
    assert services(house, root) == ports
    assert house.portctl("get", "a", cwd=root).returncode == 0, "what is on the disk is granted on a full one, too"
    connection.close()
    if end == "kill":
        house.kill_agent()
    else:
        house.stop_agent()
    assert services(house, root) == ports
    filler.truncate(0)
    filler.close()
    assert house.portctl("release", "a", cwd=root).returncode == 0, "with room on the disk the agent mends itself"
    house.kill_agent()
    assert services(house, root) == {"b": ports["b"], "c": ports["c"]}


def test_a_name_on_the_disk_is_granted_although_an_event_of_a_program_was_lost(house, listener):
    if not house.mount_registry("256k"):
        pytest.skip("a small file system can be mounted by root only")
    root = house.project("shop")
    port = get(house, "web", root)
    house.stop_agent()
    assert get(house, "web", root) == port
    fill(house.registry).close()
    for name in ("left", "middle", "right", "last"):
        house.wrap(listener, "bind", "3000", cwd=house.project(name)).wait_for(r"^\d+ (-?\d+)$", "stdout")
    assert get(house, "web", root) == port
    assert house.refusal("get", "more", cwd=root, status=5)["code"] == "STORAGE_ERROR"


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "deleted with the directory", "moved with the directory",
                                 "moved with the directory, an empty one in its place"])
def test_a_journal_that_somebody_takes_away_is_made_anew(house, how):
    root = house.project("shop")
    acknowledged = {service: get(house, service, root) for service in "ab"}
    journal = house.registry / "journal.jsonl"
    if how == "deleted":
        journal.unlink()
    elif how == "moved":
        os.rename(journal, house.registry / "journal.old")
    elif how == "replaced":
        shutil.copy(journal, house.registry / "copy")
        os.rename(house.registry / "copy", journal)
    elif "moved" in how:
        os.rename(house.registry, f"{house.registry}.old")
        if "empty" in how:
            house.registry.mkdir(mode=0o700)
    else:
        shutil.rmtree(house.registry)
    for service in "cdef":
        done = house.portctl("get", service, cwd=root)
        if done.returncode == 0:
            acknowledged[service] = int(done.stdout)
        else:
            assert done.returncode == 5 and "the journal was deleted, moved or replaced" in done.stderr, done.stderr
    assert len(acknowledged) >= 5, acknowledged
    house.kill_agent()
    assert services(house, root) == acknowledged


def test_a_registry_whose_directory_was_deleted_has_one_agent_all_the_same(house):
    """Another login's agent does not begin a second registry, or the first one keeps away from it."""
    root, blog = house.project("shop"), house.project("blog")
    port = get(house, "web", root)
    login = house.state / "login"
    login.mkdir(mode=0o700)
    other = {"XDG_RUNTIME_DIR": str(login)}
    shutil.rmtree(house.registry)
    house.portctl("get", "api", cwd=root)
    get(house, "more", root)  # by now the directory is there again, and locked
    done = house.portctl("get", "web", cwd=blog, env=other)
    assert done.returncode == 69 or int(done.stdout) != port, done.stdout
    assert len(house.agent_pids()) == 1
    shutil.rmtree(house.registry)
    taken = house.portctl("get", "web", cwd=blog, env=other)
    assert taken.returncode == 0
    before = contents(house)
    for service in "xyz":
        house.portctl("get", service, cwd=root)
    house.kill_agent()
    assert contents(house) == before, "nothing was written into the other agent's registry"
    assert house.portctl("agent", "stop", env=other).returncode == 0


def test_an_agent_whose_directory_was_moved_leaves_the_next_ones_registry_alone(house):
    root, blog = house.project("shop"), house.project("blog")
    get(house, "web", root)
    login = house.state / "login"
    login.mkdir(mode=0o700)
    other = {"XDG_RUNTIME_DIR": str(login)}
    os.rename(house.registry, f"{house.registry}.old")
    ports = {}
    for service in "abc":
        done = house.portctl("get", service, cwd=blog, env=other)
        assert done.returncode == 0, done.stderr
        ports[service] = int(done.stdout)
    before = contents(house)
    house.portctl("get", "first", cwd=root)
    error = house.refusal("get", "second", cwd=root, status=5)
    assert "another agent has made it anew" in error["message"], error
    checks = {check["name"]: check for check in house.ask("doctor", cwd=root, status=1)["checks"]}
    assert "another agent has made it anew" in checks["journal"]["detail"], checks
    assert house.portctl("agent", "stop").returncode == 0
    wait_until(lambda: not house.agent_pids(), "the first agent ends")
    assert contents(house) == before, "nothing was written into the other agent's registry"
    ports["d"] = int(house.portctl("get", "d", cwd=blog, env=other).stdout)
    os.kill(int(json.loads(house.portctl("agent", "status", "--json", env=other).stdout)["agent"]["pid"]), signal.SIGKILL)
    done = house.portctl("list", "--json", cwd=blog, env=other)
    assert {lease["service"]: lease["port"] for lease in json.loads(done.stdout)["leases"]} == ports
    assert house.portctl("agent", "stop", env=other).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of one's own can be mounted by root only")
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_on_a_disk_that_became_read_only_names_are_answered_and_new_ones_refused_with_the_reason(house, end):
    if not house.mount_registry():
        pytest.skip("this root may not mount a file system")
    root = house.project("shop")
    port = get(house, "web", root)
    house.kill_agent() if end == "kill" else house.stop_agent()
    house.remount_registry("ro")
    before = contents(house)
    assert get(house, "web", root) == port, "it was acknowledged and is on the disk"
    for words in (["get", "more"], ["release", "web"]):
        message = house.refusal(*words, cwd=root, status=5)["message"]
        assert re.search(r"nothing was changed: .*Read-only file system", message), message
    checks = {check["name"]: check for check in house.ask("doctor", cwd=root, status=1)["checks"]}
    for name, status in (("journal", "error"), ("snapshot", "warning")):
        assert checks[name]["status"] == status and "Read-only file system" in checks[name]["detail"], checks
    assert contents(house) == before
    assert services(house, root) == {"web": port}
    house.kill_agent()
    house.remount_registry("rw")
    assert services(house, root) == {"web": port}


def test_snapshots_that_cannot_be_written_are_said_until_they_can(house):
    root = house.project("shop")
    house.start_agent()
    obstacle = house.registry / "ports.json.tmp"
    obstacle.mkdir()

    def snapshot():
        (check,) = [check for check in house.ask("doctor", cwd=root)["checks"] if check["name"] == "snapshot"]
        return check

    assert snapshot()["status"] == "ok"
    ports = {name: get(house, name, root) for name in ("a", "b")}
    said = f"{obstacle}: Is a directory"
    for times in (1, 2):
        # Where it ends it has tried and says so; the next one finds that there is none, tries at once, and says it itself.
        assert house.stop_agent() is None
        assert services(house, root) == ports
        wait_until(lambda: snapshot()["status"] == "warning" and said in snapshot()["detail"], snapshot)
        get(house, "b", root)
        assert len([line for line in house.log.splitlines() if " warning " in line and said in line]) <= 2 * times, house.log
    assert said in house.log
    obstacle.rmdir()
    house.stop_agent()
    assert (house.registry / "ports.json").is_file()
    assert services(house, root) == ports
    assert snapshot()["status"] == "ok"


def test_a_damaged_name_of_the_machine_hides_no_registry(house):
    root = house.project("shop")
    ports = {"web": get(house, "web", root)}
    house.stop_agent()
    machine = house.registry / "machine"
    right = machine.read_bytes()
    for wrong in (right[:5] + bytes([right[5] ^ 1]) + right[6:], b"unknown\n", b"\0" * 33, right[:20]):
        machine.write_bytes(wrong)
        assert services(house, root) == ports, wrong
        assert machine.read_bytes() == right
        house.kill_agent()


@pytest.mark.parametrize("name", ["ports.json", "journal.jsonl", "ports.json.bak"])
@pytest.mark.parametrize("what", ["a FIFO", "endless"])
def test_what_is_no_file_is_named_and_touched_by_nobody(house, name, what):
    root = house.project("shop")
    get(house, "web", root)
    house.stop_agent()
    path = house.registry / name
    for other in ("ports.json", "ports.json.bak", "journal.jsonl"):
        (house.registry / other).unlink(missing_ok=True)
    if what == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    refusal = house.refusal("list", cwd=root, status=5)
    assert refusal["code"] == "STORAGE_ERROR" and str(path) in refusal["message"] and "not a regular file" in refusal["message"]
    done = house.run("portwrap", "echo", "hi", cwd=root)
    assert (done.returncode, done.stdout) == (0, "hi\n") and "not a regular file" in done.stderr


def test_why_an_agent_cannot_start_is_said_by_the_command(house):
    root = house.project("shop")
    house.registry.mkdir(mode=0o755)
    house.registry.chmod(0o755)
    done = house.portctl("list", cwd=root)
    assert done.returncode != 0 and str(house.registry) in done.stderr and "0700" in done.stderr, done.stderr
    assert str(house.registry) in house.run("portwrap", "echo", "hi", cwd=root).stderr


def test_an_agent_without_descriptors_takes_nothing_for_free_or_dead(house, listener):
    root = house.project("shop")
    with socket.create_server(("127.0.0.1", 3000)):
        agent = house.start("prlimit", "--nofile=64:64", str(house.prefix / "bin" / "portwrap-agent"), cwd="/")
        wait_until(house.socket.exists, "it listens")
        running = house.wrap(listener, "bind", "3001", cwd=root)
        port = int(running.wait_for(r"^\d+ (-?\d+)$", "stdout")[1])
        assert house.portctl("get", "warm", cwd=root).returncode == 0
        others = []
        descriptors = f"/proc/{house.agent_pids()[0]}/fd"
        try:
            for _ in range(80):
                if len(os.listdir(descriptors)) >= 63:
                    break
                others.append(Rpc(house))
        except OSError:
            pass
        for words in (["get", "web"], ["next", "node"], ["allocate", "3000"]):
            done = house.portctl(*words, cwd=root)
            assert done.returncode != 0 or int(done.stdout) not in (3000, port), (words, done.stdout)
        house.portctl("cleanup", "--yes", cwd=root)
        for other in others:
            other.close()
        wait_until(lambda: house.portctl("list", cwd=root).returncode == 0, "it has descriptors again")
        assert {lease["port"] for lease in house.leases(root) if lease["state"] == "active"} == {port}
        assert agent._popen.poll() is None


def test_a_limit_on_the_size_of_files_ends_no_agent(house):
    root = house.project("shop")
    house.start("prlimit", "--fsize=4096", str(house.prefix / "bin" / "portwrap-agent"), cwd="/")
    wait_until(house.socket.exists, "it listens")
    acknowledged = {}
    for index in range(12):
        done = house.portctl("get", f"s{index}", cwd=root)
        if done.returncode == 0:
            acknowledged[f"s{index}"] = int(done.stdout)
        else:
            assert done.returncode == 5, done.stderr
    assert 0 < len(acknowledged) < 12
    assert house.stop_agent() is None
    assert services(house, root) == acknowledged


def test_ports_of_named_leases_are_of_the_right_range(house):
    for name, files, expected in (
            ("n", {"package.json": '{"name": "n"}'}, "node"), ("p", {"requirements.txt": ""}, "python"),
            ("h", {"composer.json": "{}"}, "php"), ("s", {"index.html": ""}, "static")):
        low, high = RANGES[expected]
        assert low <= get(house, "web", house.project(name, files=files)) <= high
