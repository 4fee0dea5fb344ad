"""Who owns, who may, and with what."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A person who signs in. Operators are `is_staff`; everything else comes from Memberships."""
