"""Every setting of Bulkhead, driven by environment variables (docs/settings.md names each one).

A variable is read once, here, and nowhere else in the application. With ENVIRONMENT=production, the
default, the program refuses to start on anything that is only fit for a desk.
"""

import base64
import hashlib
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import django_stubs_ext
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from hosting.env import envamounts, envbool, envchoice, envint, envlist, envsecret, envstr
from hosting.logs import logging_config

# So that `ModelAdmin[Tenant]` is more than a type checker's word.
django_stubs_ext.monkeypatch()

ROOT = Path(__file__).resolve().parent.parent

# What kind of place this is
ENVIRONMENT = envchoice("ENVIRONMENT", ["production", "development", "test"], "production")
PRODUCTION = ENVIRONMENT == "production"
DEBUG = envbool("DEBUG", False)
SECRET_KEY = envsecret("SECRET_KEY")
SECRET_KEY_FALLBACKS = envlist("SECRET_KEY_FALLBACKS")
# Fernet keys parted by commas: the first seals secrets at rest, each of them opens (hosting/keyring.py).
KEY_RING = [key.strip() for key in envsecret("KEY_RING").split(",") if key.strip()]
ALLOWED_HOSTS = envlist("ALLOWED_HOSTS", [] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = envlist("CSRF_TRUSTED_ORIGINS")
TLS = envbool("TLS", PRODUCTION)

# The servers we stand on
DATABASE_URL = envsecret("DATABASE_URL")
REDIS_URL = envsecret("REDIS_URL", "" if PRODUCTION else "redis://127.0.0.1:6379/0")
BROKER_URL = envsecret("BROKER_URL", REDIS_URL)


def _refuse_a_careless_production() -> None:
    faults = [
        fault
        for fault, present in {
            "DEBUG is on": DEBUG,
            "SECRET_KEY is absent": not SECRET_KEY,
            "SECRET_KEY is a default or too short (50 characters or more)": SECRET_KEY
            and (len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 10 or "insecure" in SECRET_KEY),
            "KEY_RING is absent": not KEY_RING,
            "ALLOWED_HOSTS is empty": not ALLOWED_HOSTS,
            "REDIS_URL is absent": not REDIS_URL,
        }.items()
        if present
    ]
    if faults:
        message = f"refusing to start in production: {'; '.join(faults)} (see docs/settings.md)"
        raise ImproperlyConfigured(message)


if PRODUCTION:
    _refuse_a_careless_production()
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is absent (see docs/settings.md)")
if not KEY_RING:
    _derived = hashlib.sha256(b"bulkhead key ring" + SECRET_KEY.encode()).digest()
    KEY_RING = [base64.urlsafe_b64encode(_derived).decode()]
if not DATABASE_URL:
    raise ImproperlyConfigured(
        "DATABASE_URL is absent: PostgreSQL is needed (see docs/settings.md)"
    )

# Applications
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    # First of ours, because it replaces Django's own `migrate`.
    "hosting",
    "tenants",
    "hosting.alarms",
    "hosting.fleet",
    "hosting.networks",
    "hosting.catalog",
    "hosting.compute",
    "hosting.warm",
    "hosting.operations",
    "hosting.api",
    "frontend.console",
    "frontend.dashboard",
    "worker",
]
AUTH_USER_MODEL = "tenants.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "hosting.urls"
ASGI_APPLICATION = "hosting.asgi.application"
WSGI_APPLICATION = "hosting.wsgi.application"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    # Innermost, since it is synchronous: so are all around it then, where each of them by itself would under
    # ASGI change threads twice.
    "hosting.static.StaticFiles",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "frontend" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

# PostgreSQL. libpq itself reads the address, so that sockets, service files and options all work.
_address = conninfo_to_dict(DATABASE_URL)
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _address.pop("dbname", ""),
        "USER": _address.pop("user", ""),
        "PASSWORD": _address.pop("password", ""),
        "HOST": _address.pop("host", ""),
        "PORT": _address.pop("port", ""),
        # Seconds. What web and workers keep: hosting/connections.py.
        "CONN_MAX_AGE": envint("DATABASE_CONN_MAX_AGE", 0),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 10, **_address},
    }
}
DATABASE_POOL_SIZE = envint("DATABASE_POOL_SIZE", 20)
# Milliseconds a migration may wait for a lock, and a statement of it may take.
MIGRATION_LOCK_TIMEOUT_MS = envint("MIGRATION_LOCK_TIMEOUT_MS", 4_000)
MIGRATION_STATEMENT_TIMEOUT_MS = envint("MIGRATION_STATEMENT_TIMEOUT_MS", 300_000)

# Redis
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "bulkhead",
        # Seconds: a cache that does not answer must not hold a request.
        "OPTIONS": {"socket_timeout": 5, "socket_connect_timeout": 5},
    }
}

# Celery only rings the bell. Seconds; the order is part of the design:
# XAPI call 20 < soft limit 60 < hard limit 90 < lease 120 < visibility timeout.
# The images queue has longer limits of the same order (hosting/operations/choices.py), and a lease that is renewed
# as long (worker/pulse.py); the visibility timeout is above those too. A bell lost with its worker is rung again by the dispatcher, long before.
CELERY_BROKER_URL = BROKER_URL
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 4_000, "socket_timeout": 10}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SOFT_TIME_LIMIT = 60
CELERY_TASK_TIME_LIMIT = 90
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Tasks after which a worker's process drops its database connection: never, for Django judges its age and
# health before each (hosting/celery.py). A new one would take as long as a step's own queries.
CELERY_DB_REUSE_MAX = 2**62
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
# A storm in one queue must not starve another, recovery least of all.
CELERY_TASK_QUEUES: dict[str, dict[str, Any]] = {
    name: {} for name in ("tenant", "recovery", "images")
}
CELERY_TASK_DEFAULT_QUEUE = "tenant"
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # A bell that was not heard within its period is of no use: the next one rings anyway.
    "dispatch": {
        "task": "worker.tasks.dispatch",
        "schedule": 1.0,
        "options": {"queue": "recovery", "expires": 5},
    },
    "watch": {
        "task": "worker.tasks.watch",
        "schedule": 10.0,
        "options": {"queue": "recovery", "expires": 30},
    },
    "reconcile": {
        "task": "worker.tasks.reconcile",
        "schedule": 5.0,
        "options": {"queue": "recovery", "expires": 5},
    },
    "copy": {
        "task": "worker.tasks.copy",
        "schedule": 30.0,
        "options": {"queue": "tenant", "expires": 30},
    },
    "check": {
        "task": "worker.tasks.check",
        "schedule": 60.0,
        "options": {"queue": "recovery", "expires": 60},
    },
    "look_after_hosts": {
        "task": "worker.tasks.look_after_hosts",
        "schedule": 10.0,
        "options": {"queue": "recovery", "expires": 10},
    },
}

# Hosts: how long two signals must keep silent before one is suspected to be dead
HOST_SILENCE_SECONDS = envint("HOST_SILENCE_SECONDS", 60)
if HOST_SILENCE_SECONDS < 10:
    _message = "HOST_SILENCE_SECONDS: 10 at least, since hosts are looked at every ten seconds"
    raise ImproperlyConfigured(_message)

# Networks: the range that tenants' subnets are cut from, and how long the prefix of each is
try:
    NETWORK_RANGE = IPv4Network(envstr("NETWORK_RANGE", "10.64.0.0/10"))
except ValueError as _error:
    _message = f"NETWORK_RANGE: {_error}"
    raise ImproperlyConfigured(_message) from _error
NETWORK_PREFIX = envint("NETWORK_PREFIX", 24)
if not max(NETWORK_RANGE.prefixlen, 16) <= NETWORK_PREFIX <= 29:
    _message = "NETWORK_PREFIX: from 16, and from that of NETWORK_RANGE, to 29"
    raise ImproperlyConfigured(_message)

# Images: where workers may ask for them, and where layers lie while a disk is made of them
IMAGE_SPOOL = envstr("IMAGE_SPOOL", "/var/tmp")
IMAGE_ALLOWED_NETWORKS = envlist("IMAGE_ALLOWED_NETWORKS")
IMAGE_PLAIN_HTTP_REGISTRIES = envlist("IMAGE_PLAIN_HTTP_REGISTRIES")
IMAGE_CERTIFICATES = envstr("IMAGE_CERTIFICATES", "")
IMAGE_LIMITS = envamounts(
    "IMAGE_LIMITS",
    {"bytes": 2**44, "entries": 2**26, "ratio": 10**6, "depth": 500, "minutes": 24 * 60},
)
# What makes root disks boot by themselves; empty: the pool starts kernels directly.
GUEST_BOOT = envstr("GUEST_BOOT", "")
IMAGE_MIRRORS = envlist("IMAGE_MIRRORS")
IMAGE_MIRRORS_STAND_IN = envlist("IMAGE_MIRRORS_STAND_IN")
IMAGE_PROXY = envsecret("IMAGE_PROXY")
IMAGE_NO_PROXY = envlist("IMAGE_NO_PROXY")
IMAGE_PROXY_RESOLVES = envbool("IMAGE_PROXY_RESOLVES", False)
IMAGE_CACHE = envstr("IMAGE_CACHE", "")
IMAGE_CACHE_GIB = envint("IMAGE_CACHE_GIB", 20)
IMAGE_CACHE_DAYS = envint("IMAGE_CACHE_DAYS", 30)
IMAGE_REQUESTS_PER_REGISTRY = envint("IMAGE_REQUESTS_PER_REGISTRY", 8)
IMAGE_MIB_PER_SECOND = envint("IMAGE_MIB_PER_SECOND", 0)
if not 1 <= IMAGE_REQUESTS_PER_REGISTRY <= 64:
    _message = "IMAGE_REQUESTS_PER_REGISTRY: 1 to 64"
    raise ImproperlyConfigured(_message)
for _network in IMAGE_ALLOWED_NETWORKS:
    try:
        ip_network(_network)
    except ValueError as _error:
        _message = f"IMAGE_ALLOWED_NETWORKS: {_error}"
        raise ImproperlyConfigured(_message) from _error

# People
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
if ENVIRONMENT == "test":
    # A good hash is slow on purpose; tests sign in often.
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

# What a browser is told
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_SECURE = TLS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = envint("SESSION_HOURS", 12) * 3600
CSRF_COOKIE_SECURE = TLS
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = TLS
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = envint("HSTS_SECONDS", 31_536_000) * TLS
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if envbool("BEHIND_PROXY", False) else None
)
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

# Static files: hashed names in production (`manage.py collectstatic`), straight from source elsewhere
STATIC_URL = "/static/"
STATIC_ROOT = ROOT / "staticfiles" if PRODUCTION else None
STATICFILES_DIRS = [ROOT / "frontend" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if PRODUCTION
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = DEBUG

# REST
# Of one token, person or address.
API_REQUESTS_PER_MINUTE = envint("API_REQUESTS_PER_MINUTE", 1_200)
REST_FRAMEWORK: dict[str, Any] = {
    "EXCEPTION_HANDLER": "hosting.api.errors.problem_response",
    "DEFAULT_SCHEMA_CLASS": "hosting.api.schema.Schema",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # The first one's challenge is what a stranger is told.
        "hosting.api.callers.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["hosting.api.throttles.PerMinute"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Bulkhead",
    "DESCRIPTION": "Containers, each alone in its own Xen virtual machine.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": False,
    "ENUM_NAME_OVERRIDES": {
        "OperationState": "hosting.operations.choices.State",
        "HostState": "hosting.fleet.choices.HostState",
        "PoolState": "hosting.fleet.choices.PoolState",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# The rest
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
LOGGING = logging_config(
    level=envchoice("LOG_LEVEL", ["DEBUG", "INFO", "WARNING", "ERROR"], "INFO"),
    json=envchoice("LOG_FORMAT", ["json", "console"], "json" if PRODUCTION else "console")
    == "json",
    colors=not envstr("NO_COLOR", ""),
)
