"""Where else a registry's images may be had, by the operator's word."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from worker.images.http import Origin, origin_of
from worker.images.reference import DOCKER_HUB, Reference


@dataclass(frozen=True, slots=True)
class Mirror:
    """A registry that has another's repositories, below `prefix` ("hub/") or as they are ("")."""

    origin: Origin
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """ "https://mirror.example:5000/hub". Raises ValueError."""
        try:
            origin, parts = origin_of(url)
        except Exception as error:
            raise ValueError(f"{url} is no address of a mirror") from error
        if parts.query or parts.fragment:
            raise ValueError(f"{url} is no address of a mirror")
        prefix = parts.path.strip("/")
        return cls(origin, f"{prefix}/" if prefix else "")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """By registry; each one's in the order in which they are tried."""

    by_registry: dict[str, tuple[Mirror, ...]] = field(default_factory=dict)
    stand_in: frozenset[str] = frozenset()
    """Registries whose mirrors may say what a tag means, and who may read it: all tenants may."""

    @classmethod
    def parse(cls, pairs: Iterable[str], stand_in: Iterable[str] = ()) -> Self:
        """From settings: "docker.io=https://mirror.example", several of one registry in order.

        Raises ValueError.
        """
        found: dict[str, tuple[Mirror, ...]] = {}
        for pair in pairs:
            registry, equals, url = pair.partition("=")
            if not equals:
                raise ValueError(f"{pair} is not registry=address")
            name = _registry(registry)
            found[name] = (*found.get(name, ()), Mirror.parse(url.strip()))
        return cls(found, frozenset(map(_registry, stand_in)))

    def of(self, domain: str) -> tuple[Mirror, ...]:
        return self.by_registry.get(domain.lower(), ())

    def stand_in_for(self, domain: str) -> bool:
        return domain.lower() in self.stand_in


def _registry(text: str) -> str:
    """As references have it: "docker.io" for its other names too. Raises ValueError."""
    name = text.strip().lower()
    domain = Reference.parse(f"{name}/name/of-any").domain
    if name not in (domain, f"index.{DOCKER_HUB}"):
        raise ValueError(f"{text} is no registry")
    return domain
