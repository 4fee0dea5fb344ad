"""Why an image does not become a root disk.

In the manner of hosting/errors.py: a stable `code`, a `public` sentence that a tenant may read, and a private
`context` for our logs. Two kinds: `ImageRefused` stays true as long as image, credentials and our rules
are what they are; `ImageUnavailable` may pass by itself. Neither ever carries a credential, a token or an
address that a redirect led to.
"""

from datetime import timedelta
from typing import ClassVar


class ImageError(Exception):
    """No image today; raised as one of the kinds below."""

    default_code: ClassVar[str] = "image_failed"
    default_public: ClassVar[str] = "The image cannot be had."

    def __init__(self, public: str = "", *, code: str = "", **context: object) -> None:
        self.public = public or self.default_public
        self.code = code or self.default_code
        self.context = context
        super().__init__(self.public)


class ImageRefused(ImageError):
    """Asking again the same way will end the same way."""

    default_code = "image_refused"


class ImageUnavailable(ImageError):
    """Asking again later may do. `retry_after` is the registry's own wish, when it told one."""

    default_code = "image_unavailable"

    def __init__(
        self,
        public: str = "",
        *,
        code: str = "",
        retry_after: timedelta | None = None,
        **context: object,
    ) -> None:
        super().__init__(public, code=code, **context)
        self.retry_after = retry_after


# ------------------------------------------------------------------------------------ the registry says no


class ImageUnknown(ImageRefused):
    """No such repository, tag or digest."""

    default_code = "image_unknown"
    default_public = "The registry has no such image."


class PullRefused(ImageRefused):
    """Not without credentials, or not with these. Some registries say so of what does not exist."""

    default_code = "pull_refused"
    default_public = (
        "The registry refuses the pull: the credentials do not do, or there is no such image."
    )


class RegistryNotAllowed(ImageRefused):
    """Its address, or the way there, is closed to us by the operator's rules."""

    default_code = "registry_not_allowed"
    default_public = "Images may not be pulled from that address."


class RegistryNotTrusted(ImageRefused):
    """Its certificate is not one we know."""

    default_code = "registry_not_trusted"
    default_public = "The registry's certificate is not trusted."


# ------------------------------------------------------------------------------- what it gave is not right


class DigestMismatch(ImageRefused):
    """Other bytes than the digest promised."""

    default_code = "digest_mismatch"
    default_public = "The registry's bytes do not match their digest."


class NotForThisArchitecture(ImageRefused):
    """No manifest of the image is for our platform."""

    default_code = "not_for_this_architecture"
    default_public = "The image is not made for this pool's architecture."


class NotAnImage(ImageRefused):
    """A chart, a signature, a manifest of 2015: something that no container starts from."""

    default_code = "not_an_image"
    default_public = "That is not a container image of a kind known here."


class ImageMalformed(ImageRefused):
    """Manifest or configuration break the specification."""

    default_code = "image_malformed"
    default_public = "The image's description is malformed."


class LayerForeign(ImageRefused):
    """The layer is to be fetched from elsewhere; we never follow such addresses."""

    default_code = "layer_foreign"
    default_public = "The image has layers that its registry may not give away."


class LayerMalformed(ImageRefused):
    """A layer that is no sound tar archive, or that no file system could hold."""

    default_code = "layer_malformed"
    default_public = "One of the image's layers is malformed."


class TooLarge(ImageRefused):
    """Past one of our limits."""

    default_code = "too_large"
    default_public = "The image is larger than is allowed here."


# ------------------------------------------------------------------------------------------- not just now


class RegistryUnreachable(ImageUnavailable):
    """No name, no connection, no answer in time, or one that broke off."""

    default_code = "registry_unreachable"
    default_public = "The registry cannot be reached."


class ProxyFailed(RegistryUnreachable):
    """Our own way out does not lead there: the proxy is down, or says no."""

    default_code = "proxy_failed"
    default_public = "The proxy does not lead to the registry."


class RegistryBusy(ImageUnavailable):
    """Too many requests, of ours or of all."""

    default_code = "registry_busy"
    default_public = "The registry asks to come back later."


class RegistryFailed(ImageUnavailable):
    """It answers, with an error of its own or with nonsense."""

    default_code = "registry_failed"
    default_public = "The registry has a fault."


class TookTooLong(ImageUnavailable):
    """The time for one image is over."""

    default_code = "image_took_too_long"
    default_public = "The image took too long."


class SpoolFull(ImageUnavailable):
    """Our own disk has no room for the layers now."""

    default_code = "spool_full"
    default_public = "There is no room to build the image now."
