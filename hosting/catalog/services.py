"""Asking for images to come and to go."""

from hashlib import sha256

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from hosting.catalog.models import Image
from hosting.errors import Conflict, InvalidRequest
from hosting.operations.models import Operation
from hosting.operations.selectors import active_operation_about, operation_of_key
from hosting.operations.services import request, supersede
from tenants.models import Tenant, is_slug

IMPORT, REMOVE = "image.import", "image.remove"


def import_image(
    *,
    tenant: Tenant | None,
    name: str,
    reference: str,
    requested_by: str,
    idempotency_key: str = "",
) -> tuple[Image, Operation]:
    """A catalogue entry, and the operation that fills it. `tenant` None: for everybody (operators).

    Raises InvalidRequest, and Conflict ("name_taken", "idempotency_key_reused").
    """
    _assert_asked_well(name, reference)
    owner = "" if tenant is None else str(tenant.pk)
    asked = sha256(f"{owner}\0{name}\0{reference}".encode()).hexdigest()
    made = _made_before(requested_by, idempotency_key, asked)
    if made is not None:
        return made
    try:
        with transaction.atomic():
            image = Image.objects.create(tenant=tenant, name=name, reference=reference)
            operation = request(
                IMPORT,
                image,
                requested_by=requested_by,
                facts={"asked": asked},
                idempotency_key=idempotency_key,
            )
    except (IntegrityError, Conflict) as error:
        made = _made_before(requested_by, idempotency_key, asked)
        if made is not None:
            return made
        if isinstance(error, Conflict):
            raise
        raise Conflict("That name is taken.", code="name_taken", name=name) from error
    return image, operation


def refresh_image(*, image: Image, requested_by: str, idempotency_key: str = "") -> Operation:
    """See what its reference names now. Containers that exist keep what they were made from.

    Raises Conflict ("operation_in_progress").
    """
    return request(IMPORT, image, requested_by=requested_by, idempotency_key=idempotency_key)


def remove_image(*, image: Image, requested_by: str) -> Operation:
    """Out of the catalogue at once, and its disks when nobody else needs them.

    Raises Conflict ("image_in_use") while a container is made from it.
    """
    with transaction.atomic():
        if image.versions.filter(containers__isnull=False, containers__deleted_at=None).exists():
            raise Conflict("Containers are made from it: delete those first.", code="image_in_use")
        Image.objects.filter(pk=image.pk).remove()
        active = active_operation_about(image)
        if active is not None:
            return supersede(active, REMOVE, requested_by=requested_by)
        return request(REMOVE, image, requested_by=requested_by)


def _assert_asked_well(name: str, reference: str) -> None:
    try:
        is_slug(name)
    except ValidationError as error:
        raise InvalidRequest(f"name: {error.messages[0]}", name=name) from error
    if not 0 < len(reference) <= 500 or any(c.isspace() or not c.isprintable() for c in reference):
        raise InvalidRequest("reference: name an image, such as docker.io/library/nginx:1.27.")


def _made_before(
    requested_by: str, idempotency_key: str, asked: str
) -> tuple[Image, Operation] | None:
    operation = operation_of_key(requested_by=requested_by, idempotency_key=idempotency_key)
    if operation is None:
        return None
    if operation.image is None or operation.facts.get("asked") != asked:
        raise Conflict(
            "This idempotency key was used for another request.",
            code="idempotency_key_reused",
            operation=operation.uuid,
        )
    return operation.image, operation
