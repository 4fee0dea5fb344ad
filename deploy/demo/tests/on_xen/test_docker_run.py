"""A container behaves as `docker run` would have it: a table, tried on real Xen through REST.

What is expected is said by the OCI image specification (config.md) and by Docker's reference of `docker run`,
of Dockerfiles and of runtime privileges. Where it is not what Docker does, the row says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.demo.tests.on_xen.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1800)]

TENANT = "harbor"
NEVER = {"restart_policy": "never"}
# Name of a container → its image, and what else was asked for.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("probe:report", NEVER),
    "given": (
        "probe:report",
        {**NEVER, "command": ["mine"], "env": {"COLOR": "blue", "MORE": "1"}},
    ),
    "numbers": ("probe:numbers", NEVER),
    "relative": ("probe:relative", NEVER),
    "leaves": ("probe:signal", {**NEVER, "command": ["leave", "7"]}),
    "dies": ("probe:signal", {**NEVER, "command": ["die", "9"]}),
    "not-found": ("probe:bare", {**NEVER, "command": ["/bin/nothing-there"]}),
    "not-a-program": ("probe:bare", {**NEVER, "command": ["/srv/not-executable"]}),
    "no-such-user": ("probe:stranger", NEVER),
    "obeys": ("probe:signal", {**NEVER, "command": ["obey", "USR1"]}),
    "ignores": ("probe:signal", {**NEVER, "command": ["ignore"]}),
    "always": ("probe:signal", {"restart_policy": "always", "command": ["count", "0"]}),
    "after-success": ("probe:signal", {"restart_policy": "on-failure", "command": ["count", "0"]}),
    "after-failure": ("probe:signal", {"restart_policy": "on-failure", "command": ["count", "3"]}),
}
SIDE_BY_SIDE = 4
"""More of them boot no faster: the processors are emulated."""
STOPPED_BY_US = ("obeys", "ignores")
COME_BACK = ("always", "after-failure")


@dataclass
class Ran:
    """What became of a container."""

    seen: dict[str, Any]
    lines: list[tuple[str, str]]
    report: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = (text.partition("=") for stream, text in self.lines if stream == "stdout")
        self.report = {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def ran(xen_site: Site) -> dict[str, Ran]:
    names = list(RUNS)
    made: dict[str, Ran] = {}
    for start in range(0, len(names), SIDE_BY_SIDE):
        made |= _run(xen_site, names[start : start + SIDE_BY_SIDE])
    return made


def _run(site: Site, names: list[str]) -> dict[str, Ran]:
    """These, side by side, until each has ended or come back; then they are gone."""
    made = {name: site.deploy(TENANT, name, RUNS[name][0], **RUNS[name][1]) for name in names}
    ran = {}
    for name, container in made.items():
        if name in STOPPED_BY_US:
            site.says(TENANT, container, "ready")
            site.do(TENANT, container, "stop")
        if name in COME_BACK:
            site.says(TENANT, container, "starts=2")
            seen = {}
        else:
            seen = site.until(TENANT, container, "exited", "stopped", "failed")
        ran[name] = Ran(seen, site.output(TENANT, container))
    site.remove(TENANT, *made.values())
    return ran


REPORTED = [
    ("defaults", "ENTRYPOINT comes first and CMD are its arguments", "arg0", "from the image"),
    ("defaults", "no shell expands the arguments", "arg1", "$HOME"),
    ("defaults", "there are no other arguments", "argc", "2"),
    ("given", "a command replaces CMD and leaves ENTRYPOINT", "arg0", "mine"),
    ("given", "a command replaces all of CMD", "argc", "1"),
    ("defaults", "ENV of the image is set", "env:COLOR", "red"),
    ("defaults", "an empty variable is set", "env:EMPTY", ""),
    ("defaults", "a value keeps its equals signs and blanks", "env:SIGN", "a=b c"),
    ("given", "a given variable goes before the image's", "env:COLOR", "blue"),
    ("given", "a given variable is added", "env:MORE", "1"),
    ("given", "the image's other variables stay", "env:SIGN", "a=b c"),
    ("defaults", "USER is found by name in the image's passwd", "uid", "1234"),
    ("defaults", "the user's group is the primary one of its passwd entry", "gid", "4321"),
    ("defaults", "the groups of the image's group file are added", "groups", "4321 50 63"),
    ("defaults", "HOME is the user's of passwd", "env:HOME", "/home/app"),
    ("numbers", "USER may be two numbers", "uid", "1000"),
    ("numbers", "the second number of USER is the group", "gid", "2000"),
    ("numbers", "a user without an entry has / for a home", "env:HOME", "/"),
    ("defaults", "WORKDIR that is not there is made", "cwd", "/srv/work/new"),
    ("numbers", "without WORKDIR it starts in /", "cwd", "/"),
    ("relative", "a program without a slash is looked for in PATH", "end", "report"),
    ("defaults", "the container's name is its host name", "hostname", "defaults"),
    ("defaults", "HOSTNAME is set", "env:HOSTNAME", "defaults"),
    ("defaults", "the umask is 022", "umask", "0022"),
    ("defaults", "stdin is at its end", "stdin", "end"),
    ("defaults", "stdout is no terminal", "stdout", "pipe"),
    ("defaults", "the root file system can be written to", "tmp", "writable"),
    ("defaults", "files keep the owner and mode of their layer", "of-root", "0:0 640"),
    ("defaults", "the user has no more rights to files than it has", "others-files", "refused"),
    ("defaults", "a setuid program of the image is setuid", "setuid", "0"),
    (
        "defaults",
        "Docker's device nodes are there",
        "devices",
        "full null random tty urandom zero ",
    ),
    ("defaults", "/dev/shm is in memory", "shm", "tmpfs"),
    ("defaults", "/proc is there", "proc", "proc"),
    ("defaults", "/sys is there and is read-only", "sysfs", "ro"),
    ("defaults", "nothing may be mounted", "mount", "refused"),
]


@pytest.mark.parametrize(
    ("container", "name", "value"),
    [pytest.param(run, name, value, id=sentence) for run, sentence, name, value in REPORTED],
)
def test_inside(ran: dict[str, Ran], container: str, name: str, value: str) -> None:
    report = ran[container].report
    assert report.get("end") == "report", ran[container].lines
    assert report.get(name) == value


ENDED = [
    ("defaults", "a program that returns has ended with 0", 0),
    ("leaves", "the program's exit code is the container's", 7),
    ("dies", "a signal is 128 and its number", 137),
    ("not-found", "a program that is not there is 127", 127),
    ("not-a-program", "one that cannot be run is 126", 126),
    ("no-such-user", "a user that the image does not know is 125", 125),
    ("obeys", "STOPSIGNAL of the image is what it gets", 5),
    ("ignores", "who does not listen is killed", 137),
    ("after-success", "on-failure leaves a success alone", 0),
]


@pytest.mark.parametrize(
    ("container", "code"), [pytest.param(run, code, id=sentence) for run, sentence, code in ENDED]
)
def test_its_end(ran: dict[str, Ran], container: str, code: int) -> None:
    assert ran[container].seen["exit_code"] == code, ran[container].lines


def test_the_two_outputs_are_told_apart(ran: dict[str, Ran]) -> None:
    assert ("stderr", "written to stderr") in ran["defaults"].lines
    assert ("stdout", "uid=1234") in ran["defaults"].lines


def test_its_own_name_leads_to_its_address(ran: dict[str, Ran]) -> None:
    assert ran["defaults"].report["hosts"] == ran["defaults"].seen["ip"]


def test_the_signal_arrived_before_it_ended(ran: dict[str, Ran]) -> None:
    assert ran["obeys"].report["caught"] == "USR1"


@pytest.mark.parametrize("container", COME_BACK)
def test_who_comes_back_finds_what_it_wrote(ran: dict[str, Ran], container: str) -> None:
    """Docker keeps a container's files over its restarts."""
    assert ran[container].report["starts"] >= "2"


def test_on_failure_does_not_start_a_success_again(ran: dict[str, Ran]) -> None:
    assert ran["after-success"].report["starts"] == "1"


def test_nothing_of_ours_is_in_what_it_wrote(ran: dict[str, Ran]) -> None:
    said = [text for one in ran.values() for _, text in one.lines]
    assert not [text for text in said if "hello 1 " in text or "^^" in text]
