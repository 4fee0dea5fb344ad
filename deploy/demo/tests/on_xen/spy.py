"""Runs inside of a container, as its root: sends any frame and tells which came. Standard library only.

POST /send: frames in hex, one a line, go out of eth0 as they are.
POST /hear: SECONDS MARK: for so long listen, then answer how many frames with MARK, given in hex, came in.
POST /try: ADDRESS PORT a line; answers "open", or why not, a line.
"""

import http.server
import os
import select
import socket
import time

ETH_P_ALL = 3
OUTGOING = 4  # linux/if_packet.h, PACKET_OUTGOING
CONNECT = 2.0


def raw() -> socket.socket:
    line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    line.bind(("eth0", ETH_P_ALL))
    return line


def send(body: bytes) -> str:
    with raw() as line:
        for frame in body.split():
            line.send(bytes.fromhex(frame.decode()))
    return "sent"


def hear(body: bytes) -> str:
    seconds, mark = body.split()
    until, heard, mark = time.monotonic() + float(seconds), 0, bytes.fromhex(mark.decode())
    with raw() as line:
        while (left := until - time.monotonic()) > 0:
            if select.select([line], [], [], left)[0]:
                frame, origin = line.recvfrom(65536)
                heard += mark in frame and origin[2] != OUTGOING
    return str(heard)


def reach(body: bytes) -> str:
    answers = []
    for address, port in (line.split() for line in body.decode().splitlines()):
        try:
            socket.create_connection((address, int(port)), CONNECT).close()
            answers.append("open")
        except OSError as error:
            answers.append(type(error).__name__)
    return "\n".join(answers)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(f"{os.geteuid()}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"/send": send, "/hear": hear, "/try": reach}[self.path](body))

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
