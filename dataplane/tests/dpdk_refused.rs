//! EAL that does not start: an error value, and the caller's CPU set as it was.

use dataplane::dpdk::{Eal, EalError};

mod dpdk_support;

#[test]
fn a_refused_start_names_the_arguments_and_the_reason() {
    let before = rustix::thread::sched_getaffinity(None).expect("own CPU set");
    let device = "--vdev=net_nothing0";
    let prefix = format!("sluice-test-refused-{}", std::process::id());
    let error = Eal::init(&dpdk_support::arguments("refused", &["-l", "0", device]))
        .expect_err("no such driver");
    let text = error.to_string();
    assert!(matches!(error, EalError::Init { .. }));
    assert!(
        text.contains(device) && text.contains("No such device"),
        "{text}"
    );
    assert!(Eal::get().is_none());
    assert_eq!(
        before,
        rustix::thread::sched_getaffinity(None).expect("own CPU set")
    );

    dataplane::dpdk::remove_stale_runtime(&prefix).expect("nobody holds it");
    assert!(matches!(
        Eal::init(&["nul\0".to_owned()]),
        Err(EalError::Argument(_))
    ));
}
