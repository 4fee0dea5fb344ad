"""The Celery application: task code lives in worker/tasks.py, and is called by name from here on up."""

import os
from typing import Any

from celery import Celery
from celery.signals import task_prerun, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hosting.settings")

app = Celery("bulkhead")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Seconds, in a worker's process, which does one thing at a time; of threads that serve the web see settings.
_CONNECTION_MAX_AGE = 600


@worker_init.connect
def _keep_connections(**_: Any) -> None:
    from django.db import connections

    database = connections.settings["default"]
    database["CONN_MAX_AGE"] = database["CONN_MAX_AGE"] or _CONNECTION_MAX_AGE


@task_prerun.connect
def _drop_broken_connections(**_: Any) -> None:
    from django.db import close_old_connections

    close_old_connections()
