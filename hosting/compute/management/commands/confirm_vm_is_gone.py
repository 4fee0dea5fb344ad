"""manage.py confirm_vm_is_gone INSTANCE"""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from hosting.compute.models import Instance
from hosting.compute.services import confirm_vm_is_gone
from hosting.errors import Conflict


class Command(BaseCommand):
    """The last resort of deploy/runbooks/vm-lost.md."""

    help = "Vouch that no VM of an instance runs any more, so that it may be started anew."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("instance", type=UUID, help="its uuid, as the alarm names it")
        parser.add_argument("--by", required=True, help="who vouches, for the audit")

    def handle(self, *args: Any, **options: Any) -> None:
        instance = Instance.objects.all().living().filter(pk=options["instance"]).first()
        if instance is None:
            raise CommandError(f"there is no instance {options['instance']} that lives")
        try:
            confirm_vm_is_gone(instance=instance, actor=f"user:{options['by']}")
        except Conflict as refusal:
            raise CommandError(refusal.public) from refusal
        self.stdout.write(f"{instance} holds no host any more")
