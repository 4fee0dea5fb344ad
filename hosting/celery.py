"""The Celery application: task code lives in worker/tasks.py, and is called by name from here on up."""

import os
from typing import Any

from celery import Celery
from celery.signals import task_prerun, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hosting.settings")

app = Celery("bulkhead")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def _keep_connections(**_: Any) -> None:
    from hosting.connections import keep_one_connection

    keep_one_connection()


@task_prerun.connect
def _drop_broken_connections(**_: Any) -> None:
    from django.db import close_old_connections

    close_old_connections()
