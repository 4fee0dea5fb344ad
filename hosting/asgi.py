"""The web process's entry: `uvicorn hosting.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

from hosting.connections import keep_connections_in_a_pool

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hosting.settings")

application = get_asgi_application()
keep_connections_in_a_pool()
