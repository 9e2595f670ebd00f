"""Runs recorded scheduler scenarios through the guest's own IPVS and prints what it chooses.

One line per scenario on standard output, `NAME: CHOICES`. The choices are the last number of each
server's address; what got no answer from a server is `-`.
"""

from ipvs_network import INSIDE, OUTSIDE, Network, destination_of, udp

VIP = "10.0.1.50"
SERVERS = ("10.0.2.11", "10.0.2.12", "10.0.2.13")

# name, scheduler with its options, weights, flows: how many from one client's ports, or None: one
# from each of the clients .101 to .130. The ports are those of the recordings, which sh-port and
# mh-port hash.
SCENARIOS = (
    ("rr", "rr", (1, 1, 1), 5001, 10, None),
    ("rr w1,0,1", "rr", (1, 0, 1), 5002, 10, None),
    ("wrr 4,3,2", "wrr", (4, 3, 2), 5003, 20, None),
    ("wrr 1,2,3", "wrr", (1, 2, 3), 5004, 20, None),
    ("wrr 10,20,30", "wrr", (10, 20, 30), 5006, 20, None),
    ("wrr 0,2,1", "wrr", (0, 2, 1), 5007, 12, None),
    ("lc 1,1,1", "lc", (1, 1, 1), 5008, 10, None),
    ("wlc 1,2,3", "wlc", (1, 2, 3), 5009, 20, None),
    ("sed 1,2,3", "sed", (1, 2, 3), 5010, 10, None),
    ("nq 1,2,3", "nq", (1, 2, 3), 5011, 10, None),
    ("fo 1,3,2", "fo", (1, 3, 2), 5012, 5, None),
    ("ovf 1,3,2", "ovf", (1, 3, 2), 5014, 8, None),
    ("dh", "dh", (1, 1, 1), 5015, 4, None),
    ("sh 1,1,1", "sh", (1, 1, 1), 5016, None, 20760),
    ("sh 1,2,3", "sh", (1, 2, 3), 5017, None, 20770),
    ("sh-port 1,1,1", "sh -b sh-port", (1, 1, 1), 5018, None, 20780),
    ("sh 1,0,1", "sh", (1, 0, 1), 5019, None, 20790),
    ("sh-fallback 1,0,1", "sh -b sh-fallback", (1, 0, 1), 5020, None, 20800),
    ("mh 1,1,1", "mh", (1, 1, 1), 5021, None, 20810),
    ("mh 1,2,3", "mh", (1, 2, 3), 5022, None, 20820),
    ("mh-port 1,1,1", "mh -b mh-port", (1, 1, 1), 5023, None, 20830),
    ("mh 1,0,1", "mh", (1, 0, 1), 5024, None, 20840),
    ("mh-fallback 1,0,1", "mh -b mh-fallback", (1, 0, 1), 5025, None, 20850),
)


def rules():
    """What ipvsadm is told."""
    for _, scheduler, weights, port, _, _ in SCENARIOS:
        yield f"-A -u {VIP}:{port} -s {scheduler}"
        for server, weight in zip(SERVERS, weights):
            yield f"-a -u {VIP}:{port} -r {server}:{port} -m -w {weight}"


def choices(network, port, count, client_port):
    """Sends the scenario's flows and says who got each."""
    if count is not None:
        clients = [("10.0.1.100", 20000 + number) for number in range(count)]
    else:
        clients = [(f"10.0.1.{host}", client_port) for host in range(101, 131)]
    for client in clients:
        network.send(OUTSIDE, udp(client, (VIP, port)))
        got = [destination_of(frame) for frame in network.receive(INSIDE, quiet=0.01)]
        assert len(got) <= 1, got
        yield got[0].rpartition(".")[2] if got else "-"


def main():
    with Network([VIP]) as network:
        network.ipvsadm("-R", text="\n".join(rules()) + "\n")
        for name, _, _, port, count, client_port in SCENARIOS:
            print(f"{name}:", *choices(network, port, count, client_port), flush=True)


main()
