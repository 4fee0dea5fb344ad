"""What a host serves over HTTP. Importing this package registers every handler."""

from deploy.lab.http import console as _console  # noqa: F401
from deploy.lab.http import disks as _disks  # noqa: F401
from deploy.lab.http import pages as _pages  # noqa: F401
from deploy.lab.http import rpc as _rpc  # noqa: F401
from deploy.lab.http import rrd as _rrd  # noqa: F401
