//! Publishing and reclamation of tables under every interleaving: the module's own source, with loom's
//! [`Arc`], mutex and atomics.

#[path = "../src/epoch.rs"]
#[allow(dead_code, unreachable_pub, reason = "a library's module")]
mod epoch;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Arc, Mutex};
}

use epoch::channel;
use loom::sync::atomic::AtomicBool;
use loom::thread;
use sync::{Arc, AtomicU64, Ordering};

struct Table {
    value: u64,
    dropped_by_reader: Arc<AtomicBool>,
    in_reader: Arc<AtomicBool>,
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.in_reader.load(Ordering::Relaxed) {
            self.dropped_by_reader.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn readers_see_whole_tables_in_order_and_the_publisher_frees_them() {
    loom::model(|| {
        let (mut publisher, mut readers) = channel(Arc::new(AtomicU64::new(1)), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            let mut last = 0;
            for _ in 0..2 {
                reader.refresh();
                let value = reader.load(Ordering::Relaxed);
                assert!(value >= last, "went back to an older table");
                assert!(value >= 1, "saw a freed table");
                last = value;
            }
            drop(reader);
        });
        for value in 2..4 {
            if publisher.is_ready() {
                publisher.publish(Arc::new(AtomicU64::new(value)));
            }
            // Whatever is reclaimed now must not be in the reader's hands: poison it.
            publisher.reclaim();
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_worker_never_drops_the_last_reference() {
    loom::model(|| {
        let dropped = Arc::new(AtomicBool::new(false));
        let in_reader = Arc::new(AtomicBool::new(false));
        let table = |value| Table {
            value,
            dropped_by_reader: Arc::clone(&dropped),
            in_reader: Arc::clone(&in_reader),
        };
        let (mut publisher, mut readers) = channel(table(1), 1);
        let mut reader = readers.remove(0);
        let held = Arc::clone(publisher.current());
        let flag = Arc::clone(&dropped);
        let worker = thread::spawn(move || {
            reader.refresh();
            let value = reader.value;
            reader.refresh();
            assert!(reader.value >= value);
            reader
        });
        publisher.publish(table(2));
        publisher.reclaim();
        // Either the reader announced epoch 2 and the old table is ours alone, or we still hold it.
        if publisher.unreclaimed() == 0 {
            assert_eq!(
                Arc::strong_count(&held),
                1,
                "the reader still holds a reclaimed table"
            );
        }
        let reader = worker.join().unwrap();
        assert!(!flag.load(Ordering::Relaxed));
        drop(reader);
    });
}
