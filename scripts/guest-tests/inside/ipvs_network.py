"""The kernel's IPVS between two raw wires, for tests inside a guest.

    client side ── outside [ director: kernel IPVS ] inside ── server side
                  10.0.1.1, fd00:1::1            10.0.2.1, fd00:2::1
                  10.0.9.0/24 and fd00:9::/64 behind 10.0.1.254, fd00:1::254

The wires are veth pairs. Nobody lives at their far ends: frames are put on them and taken off them by
packet sockets, so that every byte is the test's or the kernel's. Addresses, MAC addresses and
routes are those of the dataplane's test world (dataplane/src/pipeline/world.rs): what Sluice
sends there and what the kernel sends here can be compared byte by byte. Neighbours are permanent
entries, so there is no ARP. Run the guest with one CPU: then frames keep their order from wire to
wire, whichever end they are put on.
"""

import ctypes
import ipaddress
import os
import select
import socket
import struct
import subprocess

OUTSIDE, INSIDE = 0, 1
PORTS = ("outside", "inside")
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4
# Hosts whose MAC addresses the director knows, on either wire.
HOSTS = (*range(11, 40), *range(100, 140), 254)

LIBC = ctypes.CDLL(None, use_errno=True)


def port_mac(port):
    """MAC address of the director's port."""
    return bytes((2, 0, 0, 0, 0xFF, port))


def host_mac(address):
    """MAC address of a host, as in the test world."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        return bytes((2, 4)) + packed
    return bytes((2, 6, packed[1], packed[3])) + packed[14:]


def run(*command, text=None):
    """Runs a command and returns what it printed; what it complains about ends the test."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


class Network:
    """Namespaces with the director, and sockets on both wires. `with Network() as network`."""

    def __init__(self, vips):
        self.vips = vips
        self.sockets = []

    def __enter__(self):
        for space in ("wires", "director"):
            run("ip", "netns", "add", space)
        links = []
        for port, name in enumerate(PORTS):
            mac = port_mac(port).hex(":")
            links += [
                f"link add {name} address {mac} netns director type veth peer name {name} netns wires",
            ]
        run("ip", "-batch", "-", text="\n".join(links))
        self._settings()
        run("ip", "-n", "wires", "-batch", "-", text="".join(f"link set {name} up\n" for name in PORTS))
        for name in PORTS:
            # Checksums of what the director makes itself are complete on the wire.
            run("ip", "netns", "exec", "director", "ethtool", "-K", name, "tx", "off")
        director = ["link set lo up"]
        for port, name in enumerate(PORTS):
            net = port + 1
            director += [
                f"address add 10.0.{net}.1/24 dev {name}",
                f"address add fd00:{net}::1/64 dev {name} nodad",
                f"link set {name} up",
            ]
            for host in HOSTS:
                for address in (f"10.0.{net}.{host}", f"fd00:{net}::{host}"):
                    mac = host_mac(address).hex(":")
                    director.append(f"neighbour replace {address} lladdr {mac} dev {name} nud permanent")
        director += [
            "route add 10.0.9.0/24 via 10.0.1.254",
            "route add fd00:9::/64 via fd00:1::254",
        ]
        for vip in self.vips:
            length = ipaddress.ip_address(vip).max_prefixlen
            director.append(f"address add {vip}/{length} dev lo" + (" nodad" if length == 128 else ""))
        run("ip", "-n", "director", "-batch", "-", text="\n".join(director))
        self.sockets = [self._open(name) for name in PORTS]
        return self

    def __exit__(self, *_):
        for raw in self.sockets:
            raw.close()
        for space in ("director", "wires"):
            run("ip", "netns", "del", space)

    def _settings(self):
        """The kernel forwards, says nothing by itself, and limits no ICMP error."""
        director = {
            "net/ipv4/ip_forward": 1,
            "net/ipv6/conf/all/forwarding": 1,
            "net/ipv4/icmp_ratelimit": 0,
            "net/ipv6/icmp/ratelimit": 0,
            "net/ipv6/auto_flowlabels": 0,
            "net/ipv4/icmp_msgs_per_sec": 1000000,
            "net/ipv4/icmp_msgs_burst": 1000000,
        }
        for which in ("all", "default", *PORTS):
            director[f"net/ipv4/conf/{which}/rp_filter"] = 0
            director[f"net/ipv4/conf/{which}/send_redirects"] = 0
            director[f"net/ipv6/conf/{which}/accept_dad"] = 0
            director[f"net/ipv6/conf/{which}/addr_gen_mode"] = 1
        wires = {f"net/ipv6/conf/{which}/disable_ipv6": 1 for which in ("all", "default")}
        for space, settings in (("director", director), ("wires", wires)):
            with Namespace(space):
                for name, value in settings.items():
                    write_setting(name, value)
        # One queue for all: nothing may be lost while the kernel is busy.
        write_setting("net/core/netdev_max_backlog", 100000)

    def _open(self, name):
        with Namespace("wires"):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        raw.bind((name, ETH_P_ALL))
        raw.setblocking(False)
        return raw

    def ipvsadm(self, *arguments, text=None):
        """ipvsadm of the director."""
        return run("ip", "netns", "exec", "director", "ipvsadm", *arguments, text=text)

    def nft(self, text):
        """Gives the director nftables."""
        run("ip", "netns", "exec", "director", "nft", "-f", "-", text=text)

    def send(self, port, frame):
        """Puts a frame on a wire, towards the director."""
        self.sockets[port].send(frame)

    def receive(self, port, quiet=0.0):
        """The frames that came off a wire, until there was none for `quiet` seconds."""
        frames = []
        raw = self.sockets[port]
        while True:
            try:
                frame, address = raw.recvfrom(65536)
            except BlockingIOError:
                if not quiet or not select.select([raw], [], [], quiet)[0]:
                    return frames
                continue
            # What we sent comes back to the socket too; groups are the kernel's own talk.
            if address[2] != PACKET_OUTGOING and not frame[0] & 1:
                frames.append(frame)


class Namespace:
    """This thread is in a network namespace: `with Namespace(name)`."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        self._enter(there)
        os.close(there)

    def __exit__(self, *_):
        self._enter(self.home)
        os.close(self.home)

    @staticmethod
    def _enter(descriptor):
        if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def write_setting(name, value):
    """Sets a sysctl of the namespace this thread is in, or of the whole kernel."""
    try:
        # Not /proc/sys of the process: its view stays that of the namespace it was started in.
        with open(f"/proc/thread-self/root/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(str(value))
    except FileNotFoundError:
        if "icmp_msgs" not in name:
            raise


# ------------------------------------------------------------------------------ packets


def checksum(data):
    """The internet checksum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source, destination, payload=b"flow"):
    """A frame from the client side with a datagram; both ends are (address, port)."""
    (client, client_port), (vip, vip_port) = source, destination
    ends = ipaddress.ip_address(client).packed + ipaddress.ip_address(vip).packed
    length = 8 + len(payload)
    datagram = struct.pack("!4H", client_port, vip_port, length, 0) + payload
    value = checksum(ends + struct.pack("!IHBB", length, 0, 0, 17) + datagram) or 0xFFFF
    datagram = datagram[:6] + struct.pack("!H", value) + datagram[8:]
    if len(ends) == 8:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 17, 0) + ends
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        kind = b"\x08\x00"
    else:
        header = struct.pack("!IHBB", 0x60000000, length, 17, 64) + ends
        kind = b"\x86\xdd"
    return port_mac(OUTSIDE) + host_mac(client) + kind + header + datagram


def destination_of(frame):
    """The address an IP packet in a frame goes to."""
    packet = frame[14:]
    return str(ipaddress.ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]))
