"""Export, import and templates with the real programs."""

import json
import re
import shutil
import subprocess

import pytest


@pytest.fixture
def blog(house):
    return house.project("my blog", files={"package.json": '{"name": "blog"}'})


def ports(house, cwd=None):
    return {(lease["project"]["name"], lease["service"], lease["port"]) for lease in house.leases(cwd)}


@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
def test_what_one_registry_exports_another_imports(house, shop, blog, form, prefix, tmp_path_factory):
    house.portctl("get", "web", "--description", 'a "b" | c, d', "--hostname", "shop.example.org", cwd=shop)
    house.portctl("get", "packages/api", cwd=shop)
    house.portctl("reserve", "cache", "--ttl", "2h", cwd=blog)
    house.portctl("get", "db", "--kind", "database", cwd=shop)
    house.portctl("get", "checks", "--env", "test", cwd=shop)
    house.portctl("get", "NULL", "--description", "\\N", cwd=shop)
    text = house.portctl("export", "--all", "--format", form).stdout
    before = house.leases()
    assert {"database", "test"} <= {lease["range"] for lease in before}
    assert sum(lease["expires_at"] is not None for lease in before) == 1
    for lease in before:
        house.portctl("release", str(lease["port"]), "--force", cwd=shop)
    assert house.leases() == []
    (house.home / "file").write_text(text)
    reply = house.ask("import", "file", "--strict", cwd=house.home)
    assert (len(reply["imported"]), reply["refused"], reply["dry_run"]) == (len(before), [], False)
    # A table for people leaves out by whom, and when it was used last; a release ends what is heard of health.
    left_out = {"json": set(), "csv": set(), "markdown": {"allocated_by", "last_active_at"}}[form] | {"health"}
    compared = [key for key in before[0] if key not in left_out]
    assert [{key: lease[key] for key in compared} for lease in house.leases()] == [{key: lease[key] for key in compared} for lease in before]
    house.kill_agent()
    assert len(house.leases()) == len(before)


def test_an_env_file_carries_services_whose_variables_collide(house, shop):
    for service in ("my-api", "my_api", "a|b", "a,b"):
        house.portctl("get", service, cwd=shop)
    before = {(lease["service"], lease["port"]) for lease in house.leases(shop)}
    (house.home / "block.env").write_text(house.portctl("export", "--format", "env", cwd=shop).stdout)
    house.portctl("release", "--all", cwd=shop)
    assert house.leases(shop) == []
    reply = house.ask("import", str(house.home / "block.env"), "--strict", cwd=shop)
    assert reply["refused"] == [] and reply["strict_refused"] is False
    assert {(lease["service"], lease["port"]) for lease in house.leases(shop)} == before and len(before) == 4


def test_standard_input_is_imported_and_a_dry_run_changes_nothing(house, shop):
    text = json.dumps({"ports": {"shop": {"port": 3000}, str(shop): {"port": 3001}}}).encode()
    house.portctl("get", "web", cwd=shop)
    words = ["portctl", "import", "-", "--json"]
    done = house.run(*words, "--dry-run", cwd=shop, stdin=text)
    assert done.returncode == 1, (done.stdout, done.stderr)
    reply = json.loads(done.stdout)
    assert reply["dry_run"] is True and reply["format"] == "ports"
    assert len(reply["imported"]) == 1 and len(reply["refused"]) == 1
    assert len(house.leases()) == 1
    assert reply["strict_refused"] is False
    done = house.run(*words, "--strict", cwd=shop, stdin=text)
    assert done.returncode == 1
    reply = json.loads(done.stdout)
    assert reply["imported"] == [] and reply["strict_refused"] is True
    assert len(house.leases()) == 1
    assert house.run(*words, cwd=shop, stdin=text).returncode == 1
    assert len(house.leases()) == 2
    unknown = json.loads(house.run(*words, cwd=shop, stdin=b"{{").stdout)
    assert unknown["error"]["message"].startswith("standard input: ")


def test_names_are_mapped_known_or_refused(house, shop, blog):
    house.portctl("get", "web", cwd=shop)
    registry = {"ranges": {}, "metadata": {}, "allocations": [
        {"port": 3100, "worktree": "shop", "service": "api", "status": "in_use"},
        {"port": 3101, "worktree": "old-name", "service": "api"},
        {"port": 3102, "worktree": "nobody", "service": "api"},
        {"port": 3103, "worktree": "/no/such/dir", "service": "api"},
        {"port": "3104 x", "worktree": "shop", "service": "api"}]}
    (house.home / "ports.json").write_text(json.dumps(registry))
    done = house.portctl("import", "ports.json", "--map", f"old-name={blog}")
    assert done.returncode == 1
    assert re.findall(r"row (\d+):", done.stderr) == ["3", "4", "5"]
    assert {("shop", "api", 3100), ("blog", "api", 3101)} <= ports(house)
    (api,) = [lease for lease in house.leases(shop) if lease["service"] == "api"]
    assert api["state"] == "active"


def test_files_that_cannot_be_read_are_refused_with_the_reason(house, shop):
    assert house.refusal("import", "nothing.json", cwd=shop, status=3)["code"] == "NOT_FOUND"
    (shop / "bad.json").write_text("{")
    assert "not JSON" in house.refusal("import", "bad.json", cwd=shop, status=2)["message"]
    subprocess.run(["mkfifo", str(shop / "fifo")], check=True)
    assert "regular" in house.refusal("import", "fifo", cwd=shop, status=2)["message"]
    assert house.refusal("import", "bad.json", "--format", "xml", cwd=shop, status=2)["code"] == "INVALID_REQUEST"
    assert house.leases() == []


def test_a_managed_block_of_an_env_file_leaves_the_rest_alone(house, shop):
    api = house.portctl("get", "api", cwd=shop).stdout.strip()
    target = shop / ".env.local"
    target.write_text("SECRET=1\nAPI_PORT=1\n")
    target.chmod(0o600)
    assert house.portctl("export", "--format", "env", "--output", ".env.local", cwd=shop).returncode == 0
    text = target.read_text()
    assert text.startswith("SECRET=1\nAPI_PORT=1\n") and f"\nAPI_PORT={api}\n" in text
    assert target.stat().st_mode & 0o777 == 0o600
    web = house.portctl("get", "web", cwd=shop).stdout.strip()
    target.write_text(text + "LAST=1\n")
    assert house.portctl("export", "--format", "env", "--output", ".env.local", cwd=shop).returncode == 0
    text = target.read_text()
    assert text.endswith("LAST=1\n") and f"WEB_PORT={web}\n" in text and text.count(f"API_PORT={api}\n") == 1
    (shop / "block.env").write_text(text[text.index("# >>>"):])
    house.portctl("release", "--all", cwd=shop)
    house.ask("import", "block.env", cwd=shop)
    assert ports(house, shop) == {("shop", "api", int(api)), ("shop", "web", int(web))}


COMPOSE = """\
services:
  web:
    image: "nginx:alpine"   # the page
    ports:
      - "8000:80"
      - "127.0.0.1:8443:443"
  db:
    image: postgres
    ports: ["5432:5432"]
  worker:
    image: x
"""


def compose_override(house, cwd, name):
    done = house.portctl("export", "--format", "compose", "--output", name, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return (cwd / name).read_text()


def test_a_compose_override_publishes_what_the_file_does_on_the_ports_of_this_copy(house):
    main, linked = house.worktrees("shop", files={
        "package.json": "{}", "compose.yaml": COMPOSE,
        ".portwrap.json": '{"services": {"web": {"port": 8000}, "db": {"kind": "database", "port": 5432}, "api": {}}}'})
    yaml = pytest.importorskip("yaml", reason="python3-yaml is missing")
    overridden = []
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!override", lambda load, node: overridden.append(1) or load.construct_sequence(node))
    port = {}
    for place in (main, linked):
        for service in ("web", "db", "api"):
            port[place, service] = int(house.portctl("get", service, cwd=place).stdout)
        text = compose_override(house, place, "override.yaml")
        assert yaml.load(text, loader)["services"] == {
            "web": {"ports": [f"{port[place, 'web']}:80", "127.0.0.1:8443:443"]}, "db": {"ports": [f"{port[place, 'db']}:5432"]}}
        assert f"# not in compose.yaml: api {port[place, 'api']}" in text and f"COMPOSE_PROJECT_NAME={place.name} " in text
    assert len(overridden) == 4 and len(set(port.values())) == 6


@pytest.mark.parametrize("entries", [
    ' ["3000:3000", {target: 9090, published: 9090}, {target: 53, published: "5353", host_ip: 127.0.0.1, protocol: udp}]',
    '\n      - "3000:3000"\n      - {target: 9090, published: 9090}\n      - target: 53\n        published: "5353"\n        host_ip: 127.0.0.1\n        protocol: udp',
    '\n      - {published: 3000, target: 3000}\n      - "9090:9090"\n      -\n        target: 53\n        published: 5353\n        host_ip: 127.0.0.1\n        protocol: udp'])
def test_lists_of_both_syntaxes_keep_all_of_their_ports(house, shop, entries):
    (shop / "compose.yaml").write_text(f"services:\n  web:\n    image: x\n    ports:{entries}\n    restart: always\n")
    (shop / ".portwrap.json").write_text('{"services": {"web": {"port": 3000}}}')
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    text = house.portctl("export", "--format", "compose", cwd=shop).stdout
    assert text.endswith(f'  web:\n    ports: !override\n      - "{port}:3000"\n      - "9090:9090"\n      - "127.0.0.1:5353:53/udp"\n')
    assert "not understood" not in text


@pytest.mark.parametrize("web", [
    'web:\n    ports: ["3000:3000",\n      "9090:9090"]', "web:\n    ports: *common", "web:\n    ports:\n      - *common",
    'web: {image: x, ports: ["3000:3000", "9090:9090"]}', 'web:\n    ports: [{"target":9090}]', "web:\n    ports:\n      - published: 9090"])
def test_ports_in_a_form_that_is_not_understood_are_not_dropped_unsaid(house, shop, web):
    (shop / "compose.yaml").write_text(f"services:\n  {web}\n")
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    text = house.portctl("export", "--format", "compose", cwd=shop).stdout
    assert "# No compose file was read: " in text and "not understood" in text
    assert text.endswith(f'services:\n  web:\n    ports: !override\n      - "{port}:{port}"\n')


def compose_names(house, cwd, *words):
    return re.findall(r"COMPOSE_PROJECT_NAME=(\S+) ", house.portctl("export", "--format", "compose", *words, cwd=cwd).stdout)


def test_copies_in_directories_of_the_same_name_have_different_compose_projects(house):
    one, two, other = (house.project(name, files={"package.json": "{}"}) for name in ("z1/App", "z2/app", "z2/web"))
    house.portctl("get", "web", cwd=one)
    assert compose_names(house, one) == ["app"]
    for place in (two, other):
        house.portctl("get", "web", cwd=place)
    names = {place: compose_names(house, place) for place in (one, two, other)}
    assert names[other] == ["web"] and names[one] != names[two]
    for place in (one, two):
        assert len(names[place]) == 1 and re.fullmatch(r"app-[0-9a-f]{6}", names[place][0])
    house.kill_agent()
    assert {place: compose_names(house, place) for place in names} == names
    assert sorted(compose_names(house, one, "--all")) == sorted(name for (name,) in names.values())


def test_compose_takes_the_override(house, shop):
    """Docker Compose 2.24 knows `!override`; Debian's 1.29 does not, and takes the rest of the file without it."""
    (shop / "compose.yaml").write_text(COMPOSE)
    (shop / ".portwrap.json").write_text('{"services": {"web": {"port": 8000}, "api": {}}}')
    web = int(house.portctl("get", "web", "--range", "node", cwd=shop).stdout)
    house.portctl("get", "api", cwd=shop)
    text = compose_override(house, shop, "override.yaml")
    files = ["-f", "compose.yaml", "-f", "override.yaml", "config"]
    known = False
    if shutil.which("docker", path=house.env["PATH"]) and house.run("docker", "compose", "version").returncode == 0:
        done = house.run("docker", "compose", *files, "--format", "json", cwd=shop)
        published = json.loads(done.stdout)["services"]["web"]["ports"]
        assert sorted(entry["published"] for entry in published) == sorted([str(web), "8443"])
        known = True
    if shutil.which("docker-compose", path=house.env["PATH"]) and " 1." in house.run("docker-compose", "version").stdout:
        yaml = pytest.importorskip("yaml")
        (shop / "override.yaml").write_text(text.replace(" !override", ""))
        done = house.run("docker-compose", *files, cwd=shop)
        assert done.returncode == 0, done.stderr
        services = yaml.safe_load(done.stdout)["services"]
        # As text or as an object, as the file's version has it.
        published = [entry if isinstance(entry, str) else f"{entry['published']}:{entry['target']}/tcp" for entry in services["web"]["ports"]]
        assert set(services) == {"web", "db", "worker"} and f"{web}:80/tcp" in published
        known = True
    if not known:
        pytest.skip("neither `docker compose` nor docker-compose 1.29 is there")


RESOLVED = """name: shop
services:
  web:
    image: nginx
    networks:
      default: null
    ports:
      - mode: ingress
        target: 80
        published: "8000"
        protocol: tcp
      - mode: ingress
        host_ip: 127.0.0.1
        target: 53
        published: "5353"
        protocol: udp
networks:
  default:
    name: shop_default
"""
ANCHORED = """x-ports: &ports
  - "8000:80"
services:
  web:
    image: nginx
    ports: *ports
"""


def test_a_file_with_anchors_is_read_as_compose_resolves_it(house, shop):
    (shop / "compose.yaml").write_text(ANCHORED)
    (shop / ".portwrap.json").write_text('{"services": {"web": {"port": 8000}}}')
    web = house.portctl("get", "web", "--range", "node", cwd=shop).stdout.strip()
    alone = house.portctl("export", "--format", "compose", cwd=shop).stdout
    assert "not understood" in alone and "docker compose config | portctl export --format compose --compose-file -" in alone
    done = house.run("portctl", "export", "--format", "compose", "--compose-file", "-", cwd=shop, stdin=RESOLVED.encode())
    assert done.stdout.endswith(f'services:\n  web:\n    ports: !override\n      - "{web}:80"\n      - "127.0.0.1:5353:53/udp"\n'), done
    assert "docker compose -f compose.yaml -f THIS_FILE up" in done.stdout and "not understood" not in done.stdout
    (shop / "resolved.yaml").write_text(RESOLVED)
    assert house.portctl("export", "--format", "compose", "--compose-file", "resolved.yaml", cwd=shop).stdout == done.stdout
    # Debian's own resolver of such files, where it is there.
    if shutil.which("docker-compose", path=house.env["PATH"]) and " 1." in house.run("docker-compose", "version").stdout:
        resolved = house.run("docker-compose", "-f", "compose.yaml", "config", cwd=shop)
        assert resolved.returncode == 0, resolved.stderr
        by_it = house.run("portctl", "export", "--format", "compose", "--compose-file", "-", cwd=shop, stdin=resolved.stdout.encode())
        assert f'- "{web}:80' in by_it.stdout, (resolved.stdout, by_it)
    for words, status in ((["--compose-file", "package.json"], 2), (["--compose-file", "nowhere"], 3), (["--all", "--compose-file", "resolved.yaml"], 2)):
        assert house.portctl("export", "--format", "compose", *words, cwd=shop).returncode == status
    assert house.portctl("export", "--format", "env", "--compose-file", "resolved.yaml", cwd=shop).returncode == 2


def test_without_a_compose_file_every_service_has_its_port(house, shop):
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    assert f'  web:\n    ports: !override\n      - "{port}:{port}"\n' in house.portctl("export", "--format", "compose", cwd=shop).stdout
    (shop / "compose.yml").mkdir()
    assert f'"{port}:{port}"' in house.portctl("export", "--format", "compose", cwd=shop).stdout


def test_a_compose_file_that_is_not_understood_is_said(house, shop):
    (shop / "compose.yaml").write_text('services: {web: {image: x, ports: ["3000:3000", "9090:9090"]}}\n')
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    text = house.portctl("export", "--format", "compose", cwd=shop).stdout
    assert "# No compose file was read: " in text and text.endswith(f'      - "{port}:{port}"\n')
    (shop / "compose.yaml").write_text(COMPOSE)
    assert "# No compose file" not in house.portctl("export", "--format", "compose", cwd=shop).stdout


def test_templates_carry_the_real_port(house, shop):
    assert house.refusal("template", "vite", cwd=shop, status=3)["code"] == "NOT_FOUND"
    port = house.portctl("get", "web", cwd=shop).stdout.strip()
    kinds = [entry["kind"] for entry in house.ask("template", "--list")["templates"]]
    assert {"express", "vite", "next", "flask", "django", "docker-compose", "env", "systemd", "nginx"} <= set(kinds)
    for kind in kinds:
        done = house.portctl("template", kind, "web", cwd=shop)
        assert done.returncode == 0 and port in done.stdout, (kind, done)
    assert house.portctl("template", "env", cwd=shop).stdout == f"WEB_PORT={port}\n"
    # As the export calls it, where two services' names give the same variable.
    for name in ("my-api", "my_api"):
        house.portctl("get", name, cwd=shop)
    exported = house.portctl("export", "--format", "env", cwd=shop).stdout.splitlines()
    told = [house.portctl("template", "env", name, cwd=shop).stdout.strip() for name in ("my-api", "my_api")]
    assert len(set(line.split("=")[0] for line in told)) == 2 and set(told) <= set(exported)
    assert house.refusal("template", "nothing", cwd=shop, status=3)["code"] == "NOT_FOUND"
    assert house.portctl("template", cwd=shop).returncode == 2


def test_a_project_s_name_puts_no_directive_into_a_server_s_config(house):
    root = house.project("shop", files={".portwrap.json": '{"name": "shop; location /api { root /; autoindex on; } #"}'})
    house.portctl("get", "web", cwd=root)
    for kind in ("nginx", "apache", "caddy", "traefik"):
        text = house.portctl("template", kind, "web", cwd=root).stdout
        assert "shop-location-api-root-autoindex-on.localhost" in text and "root /" not in text, text


def test_express_runs_from_its_template(house):
    root = house.project("express", "express")
    port = int(house.portctl("get", "main", cwd=root).stdout)
    (root / "server.js").write_text(house.portctl("template", "express", cwd=root).stdout)
    server = house.wrap("node", "server.js", cwd=root)
    server.wait_for(rf"listens on http://localhost:{port}")
