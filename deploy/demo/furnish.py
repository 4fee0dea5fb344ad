"""Tenants with people, images and running containers, made as anybody would make them.

Runs at every start, beside everything else: each step finds what is there already. What a person deleted
stays deleted, since a container is asked for with the same idempotency key each time.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from deploy.demo.place import Place
from deploy.demo.schema import ensure_user
from hosting.catalog.models import Image
from hosting.catalog.services import import_image
from hosting.compute.choices import DesiredState, Status
from hosting.compute.selectors import Observed, containers, observe
from hosting.compute.services import MIB, Sizes, create_container
from hosting.fleet.models import Host, Pool
from tenants.choices import Scope
from tenants.models import Tenant, User
from tenants.selectors import find_token
from tenants.services import create_tenant, create_token
from worker.fencing.hosts import BmcRefused, see_bmc_certificate, set_bmc
from worker.fencing.redfish import Account

ACTOR = "system:demo"
GIB = 1024 * MIB
LIMITS = {
    "containers": 20,
    "vcpus": 24,
    "memory_bytes": 8 * GIB,
    "disk_bytes": 32 * GIB,
}
# Name in the catalogue → what its tag is.
TAGS = {"web": "1.0", "worker": "2.1", "nginx": "latest", "redis": "latest"}
TOKEN_LIFE = timedelta(days=90)
# Seconds.
PATIENCE = 60.0
LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Wish:
    """A container to run."""

    name: str
    image: str
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True)
class Party:
    """A tenant, and who owns it."""

    slug: str
    name: str
    owner: str
    wishes: tuple[Wish, ...]


PARTIES = (
    Party(
        "harbor",
        "Harbor",
        "ada",
        (
            Wish("front", "web", env={"GREETING": "Welcome aboard"}),
            Wish("tides", "web", command=["--port", "8081", "--folder", "/srv/www"]),
            Wish("cargo", "worker", env={"QUEUE": "cargo"}, sizes=Sizes(2, 512 * MIB, GIB)),
        ),
    ),
    Party(
        "mill",
        "Mill",
        "ben",
        (
            Wish("shop", "web", env={"GREETING": "Flour by the sack"}),
            Wish("grind", "worker", command=["--grain", "rye"], env={"QUEUE": "rye"}),
            Wish("sieve", "worker", env={"QUEUE": "flour"}),
        ),
    ),
)


# Emulated hosts have a gigabyte for them all.
_SMALL = Sizes(1, 128 * MIB, 256 * MIB)


def parties_on_xen() -> tuple[Party, ...]:
    """The same tenants, with less that really runs."""
    wishes = {
        "harbor": (Wish("front", "nginx", sizes=_SMALL), Wish("cargo", "redis", sizes=_SMALL)),
        "mill": (Wish("shop", "nginx", sizes=_SMALL),),
    }
    return tuple(replace(party, wishes=wishes[party.slug]) for party in PARTIES)


def furnish(
    place: Place,
    registry: str,
    lab: Path | None,
    since: datetime,
    parties: Sequence[Party] = PARTIES,
) -> None:
    """`lab`: what the lab says of itself. On a pool that is not ours nothing is started or switched.

    What the mirror held before `since` is of another start, and not believed.

    What the welcome tells is left in the place as "furnished".
    """
    tenants = {party.slug: _ensure_tenant(place, party) for party in parties}
    wanted = dict.fromkeys(wish.image for party in parties for wish in party.wishes)
    images = {name: _ensure_image(name, registry, TAGS[name]) for name in wanted}
    token = _ensure_token(place, tenants[parties[0].slug], parties[0].owner)
    _await_that(lambda: Pool.objects.filter(mirrored_at__gte=since).exists())
    if lab is not None:
        _start_everything(tenants, images, lab, parties)
    seen = list(map(observe, containers()))
    furnished = {
        "token": token,
        "image": str(next(iter(images.values())).pk),
        "running": sum(map(_is_running, seen)),
        "missing": [f"{one.container.tenant.slug}/{one.container.name}" for one in _missing()],
        "host": _busy_host(seen),
    }
    place.keep("furnished", json.dumps(furnished))


def _start_everything(
    tenants: Mapping[str, Tenant],
    images: Mapping[str, Image],
    lab: Path,
    parties: Sequence[Party],
) -> None:
    if not _await_that(lambda: all(map(_is_imported, images.values()))):
        print("the images are not imported yet: the images worker's lines say why", flush=True)
        return
    for party in parties:
        _ask_for_containers(tenants[party.slug], party, images)
    _set_power_switches(json.loads(lab.read_text(encoding="utf-8")))
    _await_that(lambda: not _missing())


def _ensure_tenant(place: Place, party: Party) -> Tenant:
    owner = ensure_user(party.owner, place.secret(f"{party.owner}-password"))
    known = Tenant.objects.filter(slug=party.slug).first()
    return known or create_tenant(slug=party.slug, name=party.name, owner=owner, limits=LIMITS)


def _ensure_image(name: str, registry: str, tag: str) -> Image:
    """In everybody's catalogue. The registry's port may have changed since it was imported."""
    known = Image.objects.filter(tenant=None, name=name, removed_at=None).first()
    if known is not None:
        return known
    image, _ = import_image(
        tenant=None, name=name, reference=f"{registry}/{name}:{tag}", requested_by=ACTOR
    )
    return image


def _is_imported(image: Image) -> bool:
    image.refresh_from_db()
    return image.current is not None


def _ask_for_containers(tenant: Tenant, party: Party, images: Mapping[str, Image]) -> None:
    for wish in party.wishes:
        create_container(
            tenant=tenant,
            name=wish.name,
            image=images[wish.image],
            command=wish.command,
            env=wish.env,
            sizes=wish.sizes,
            requested_by=ACTOR,
            idempotency_key=f"demo-{party.slug}-{wish.name}",
        )


def _ensure_token(place: Place, tenant: Tenant, owner: str) -> str:
    """One that may start containers, for the commands that are shown."""
    name = f"{tenant.slug}-token"
    known = place.kept(name)
    if known is not None and find_token(known) is not None:
        return known
    _, secret = create_token(
        tenant=tenant,
        user=User.objects.get(username=owner),
        name="demonstration",
        scopes=[Scope.VIEW, Scope.OPERATE],
        expires_at=timezone.now() + TOKEN_LIFE,
    )
    place.keep(name, secret)
    return secret


def _set_power_switches(lab: Mapping[str, Any]) -> None:
    """Tell of every host's management controller, so that a failed one can be fenced."""
    for told in lab["hosts"]:
        host = Host.objects.filter(pk=told["uuid"]).first()
        if host is None:
            continue
        try:
            certificate = see_bmc_certificate(told["bmc"], None)
            account = Account(
                told["bmc"], lab["bmc_username"], lab["bmc_password"], certificate.pem
            )
            # Asked again, one that was left switched off would be taken for another machine's.
            if not _is_set(host, account):
                set_bmc(host, account, actor=ACTOR)
        except BmcRefused as refusal:
            print(f"{host}: {refusal}", flush=True)


def _is_set(host: Host, account: Account) -> bool:
    return (
        host.bmc_url.startswith(f"{account.url}/")
        and host.bmc_password == account.password
        and host.bmc_certificate == account.certificate
    )


def _busy_host(seen: Iterable[Observed]) -> str:
    """Where most containers run, of the hosts that do not answer for their pool: worth switching off."""
    masters = set(Pool.objects.values_list("master__name", flat=True))
    names = [one.instance.host.name for one in seen if one.instance and one.instance.host]
    counted = Counter(name for name in names if name not in masters)
    return counted.most_common(1)[0][0] if counted else ""


def _missing() -> list[Observed]:
    """What shall run and does not."""
    return [
        one
        for one in map(observe, containers())
        if one.container.desired_state == DesiredState.RUNNING and not _is_running(one)
    ]


def _is_running(observed: Observed) -> bool:
    return observed.status == Status.RUNNING


def _await_that(holds: Callable[[], bool]) -> bool:
    """For as long as somebody would wait for it; what does not hold then is told, not waited for."""
    deadline = time.monotonic() + PATIENCE
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    return held
