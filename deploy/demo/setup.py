"""Brings the database to the present schema, makes the operator's login and enrols the pool.

One process for all, since each would spend most of its time on loading Django. Runs at every start: each
step finds what is there already.
"""

import os
import socket
import sys
import time
from pathlib import Path

import django
from django.core.management import CommandError, call_command


def main() -> None:
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    _ensure_operator(
        os.environ["DEMO_OPERATOR"],
        Path(os.environ["DEMO_OPERATOR_PASSWORD_FILE"]).read_text().strip(),
    )
    _enrol(os.environ["DEMO_POOL"])


def _ensure_operator(name: str, password: str) -> None:
    from tenants.models import User

    operator, _ = User.objects.get_or_create(
        username=name, defaults={"is_staff": True, "is_superuser": True}
    )
    if not operator.check_password(password):
        operator.set_password(password)
        operator.save(update_fields=["password"])


def _enrol(name: str) -> None:
    url = os.environ["XAPI_URL"]
    _await(url)
    fingerprint = os.environ.get("XAPI_FINGERPRINT")
    trust = ["--fingerprint", fingerprint] if fingerprint else ["--trust-first-use"]
    call_command(
        "enrol_pool",
        *("--name", name, "--url", url, "--username", os.environ["XAPI_USERNAME"]),
        *("--password-file", os.environ["XAPI_PASSWORD_FILE"], *trust),
    )


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


if __name__ == "__main__":
    try:
        main()
    except CommandError as refusal:
        sys.exit(str(refusal))
