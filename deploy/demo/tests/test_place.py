import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo.__main__ import main
from deploy.demo.place import ROOT, InUse, Place


def test_one_demonstration_at_a_time(tmp_path: Path) -> None:
    first, second = Place(tmp_path), Place(tmp_path)
    with first.locked(), pytest.raises(InUse), second.locked():
        pass
    with second.locked():
        pass


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from deploy.demo.place import Place
with Place(Path({str(tmp_path)!r})).locked():
    print("held", flush=True)
    import signal; signal.pause()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InUse), Place(tmp_path).locked():
        pass
    holder.kill()
    holder.wait(10)
    holder.stdout.close()
    with Place(tmp_path).locked():
        pass


def test_a_second_demonstration_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Place(tmp_path).locked():
        assert main(["--folder", str(tmp_path), "up"]) == 1
        assert main(["--folder", str(tmp_path), "reset"]) == 1
    assert "runs here already" in capsys.readouterr().out


def test_reset_forgets(tmp_path: Path) -> None:
    place = Place(tmp_path / "demo")
    with place.locked():
        place.secret("word")
    assert main(["--folder", str(place.folder), "reset"]) == 0
    assert not place.folder.exists()


def test_a_secret_stays_the_same_and_ours(tmp_path: Path) -> None:
    place = Place(tmp_path)
    word = place.secret("word", 20)
    assert len(word) == 20
    assert word.isalnum()
    assert place.secret("word", 20) == word
    assert stat.S_IMODE(place.path("word").stat().st_mode) == 0o600


def test_what_is_kept_is_whole_and_ours(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.kept("note") is None
    for text in ("first", "second"):
        place.keep("note", text)
        assert place.kept("note") == text
    assert stat.S_IMODE(place.path("note").stat().st_mode) == 0o600


def test_ports_stay_while_they_are_free(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first = place.ports({"web": ("127.0.0.1", 0)})
    assert place.ports({"web": ("127.0.0.1", 0)}) == first
    with socket.create_server(("127.0.0.1", first["web"])):
        assert place.ports({"web": ("127.0.0.1", 0)}) != first


def test_a_listener_keeps_others_off_its_port(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Place(tmp_path).listener("web", "127.0.0.1", 0) as ours:
        port = ours.getsockname()[1]
        with Place(tmp_path / "other").listener("web", "127.0.0.1", port) as theirs:
            assert theirs.getsockname()[1] != port


def test_sockets_fit_into_the_kernels_limit(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with Place(deep).sockets() as folder:
        assert len(str(folder / "postgres" / ".s.PGSQL.5432")) < 108
        assert folder.is_dir()
    assert not folder.exists()
