"""For servers that speak WSGI only; the live pages need hosting.asgi."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hosting.settings")

application = get_wsgi_application()
