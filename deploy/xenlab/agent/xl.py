"""Runs xl, always with a time limit."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from deploy.xenlab.agent.errors import AgentError

PROGRAM = "/usr/lib/xen-4.17/bin/xl"
SHORT = 120.0
SAID = 4000


async def run(*arguments: str, timeout: float = SHORT, **streams: Any) -> str:
    """What xl says; raises AgentError `xl_failed` with it, or `xl_hung`. `timeout` in seconds."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *arguments,
        stdin=streams.get("stdin", asyncio.subprocess.DEVNULL),
        stdout=streams.get("stdout", asyncio.subprocess.PIPE),
        stderr=streams.get("stderr", asyncio.subprocess.STDOUT),
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except (TimeoutError, asyncio.CancelledError) as ended:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if isinstance(ended, asyncio.CancelledError):
            raise
        raise AgentError("xl_hung", f"xl {arguments[0]} took over {timeout:.0f} s") from ended
    said = ((out or b"") + (err or b"")).decode(errors="replace").strip()[-SAID:]
    if process.returncode != 0:
        raise AgentError("xl_failed", f"xl {arguments[0]}: {said or process.returncode}")
    return said
