"""`relay.py UUID ADDRESS`: xl's pipes passed to another host's agent, inside the kernel.

xl starts it as its remote shell (`xl migrate -s`), and adds a command that is not needed here.
"""

import os
import select
import socket
import sys

PORT = 7701
CHUNK = 1 << 20


def main() -> None:
    connection = socket.create_connection((sys.argv[2], PORT), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    connection.sendall(sys.argv[1].encode() + b"\n")
    wire = connection.fileno()
    ways = {0: wire, wire: 1}
    poll = select.poll()
    for source in ways:
        poll.register(source, select.POLLIN)
    while True:
        for source, _ in poll.poll():
            if os.splice(source, ways[source], CHUNK):
                continue
            if source == wire:
                return
            connection.shutdown(socket.SHUT_WR)
            poll.unregister(source)


if __name__ == "__main__":
    main()
