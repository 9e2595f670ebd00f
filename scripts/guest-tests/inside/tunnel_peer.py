"""A server and a client of large TCP transfers, for the guest test tunnels.

  serve NAME PORT ADDRESS...             answers NAME and the digest of what it got until the end
  upload SOURCE ADDRESS PORT BYTES       sends so much, checks the digest; prints the server's name and
                                         the path MTU that the kernel knows then
"""

import hashlib
import os
import select
import socket
import sys

# Not in the module.
IP_MTU, IPV6_MTU = 14, 24


def endpoint(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def serve(name, port, *addresses):
    listeners = []
    for address in addresses:
        listener = endpoint(address)
        listener.bind((address, int(port)))
        listener.listen(16)
        listeners.append(listener)
    print("ready", flush=True)
    while True:
        for ready in select.select(listeners, [], [])[0]:
            peer, _ = ready.accept()
            peer.settimeout(60)
            digest = hashlib.sha256()
            with peer:
                while data := peer.recv(65536):
                    digest.update(data)
                peer.sendall(f"{name} {digest.hexdigest()}".encode())


def upload(source, address, port, count):
    data = os.urandom(int(count))
    with endpoint(address) as sock:
        sock.settimeout(30)
        sock.bind((source, 0))
        sock.connect((address, int(port)))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(1000):
            answer += piece
        level, option = (socket.IPPROTO_IPV6, IPV6_MTU) if ":" in address else (socket.IPPROTO_IP, IP_MTU)
        mtu = sock.getsockopt(level, option)
    name, digest = answer.decode().split()
    if digest != hashlib.sha256(data).hexdigest():
        sys.exit("what arrived is not what was sent")
    print(name, mtu)


{"serve": serve, "upload": upload}[sys.argv[1]](*sys.argv[2:])
