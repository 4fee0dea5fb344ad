"""Requests written down in words become the bytes that were sent."""

from __future__ import annotations

import pytest

from deploy.lab.replay.raw_requests import NotUnderstood, build


def built(text: str) -> bytes:
    return build(text, "root", "secret")


def test_what_is_written_whole_gets_its_line_ends_and_keeps_its_body() -> None:
    assert built("POST / HTTP/1.1\nHost: x\n\na\nb") == b"POST / HTTP/1.1\r\nHost: x\r\n\r\na\nb"


def test_chunks_have_line_ends_too() -> None:
    assert built("PUT / HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n\n").endswith(b"\r\n0\r\n\r\n")


def test_zero_bytes_are_sent_as_many_as_announced() -> None:
    sent = built("PUT /x?a=b, Content-Length 3, zero bytes as body")
    assert sent == b"PUT /x?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\0\0\0"


def test_announced_bytes_may_not_be_sent() -> None:
    assert built("POST / with Content-Length 3 and no body").endswith(b"Content-Length: 3\r\n\r\n")


def test_a_long_header_has_its_length() -> None:
    sent = built("GET / HTTP/1.1, Host: x, one header X-Long of 600 bytes")
    assert sent == b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 600 + b"\r\n\r\n"


def test_credentials_are_those_of_the_pool() -> None:
    sent = built("GET /rrd_updates with basic authentication, right password")
    assert b"Authorization: Basic cm9vdDpzZWNyZXQ=" in sent


@pytest.mark.parametrize("text", ["whatever", "GET / HTTP/1.1, Host: x, and a song"])
def test_other_words_are_not_guessed_at(text: str) -> None:
    with pytest.raises(NotUnderstood):
        built(text)
