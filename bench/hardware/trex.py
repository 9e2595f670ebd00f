#!/usr/bin/env python3
"""Sluice's link scenarios for TRex (https://trex-tgn.cisco.com, v3.0 or later), stateless mode.

    ./t-rex-64 -i            # on the generator, port 0 cabled to Sluice's port
    DIRECTOR=02:00:00:00:ff:00 python3 bench/hardware/trex.py [--server 127.0.0.1]

The director is configured as bench/README.md says. Opens 1 k, 1 M and 10 M flows, then sends
established packets of them as fast as the port allows; latency at 10, 50 and 90 % of that.
"""

import argparse
import os

from trex.stl.api import (
    STLClient, STLFlowLatencyStats, STLPktBuilder, STLScVmRaw, STLStream, STLTXCont,
    STLTXSingleBurst, STLVmFixChecksumHw, STLVmTupleGen, STLVmWrFlowVar, CTRexVmInsFixHwCs,
)
from scapy.all import Ether, IP, TCP, Raw

VIP = "10.0.1.50"
ADDRESSES = 240


def packet(flows, flags, payload=6):
    """A frame whose client runs through `flows` address and port pairs, all pairs in turn."""
    ports = max(1, -(-flows // ADDRESSES))
    hosts = min(flows, ADDRESSES)
    base = (Ether(dst=os.environ.get("DIRECTOR", "02:00:00:00:ff:00"))
            / IP(src="10.0.9.2", dst=VIP) / TCP(sport=1025, dport=80, flags=flags)
            / Raw(b"\0" * payload))
    program = STLScVmRaw([
        STLVmTupleGen(name="client", ip_min="10.0.9.2", ip_max=f"10.0.9.{hosts + 1}",
                      port_min=1025, port_max=1024 + ports),
        STLVmWrFlowVar(fv_name="client.ip", pkt_offset="IP.src"),
        STLVmWrFlowVar(fv_name="client.port", pkt_offset="TCP.sport"),
        STLVmFixChecksumHw(l3_offset="IP", l4_offset="TCP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_TCP),
    ])
    return STLPktBuilder(pkt=base, vm=program)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--server", default="127.0.0.1")
    options.add_argument("--seconds", type=int, default=10)
    options = options.parse_args()

    client = STLClient(server=options.server)
    client.connect()
    try:
        client.reset(ports=[0])
        client.set_port_attr(ports=[0], promiscuous=True)
        most = 0.0
        for flows in (1_000, 1_000_000, 10_000_000):
            for flags in ("S", "A"):
                client.reset(ports=[0])
                client.add_streams(
                    STLStream(packet=packet(flows, flags),
                              mode=STLTXSingleBurst(pps=1_000_000, total_pkts=flows)), ports=[0])
                client.start(ports=[0])
                client.wait_on_traffic(ports=[0])
            client.reset(ports=[0])
            client.add_streams(STLStream(packet=packet(flows, "A"), mode=STLTXCont(percentage=100)),
                               ports=[0])
            client.clear_stats()
            client.start(ports=[0], duration=options.seconds)
            client.wait_on_traffic(ports=[0])
            stats = client.get_stats()[0]
            rate = stats["ipackets"] / options.seconds
            most = max(most, rate)
            print(f"established {flows}: {rate / 1e6:.2f} Mpps, "
                  f"lost {stats['opackets'] - stats['ipackets']} of {stats['opackets']}")
        for share in (0.1, 0.5, 0.9):
            client.reset(ports=[0])
            client.add_streams([
                STLStream(packet=packet(1_000, "A"), mode=STLTXCont(pps=most * share)),
                STLStream(packet=packet(1, "A", payload=74), mode=STLTXCont(pps=1000),
                          flow_stats=STLFlowLatencyStats(pg_id=1)),
            ], ports=[0])
            client.clear_stats()
            client.start(ports=[0], duration=options.seconds)
            client.wait_on_traffic(ports=[0])
            latency = client.get_stats()["latency"][1]["latency"]
            print(f"load {share:.0%}: average {latency['average']:.1f} us, "
                  f"maximum {latency['total_max']:.1f} us")
    finally:
        client.disconnect()


if __name__ == "__main__":
    main()
