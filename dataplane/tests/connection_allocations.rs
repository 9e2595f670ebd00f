//! The connection table takes all its memory when it is made: nothing it does later allocates.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use dataplane::address::{Endpoint, Protocol};
use dataplane::connection::{
    Binding, Connection, Direction, InsertError, Millis, Signal, Table, TableMemory, TcpTable,
    Timeouts,
};
use dataplane::service::{Forward, RealId, ServiceId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system allocator; counting touches only a
// thread-local that needs neither allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` was the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn flow(n: u32) -> Binding<Ipv4Addr> {
    let client = Endpoint::new(
        Ipv4Addr::from_bits(0x0a00_0100 + (n >> 8)),
        1024 + (n & 0xff) as u16,
    );
    Binding {
        protocol: Protocol::Tcp,
        client,
        vip: Endpoint::new(Ipv4Addr::new(10, 0, 0, 1), 80),
        local: client,
        destination: Endpoint::new(Ipv4Addr::new(10, 1, 0, 1), 80),
        real: RealId(0),
        service: ServiceId(0),
        forward: Forward::Nat,
    }
}

#[test]
fn nothing_allocates_once_the_table_is_made() {
    const CAPACITY: u32 = 1000;
    let mut table = Table::<Ipv4Addr>::new(CAPACITY as usize, TableMemory::default());
    let timeouts = Timeouts::default();
    let before = ALLOCATIONS.get();
    let mut now = Millis(0);
    // Ten times as many connections as fit: made, used, answered, evicted, removed and expired.
    for n in 0..10 * CAPACITY {
        now = now + 20;
        let mut connection = Connection::new(flow(n), now);
        let _ = connection.on_packet(
            Direction::Input,
            Signal::Tcp(2),
            now,
            &timeouts,
            TcpTable::Normal,
        );
        if table.insert(connection, now) == Err(InsertError::Full) {
            table.evict_one(now);
            table.insert(connection, now).unwrap();
        }
        let (slot, direction) = table.lookup(&flow(n).reply_key().unwrap()).unwrap();
        let _ = table.on_packet(
            slot,
            direction,
            Signal::Tcp(18),
            now,
            &timeouts,
            TcpTable::Normal,
        );
        if n % 5 == 0 {
            table.remove(slot);
        }
        if n % 100 == 0 {
            table.expire(now, 64, drop);
        }
    }
    while table.expire(now + 900_000, 64, drop) == 64 {}
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(table.is_empty());
}
