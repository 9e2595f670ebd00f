//! The closed sets of words of the configuration, as enums.
//!
//! Invariant: the words the schema accepts and the variants of the enum are one list.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every word, in the order of the reference.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in the file.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The variant of a word.
            pub fn from_name(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// What a worker does when there is nothing to do.
    #[derive(Default)]
    Idle {
        /// Spins.
        Busy = "busy",
        /// Sleeps for microseconds.
        #[default]
        Adaptive = "adaptive",
    }
}

words! {
    /// Unicast that is neither ours nor a service.
    #[derive(Default)]
    Transit {
        /// Given to the Linux kernel.
        #[default]
        Kernel = "kernel",
        /// Routed by the workers.
        Fast = "fast",
        /// Dropped and counted.
        Drop = "drop",
    }
}

words! {
    /// Transport protocol of a virtual server.
    #[derive(Default)]
    Protocol {
        /// TCP.
        #[default]
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

words! {
    /// How a real server is chosen for a new connection.
    #[derive(Default)]
    Scheduler {
        /// Round robin.
        RoundRobin = "rr",
        /// Weighted round robin.
        WeightedRoundRobin = "wrr",
        /// Least connections.
        LeastConnection = "lc",
        /// Weighted least connections.
        #[default]
        WeightedLeastConnection = "wlc",
        /// Locality-based least connections.
        LocalityLeastConnection = "lblc",
        /// The same with replication.
        LocalityLeastConnectionReplicated = "lblcr",
        /// Destination hash.
        DestinationHash = "dh",
        /// Source hash.
        SourceHash = "sh",
        /// Shortest expected delay.
        ShortestExpectedDelay = "sed",
        /// Never queue.
        NeverQueue = "nq",
        /// Weighted failover.
        Failover = "fo",
        /// Weighted overflow.
        Overflow = "ovf",
        /// Maglev hash.
        Maglev = "mh",
        /// Power of two choices.
        TwoChoices = "twos",
    }
}

words! {
    /// How packets reach a real server.
    #[derive(Default)]
    Forward {
        /// Destination NAT; replies come back through the director.
        Nat = "nat",
        /// Direct routing: only the destination MAC changes.
        #[default]
        Dr = "dr",
        /// Encapsulation.
        Tunnel = "tunnel",
        /// NAT of both addresses.
        FullNat = "fullnat",
    }
}

impl Forward {
    /// True if a real server on `real` can serve clients of `service`: only a tunnel carries one family in the other.
    pub fn reaches(self, real: IpAddr, service: IpAddr) -> bool {
        self == Self::Tunnel || real.is_ipv4() == service.is_ipv4()
    }
}

words! {
    /// Address family of a firewall-mark service.
    #[derive(Default)]
    Family {
        /// IPv4.
        #[default]
        Ipv4 = "ipv4",
        /// IPv6.
        Ipv6 = "ipv6",
    }
}

impl Family {
    /// The unspecified address with port 0.
    pub fn any(self) -> SocketAddr {
        let address = match self {
            Self::Ipv4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Self::Ipv6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(address, 0)
    }
}

words! {
    /// When a configured address is served.
    #[derive(Default)]
    Serve {
        /// While the address is this box's.
        #[default]
        Auto = "auto",
        /// Always.
        Always = "always",
    }
}

words! {
    /// What happens to established flows of a real server that is down or removed.
    #[derive(Default)]
    Established {
        /// Still forwarded.
        #[default]
        Keep = "keep",
        /// Dropped; the next SYN is scheduled afresh.
        Expire = "expire",
        /// The client gets a RST.
        Reset = "reset",
    }
}

words! {
    /// What a client gets when nothing can serve.
    #[derive(Default)]
    NoServer {
        /// ICMP port unreachable.
        #[default]
        Unreachable = "unreachable",
        /// Nothing.
        Drop = "drop",
    }
}

words! {
    /// How a real server behind FullNAT learns the client's address.
    #[derive(Default)]
    ClientAddress {
        /// It does not.
        #[default]
        None = "none",
        /// TCP option.
        Toa = "toa",
        /// PROXY protocol version 2.
        ProxyV2 = "proxy_v2",
    }
}

words! {
    /// Kind of a health check.
    #[derive(Default)]
    CheckType {
        /// A connect.
        #[default]
        Tcp = "tcp",
        /// An HTTP request.
        Http = "http",
        /// An HTTP request over TLS.
        Https = "https",
        /// An SMTP greeting.
        Smtp = "smtp",
        /// A DNS query.
        Dns = "dns",
        /// A datagram.
        Udp = "udp",
        /// An ICMP echo.
        Ping = "ping",
        /// A command's exit status.
        Script = "script",
        /// A number in a file.
        File = "file",
        /// A BFD session.
        Bfd = "bfd",
    }
}

words! {
    /// Where a check is sent.
    #[derive(Default)]
    Via {
        /// To the real server's own address.
        #[default]
        Address = "address",
        /// To the VIP through the forwarding path.
        Vip = "vip",
    }
}

words! {
    /// The initial hint of a virtual router.
    #[derive(Default)]
    InitialState {
        /// Preferred owner.
        Master = "MASTER",
        /// Waits for the other.
        #[default]
        Backup = "BACKUP",
    }
}

words! {
    /// VRRPv2 authentication.
    #[derive(Default)]
    AuthType {
        /// None.
        #[default]
        None = "none",
        /// A plain-text password.
        Pass = "PASS",
    }
}

words! {
    /// What is done about an advertisement with another address list.
    #[derive(Default)]
    CheckAddresses {
        /// Logged and accepted.
        #[default]
        Warn = "warn",
        /// Dropped, as keepalived 2.2.7 does.
        Drop = "drop",
        /// Not looked at.
        Ignore = "ignore",
    }
}

words! {
    /// The checksum sent with VRRPv3 over IPv4.
    #[derive(Default)]
    VrrpChecksum {
        /// Over the pseudo header too, keepalived's default.
        #[default]
        PseudoHeader = "pseudo_header",
        /// As RFC 9568 has it.
        Rfc9568 = "rfc9568",
    }
}

words! {
    /// Whose messages connection synchronisation must understand.
    #[derive(Default)]
    SyncPeer {
        /// The kernel's IPVS.
        #[default]
        Kernel = "kernel",
        /// Another Sluice.
        Sluice = "sluice",
    }
}
