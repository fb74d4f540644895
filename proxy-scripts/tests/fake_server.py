"""What: a TCP server that answers ZooKeeper's four-letter words with what files in a folder say.

Why:   validate.sh and the guest command four-letter-word are tested for every answer a real server gives, without one.

Never: part of the product; started by run.sh alone, on a port of 127.0.0.1 that the kernel chooses.

Usage: fake_server.py FOLDER   prints its port; the answer to WORD is the content of FOLDER/WORD, none if it is missing
"""

import os
import socketserver
import sys


class Answer(socketserver.BaseRequestHandler):
    """One connection: a word, its answer, the end."""

    def handle(self):
        word = self.request.recv(4).decode("ascii", "replace")
        path = os.path.join(sys.argv[1], os.path.basename(word))
        if os.path.isfile(path):
            with open(path, "rb") as file:
                self.request.sendall(file.read())


with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
