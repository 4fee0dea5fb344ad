"""The whole of it, once: up, with containers running, and away without a trace."""

import json
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from deploy.demo.tests.running import demonstration


def processes_of(session: int) -> list[str]:
    """What is left of all that was started in that session."""
    left = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = status.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if int(fields.split()[3]) == session and fields.split()[0] != "Z":
            left.append(name)
    return left


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_it_comes_up_with_containers_running_and_leaves_nothing() -> None:
    with demonstration() as demo:
        said = demo.until("Ctrl-C stops everything")
        assert "with 6 containers running" in said, said
        (token,) = set(re.findall(r"Bearer (bh_[\w-]+)", said))
        (address,) = re.findall(r"(http://\S+/api/v1/tenants/harbor/containers)", said)
        asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found = json.load(answer)["results"]
        assert {one["name"]: one["status"] for one in found} == dict.fromkeys(
            ["cargo", "front", "tides"], "running"
        )
        demo.process.send_signal(signal.SIGINT)
        demo.until("nothing is left running")
        assert demo.process.wait(30) == 0
        assert processes_of(demo.pid) == []
