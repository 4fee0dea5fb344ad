from __future__ import annotations

import contextlib
import hashlib
import io
import random
import socket
import struct
import tarfile
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import xxhash

from deploy.lab.samples import MIB
from deploy.lab.tests.storing import Disks, disks_of, storage_lab
from deploy.lab.tests.vms import error_of

SIZE = 4 * MIB


@pytest.fixture(scope="module")
def client() -> Iterator[Disks]:
    with storage_lab(2) as lab, disks_of(lab) as disks:
        yield disks


@pytest.fixture
def vdi(client: Disks) -> str:
    return client.create(client.shared_storage(), SIZE)


@pytest.fixture
def image() -> bytes:
    """4 MiB with a hole in the middle."""
    chance = random.Random(3)
    return chance.randbytes(MIB) + bytes(2 * MIB) + chance.randbytes(MIB)


def packed(image: bytes, kind: str = "checksum", *, wrong: int | None = None) -> bytes:
    """The image as the tar that the daemon reads; the checksum of block `wrong` is wrong."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        last = len(image) // MIB - 1
        for number in range(last + 1):
            block = image[number * MIB : (number + 1) * MIB]
            if not block.strip(b"\0") and number not in (0, last):
                continue
            data = b"other" if number == wrong else block
            digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            if kind == "xxhash":
                digest = xxhash.xxh64_hexdigest(data).upper()
            for name, content in ((f"vdi/{number:08d}", block), (digest, digest.encode())):
                label = name if content is block else f"vdi/{number:08d}.{kind}"
                member = tarfile.TarInfo(label)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def framed(image: bytes) -> bytes:
    """The image in frames, last block first."""
    frames = b""
    for offset in reversed(range(0, len(image), MIB)):
        frames += struct.pack("<QI", offset, MIB) + image[offset : offset + MIB]
    return frames + bytes(12)


# --- what is sent comes back


def test_a_raw_image_is_what_the_disk_then_holds(client: Disks, vdi: str, image: bytes) -> None:
    task = client.upload(vdi, image, format="raw")
    assert (task["status"], task["progress"]) == ("success", 1.0)
    assert task["result"] == f"<value>{vdi}</value>"
    assert client.download(vdi, format="raw") == image


@pytest.mark.parametrize("kind", ["checksum", "xxhash"])
def test_a_tar_image_is_what_the_disk_then_holds(
    client: Disks, vdi: str, image: bytes, kind: str
) -> None:
    assert client.upload(vdi, packed(image, kind), format="tar")["status"] == "success"
    assert client.download(vdi, format="raw") == image


def test_frames_may_come_in_any_order(client: Disks, vdi: str, image: bytes) -> None:
    task = client.upload(vdi, framed(image), format="raw", chunked="false")
    assert task["status"] == "success"
    assert client.download(vdi, format="raw") == image


def test_a_vhd_that_was_exported_can_be_imported(client: Disks, vdi: str, image: bytes) -> None:
    client.upload(vdi, image, format="raw")
    exported = client.download(vdi, format="vhd")
    assert exported[:8] == exported[-512:-504] == b"conectix"
    other = client.create(client.shared_storage(), SIZE)
    assert client.upload(other, exported, format="vhd")["status"] == "success"
    assert client.download(other, format="raw") == image


def test_a_tar_that_was_exported_can_be_imported(client: Disks, vdi: str, image: bytes) -> None:
    client.upload(vdi, image, format="raw")
    exported = client.download(vdi, format="tar")
    assert len(exported) < len(image)
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        assert archive.getnames()[:2] == ["vdi/00000000", "vdi/00000000.xxhash"]
    other = client.create(client.shared_storage(), SIZE)
    assert client.upload(other, exported, format="tar")["status"] == "success"
    assert client.download(other, format="raw") == image


def test_holes_in_an_upload_leave_what_a_clone_had(client: Disks, vdi: str, image: bytes) -> None:
    client.write(vdi, 2 * MIB, b"base")
    clone = client.api.VDI.clone(vdi, {})
    client.upload(clone, packed(image), format="tar")
    assert client.read(clone, 2 * MIB, 4) == b"base"
    assert client.read(vdi, 0, 4) == bytes(4)


def test_an_image_shorter_than_the_disk_is_taken(client: Disks, vdi: str) -> None:
    assert client.upload(vdi, b"x" * 1000, format="raw")["status"] == "success"


# --- what goes wrong is told by the task


def test_an_image_longer_than_the_disk_fails(client: Disks, vdi: str, image: bytes) -> None:
    task = client.upload(vdi, image + b"x" * MIB, format="raw")
    assert task["error_info"] == ["VDI_IO_ERROR", "Device I/O errors"]


def test_a_wrong_checksum_fails(client: Disks, vdi: str, image: bytes) -> None:
    task = client.upload(vdi, packed(image, wrong=3), format="tar")
    assert task["status"] == "failure"
    assert task["error_info"][0] == "INTERNAL_ERROR"
    assert "checksum failed" in task["error_info"][1]


def test_no_tar_at_all_fails_after_the_200(client: Disks, vdi: str) -> None:
    task = client.api.task.create("t", "")
    answer = client.put(bytes(4096), vdi=vdi, task_id=task, format="tar")
    assert answer.status == 200
    assert b"Tar.Header.End_of_stream" in answer.body
    error = ["INTERNAL_ERROR", "Tar.Header.End_of_stream"]
    assert client.api.task.get_error_info(task) == error


def test_an_upload_that_stops_in_the_middle_fails(client: Disks, vdi: str) -> None:
    task = client.api.task.create("t", "")
    address = urlsplit(client.lab.url)
    target = f"/import_raw_vdi?session_id={client.session.handle}&vdi={vdi}&task_id={task}"
    with socket.create_connection((address.hostname, address.port), timeout=30) as peer:
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
        peer.sendall(head.encode())
        # The status comes before any data are sent.
        assert peer.recv(100).startswith(b"HTTP/1.1 200 OK")
        peer.sendall(b"x" * 1000)
    client.lab.clock.advance(5.0)
    assert client.api.task.get_status(task) == "failure"


def test_a_failing_upload_can_be_injected(client: Disks, vdi: str, image: bytes) -> None:
    client.lab.faults.failing_imports = 1
    assert client.upload(vdi, image, format="raw")["status"] == "failure"
    assert client.upload(vdi, image, format="raw")["status"] == "success"


def test_a_full_sr_fails_the_upload(image: bytes) -> None:
    with storage_lab(1) as lab, disks_of(lab) as small:
        nfs = small.shared_storage()
        vdi = small.create(nfs, SIZE)
        lab.do(lambda inside: inside.faults.leave_free(inside.db.get("SR", nfs), MIB))
        task = small.upload(vdi, image, format="raw")
        assert task["error_info"] == ["VDI_IO_ERROR", "Device I/O errors"]


def test_a_cancelled_upload_ends_its_task(client: Disks, vdi: str) -> None:
    task = client.api.task.create("t", "")
    address = urlsplit(client.lab.url)
    target = f"/import_raw_vdi?session_id={client.session.handle}&vdi={vdi}&task_id={task}"
    with socket.create_connection((address.hostname, address.port), timeout=30) as peer:
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
        peer.sendall(head.encode())
        assert peer.recv(100).startswith(b"HTTP/1.1 200 OK")
        client.api.task.cancel(task)
        with contextlib.suppress(ConnectionError):
            peer.sendall(b"x" * SIZE)
            while peer.recv(65536):
                pass
    assert client.api.task.get_status(task) == "cancelled"


def test_a_disk_is_in_use_while_it_is_uploaded(client: Disks, vdi: str) -> None:
    address = urlsplit(client.lab.url)
    target = f"/import_raw_vdi?session_id={client.session.handle}&vdi={vdi}"
    with socket.create_connection((address.hostname, address.port), timeout=30) as peer:
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
        peer.sendall(head.encode())
        assert peer.recv(100).startswith(b"HTTP/1.1 200 OK")
        client.lab.clock.advance(1.0)
        assert error_of(client.api.VDI.destroy, vdi) == ["VDI_IN_USE", vdi, "destroy"]
        peer.sendall(bytes(SIZE))
        while peer.recv(65536):
            pass
    client.api.VDI.destroy(vdi)


def test_a_disk_that_another_host_writes_is_not_overwritten(client: Disks, vdi: str) -> None:
    vm = client.vm()
    client.vbd(vm, vdi)
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    task = client.upload(vdi, b"x" * 1000, format="raw")
    assert task["error_info"][0] == "SR_BACKEND_FAILURE_46"
    client.clear()


# --- which host, which request


def test_a_host_that_does_not_see_the_disk_names_one_that_does(client: Disks) -> None:
    vdi = client.create(client.local_storage("h2"), SIZE)
    answer = client.get(vdi=vdi)
    assert answer.status == 302
    assert urlsplit(answer.headers["Location"]).netloc == urlsplit(client.lab.urls[1]).netloc
    assert client.get(host=1, vdi=vdi, format="raw").body == bytes(SIZE)


def test_a_member_takes_uploads_too(client: Disks, vdi: str) -> None:
    assert client.put(b"abc", host=1, vdi=vdi).status == 200
    assert client.read(vdi, 0, 3) == b"abc"


def test_a_session_is_needed(client: Disks, vdi: str) -> None:
    answer = client.put(b"", vdi=vdi, session_id="OpaqueRef:nope")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="put_import_raw_vdi"'


def test_an_unknown_disk_fails_the_given_task(client: Disks) -> None:
    task = client.api.task.create("t", "")
    assert client.put(b"", vdi="nosuch", task_id=task).status == 500
    assert client.api.task.get_error_info(task)[0] == "RBAC_PERMISSION_DENIED"


@pytest.mark.parametrize(
    "query",
    [{"format": "bogus"}, {"format": "tar", "chunked": "1"}, {"format": "vhd", "chunked": "1"}],
)
def test_an_unknown_format_is_not_found(client: Disks, vdi: str, query: dict[str, str]) -> None:
    assert client.put(b"", vdi=vdi, **query).status == 404


def test_an_upload_without_a_task_names_its_own(client: Disks, vdi: str) -> None:
    assert client.put(b"x", vdi=vdi).headers["task-id"].startswith("OpaqueRef:")


def test_an_export_is_offered_as_a_file(client: Disks, vdi: str) -> None:
    uuid = client.api.VDI.get_uuid(vdi)
    answer = client.get(vdi=uuid, format="tar")
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-disposition"] == f'attachment; filename="{uuid}.tar"'


def test_an_upload_names_the_contents_anew(client: Disks, vdi: str) -> None:
    client.put(b"x", vdi=vdi)
    first = client.api.VDI.get_other_config(vdi)["content_id"]
    client.put(b"y", vdi=vdi)
    assert client.api.VDI.get_other_config(vdi)["content_id"] != first
