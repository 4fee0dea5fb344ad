#!/usr/bin/python3
"""Runs in a lab host's dom0 for `benchmarks.start`: does what a client's shell script says, one at a time.

JSON lines on port 7702: {"sh"} → {"status", "out"}.
"""

import json
import socketserver
import subprocess

PORT = 7702
LIMIT = 120


class Shell(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            done = subprocess.run(
                ["/usr/bin/busybox", "sh", "-c", json.loads(line)["sh"]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            )
            answer = {"status": done.returncode, "out": done.stdout.decode(errors="replace")}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    socketserver.TCPServer.allow_reuse_address = True
    with socketserver.TCPServer(("0.0.0.0", PORT), Shell) as server:
        server.serve_forever()
