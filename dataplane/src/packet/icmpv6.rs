//! ICMPv6 header (RFC 4443 2.1); types of neighbour discovery (RFC 4861) and of multicast listener
//! discovery (RFC 2710, RFC 3810).
//!
//! ```text
//! |     Type      |     Code      |          Checksum             |
//! |          depends on the type (unused, MTU, id and sequence)   |
//! ```

pub use super::icmpv4::{Header, LEN};

/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type: packet too big; the rest is the MTU.
pub const TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO: u8 = 128;
/// Type: echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type: router solicitation, the first of the discovery types.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type: neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Type: neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Type: redirect, the last of the discovery types.
pub const REDIRECT: u8 = 137;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: forbidden by a filter.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: the host does not answer.
pub const ADDRESS: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT: u8 = 4;

pub(super) use super::icmpv4::field;

/// Whether the message reports an error: the high bit is clear (RFC 4443 2.1).
pub fn is_error(kind: u8) -> bool {
    kind < 128
}

/// Neighbour, router and redirect messages: what a host needs to find its next hop.
pub fn is_discovery(kind: u8) -> bool {
    (ROUTER_SOLICITATION..=REDIRECT).contains(&kind)
}

/// Multicast listener queries and reports.
pub fn is_listener(kind: u8) -> bool {
    matches!(kind, 130..=132 | 143)
}

/// Whether a sender may not have an address yet: duplicate address detection, router solicitation and
/// listener reports come from `::` (RFC 4862 5.4.2, RFC 4861 4.1, RFC 3590).
pub fn may_be_unspecified(kind: u8) -> bool {
    matches!(kind, ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION) || is_listener(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        assert!(is_error(TOO_BIG) && !is_error(ECHO));
        assert!(is_discovery(133) && is_discovery(137));
        assert!(!is_discovery(132) && !is_discovery(138));
        assert!(is_listener(143) && !is_listener(ECHO));
        assert!(may_be_unspecified(135) && may_be_unspecified(143));
        assert!(!may_be_unspecified(136) && !may_be_unspecified(128));
    }
}
