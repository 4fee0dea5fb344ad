"""Reads the text consoles of a pool's running instances and keeps their last lines for people to look at.

Nothing depends on it: a container runs as well while nobody reads what it writes. `relay` is the process,
`guest` what it knows of one console, `text` makes lines of bytes, `replay` tells what was read before.
`protocol` and `session` speak the console protocol (docs/console-protocol.md), `framed` makes lines of it, `execs`
runs commands over it.
"""
