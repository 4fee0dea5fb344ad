"""The project and the ledger: what exists and what was asked."""

from hosting.celery import app as celery_app

__all__ = ["celery_app"]
