"""A home that several hosts share, each with a machine-id of its own."""

import json
import os

import pytest

from house import wait_until


@pytest.mark.skipif(os.geteuid() != 0, reason="a machine-id of one's own needs a mount namespace")
def test_a_home_shared_by_hosts_has_a_registry_for_each(house, tmp_path):
    other = tmp_path / "machine-id"
    other.write_text("00000000000000000000000000000042\n")
    if not os.path.exists("/etc/machine-id"):
        pytest.skip("this machine has no machine-id to hide")
    root = house.project("shop")

    def elsewhere(*words):
        script = f'mount --bind {other} /etc/machine-id && exec "$@"'
        return house.run("unshare", "-m", "sh", "-c", script, "sh", *words, cwd=root)

    port = house.ask("get", "web", cwd=root)["lease"]["port"]
    house.stop_agent()
    done = elsewhere("portctl", "list", "--json")
    assert done.returncode == 0, (done.stdout, done.stderr, house.log)
    assert json.loads(done.stdout)["leases"] == []
    assert elsewhere("portctl", "get", "api").returncode == 0
    assert elsewhere("portctl", "agent", "stop").returncode == 0
    wait_until(lambda: not house.agent_pids(), "the other host's agent ends")
    assert {lease["service"]: lease["port"] for lease in house.leases(root)} == {"web": port}
    assert [path.name for path in house.registry.glob("machine-*")] == ["machine-00000000000000000000000000000042"]
