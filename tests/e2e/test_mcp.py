"""`portctl mcp` with the official SDK's client, and with messages that no SDK would send."""

import json
import threading

from house import SERVERS, wait_until

TOOLS = {"get-port", "allocate-port", "list-ports", "audit-ports", "port-summary", "release-port", "update-port", "check-port"}


def client(house, cwd, *steps, root=None):
    words = ["node", SERVERS / "mcp_client.mjs", cwd, *([root] if root else [])]
    done = house.run(*words, cwd=house.home, stdin=json.dumps(steps).encode())
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def content(result):
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert result["structuredContent"]["success"] is not bool(result.get("isError"))
    return result["structuredContent"]


def test_the_client_negotiates_and_finds_the_tools(house, shop):
    server, listed, pong, resources = client(house, shop, ["server"], ["tools"], ["ping"], ["resources"])
    assert server["name"] == "portwrap" and server["capabilities"]["resources"]["subscribe"] is True
    tools = {tool["name"]: tool for tool in listed["tools"]}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert set(tool["annotations"]) >= {"readOnlyHint", "destructiveHint", "idempotentHint"}
        assert tool["inputSchema"]["type"] == "object"
    assert tools["release-port"]["annotations"]["destructiveHint"] is True
    assert tools["get-port"]["inputSchema"]["required"] == ["serviceName"]
    assert tools["check-port"]["inputSchema"]["required"] == ["port"]
    assert [entry["uri"] for entry in resources["resources"]] == ["portwrap://leases"]


def test_a_port_s_life_by_tools(house, shop):
    got, again, more, listed, changed, checked, audit, released, after = client(
        house, shop,
        ["call", "get-port", {"serviceName": "web", "description": "d", "cloudflareHostname": "shop.example.org"}],
        ["call", "get-port", {"serviceName": "web", "projectName": "shop"}],
        ["call", "allocate-port", {"serviceName": "web"}],
        ["call", "list-ports", {}],
        ["call", "update-port", {"serviceName": "web", "description": "new"}],
        ["call", "check-port", {"port": 2601}],
        ["call", "audit-ports", {}],
        ["call", "release-port", {"serviceName": "web"}],
        ["call", "list-ports", {}])
    port = content(got)["port"]
    assert content(got)["lease"]["hostname"] == "shop.example.org"
    assert content(again)["port"] == port
    assert content(more)["port"] != port
    assert len(content(listed)["leases"]) == 2
    assert content(changed)["success"] is True or content(changed)["code"]
    assert content(checked)["available"] is False and content(checked)["code"] == "SYSTEM_RESERVED"
    assert {entry["kind"] for entry in content(audit)["findings"]} == {"not_running"}
    assert len(content(released)["leases"]) == 2
    assert content(after)["leases"] == []


def test_nobody_is_sent_to_an_option_that_no_tool_has(house, shop):
    """An assistant must not learn here how to take a port in use away; who types the command is told."""
    house.wrap("python3", "-u", "-c", "import socket; s = socket.create_server(('127.0.0.1', 3000)); print('up'); input()", cwd=shop).wait_for("^up$")
    reserved = house.project("reserved", files={".portwrap.json": "{}"})
    port = str(house.leases(shop)[0]["port"])
    release, out_of_range = client(house, shop, ["call", "release-port", {"serviceName": "main"}], ["call", "allocate-port", {"serviceName": "web", "port": 9000}])
    for result, code in ((release, "PORT_IN_USE"), (out_of_range, "OUT_OF_RANGE")):
        assert content(result)["code"] == code
        assert "--" not in json.dumps(content(result)), content(result)
    for words, remedy in ((("release", "main"), "--force forgets the lease while it runs"), (("allocate", "web", "9000"), "--range or --force says that it is meant"),
                          (("transfer", "main", "--to", str(reserved)), "--force hands it over while it runs")):
        assert house.refusal(*words, cwd=shop, status=1)["message"].endswith("; " + remedy)
        assert f"; {remedy}" in house.portctl(*words, cwd=shop).stderr
    refused = house.portctl("release", port, cwd=reserved)
    assert "; --force releases it all the same" in refused.stderr


def test_bad_arguments_are_tool_errors_and_unknown_tools_are_not_found(house, shop):
    bad = [["call", "get-port", {}], ["call", "get-port", {"serviceName": 3}], ["call", "get-port", {"serviceName": "a\nb"}],
           ["call", "check-port", {"port": 70000}], ["call", "check-port", {"port": "3000"}], ["call", "list-ports", {"x": "y"}],
           ["call", "allocate-port", {"serviceName": "web", "protocol": "icmp"}]]
    *results, unknown = client(house, shop, *bad, ["call", "no-tool", {}])
    for step, result in zip(bad, results):
        assert content(result)["code"] == "INVALID_REQUEST", step
    assert unknown["thrown"] == -32602
    missing, foreign = client(house, shop, ["call", "release-port", {"serviceName": "nothing"}], ["call", "get-port", {"serviceName": "a", "projectName": "nobody"}])
    assert content(missing)["code"] == content(foreign)["code"] == "NOT_FOUND"
    assert house.leases() == []


def test_every_tool_refuses_what_its_schema_does_not_have(house, shop):
    (listed,) = client(house, shop, ["tools"])
    bad, why = [], []
    for tool in listed["tools"]:
        schema = tool["inputSchema"]
        good = {name: 3000 if name == "port" else "web" for name in schema["required"]}
        bad.append(["call", tool["name"], {**good, "noSuchArgument": "x"}])
        why.append("noSuchArgument")
        for name, about in schema["properties"].items():
            bad.append(["call", tool["name"], {**good, name: "3000" if about["type"] == "integer" else ["web"]}])
            why.append(name)
        for name in schema["required"]:
            bad.append(["call", tool["name"], {key: value for key, value in good.items() if key != name}])
            why.append(name)
    assert len(bad) > 30
    for step, name, result in zip(bad, why, client(house, shop, *bad)):
        said = content(result)
        assert said["code"] == "INVALID_REQUEST" and name in said["message"], (step, said)
    assert house.leases() == []


def test_concurrent_calls_and_a_cancelled_one(house, shop):
    names = [{"serviceName": f"s{number}"} for number in range(40)]
    together, cancelled, pong = client(house, shop, ["together", "get-port", names], ["cancel", "list-ports", {}], ["ping"])
    assert len({content(result)["port"] for result in together}) == 40
    assert cancelled == "cancelled" and pong == {}
    assert len(house.leases()) == 40


def test_the_client_s_root_says_which_project(house, shop):
    blog = house.project("my blog", files={"package.json": '{"name": "blog"}'})
    (got,) = client(house, shop, ["call", "get-port", {"serviceName": "web"}], root=blog)
    assert content(got)["lease"]["project"]["root"] == str(blog)


def test_two_agents_in_two_worktrees_get_different_ports_and_release_only_their_own(house):
    main, linked = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    results = {}

    def work(place):
        (results[place],) = client(house, place, ["call", "get-port", {"serviceName": "web", "projectName": "shop"}])

    threads = [threading.Thread(target=work, args=(place,)) for place in (main, linked)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ports = {place: content(result)["port"] for place, result in results.items()}
    assert ports[main] != ports[linked]
    theirs, own = client(house, main, ["call", "release-port", {"serviceName": "web", "projectName": str(linked)}],
                         ["call", "release-port", {"serviceName": "web"}])
    assert content(theirs)["code"] == "NOT_OWNER"
    assert content(own)["leases"][0]["port"] == ports[main]
    assert [lease["port"] for lease in house.leases()] == [ports[linked]]


def test_the_leases_are_a_resource(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    read, unknown = client(house, shop, ["read", "portwrap://leases"], ["read", "portwrap://nothing"])
    (text,) = read["contents"]
    assert [lease["port"] for lease in json.loads(text["text"])["leases"]] == [port]
    assert unknown["thrown"] == -32002


def test_a_subscriber_is_told_of_changes_also_after_the_agent_was_restarted(house, shop):
    server = house.start("portctl", "mcp", cwd=shop)

    def say(**message):
        server.say(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def updates():
        return server.stdout.count('"notifications/resources/updated"')

    def told_of_a_change():
        before = updates()
        house.portctl("get", f"s{before}", cwd=shop)
        wait_until(lambda: updates() > before, lambda: server.stdout)

    say(id=1, method="resources/subscribe", params={"uri": "portwrap://leases"})
    server.wait_for('"id":1')
    # The stream of events begins a moment later, and says so: what has changed meanwhile may have been missed.
    wait_until(lambda: updates() > 0, "the stream begins")
    told_of_a_change()
    before = updates()
    assert house.portctl("agent", "restart").returncode == 0
    wait_until(lambda: updates() > before, "what may have happened meanwhile is told")
    wait_until(lambda: house.portctl("get", "second", cwd=shop) and (house.portctl("release", "second", cwd=shop), updates() > before + 1)[1], "the stream goes on")
    told_of_a_change()
    say(id=2, method="resources/unsubscribe", params={"uri": "portwrap://leases"})
    server.wait_for('"id":2')
    silent = updates()
    house.portctl("get", "after", cwd=shop)
    say(id=3, method="ping")
    server.wait_for('"id":3')
    assert updates() == silent
    server.close_stdin()
    assert server.wait() == 0


def test_the_sdk_s_client_is_told_of_changes_while_it_subscribes(house, shop):
    uri = "portwrap://leases"
    subscribed, begun, got, _, told, read, ended, _, _, _, after = client(
        house, shop,
        ["subscribe", uri], ["updated"],  # the stream begins
        ["shell", "portctl get web"], ["ping"], ["updated"], ["read", uri],
        ["unsubscribe", uri], ["updates so far"], ["shell", "portctl get api"], ["read", uri], ["updates so far"])
    assert subscribed == ended == {} and begun == told == uri
    leases = json.loads(read["contents"][0]["text"])["leases"]
    assert [lease["port"] for lease in leases] == [int(got)]
    assert after == 0


def test_a_call_waits_for_the_roots_that_say_whose_it_is(house, shop):
    blog = house.project("blog", files={"package.json": '{"name": "blog"}'})
    server = house.start("portctl", "mcp", cwd=shop)

    def say(**message):
        server.say(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    say(id=1, method="initialize", params={"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}})
    say(method="notifications/initialized")
    say(id=2, method="tools/call", params={"name": "get-port", "arguments": {"serviceName": "web"}})
    asked = server.wait_for(r'"id":"(roots-\d+)"')[1]
    assert '"id":2' not in server.stdout
    say(id=asked, result={"roots": [{"uri": "https://example.org/"}, {"uri": f"file://{blog}"}]})
    server.wait_for('"id":2')
    assert [lease["project"]["root"] for lease in house.leases()] == [str(blog)]
    server.close_stdin()
    assert server.wait() == 0


def test_malformed_messages_are_refused_and_the_server_goes_on(house, shop):
    server = house.start("portctl", "mcp", cwd=shop)

    def answer(line, count=[0]):
        count[0] += 1
        server.say(line + "\n")
        wait_until(lambda: server.stdout.count("\n") >= count[0], lambda: server.stdout)
        return json.loads(server.stdout.splitlines()[count[0] - 1])

    assert answer("nonsense")["error"]["code"] == -32700
    assert answer("[]")["error"]["code"] == -32600
    assert answer('{"jsonrpc":"2.0","id":{},"method":"ping"}')["error"]["code"] == -32600
    assert answer('{"jsonrpc":"1.0","id":1,"method":"ping"}')["error"]["code"] == -32600
    assert answer('{"jsonrpc":"2.0","id":2,"method":"no/such"}')["error"]["code"] == -32601
    assert answer('{"jsonrpc":"2.0","id":3,"method":"initialize","params":{}}')["error"]["code"] == -32602
    for revision, agreed in (("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")):
        line = json.dumps({"jsonrpc": "2.0", "id": revision, "method": "initialize", "params": {"protocolVersion": revision, "capabilities": {}}})
        assert answer(line)["result"]["protocolVersion"] == agreed
    assert answer("[" * 100_000)["error"]["code"] == -32700
    assert answer("x" * 1_100_000)["error"]["code"] == -32600
    assert answer('\n{"jsonrpc":"2.0","id":"\u00fc","method":"ping"}') == {"jsonrpc": "2.0", "id": "ü", "result": {}}
    server.close_stdin()
    assert server.wait() == 0


class Talk:
    """A client that says what no SDK would, or when."""

    def __init__(self, house, cwd, *words):
        self.server = house.start("portctl", "mcp", *words, cwd=cwd)

    def say(self, **message):
        self.server.say(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def call(self, number, tool, **arguments):
        self.say(id=number, method="tools/call", params={"name": tool, "arguments": arguments})

    def answer(self, number):
        def found():
            for line in self.server.stdout.splitlines(keepends=True):
                message = json.loads(line) if line.endswith("\n") else {}
                if isinstance(message, dict) and message.get("id") == number:
                    return message
            return None

        return wait_until(found, lambda: f"{number} in {self.server.stdout}")

    def ids(self):
        return [json.loads(line).get("id") for line in self.server.stdout.splitlines()]

    def end(self):
        self.server.close_stdin()
        assert self.server.wait() == 0


def test_a_call_that_runs_is_cancelled(house, dead_mount):
    shop = house.project("shop", files={"package.json": '{"name": "shop"}'})
    house.start_agent()
    talk = Talk(house, shop)
    # Its files do not answer: the agent gives that three seconds, and the call with it.
    talk.call(1, "get-port", serviceName="web", projectName=f"{dead_mount}/project")
    talk.say(id=2, method="ping")
    assert talk.answer(2)["result"] == {}  # also while a call runs
    talk.call(3, "get-port", serviceName="web")
    talk.say(id=4, method="ping")
    talk.answer(4)
    talk.say(method="notifications/cancelled", params={"requestId": 99})
    talk.say(method="notifications/cancelled", params={"requestId": 1, "reason": "never mind"})
    assert talk.answer(3)["result"]["structuredContent"]["success"] is True
    # An answer to the first one would have come before: requests are answered in order.
    assert talk.ids() == [2, 4, 3]
    talk.end()
    assert [lease["project"]["root"] for lease in house.leases()] == [str(shop)]


def test_a_client_that_leaves_while_its_call_runs_gets_the_answer(house, shop):
    talk = Talk(house, shop)
    talk.call(1, "get-port", serviceName="web")
    talk.server.close_stdin()
    assert talk.server.wait() == 0
    assert talk.answer(1)["result"]["structuredContent"]["success"] is True


def test_a_number_that_cannot_be_had_is_said(house, shop):
    had, other, fresh, shared, differ = client(
        house, shop, ["call", "get-port", {"serviceName": "web"}], ["call", "get-port", {"serviceName": "web", "port": 3055}],
        ["call", "get-port", {"serviceName": "api", "port": 3056}], ["call", "get-port", {"serviceName": "web", "protocol": "udp", "port": 3057}],
        ["call", "get-port", {"serviceName": "x", "hostname": "a.example", "cloudflareHostname": "b.example"}])
    port = content(had)["port"]
    assert content(other)["port"] == port and "did not get 3055" in content(other)["message"]
    assert content(fresh)["port"] == 3056 and content(fresh)["message"].endswith("has port 3056")
    assert (content(shared)["port"], content(shared)["lease"]["protocol"]) == (3057, "udp")
    assert content(differ)["code"] == "INVALID_REQUEST"


def test_a_project_may_be_named_by_any_of_its_directories(house):
    main, linked = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    (main / "src").mkdir()
    (house.home / "link").symlink_to(main)
    for place in (main, linked):
        house.portctl("get", "web", cwd=place)
    names = [f"{main}/", str(main / "src"), str(house.home / "link")]
    *own, theirs, nobody = client(
        house, main, *[["call", "update-port", {"serviceName": "web", "description": name, "projectName": name}] for name in names],
        ["call", "update-port", {"serviceName": "web", "description": "x", "projectName": f"{linked}/"}],
        ["call", "release-port", {"serviceName": "web", "projectName": "/nowhere"}])
    assert [content(result)["lease"]["description"] for result in own] == names
    assert content(theirs)["code"] == content(nobody)["code"] == "NOT_OWNER"
    assert len(house.leases()) == 2


def test_summaries_and_checks_say_what_they_found(house, shop):
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    summary, kept, free, database = client(
        house, shop, ["call", "port-summary", {}], ["call", "check-port", {"port": port}], ["call", "check-port", {"port": 3999}],
        ["call", "get-port", {"serviceName": "db", "serviceType": "postgres"}])
    assert "1 of 1000 ports of range node" in content(summary)["message"]
    assert content(kept)["message"] == "the port is free, kept for shop/web"
    assert content(free)["message"] == "the port is free"
    assert content(database)["lease"]["range"] == "database"


def tell_roots(talk, *rounds):
    """Says each list of roots in its turn; a port got then is the expected project's."""
    talk.say(id=1, method="initialize", params={"protocolVersion": "2025-11-25", "capabilities": {"roots": {"listChanged": True}}})
    for number, (roots, expected) in enumerate(rounds, 1):
        talk.say(method="notifications/initialized" if number == 1 else "notifications/roots/list_changed")
        talk.answer(f"roots-{number}")
        talk.say(id=f"roots-{number}", result={"roots": [{"uri": f"file://{root}"} for root in roots]})
        talk.call(10 + number, "get-port", serviceName="web")
        assert talk.answer(10 + number)["result"]["structuredContent"]["lease"]["project"]["root"] == str(expected)
    talk.end()


def test_without_its_roots_a_server_works_where_it_was_started(house, shop):
    blog = house.project("blog", files={"package.json": '{"name": "blog"}'})
    talk = Talk(house, house.home, "-C", str(shop))
    tell_roots(talk, ([blog], blog), ([], shop))


def test_a_root_that_is_no_directory_says_nothing(house, shop):
    blog = house.project("blog", files={"package.json": '{"name": "blog"}'})
    gone, file = house.home / "no/such/dir", house.home / "file"
    file.write_text("")
    talk = Talk(house, shop)
    tell_roots(talk, ([gone, file, blog], blog), ([gone], shop))
    assert len(house.leases()) == 2


def test_a_number_of_the_service_s_other_instance_is_its_own(house, shop):
    first, second, got, again, other, theirs = client(
        house, shop, ["call", "get-port", {"serviceName": "m"}], ["call", "allocate-port", {"serviceName": "m", "port": 3470}],
        ["call", "get-port", {"serviceName": "m", "port": 3470}], ["call", "allocate-port", {"serviceName": "m", "port": 3470}],
        ["call", "get-port", {"serviceName": "m", "port": 3471}], ["call", "get-port", {"serviceName": "n", "port": 3470}])
    assert content(second)["lease"]["instance"] == 1
    assert (content(got)["port"], content(got)["lease"]["instance"], content(got)["message"]) == (3470, 1, "shop/m#1 has port 3470")
    assert content(again)["code"] == "PORT_LEASED" and "port 3470 is shop/m#1's own already: get-port returns it" in content(again)["message"]
    assert content(other)["port"] == content(first)["port"] and "did not get 3471" in content(other)["message"]
    assert content(theirs)["code"] == "PORT_LEASED" and "own already" not in content(theirs)["message"]
    # Also where the lowest instance is not there any more.
    house.portctl("release", str(content(first)["port"]), cwd=shop)
    (alone,) = client(house, shop, ["call", "get-port", {"serviceName": "m", "port": 3470}])
    assert (content(alone)["port"], content(alone)["lease"]["instance"]) == (3470, 1)
    assert len(house.leases()) == 1


def test_a_type_is_a_role_or_a_language_in_every_tool(house, shop):
    got, role, language = client(
        house, shop, ["call", "get-port", {"serviceName": "web", "serviceType": "python"}],
        ["call", "update-port", {"serviceName": "web", "serviceType": "api"}],
        ["call", "update-port", {"serviceName": "web", "serviceType": "python", "description": "d"}])
    assert (content(got)["lease"]["range"], content(got)["lease"]["kind"]) == ("python", None)
    assert content(role)["lease"]["kind"] == "api"
    assert (content(language)["lease"]["kind"], content(language)["lease"]["description"]) == (None, "d")
    assert "a language is not recorded" in content(language)["message"]


def test_a_hostname_says_which_port_of_a_service_is_released(house, shop):
    names = ("a.example", "b.example", "c.example")
    *got, by_name, again, wrong, first, rest = client(
        house, shop, *[["call", "allocate-port", {"serviceName": "web", "hostname": name}] for name in names],
        ["call", "release-port", {"serviceName": "web", "hostname": "b.example"}],
        ["call", "release-port", {"serviceName": "web", "hostname": "b.example"}],
        ["call", "release-port", {"serviceName": "api", "hostname": "a.example"}],
        ["call", "release-port", {"serviceName": "web", "hostname": "a.example"}],
        ["call", "list-ports", {}])
    port = {name: content(result)["port"] for name, result in zip(names, got)}
    assert [lease["port"] for lease in content(by_name)["leases"]] == [port["b.example"]]
    assert content(by_name)["message"] == "released 1 ports"
    assert content(again)["code"] == content(wrong)["code"] == "NOT_FOUND"
    assert [lease["port"] for lease in content(first)["leases"]] == [port["a.example"]]
    assert [(lease["port"], lease["hostname"]) for lease in content(rest)["leases"]] == [(port["c.example"], "c.example")]


def test_two_clients_that_ask_for_the_same_number_of_a_service_both_get_it(house, shop):
    wishes = {number: (f"s{number}", 3100 + number) for number in range(60)}
    talks = [Talk(house, shop) for _ in range(2)]
    lines = "".join(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call",
                                "params": {"name": "get-port", "arguments": {"serviceName": service, "port": port}}}) + "\n"
                    for number, (service, port) in wishes.items())
    for talk in talks:  # neither waits for the other
        talk.server.say(lines)
    for number, (service, port) in wishes.items():
        for talk in talks:
            said = content(talk.answer(number)["result"])
            assert said["success"] and (said["port"], said["lease"]["service"]) == (port, service), said
    for talk in talks:
        talk.end()
    assert sorted(lease["port"] for lease in house.leases()) == [port for _, port in wishes.values()]
    # A number that another service or project has is refused.
    blog = house.project("blog", files={"package.json": '{"name": "blog"}'})
    (other,) = client(house, shop, ["call", "get-port", {"serviceName": "other", "port": 3100}])
    (theirs,) = client(house, blog, ["call", "get-port", {"serviceName": "s0", "port": 3100}])
    assert content(other)["code"] == content(theirs)["code"] == "PORT_LEASED"


def test_two_clients_that_ask_for_different_numbers_of_one_service_share_the_first_one_s(house, shop):
    """Both ask at once, for forty services, each for a number of its own: every service has one port, and the later one is told."""
    talks = [Talk(house, shop) for _ in range(2)]
    for index, talk in enumerate(talks):
        talk.server.say("".join(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {
            "name": "get-port", "arguments": {"serviceName": f"s{number}", "port": 3100 + 100 * index + number}}}) + "\n" for number in range(40)))
    for number in range(40):
        said = [content(talk.answer(number)["result"]) for talk in talks]
        assert said[0]["port"] == said[1]["port"] in (3100 + number, 3200 + number)
        told = [f"so it did not get {3100 + 100 * index + number}" in entry["message"] for index, entry in enumerate(said)]
        assert told == [said[0]["port"] != 3100 + number, said[0]["port"] != 3200 + number]
    for talk in talks:
        talk.end()
    assert len(house.leases()) == 40


def agree_on(talk, revision, capabilities=None):
    talk.say(id=revision, method="initialize", params={"protocolVersion": revision, "capabilities": capabilities or {}})
    assert talk.answer(revision)["result"]["protocolVersion"] == revision


def test_arrays_of_messages_are_answered_in_one_where_the_revision_has_them(house, shop):
    talk = Talk(house, shop)

    def lines():
        return [json.loads(line) for line in talk.server.stdout.splitlines(keepends=True) if line.endswith("\n")]

    def answers_to(messages):
        before = len(lines())
        talk.server.say(json.dumps(messages) + "\n")
        wait_until(lambda: len(lines()) > before, lambda: talk.server.stdout)
        return lines()[before]

    def request(number, method, **params):
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    call = request(1, "tools/call", name="get-port", arguments={"serviceName": "web"})
    early = answers_to([call])
    assert early["id"] is None and early["error"]["code"] == -32600 and "2025-03-26" in early["error"]["message"]
    agree_on(talk, "2025-03-26")
    together = answers_to([call, {"jsonrpc": "2.0", "method": "notifications/progress"}, request(2, "ping"), request(3, "no/such"), 7,
                           request(4, "tools/call", name="get-port", arguments={"serviceName": "api"}),
                           request(5, "initialize", protocolVersion="2025-03-26", capabilities={})])
    by_id = {answer["id"]: answer for answer in together}
    assert set(by_id) == {1, 2, 3, 4, 5, None} and len(together) == 6
    assert content(by_id[1]["result"])["lease"]["service"] == "web" and content(by_id[4]["result"])["lease"]["service"] == "api"
    assert by_id[2]["result"] == {} and by_id[3]["error"]["code"] == -32601
    assert by_id[5]["error"]["code"] == by_id[None]["error"]["code"] == -32600
    assert answers_to([])["error"]["code"] == -32600
    # Nothing is said to notifications alone, nor to what was taken back before its turn: the next line is the ping's.
    talk.server.say(json.dumps([{"jsonrpc": "2.0", "method": "notifications/progress"}]) + "\n")
    assert answers_to(request(6, "ping")) == {"jsonrpc": "2.0", "id": 6, "result": {}}
    cancelled = answers_to([request(7, "tools/list"), {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}, request(8, "ping")])
    assert [answer["id"] for answer in cancelled] == [8]
    agree_on(talk, "2025-06-18")
    late = answers_to([request(9, "ping")])
    assert late["error"]["code"] == -32600 and "this is 2025-06-18" in late["error"]["message"]
    talk.end()


def test_notifications_are_never_answered_however_many(house, shop):
    talk = Talk(house, shop)
    agree_on(talk, "2025-11-25", {"roots": {"listChanged": True}})
    lines = [json.dumps({"jsonrpc": "2.0", "method": f"notifications/{name}"}) + "\n" for name in ("roots/list_changed", "progress", "initialized", "unknown")]
    talk.server.say("".join(lines) * 1000)
    talk.say(id="last", method="ping")
    talk.answer("last")
    said = [json.loads(line) for line in talk.server.stdout.splitlines()]
    assert not [message for message in said if "error" in message]
    # Asked for the roots once again for what came together, not four thousand times.
    assert 1 <= len([message for message in said if message.get("method") == "roots/list"]) < 1000
    talk.end()
