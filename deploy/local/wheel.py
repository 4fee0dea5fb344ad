"""Programs that Python wheels carry."""

from importlib.util import find_spec
from pathlib import Path


def inside_wheel(package: str, path: str) -> Path:
    """The file or folder `path` inside the installed `package`, which is not imported: what these
    packages do on import (patching, looking for folders) is not wanted. Raises RuntimeError.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        found = Path(folder, path).resolve()
        if found.exists():
            return found
    message = f"the Python package {package} with {path} in it is not installed (`make install`)"
    raise RuntimeError(message)
