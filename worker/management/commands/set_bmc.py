"""manage.py set_bmc HOST --url … --username … --password-file … --fingerprint …"""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from hosting.fleet.models import Host
from worker.fencing.hosts import BmcRefused, see_bmc_certificate, set_bmc
from worker.fencing.redfish import Account
from worker.management.commands.enrol_pool import _password


class Command(BaseCommand):
    """Idempotent. The controller is asked before anything is written; nothing is switched."""

    help = "Tell how to switch a host's power: its Redfish management controller."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("host", help="its name or uuid")
        parser.add_argument(
            "--url",
            required=True,
            help='of the controller, "https://10.0.1.1"; where it has several systems, of the one',
        )
        parser.add_argument("--username", required=True)
        parser.add_argument(
            "--password-file", required=True, help='a file that holds the password, or "-"'
        )
        trust = parser.add_mutually_exclusive_group(required=True)
        trust.add_argument(
            "--fingerprint", help="SHA-256 of the controller's certificate, compared by a person"
        )
        trust.add_argument(
            "--trust-first-use",
            action="store_true",
            help="trust the certificate that is shown now: only where nobody can be in between",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host = _host(options["host"])
        password = _password(options["password_file"])
        try:
            certificate = see_bmc_certificate(options["url"], options["fingerprint"])
            self.stdout.write(f"certificate {certificate.fingerprint}")
            account = Account(options["url"], options["username"], password, certificate.pem)
            found = set_bmc(host, account, actor="system:set_bmc")
        except BmcRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        known = {"maker": found.maker, "model": found.model, "serial": found.serial}
        told = ", ".join(f"{word} {said}" for word, said in known.items() if said)
        self.stdout.write(
            f"{host}'s power is switched by {found.name!r} ({told or 'it tells nothing more'}), "
            f"system {found.uuid or 'without uuid'}, which is {found.power}.\n"
            "Compare that with the machine: a switch of another one's would prove nothing."
        )


def _host(named: str) -> Host:
    present = Host.objects.present().select_related("pool")
    try:
        found = list(present.filter(pk=UUID(named)))
    except ValueError:
        found = list(present.filter(name=named))
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(f"there is no host {named!r}")
    choices = ", ".join(f"{host.pk} in {host.pool}" for host in found)
    raise CommandError(f"there are several hosts {named!r}: {choices}")
