"""The benchmark's own parts: an image of this machine's files, and the disk of it. No time is measured."""

import shutil
from pathlib import Path

import pytest

from benchmarks.image_build import Layout, build, make_image
from worker.images.records import MIB
from worker.images.tests.reading import files


@pytest.mark.skipif(
    not shutil.which("tar") or not Path("/usr/share").is_dir(), reason="no tar, or no /usr/share"
)
def test_an_image_of_this_machines_files_becomes_a_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = make_image(tmp_path / "layout", entries=90, size=4 * MIB)
    image = Layout(tmp_path / "layout").image()
    assert len(image.layers) == 3
    build(tmp_path / "layout", tmp_path / "disk")
    seconds, memory = capsys.readouterr().out.split()
    assert float(seconds) > 0
    assert int(memory) > MIB
    found = files((tmp_path / "disk").read_bytes())
    assert len(found) >= said["entries"]


def test_a_layer_that_was_changed_is_not_measured(tmp_path: Path) -> None:
    make_image(tmp_path / "layout", entries=9, size=MIB)
    layout = Layout(tmp_path / "layout")
    layer = layout.image().layers[0].blob
    layout.path(layer.digest).write_bytes(b"other")
    with pytest.raises(ValueError, match=layer.digest):
        build(tmp_path / "layout", tmp_path / "disk")
