"""Brings the database to the present schema, makes the operator's login and enrols the pool.

Runs at every start: each step finds what is there already.
"""

import socket
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.demo.ours import command
from hosting.fleet.models import Pool
from tenants.models import User


def prepare(environment: Mapping[str, str], operator: str, password: str) -> None:
    command("migrate", "--no-input", "--verbosity", "0")
    ensure_user(operator, password, is_staff=True, is_superuser=True)
    _enrol(environment)
    _carry_networks(environment)
    _boot(environment)


def ensure_user(name: str, password: str, **rights: bool) -> User:
    user, _ = User.objects.get_or_create(username=name, defaults=rights)
    if not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    return user


def _enrol(environment: Mapping[str, str]) -> None:
    url, password = environment["XAPI_URL"], Path(environment["XAPI_PASSWORD_FILE"])
    known = Pool.objects.filter(name=environment["DEMO_POOL"], url=url).first()
    if known is not None and known.password == password.read_text(encoding="utf-8").strip():
        return  # its follower tells the rest, also while hosts of it are off
    _await(url)
    fingerprint = environment.get("XAPI_FINGERPRINT")
    trust = ["--fingerprint", fingerprint] if fingerprint else ["--trust-first-use"]
    command(
        "enrol_pool",
        *("--name", environment["DEMO_POOL"], "--url", url),
        *("--username", environment["XAPI_USERNAME"]),
        *("--password-file", str(password), *trust),
    )


def _carry_networks(environment: Mapping[str, str]) -> None:
    """On a pool of our own; of another's interfaces only its operators know which one is free."""
    device = environment.get("DEMO_NETWORK_DEVICE")
    pool = Pool.objects.get(name=environment["DEMO_POOL"])
    if device and not pool.network_device:
        command("set_network", pool.name, "--device", device)


def _boot(environment: Mapping[str, str]) -> None:
    """By a kernel that its hosts have, where that is said."""
    kernel, ramdisk = environment.get("DEMO_KERNEL"), environment.get("DEMO_RAMDISK", "")
    pool = Pool.objects.get(name=environment["DEMO_POOL"])
    if kernel and not pool.boot_kernel:
        command("set_boot", pool.name, "pvh", "--kernel", kernel, "--ramdisk", ramdisk)


def _await(url: str, seconds: float = 30) -> None:
    """Until something listens at `url`; the enrolment says what is wrong if nothing ever does."""
    host, _, port = url.removeprefix("https://").partition(":")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port or 443)), timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
