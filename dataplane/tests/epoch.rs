//! Publishing tables to workers, step by step; `epoch_under_loom.rs` has every interleaving.

use dataplane::epoch::channel;
use std::sync::Arc;

#[test]
fn a_reader_sees_the_new_table_at_its_next_refresh() {
    let (mut publisher, mut readers) = channel(1, 1);
    let reader = &mut readers[0];
    assert_eq!(**reader, 1);
    assert!(!reader.refresh());
    let epoch = publisher.publish(2);
    assert_eq!(**reader, 1, "not before the burst ends");
    assert!(!publisher.all_seen(epoch));
    assert!(reader.refresh());
    assert_eq!(**reader, 2);
    assert!(publisher.all_seen(epoch));
}

#[test]
fn old_tables_are_freed_on_the_publishers_side_only_when_every_reader_moved_on() {
    let (mut publisher, mut readers) = channel(Arc::new(()), 2);
    let first = Arc::downgrade(publisher.current());
    publisher.publish(Arc::new(()));
    readers[0].refresh();
    publisher.reclaim();
    assert!(first.upgrade().is_some(), "reader 1 still has it");
    readers[1].refresh();
    assert!(first.upgrade().is_some(), "a reader never frees");
    publisher.reclaim();
    assert!(first.upgrade().is_none());
}

#[test]
fn publishing_waits_when_two_old_tables_are_unreclaimed() {
    let (mut publisher, mut readers) = channel(0, 1);
    publisher.publish(1);
    assert!(publisher.is_ready());
    publisher.publish(2);
    assert!(!publisher.is_ready());
    assert_eq!(publisher.unreclaimed(), 2);
    readers[0].refresh();
    assert!(publisher.is_ready());
    assert_eq!(*readers[0], 2, "intermediate tables may be skipped");
}
