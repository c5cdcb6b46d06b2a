"""Health: per-service paths and time-outs, results as history, checks by themselves, and the end of a listener without polling."""

import json
import os
import signal

import pytest

from house import is_listening, wait_until

CONFIG = '{"services": {"web": {"health": {"path": "/content.txt", "timeout": "1s"}}, "mute": {"health": {"path": "/", "timeout": "1s"}}}}'


@pytest.fixture
def shop(house):
    return house.project("shop", files={"package.json": '{"name": "shop"}', ".portwrap.json": CONFIG})


def web(house, shop):
    (lease,) = [lease for lease in house.leases(shop) if lease["service"] == "web"]
    return lease


def test_a_service_has_a_timeout_of_its_own_and_results_are_kept(house, shop):
    house.serve_unwrapped(int(house.portctl("get", "web", cwd=shop).stdout), shop)
    mute = house.serve_silence(int(house.portctl("get", "mute", cwd=shop).stdout), shop)
    for _ in range(2):
        reply = house.ask("health", cwd=shop, status=1)
    mute.kill()
    checks = {check["lease"]["service"]: check for check in reply["checks"]}
    assert checks["mute"]["error"] == "no answer within 1000 ms"
    assert [entry["health"] for entry in checks["mute"]["history"]] == ["unhealthy"] * 2
    assert [entry["health"] for entry in checks["web"]["history"]] == ["healthy"] * 2
    assert checks["web"]["history"][1] == {name: checks["web"][name] for name in ("health", "response_ms", "checked_at", "error")}
    mute.wait()
    reply = house.ask("health", cwd=shop)
    checks = {check["lease"]["service"]: check for check in reply["checks"]}
    assert [entry["health"] for entry in checks["mute"]["history"]] == ["unhealthy", "unhealthy", "not_running"]


def test_a_listener_that_goes_away_is_not_running_and_nobody_has_to_look(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    watch = house.start("portctl", "watch", "--json", cwd=shop)
    server = house.wrap("python3", "-m", "http.server", str(port), cwd=shop)
    wait_until(lambda: '"activated"' in watch.stdout, lambda: watch.stdout)
    assert web(house, shop)["health"] == "unknown"
    server.kill()
    watch.wait_for('"event":"silenced"')
    last = [json.loads(line) for line in watch.stdout.splitlines() if '"silenced"' in line][-1]
    assert last["lease"]["health"] == "not_running" and last["lease"]["state"] == "allocated"


def test_services_are_checked_by_themselves_where_the_config_says_so(house, shop):
    (house.config / "portwrap").mkdir()
    (house.config / "portwrap/config.json").write_text('{"health_interval": "1s"}')
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    server = house.wrap("python3", "-m", "http.server", str(port), cwd=shop)
    wait_until(lambda: web(house, shop)["health"] == "healthy", "it is well")
    (holder,) = [lease["holder"]["pid"] for lease in house.leases(shop) if lease["holder"]]
    os.kill(holder, signal.SIGSTOP)
    wait_until(lambda: web(house, shop)["health"] == "unhealthy", "it is stopped")
    os.kill(holder, signal.SIGCONT)
    wait_until(lambda: web(house, shop)["health"] == "healthy", "it goes on")
    server.kill()
    wait_until(lambda: web(house, shop)["health"] == "not_running", "it has ended")


def test_health_is_watched(house, shop):
    house.serve_unwrapped(int(house.portctl("get", "web", cwd=shop).stdout), shop)
    watch = house.start("portctl", "health", "web", "--watch", "--interval", "0.1", "--json", cwd=shop)
    watch.wait_for('"healthy"', count=3)
    assert json.loads(watch.stdout.splitlines()[0])["checks"][0]["health"] == "healthy"


def test_a_wrong_timeout_is_named_with_its_line(house, shop):
    (shop / ".portwrap.json").write_text('{"services": {"web": {\n"health": {"path": "/", "timeout": "1h"}}}}')
    done = house.run("portwrap", "--dry-run", "true", cwd=shop)
    assert ".portwrap.json:2: services.web.health.timeout: must be a time from" in done.stdout + done.stderr


def test_a_watched_service_is_checked_when_its_state_changes(house, shop):
    """At an interval of an hour: whatever comes after the first check is the events' doing."""
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    watch = house.start("portctl", "health", "web", "--watch", "--interval", "3600", "--json", cwd=shop)

    def state(expected):
        def seen():
            checks = [json.loads(line)["checks"] for line in watch.stdout.splitlines(keepends=True) if line.endswith("\n")]
            return bool(checks and checks[-1]) and checks[-1][0]["health"] == expected

        wait_until(seen, lambda: watch.stdout)

    state("not_running")
    server = house.wrap("python3", "-m", "http.server", str(port), cwd=shop)
    state("healthy")
    server.kill()
    state("not_running")
    assert house.portctl("agent", "restart").returncode == 0
    house.wrap("python3", "-m", "http.server", str(port), cwd=shop)
    state("healthy")


def test_watching_what_is_not_there_ends_at_once(house, shop):
    assert house.portctl("health", "nothing", "--watch", cwd=shop).returncode == 3


def test_a_stranger_s_answer_is_not_the_service_s(house, shop):
    port = int(house.portctl("get", "plain", cwd=shop).stdout)
    stranger = house.serve_unwrapped(port, house.home)
    (check,) = house.ask("health", "plain", cwd=shop, status=1)["checks"]
    assert check["health"] == "unhealthy" and f"portctl check {port}" in check["error"] and check["response_ms"] is None
    stranger.kill()
    wait_until(lambda: house.ask("health", "plain", cwd=shop)["checks"][0]["health"] == "not_running", "the stranger has gone")
    house.serve_unwrapped(port, shop)
    assert house.ask("health", "plain", cwd=shop)["checks"][0]["health"] == "healthy"


def test_datagrams_are_checked_as_far_as_they_can_be(house, shop):
    port = int(house.portctl("allocate", "dns", "--protocol", "udp", cwd=shop).stdout)
    assert house.ask("health", "dns", cwd=shop)["checks"][0]["health"] == "not_running"
    program = f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', {port})); print('bound', flush=True); s.recv(1)"
    house.start("python3", "-c", program, cwd=shop).wait_for("bound")
    assert house.ask("health", "dns", cwd=shop)["checks"][0]["health"] == "healthy"


def test_a_server_that_listens_on_one_address_alone_is_asked_there(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    server = house.start("python3", "-m", "http.server", str(port), "--bind", "127.0.0.9", cwd=shop)
    server.wait_for("^Serving HTTP")
    (shop / "content.txt").write_text("here")
    assert house.ask("health", "web", cwd=shop)["checks"][0]["health"] == "healthy"


STATUS_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_redirection_is_well_and_every_other_word_is_an_error(house):
    """Each status is a service of its own, with a server of its own."""
    statuses = {204: True, 302: True, 399: True, 400: False, 404: False, 503: False}
    shop = house.project("shop", files={"package.json": "{}", ".portwrap.json": json.dumps(
        {"services": {f"s{status}": {"health": f"/{status}"} for status in statuses}})})
    for status in statuses:
        port = int(house.portctl("get", f"s{status}", cwd=shop).stdout)
        house.start("python3", "-c", STATUS_SERVER, str(port), cwd=shop)
        wait_until(lambda port=port: is_listening(port), "it listens")
    checks = {check["lease"]["service"]: check for check in house.ask("health", cwd=shop, status=1)["checks"]}
    for status, well in statuses.items():
        check = checks[f"s{status}"]
        assert (check["health"], check["error"]) == (("healthy", None) if well else ("unhealthy", f"HTTP status {status}"))


def test_a_check_that_waits_holds_up_nobody(house):
    shop = house.project("shop", files={"package.json": "{}", ".portwrap.json": '{"services": {"mute": {"health": {"path": "/", "timeout": "20s"}}}}'})
    mute = house.serve_silence(int(house.portctl("get", "mute", cwd=shop).stdout), shop)
    waiting = [house.start("portctl", "health", "mute", cwd=shop) for _ in range(8)]  # more than are made at once
    for number in range(8):
        assert house.portctl("get", f"s{number}", cwd=shop).returncode == 0
    assert all(check.running() for check in waiting)
    mute.kill()
    # Those that waited saw the connection close, the others that nobody listens.
    assert {check.wait() for check in waiting} <= {0, 1}


BAD_REQUEST = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
open_ones = []
while True:
    connection, _ = listener.accept()
    asked = connection.recv(4096)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"HTTP/1.1 400 Bad Request\\r\\nContent-Type: text/html\\r\\n\\r\\n")
    if sys.argv[2] == "words":
        time.sleep(0.02)  # so that it is a segment of its own
        connection.sendall(b"The plain HTTP request was sent to an HTTPS port")
    open_ones.append(connection)  # and does not hang up
"""


@pytest.mark.parametrize("answer", ["words", "silence"])
def test_words_behind_a_refusal_s_status_are_waited_for(house, answer):
    shop = house.project("shop", files={"package.json": "{}", ".portwrap.json": '{"services": {"web": {"health": {"path": "/", "timeout": "20s"}}}}'})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    house.start("python3", "-c", BAD_REQUEST, str(port), answer, cwd=shop)
    wait_until(lambda: is_listening(port), "it listens")
    (found,) = house.ask("health", "web", cwd=shop, status=1)["checks"]
    assert found["error"].startswith("HTTP status 400") and ("does it speak TLS?" in found["error"]) == (answer == "words"), found


@pytest.mark.parametrize("options, said", [(["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM8"], "alert 40, handshake_failure"),
                                           (["-tls1_2", "-servername", "shop.example", "-servername_fatal", "-cert2", "cert.pem", "-key2", "key.pem"], "alert 112, unrecognized_name")])
def test_a_server_that_refuses_our_hello_in_tls_is_up(house, options, said):
    shop = house.project("shop", files={"package.json": "{}", ".portwrap.json": '{"services": {"web": {"health": {"https": true}}}}'})
    made = house.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                     "-keyout", "key.pem", "-out", "cert.pem", cwd=shop)
    assert made.returncode == 0, made.stderr
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    house.start("openssl", "s_server", "-cert", "cert.pem", "-key", "key.pem", "-quiet", *options, "-accept", str(port), cwd=shop)
    wait_until(lambda: is_listening(port), "it listens")
    (found,) = house.ask("health", "web", cwd=shop)["checks"]
    assert (found["health"], found["error"]) == ("healthy", f"speaks TLS, and not with this check ({said})")
    assert found["response_ms"] > 0


TLS_SERVERS = {
    "python": ["python3", "-c", """
import http.server, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""],
    "node": ["node", "-e", """
const fs = require("fs")
require("https").createServer({ cert: fs.readFileSync("cert.pem"), key: fs.readFileSync("key.pem") }, (_, answer) => answer.end("here"))
    .listen(Number(process.argv[1]), () => console.log("ready"))
"""],
    # A server of old: TLS 1.2 alone, which is not on for a name that it does not know.
    "openssl": ["openssl", "s_server", "-cert", "cert.pem", "-key", "key.pem", "-tls1_2", "-quiet", "-accept"],
}


@pytest.mark.parametrize("kind", TLS_SERVERS)
def test_a_server_that_speaks_tls_is_up_and_the_config_may_say_so(house, kind):
    def config(health):
        (shop / ".portwrap.json").write_text(json.dumps({"services": {"web": {"health": health}} if health else {}}))
        house.portctl("agent", "restart")  # what was read of a directory is believed for a second

    shop = house.project("shop", files={"package.json": '{"name": "shop"}'})
    made = house.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                     "-keyout", "key.pem", "-out", "cert.pem", cwd=shop)
    assert made.returncode == 0, made.stderr
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    server = house.start(*TLS_SERVERS[kind], str(port), cwd=shop)
    wait_until(lambda: is_listening(port), "it listens")

    def check(status):
        (found,) = house.ask("health", "web", cwd=shop, status=status)["checks"]
        return found

    assert check(0)["health"] == "healthy" and web(house, shop)["state"] == "active"  # at level port and listener
    config("/content.txt")
    plain = check(1)
    assert plain["health"] == "unhealthy" and '"https": true' in plain["error"], plain
    config({"path": "/content.txt", "https": True})
    assert house.portctl("url", "web", cwd=shop).stdout == f"https://localhost:{port}\n"
    secure = check(0)
    assert secure["health"] == "healthy" and secure["response_ms"] > 0, secure
    server.kill()
    wait_until(lambda: check(0)["health"] == "not_running", "it has ended")
    # The other way round: who says TLS and does not speak it.
    house.start("python3", "-m", "http.server", str(port), cwd=shop)
    wait_until(lambda: is_listening(port), "it listens")
    assert check(1)["error"] == "the answer is not TLS"
