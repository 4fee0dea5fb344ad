"""How a container ends, what its VM does then, and what stays. Each test is a boot or two."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.guest.tests.conftest import Disks
from deploy.guest.tests.machine import Machine

Furnish = Callable[..., Disks]


def spec(*argv: str, **more: Any) -> dict[str, Any]:
    return {"hostname": "ends", "argv": list(argv), **more}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "how"),
    [
        (["sh", "-c", "echo last words; exit 3"], "code 3"),
        (["sh", "-c", "kill -KILL $$"], "signal 9"),
        (["no-such-program"], "code 127"),
        (["/etc/passwd"], "code 126"),
    ],
)
def test_its_end_is_told_and_the_vm_powers_off(
    furnish: Furnish, boot_files: Path, argv: list[str], how: str
) -> None:
    with Machine(furnish(spec(*argv)), boot=boot_files) as machine:
        assert machine.ended() == how
        if how == "code 3":
            assert machine.written("o") == "last words\n"


@pytest.mark.slow
def test_what_it_wrote_is_there_after_a_restart(furnish: Furnish, boot_files: Path) -> None:
    disks = furnish(
        spec(
            "sh",
            "-c",
            "cat /kept; test -f /www/index.html || echo gone; echo first > /kept; rm -f /www/index.html",
        )
    )
    with Machine(disks, boot=boot_files) as machine:
        assert machine.ended() == "code 0"
        assert machine.written("o") == ""
    with Machine(disks, boot=boot_files) as machine:
        assert machine.ended() == "code 0"
        assert machine.written("o") == "first\ngone\n"


@pytest.mark.slow
def test_asked_to_end_it_gets_the_images_stop_signal(furnish: Furnish, boot_files: Path) -> None:
    script = "trap 'echo asked; exit 7' USR1; trap 'echo wrong' TERM; echo up; while :; do sleep 0.1; done"
    with Machine(
        furnish(spec("sh", "-c", script, stop_signal="SIGUSR1")), boot=boot_files
    ) as machine:
        machine.until(lambda: "up" in machine.written("o"), "it does not come up")
        machine.press_control_alt_delete()
        assert machine.ended() == "code 7"
        assert machine.written("o") == "up\nasked\n"


@pytest.mark.slow
def test_who_does_not_end_in_time_is_killed(furnish: Furnish, boot_files: Path) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    with Machine(furnish(spec("sh", "-c", script, grace_seconds=2)), boot=boot_files) as machine:
        machine.until(lambda: "up" in machine.written("o"), "it does not come up")
        began = time.monotonic()
        machine.press_control_alt_delete()
        assert machine.ended() == "signal 9"
        assert time.monotonic() - began > 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"version":2}', "failed spec.json: version 2, and this guest knows 1"),
        (b'{"version":1,"argv":[]}', "failed spec.json: argv: nothing to run"),
        (b"\xff\xfe", "failed spec.json: not one JSON object"),
        (b"", "failed spec.json: not one JSON object"),
    ],
)
def test_a_spec_that_it_cannot_follow_is_named(
    furnish: Furnish, boot_files: Path, bad: bytes, why: str
) -> None:
    with Machine(furnish(bad), boot=boot_files) as machine:
        assert machine.ended() == why


@pytest.mark.slow
def test_with_a_tty_it_has_a_terminal_and_a_console(furnish: Furnish, boot_files: Path) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && tty && echo $TERM && echo said > /dev/console"
    with Machine(furnish(spec("sh", "-c", script, tty=True)), boot=boot_files) as machine:
        assert machine.ended() == "code 0"
        assert machine.written("o").replace("\r", "") == "/dev/pts/0\nxterm\nsaid\n"


@pytest.mark.slow
def test_an_image_with_an_init_of_its_own_has_it_as_process_1(
    furnish: Furnish, boot_files: Path
) -> None:
    files = {"bin/init": "#!/bin/sh\necho I am $$\nexit 5\n"}
    # busybox has an init too: the image's own file takes the link's place.
    with Machine(furnish(spec("/bin/init"), files=files), boot=boot_files) as machine:
        assert machine.ended() == "code 5"
        assert machine.written("o") == "I am 1\n"


@pytest.mark.slow
def test_an_images_links_lead_nowhere_outside_of_it(furnish: Furnish, boot_files: Path) -> None:
    """Were they followed in init's own root, its /real would be missing and its /tmp get a /dev."""
    disks = furnish(
        spec("/bin/sh", "-c", "grep -c localhost /real/hosts; ls -d /tmp/null /tmp/fd; cd /tmp"),
        links={"etc": "/real", "dev": "/../../tmp"},
        files={"real/passwd": "root:x:0:0::/:/bin/sh\n"},
    )
    with Machine(disks, boot=boot_files) as machine:
        assert machine.ended() == "code 0"
        assert machine.written("o") == "2\n/tmp/fd\n/tmp/null\n"


@pytest.mark.slow
def test_a_disk_that_is_not_blank_is_never_formatted(furnish: Furnish, boot_files: Path) -> None:
    disks = furnish(spec("true"))
    scratch = disks[2][0]
    with scratch.open("r+b") as file:
        file.seek(40_000)
        file.write(b"somebody's")
    with Machine(disks, boot=boot_files) as machine:
        assert machine.ended().startswith("failed ")
    assert scratch.read_bytes()[40_000:40_010] == b"somebody's"
