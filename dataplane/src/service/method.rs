//! How packets get to a real server.

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Forward {
    /// Direct routing: only the destination MAC changes; replies bypass us.
    Dr,
    /// Destination NAT; replies come back through us and are un-NATed.
    Nat,
    /// Source and destination NAT.
    FullNat,
    /// Encapsulation.
    Tunnel(Tunnel),
    /// Delivery to the local stack.
    Local,
}

impl Forward {
    /// The word `ipvsadm` uses for it.
    pub fn ipvs_name(self) -> &'static str {
        match self {
            Self::Dr => "Route",
            Self::Nat => "Masq",
            Self::FullNat => "FullNat",
            Self::Tunnel(_) => "Tunnel",
            Self::Local => "Local",
        }
    }

    /// True if replies come back through us, so that the connection has a reply key.
    pub fn sees_replies(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat)
    }
}

/// Encapsulation of a tunnelled real server.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tunnel {
    /// Outer protocol.
    pub kind: TunnelKind,
    /// UDP or GRE checksum is computed.
    pub checksum: bool,
}

/// Outer protocol of a tunnel.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
    /// Generic UDP encapsulation to this port.
    Gue(u16),
}
