"""manage.py enrol_pool --name … --url … --username … --password-file … --fingerprint …"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from worker.enrolment import EnrolmentRefused, confirm, enrol, see_certificate


class Command(BaseCommand):
    """Idempotent: the same pool enrolled again has its address and credentials renewed."""

    help = "Take a XAPI pool under our care."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="what we call it")
        parser.add_argument("--url", required=True, help='of its master: "https://10.0.0.1"')
        parser.add_argument("--username", default="root")
        parser.add_argument(
            "--password-file", required=True, help='a file that holds the password, or "-"'
        )
        trust = parser.add_mutually_exclusive_group(required=True)
        trust.add_argument(
            "--fingerprint", help="SHA-256 of the master's certificate, compared by a person"
        )
        trust.add_argument(
            "--trust-first-use",
            action="store_true",
            help="trust the certificate that is shown now: only where nobody can be in between",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        password = _password(options["password_file"])
        try:
            certificate = see_certificate(options["url"])
            self.stdout.write(f"certificate {certificate.fingerprint}")
            if options["fingerprint"] is not None:
                confirm(certificate, options["fingerprint"])
            done = enrol(
                name=options["name"],
                url=options["url"],
                username=options["username"],
                password=password,
                certificate=certificate,
            )
        except EnrolmentRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        verb = "enrolled" if done.is_new else "renewed"
        known = "its objects are known" if done.mirrored else "its follower runs already"
        self.stdout.write(
            f"{verb} pool {done.pool.name} {done.pool.uuid}: {done.hosts} hosts, {known}"
        )


def _password(file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot read the password from {file!r}: {error.strerror}") from error
    return text.rstrip("\r\n")
