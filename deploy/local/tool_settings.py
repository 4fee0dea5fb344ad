"""hosting.settings for tools that read the code and run nothing of it, such as mypy's Django plugin."""

import os

os.environ.setdefault("ENVIRONMENT", "development")
os.environ.setdefault("SECRET_KEY", "for tools that only read")
os.environ.setdefault("DATABASE_URL", "postgresql:///nothing")

from hosting.settings import *  # noqa: F403  (the environment has to be given first)
