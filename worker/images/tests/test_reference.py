"""Cases from github.com/distribution/reference's own tests, in our words."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.images.reference import InvalidReference, Reference

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("owner/app", "docker.io/owner/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/owner/app:1", "docker.io/owner/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("[2001:db8::1]/app", "[2001:db8::1]/app:latest"),
        ("ghcr.io/owner/app:v1.2-rc.1", "ghcr.io/owner/app:v1.2-rc.1"),
        ("UPPER/app", "UPPER/app:latest"),
        ("a__b/c-d.e--f", "docker.io/a__b/c-d.e--f:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
        (f"r.example/app@sha512:{HEX * 2}", f"r.example/app@sha512:{HEX * 2}"),
        ("nginx:" + "a" * 128, "docker.io/library/nginx:" + "a" * 128),
    ],
)
def test_it_reads_names_as_docker_does(text: str, whole: str) -> None:
    assert str(Reference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        " nginx",
        "nginx\n",
        "Nginx",
        "owner/App",
        "nginx:",
        "nginx:-bad",
        "nginx:" + "a" * 129,
        "nginx@sha256:short",
        f"nginx@sha256:{HEX.upper()}",
        f"nginx@md5:{HEX[:32]}",
        f"nginx@{DIGEST}@{DIGEST}",
        "a//b",
        "/a",
        "a/",
        "a_/b",
        "a___b",
        "-a",
        ":tag",
        "https://r.example/app",
        "user:secret@r.example/app",
        "r.example:port/app",
        "-r.example/app",
        "[::1/app",
        "nginx:täg",
        "r.example/" + "a" * 256,
        "a/" * 600 + "a",
        HEX,
    ],
)
def test_it_refuses_what_names_no_image(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def test_it_says_that_repositories_are_lower_case() -> None:
    with pytest.raises(InvalidReference, match="lower case"):
        Reference.parse("r.example/MyApp:1")


component = st.from_regex(r"[a-z0-9]{1,8}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
domain = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]\.[a-z]{2,5}(?::[0-9]{2,5})?", fullmatch=True)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digest = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
sound = st.builds(
    Reference,
    domain,
    st.lists(component, min_size=1, max_size=4).map("/".join),
    tag,
    st.none() | digest,
)


@given(sound)
def test_what_it_writes_it_reads_back_the_same(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text() | st.text(alphabet="ab0._-/:@[]AZ\n \0é"))
def test_any_text_is_refused_or_a_reference_that_reads_back(text: str) -> None:
    with suppress(InvalidReference):
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference


@given(sound, digest)
def test_pinning_changes_the_digest_and_nothing_else(reference: Reference, pin: str) -> None:
    pinned = reference.pinned(pin)
    assert pinned.wanted == pin
    assert (pinned.domain, pinned.path, pinned.tag) == (
        reference.domain,
        reference.path,
        reference.tag,
    )
