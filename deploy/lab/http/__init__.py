"""What a host serves over HTTP. Importing this package registers every handler."""

from deploy.lab.http import rpc as _rpc  # noqa: F401
