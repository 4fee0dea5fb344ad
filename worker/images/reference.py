"""Names of images, read as `docker pull` reads them: "nginx", "ghcr.io/owner/app:1.2@sha256:…".

The grammar is that of github.com/distribution/reference, with Docker's completion of short names. Pure,
standard library only. Library looked at: docker-image-py follows the same source, but is untyped and brings
the `regex` extension for what `re` does in one pattern.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Self

DOCKER_HUB: Final = "docker.io"
LONGEST_PATH: Final = 255
LONGEST_REFERENCE: Final = 1024

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
_WHOLE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>[^@]*))?",
    re.ASCII,
)
_BARE_DIGEST = re.compile(r"[a-f0-9]{64}", re.ASCII)


class InvalidReference(ValueError):
    """That names no image. The text is a sentence for whoever wrote the name."""

    code: Final = "invalid_reference"


@dataclass(frozen=True, slots=True)
class Reference:
    """One image at one registry. With a digest, the digest decides and the tag is a remark."""

    domain: str
    """The registry as people name it, with its port if any; "docker.io" for Docker Hub."""
    path: str
    """The repository within it, e.g. "library/nginx"."""
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidReference. A name with neither tag nor digest gets the tag "latest"."""
        if len(text) > LONGEST_REFERENCE:
            raise InvalidReference(f"an image's name has at most {LONGEST_REFERENCE} characters")
        if _BARE_DIGEST.fullmatch(text):
            raise InvalidReference("64 hexadecimal digits alone name no image: which repository?")
        domain, rest = _split_domain(text)
        match = _WHOLE.fullmatch(f"{domain}/{rest}")
        if match is None or match["domain"] != domain:
            raise InvalidReference(_what_is_wrong(rest))
        path, tag, digest = match["path"], match["tag"], match["digest"]
        if len(path) > LONGEST_PATH:
            raise InvalidReference(f"a repository's name has at most {LONGEST_PATH} characters")
        if digest is not None and not is_digest(digest):
            raise InvalidReference("a digest is sha256: and 64, or sha512: and 128 hexadecimals")
        return cls(domain, path, tag or (None if digest else "latest"), digest)

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def pinned(self, digest: str) -> "Reference":
        """The same image, held fast by its digest. The tag stays, as a remark."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.domain}/{self.path}{tag}{digest}"


def is_digest(text: str) -> bool:
    """A digest of an algorithm we check, in its one way of writing."""
    return re.fullmatch(_DIGEST, text, re.ASCII) is not None


def _split_domain(text: str) -> tuple[str, str]:
    """Docker's rule: the first part is a registry if no repository could be called so."""
    first, slash, rest = text.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    domain, path = (first, rest) if is_domain else (DOCKER_HUB, text)
    if domain == "index.docker.io":
        domain = DOCKER_HUB
    if domain == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _what_is_wrong(rest: str) -> str:
    name = rest.partition("@")[0].rpartition(":")[0] or rest
    if name != name.lower():
        return "a repository's name is written in lower case"
    return "an image is named like nginx, owner/app:1.2 or registry.example.com/app@sha256:…"
