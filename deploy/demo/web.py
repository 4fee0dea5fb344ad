"""Asking a page whether it is there."""

import urllib.error
import urllib.request


def answers(address: str) -> bool:
    """`address` gives a page, or sends to one. Raises nothing: not yet is no."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
