"""A client and a server of SCTP, one-to-one sockets, for the guest test sctp.

  server ADDRESS PORT NAME             answers each message with NAME, a blank, and the message
  client SOURCE ADDRESS PORT COUNT     COUNT associations one after another; prints who answered
  hold SOURCE ADDRESS PORT FILE        one association, until FILE is gone

Both bind to one address: SCTP tells the other end all it has, and no director translates those.
"""

import os
import socket
import sys
import time

SIZES = (1, 100, 1200, 1452, 4000)


def endpoint(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    sock.settimeout(60)
    return sock


def exactly(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += piece
    return data


def server(address, port, name):
    listener = endpoint(address)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    listener.listen(16)
    listener.settimeout(None)
    print("listening", flush=True)
    while True:
        peer, _ = listener.accept()
        peer.settimeout(60)
        with peer:
            while data := peer.recv(65536):
                peer.sendall(name.encode() + b" " + data)


def connect(source, address, port):
    sock = endpoint(address)
    sock.bind((source, 0))
    sock.connect((address, int(port)))
    return sock


def ask(sock, message):
    sock.sendall(message)
    name = exactly(sock, 4)
    # One echo may come in pieces, each with the name in front, if the server read it so.
    answer = exactly(sock, len(message))
    if answer != message:
        raise ValueError(f"{len(message)} bytes came back changed")
    return name.decode().strip()


def client(source, address, port, count):
    for _ in range(int(count)):
        with connect(source, address, port) as sock:
            names = {ask(sock, os.urandom(size)) for size in SIZES}
        (name,) = names
        print(name, flush=True)


def hold(source, address, port, path):
    with connect(source, address, port) as sock:
        ask(sock, b"here")
        print("established", flush=True)
        while os.path.exists(path):
            time.sleep(0.05)


{"server": server, "client": client, "hold": hold}[sys.argv[1]](*sys.argv[2:])
