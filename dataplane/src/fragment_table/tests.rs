//! The table alone, against a model that keeps every byte.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

type Table = FragmentTable<Ipv4Addr, u8>;

fn datagram(id: u32) -> Datagram<Ipv4Addr> {
    Datagram {
        source: Ipv4Addr::new(10, 0, 1, 100),
        destination: Ipv4Addr::new(10, 0, 1, 50),
        id,
        protocol: 17,
    }
}

fn piece(start: u16, end: u16, more: bool) -> Piece {
    Piece {
        start,
        end,
        more,
        carries: 17,
    }
}

fn released(seats: &mut Seats) -> Vec<u16> {
    std::iter::from_fn(|| seats.next_released())
        .map(|seat| seat.0)
        .collect()
}

fn discarded(seats: &mut Seats) -> Vec<DropReason> {
    std::iter::from_fn(|| seats.next_discarded())
        .map(|(_, reason)| reason)
        .collect()
}

#[test]
fn early_fragments_leave_in_the_order_of_their_offsets_and_later_ones_behind_them() {
    let (mut table, mut seats) = (Table::new(8), Seats::new(8));
    let arrive = |table: &mut Table, seats: &mut Seats, start: u16, more| {
        table.arrive(
            seats,
            &datagram(1),
            piece(start, start + 8, more),
            Millis(0),
        )
    };
    for (seat, start) in [(0, 24), (1, 8), (2, 16)] {
        let arrival = arrive(&mut table, &mut seats, start, true);
        assert_eq!(arrival, Arrival::Hold(Seat(seat)));
    }
    assert_eq!(arrive(&mut table, &mut seats, 0, true), Arrival::First);
    table.decide(&mut seats, &datagram(1), 7, Millis(0));
    // In the same burst.
    let last = arrive(&mut table, &mut seats, 40, false);
    assert_eq!(last, Arrival::Hold(Seat(3)));
    assert_eq!(released(&mut seats), [1, 2, 0, 3]);
    for _ in 0..4 {
        assert_eq!(table.left(&datagram(1)), Ok(7));
    }
    let follows = arrive(&mut table, &mut seats, 32, true);
    assert_eq!(follows, Arrival::Follow(7));
    // Seen whole: the same identification is another datagram now.
    let early = arrive(&mut table, &mut seats, 32, true);
    assert!(matches!(early, Arrival::Hold(_)));
}

#[test]
fn seats_are_free_again_once_they_were_emptied() {
    let (mut table, mut seats) = (Table::new(64), Seats::new(4));
    for round in 0..100 {
        for id in 0..4 {
            let arrival = table.arrive(
                &mut seats,
                &datagram(round * 4 + id),
                piece(8, 16, true),
                Millis(u64::from(round) * 1000),
            );
            assert!(
                matches!(arrival, Arrival::Hold(_)),
                "{round} {id}: {arrival:?}"
            );
        }
        let full = table.arrive(
            &mut seats,
            &datagram(round * 4),
            piece(16, 24, true),
            Millis(u64::from(round) * 1000),
        );
        assert_eq!(full, Arrival::Drop(DropReason::FragmentTableFull));
        // The oldest gave way for the next.
        assert_eq!(discarded(&mut seats), [DropReason::FragmentTableFull]);
        table.expire(&mut seats, Millis(u64::from(round + 1) * 1000), 64);
        assert_eq!(discarded(&mut seats), [DropReason::FragmentTimeout; 3]);
    }
}

#[test]
fn datagrams_without_a_first_fragment_take_half_of_the_table_at_most() {
    let (mut table, mut seats) = (Table::new(8), Seats::new(100));
    for id in 0..4 {
        table.arrive(&mut seats, &datagram(id), piece(0, 8, true), Millis(0));
        table.decide(&mut seats, &datagram(id), id as u8, Millis(0));
    }
    for id in 100..200 {
        table.arrive(&mut seats, &datagram(id), piece(8, 16, true), Millis(0));
    }
    assert!((0..4).all(|id| table.way(&datagram(id)) == Some(id as u8)));
    assert_eq!(discarded(&mut seats).len(), 96);
    // The oldest decided one gives way to the next.
    table.arrive(&mut seats, &datagram(5), piece(0, 8, true), Millis(0));
    table.decide(&mut seats, &datagram(5), 5, Millis(0));
    assert_eq!(table.way(&datagram(5)), Some(5));
}

#[test]
fn one_datagram_takes_no_more_than_its_seats() {
    let (mut table, mut seats) = (Table::new(8), Seats::new(512));
    let arrivals = (1..100).map(|part| {
        let piece = piece(part * 8, part * 8 + 8, true);
        table.arrive(&mut seats, &datagram(1), piece, Millis(0))
    });
    let held = arrivals.filter(|arrival| matches!(arrival, Arrival::Hold(_)));
    assert_eq!(held.count(), usize::from(SEATS_PER_DATAGRAM));
}

#[test]
fn more_pieces_than_are_kept_apart_are_joined_with_their_neighbours() {
    let (mut table, mut seats) = (Table::new(8), Seats::new(4));
    let arrive = |table: &mut Table, seats: &mut Seats, start: u16| {
        let piece = piece(start, start + 8, true);
        table.arrive(seats, &datagram(1), piece, Millis(0))
    };
    assert_eq!(arrive(&mut table, &mut seats, 0), Arrival::First);
    table.decide(&mut seats, &datagram(1), 7, Millis(0));
    for part in 1..500 {
        let arrival = arrive(&mut table, &mut seats, part * 8);
        assert_eq!(arrival, Arrival::Follow(7), "{part}");
    }
    let again = arrive(&mut table, &mut seats, 499 * 8);
    assert_eq!(again, Arrival::Drop(DropReason::FragmentDuplicate));
    // So is one that was joined with others, and the datagram goes on.
    let again = arrive(&mut table, &mut seats, 8);
    assert_eq!(again, Arrival::Drop(DropReason::FragmentDuplicate));
    let next = arrive(&mut table, &mut seats, 500 * 8);
    assert_eq!(next, Arrival::Follow(7));
    // What reaches beyond the joined ones overlaps, whatever they were.
    let beyond = piece(500 * 8 + 4, 501 * 8 + 4, true);
    let beyond = table.arrive(&mut seats, &datagram(1), beyond, Millis(0));
    assert_eq!(beyond, Arrival::Drop(DropReason::FragmentOverlap));
}

proptest! {
    #[test]
    fn nothing_overlaps_unseen_and_nothing_is_taken_for_an_overlap(
        pieces in prop::collection::vec((0_u16..60, 1_u16..6), 1..40),
    ) {
        let mut seen = Seen::default();
        let mut bytes = [None; 80];
        for (index, (start, length)) in pieces.into_iter().enumerate() {
            let range = usize::from(start)..usize::from(start + length);
            let wanted = if bytes[range.clone()].iter().all(Option::is_none) {
                bytes[range].fill(Some(index));
                Added::New
            } else {
                let owner = bytes[range.start];
                let same = bytes[range.clone()].iter().all(|byte| *byte == owner);
                let whole = bytes.iter().filter(|byte| **byte == owner).count();
                if owner.is_some() && same && whole == range.len() {
                    Added::Duplicate
                } else {
                    Added::Overlap
                }
            };
            prop_assert_eq!(seen.add(start, start + length), wanted);
            prop_assert_eq!(usize::from(seen.bytes), bytes.iter().flatten().count());
        }
    }
}
