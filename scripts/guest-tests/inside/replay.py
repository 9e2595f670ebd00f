"""Plays what `ipvs_replay generate` wrote through the guest's own IPVS.

    replay.py DIRECTORY

For each round-N below it: a fresh director with the rules of `rules`, the VIPs of `vips` and the
nftables of `marks` gets the frames of `in.pcap` in order. What comes off the wires goes to `out-0.pcap` and `out-1.pcap`, the
listings to `ln` and `lcn`, the seconds it took to `elapsed`. The times in `in.pcap` do not matter
but for gaps, in which the kernel's timers have to run.
"""

import struct
import sys
import time
from pathlib import Path

from ipvs_network import INSIDE, OUTSIDE, Network, port_mac

# No timer of a connection may run out in a round; the shortest is that of SCTP's INIT1, 4 s.
LONGEST = 3.5
# A round that took longer than that on a busy machine is played again.
ATTEMPTS = 5
GAP = 0.010
BATCH = 16


def read_capture(path):
    """(seconds, frame) of a pcap file."""
    data = path.read_bytes()
    at = 24
    while at < len(data):
        seconds, micros, length, _ = struct.unpack_from("<4I", data, at)
        yield seconds + micros / 1e6, data[at + 16 : at + 16 + length]
        at += 16 + length


def write_capture(path, frames):
    """A pcap file; in what order frames came is all that is known of their times."""
    parts = [struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for number, frame in enumerate(frames):
        parts += [struct.pack("<4I", 0, number, len(frame), len(frame)), frame]
    path.write_bytes(b"".join(parts))


def play(directory):
    """One round."""
    ports = {port_mac(port): port for port in (OUTSIDE, INSIDE)}
    steps = [(at, ports[frame[:6]], frame) for at, frame in read_capture(directory / "in.pcap")]
    out = ([], [])
    with Network((directory / "vips").read_text().split()) as network:
        if marks := (directory / "marks").read_text():
            network.nft(marks)
        network.ipvsadm("-R", text=(directory / "rules").read_text())
        started = time.monotonic()
        last = steps[0][0]
        for number, (at, port, frame) in enumerate(steps):
            if at - last > GAP:
                time.sleep(at - last)
            last = at
            network.send(port, frame)
            if number % BATCH == 0:
                for wire, frames in enumerate(out):
                    frames += network.receive(wire)
        for wire, frames in enumerate(out):
            frames += network.receive(wire, quiet=0.05)
        (directory / "ln").write_text(network.ipvsadm("-Ln", "--nosort"))
        (directory / "lcn").write_text(network.ipvsadm("-Lcn"))
        elapsed = time.monotonic() - started
    for wire, frames in enumerate(out):
        write_capture(directory / f"out-{wire}.pcap", frames)
    (directory / "elapsed").write_text(f"{elapsed:.3f}\n")
    return len(steps), elapsed


def main():
    """All rounds."""
    steps, seconds, rounds = 0, 0.0, 0
    for directory in sorted(Path(sys.argv[1]).glob("round-*")):
        for _ in range(ATTEMPTS):
            taken = play(directory)
            if taken[1] <= LONGEST:
                break
        else:
            raise SystemExit(f"{directory.name} took {taken[1]:.1f} s: connections may have expired meanwhile")
        steps, seconds, rounds = steps + taken[0], seconds + taken[1], rounds + 1
    print(f"{rounds} rounds, {steps} frames in {seconds:.1f} s", flush=True)


main()
