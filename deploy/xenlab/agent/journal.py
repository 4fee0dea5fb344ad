"""The agent's log: lines on dom0's console, which is the host's serial port."""

import sys


def report(what: str) -> None:
    """One line; control characters, which guests may have a part in, are replaced."""
    plain = "".join(c if c.isprintable() else "�" for c in what)[:1000]
    print(f"XENLAB {plain}", file=sys.stderr, flush=True)
