//! The 256 buckets of dh and sh, and the hash that leads into them (behaviour notes 1.6, 1.7).
//!
//! Control fills them whenever the list changes; a worker only looks one up. A bucket holds an
//! index into the list it was filled for.

/// Buckets in a table: the kernel's build option has 8 bits.
pub(super) const BUCKETS: usize = 1 << 8;

/// One table.
#[derive(Debug)]
pub(crate) struct Buckets([u32; BUCKETS]);

impl Buckets {
    /// Goes round `servers` servers in list order, as often as needed; server i takes
    /// `turns(i)` consecutive buckets each time, at least one.
    pub(super) fn filled(servers: usize, turns: impl Fn(usize) -> u32) -> Self {
        let mut buckets = [NOBODY; BUCKETS];
        let (mut server, mut taken) = (0, 0);
        for bucket in &mut buckets {
            if servers == 0 {
                break;
            }
            *bucket = server as u32;
            taken += 1;
            if taken >= turns(server) {
                server = (server + 1) % servers;
                taken = 0;
            }
        }
        Self(buckets)
    }

    /// The index of the server in a bucket; `None` if there are no servers.
    #[inline]
    pub(super) fn server(&self, bucket: u8) -> Option<usize> {
        let server = self.0[usize::from(bucket)];
        (server != NOBODY).then_some(server as usize)
    }
}

/// The kernel's `hash_32` to 8 bits.
#[inline]
pub(super) const fn hash(word: u32) -> u8 {
    (word.wrapping_mul(0x61C8_8647) >> 24) as u8
}

const NOBODY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_vip_has_bucket_167() {
        assert_eq!(hash(0x0a00_0132), 167);
    }

    #[test]
    fn servers_take_consecutive_buckets_by_turns() {
        let buckets = Buckets::filled(3, |server| [2, 0, 1][server]);
        let first: Vec<_> = (0..8).map(|bucket| buckets.server(bucket)).collect();
        assert_eq!(first, [0, 0, 1, 2, 0, 0, 1, 2].map(Some));
        assert_eq!(Buckets::filled(0, |_| 1).server(9), None);
    }
}
