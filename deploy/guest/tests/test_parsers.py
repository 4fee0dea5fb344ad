"""What the guest reads from outside, against any bytes: compiled with the address and undefined-behaviour
sanitizers, so that a byte read or written too far ends the program.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.guest.tests.disks import GROUP, PASSWD

GUEST = Path(__file__).parents[1]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-g", "-O1", "-fno-sanitize-recover=all"]
PARSERS = [str(GUEST / f"{name}.c") for name in ("json", "spec", "user", "xenstore")]
WATCH_EVENT, READ, ERROR = 15, 2, 16


def compiled(compiler: str, checks: str, source: str, to: Path) -> str:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs the Debian package {compiler}")
    if not Path("/usr/include/jsmn.h").exists():
        pytest.skip("needs the Debian package libjsmn-dev")
    argv = [compiler, *STRICT, *SANITIZED, f"-fsanitize={checks}", *PARSERS]
    argv += [str(GUEST / "tests" / source), "-o", str(to)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    if "libclang_rt" in done.stderr:
        pytest.skip("clang has no run-time library for its checks: libclang-rt-14-dev")
    assert done.returncode == 0, done.stderr[-2000:]
    return str(to)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> str:
    to = tmp_path_factory.mktemp("parsers") / "parse_check"
    return compiled("gcc", "address,undefined", "parse_check.c", to)


def ask(check: str, *argv: str, given: bytes = b"") -> str:
    done = subprocess.run([check, *argv], input=given, capture_output=True, timeout=30, check=False)
    assert done.returncode in (0, 1), done.stderr.decode(errors="replace")[-2000:]
    return done.stdout.decode()


def spec(check: str, **more: Any) -> str:
    text = json.dumps({"version": 1, "argv": ["x"], **more}).encode()
    return ask(check, "spec", given=text)


def test_a_whole_spec_is_understood(check: str) -> None:
    said = spec(
        check,
        hostname="web",
        argv=["a", "b c", ""],
        env={"A": "1", "B": "x=y", "C": ""},
        cwd="/srv",
        user="www:www",
        stop_signal="SIGQUIT",
        grace_seconds=3,
        tty=True,
        groups=["media", "7"],
        network=[
            {
                "device": 1,
                "mac": "02:00:00:00:00:Af",
                "mtu": 9000,
                "addresses": ["10.1.2.3/24", "fd00::3/64"],
                "gateway4": "10.1.2.1",
                "gateway6": "fd00::1",
            },
            {"device": 2},
        ],
        resolv={"nameservers": ["10.1.2.1"], "search": ["a.example"]},
        hosts={"db": ["10.0.0.1", "fd00::9"]},
        mounts=[{"device": 3, "path": "/data", "read_only": True, "fs": "ext4"}],
        rlimits={"nofile": [1024, 65536], "core": [-1, -1]},
        later={"unknown": ["keys", {"are": None}]},
    )
    assert said.splitlines() == [
        *("hostname=web", "cwd=/srv", "user=www:www", "stop=3", "grace=3", "tty=1"),
        *("argv=a", "argv=b c", "argv=", "env=A=1", "env=B=x=y", "env=C="),
        *("group=media", "group=7"),
        *("nic=1 af mtu 9000 via 10.1.2.1 fd00::1", "address=10.1.2.3/24", "address=fd00::3/64"),
        *("nic=2 00 (none) mtu 0 via - -", "nameserver=10.1.2.1", "search=a.example"),
        *("db=10.0.0.1", "db=fd00::9", "mount=3 /data ext4 1"),
        *("rlimit=7 1024 65536", "rlimit=4 -1 -1"),
    ]


def test_what_is_not_said_is_as_docker_has_it(check: str) -> None:
    assert spec(check).splitlines() == [
        *("hostname=", "cwd=/", "user=", "stop=15", "grace=10", "tty=0", "argv=x"),
    ]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"version": 2}, "version 2, and this guest knows 1"),
        ({"version": None}, "version 0, and this guest knows 1"),
        ({"argv": []}, "argv: nothing to run"),
        ({"argv": [""]}, "argv: nothing to run"),
        ({"argv": "sh"}, "argv: not a list"),
        ({"argv": ["x", 1]}, "argv: not a list of strings"),
        ({"argv": ["x"] * 1025}, "argv: more than 1024"),
        ({"argv": ["x\0y"]}, "a string with a bad escape, a control character or NUL"),
        ({"env": ["A=1"]}, "env: not an object"),
        ({"env": {"A": 1}}, "env: a value that is no string"),
        ({"env": {"A=B": "1"}}, "env: a name that is empty or has '='"),
        ({"env": {"": "1"}}, "env: a name that is empty or has '='"),
        ({"cwd": 1}, "cwd: not a string"),
        ({"hostname": "x" * 65}, "hostname: longer than 64 bytes"),
        ({"stop_signal": "SIGNOTHING"}, "stop_signal: no such signal"),
        ({"stop_signal": "65"}, "stop_signal: no such signal"),
        ({"stop_signal": "0"}, "stop_signal: no such signal"),
        ({"grace_seconds": -1}, "grace_seconds: not a whole number from 0 to 3600"),
        ({"grace_seconds": 1.5}, "grace_seconds: not a whole number from 0 to 3600"),
        ({"tty": "yes"}, "tty: not true or false"),
        ({"network": [{"mac": "02:00"}]}, "mac: not six bytes with colons"),
        (
            {"network": [{"addresses": ["10.0.0.1"]}]},
            "addresses: not an address with the length of its prefix",
        ),
        (
            {"network": [{"addresses": ["10.0.0.1/33"]}]},
            "addresses: not an address with the length of its prefix",
        ),
        ({"network": [{"gateway4": "fd00::1"}]}, "gateway4: no such address"),
        ({"network": [{}] * 9}, "network: more than 8"),
        ({"hosts": {"db": "10.0.0.1"}}, "hosts: not a list of at most 8 addresses"),
        ({"mounts": [{"path": "/x"}]}, "mounts: no device"),
        (
            {"mounts": [{"device": 2, "path": "/x"}]},
            "device: not a whole number from 3 to 255",
        ),
        ({"mounts": [{"device": 3, "path": "x"}]}, "mounts: path is not one below /"),
        ({"mounts": [{"device": 3, "path": "/x", "fs": "xfs"}]}, "mounts: fs is not ext4"),
        ({"rlimits": {"files": [1, 1]}}, "rlimits: no such limit"),
        ({"rlimits": {"nofile": [2, 1]}}, "rlimits: not [soft, hard] with soft at most hard"),
        ({"rlimits": {"nofile": [-1, 1]}}, "rlimits: not [soft, hard] with soft at most hard"),
    ],
)
def test_what_is_wrong_is_named(check: str, more: dict[str, Any], why: str) -> None:
    assert spec(check, **more) == f"wrong: {why}\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not one JSON object"),
        (b"[]", "not one JSON object"),
        (b'{"version":1', "it ends too early"),
        (b'{"version":1} {}', "something after the object"),
        (b'{"version"}', "a key without a value"),
        (
            b'{"version":1,"argv":["\\ud800"]}',
            "a string with a bad escape, a control character or NUL",
        ),
        (b"{" + b'"a":[' * 20000, "too many values"),
        (b'{"a":"' + b"x" * 600_000 + b'"}', "longer than 524288 bytes"),
    ],
)
def test_what_is_no_json_is_refused(check: str, text: bytes, why: str) -> None:
    assert ask(check, "spec", given=text) == f"wrong: {why}\n"


words = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, max_size=8), st.booleans())
def test_any_text_comes_out_as_it_went_in(check: str, texts: list[str], ascii_only: bool) -> None:
    text = json.dumps({"version": 1, "argv": ["x", *texts]}, ensure_ascii=ascii_only).encode()
    said = ask(check, "spec", given=text)
    assert [line for line in said.split("\n") if line.startswith("argv=")] == [
        *("argv=x", *(f"argv={word}" for word in texts))
    ]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "0 0 [] /root"),
        ("root", "0 0 [] /root"),
        ("web", "1001 1002 [50 2000] /home/web"),
        ("1001", "1001 1002 [50 2000] /home/web"),
        ("web:media", "1001 2000 [] /home/web"),
        ("1001:50", "1001 50 [] /home/web"),
        ("5:6", "5 6 [] "),
        ("nobody", "wrong: user nobody: not in the image's /etc/passwd"),
        ("web:nothing", "wrong: group nothing: not in the image's /etc/group"),
        ("4294967295", "wrong: user 4294967295: not in the image's /etc/passwd"),
        ("-1", "wrong: user -1: not in the image's /etc/passwd"),
    ],
)
def test_users_are_found_by_name_or_number(check: str, wanted: str, said: str) -> None:
    assert ask(check, "user", wanted, PASSWD, GROUP) == f"{said}\n"


def test_more_groups_are_added_once(check: str) -> None:
    assert (
        ask(check, "user", "web", PASSWD, GROUP, "media", "9")
        == "1001 1002 [50 2000 9] /home/web\n"
    )


def message(kind: int, request: int, payload: bytes) -> bytes:
    return struct.pack("<IIII", kind, request, 0, len(payload)) + payload


@pytest.mark.parametrize("piece", [1, 3, 17, 4096])
def test_xenstores_answers_are_told_apart_however_they_are_cut(check: str, piece: int) -> None:
    sent = (
        message(WATCH_EVENT, 0, b"control/shutdown\0init\0")
        + message(READ, 7, b"poweroff")
        + message(ERROR, 8, b"ENOENT\0")
        + message(READ, 9, b"")
        + message(READ, 10, b"x" * 4096)
    )
    assert ask(check, "xenstore", str(piece), given=sent).splitlines() == [
        *("changed control/shutdown", "value 7 poweroff", "value 8 (none)", "value 9 "),
        f"value 10 {'x' * 4096}",
    ]


def test_an_answer_longer_than_xenstore_has_any_is_refused(check: str) -> None:
    assert ask(check, "xenstore", "4096", given=struct.pack("<IIII", READ, 1, 0, 4097)) == "wrong\n"


def test_no_bytes_lead_the_parsers_astray(tmp_path: Path) -> None:
    """A bounded run of the fuzzer on the committed corpus; `-max_total_time` by hand goes deeper."""
    program = compiled("clang", "fuzzer,address,undefined", "fuzz_parsers.c", tmp_path / "fuzz")
    found = tmp_path / "found"
    found.mkdir()
    corpus = GUEST / "tests/corpus_parsers"
    limits = ["-max_total_time=20", "-runs=200000", "-max_len=4096", "-seed=1"]
    done = subprocess.run(
        [program, *limits, f"-artifact_prefix={tmp_path}/", str(found), str(corpus)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
