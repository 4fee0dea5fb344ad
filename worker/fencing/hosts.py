"""From a row of Host to its power switch, and how the row comes to know it."""

from __future__ import annotations

from hosting.errors import Conflict
from hosting.fleet.models import Host
from hosting.fleet.services import store_bmc
from worker.fencing.port import Fence, FenceRefused, FencingError, PowerState
from worker.fencing.redfish import PATIENCE, Account, Description, Patience, Redfish
from worker.hypervisor.port import HostCertificate, Unreachable
from worker.hypervisor.xapi import is_same_fingerprint, read_certificate
from worker.hypervisor.xapi.transport import Endpoint


class BmcRefused(Exception):
    """The controller was not accepted, and nothing was changed. The text says what to do."""


def fence_of(host: Host, *, patience: Patience = PATIENCE) -> Fence:
    """Raises FenceRefused ("no_bmc") for a host of which no controller is known, and BrokenSeal."""
    if not host.bmc_url:
        raise FenceRefused("no_bmc")
    account = Account(host.bmc_url, host.bmc_username, host.bmc_password, host.bmc_certificate)
    return Redfish(account, patience=patience)


def see_bmc_certificate(url: str, expected: str | None) -> HostCertificate:
    """What the controller at `url` shows; with `expected` only if it has that SHA-256 fingerprint.

    Nothing secret is sent. Raises BmcRefused.
    """
    try:
        shown = read_certificate(url)
    except ValueError as error:
        raise BmcRefused(f'{url!r} is no address of a controller: "https://10.0.0.1"') from error
    except Unreachable as error:
        raise BmcRefused(f"nobody answers at {url} ({error.reason})") from error
    if expected is not None and not is_same_fingerprint(shown.fingerprint, expected):
        raise BmcRefused(
            "the certificate is not the expected one: somebody may be in between\n"
            f"  expected  {expected}\n"
            f"  shown     {shown.fingerprint}"
        )
    return shown


def set_bmc(host: Host, account: Account, *, actor: str) -> Description:
    """Make sure that `account` works and may be this host's, write it down, say what it is.

    A switch that belongs to another machine would "prove" that a running host is off: what can be
    checked is checked, and the rest is for a person to compare. Raises BmcRefused.
    """
    try:
        found = Redfish(account).describe()
    except FencingError as error:
        raise BmcRefused(f"{account.url} does not serve as a fence: {error}") from error
    if host.live and found.power is not PowerState.ON:
        raise BmcRefused(
            f"{host} runs, but this controller's machine is {found.power}: it is another one's"
        )
    url = f"https://{Endpoint.parse(account.url).netloc}{found.path}"
    try:
        store_bmc(
            host,
            url=url,
            username=account.username,
            password=account.password,
            certificate=account.certificate,
            actor=actor,
        )
    except Conflict as error:
        raise BmcRefused(error.public) from error
    return found
