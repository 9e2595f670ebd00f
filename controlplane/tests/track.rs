//! Trackers at work: real scripts by a real command process, real files, tables that change.

use controlplane::command_process::{ARGUMENT, CommandProcess};
use controlplane::config::{Config, LoadOptions, load};
use controlplane::tables::{Desired, Publisher, Start};
use controlplane::track::{Surroundings, Trackers};
use dataplane::forwarding::Forwarding;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use vrrp::{Report, Tracked};

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    directory: tempfile::TempDir,
    surroundings: Surroundings,
    publisher: Option<std::thread::JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let mut helper = Command::new(env!("CARGO_BIN_EXE_sluiced"));
        helper.arg(ARGUMENT);
        let Start {
            mut publisher,
            handle,
            ..
        } = Publisher::start(0, Desired::default(), Forwarding::default());
        Self {
            directory: tempfile::tempdir().unwrap(),
            surroundings: Surroundings {
                commands: Arc::new(CommandProcess::start_as(helper).unwrap()),
                user: None,
                tables: handle,
            },
            publisher: Some(std::thread::spawn(move || publisher.run())),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Scripts in `text` that are to run to their end need a `timeout`: without one they have their interval, and a
    /// busy machine may take longer than these intervals to start a shell.
    fn config(&self, text: &str) -> Config {
        let path = self.path().join("t.ini");
        let text = text.replace("DIR", &self.path().display().to_string());
        std::fs::write(
            &path,
            format!("[port lan]\ndevice = net_tap0\n[vrrp a]\ninterface = lan\nvirtual_router_id = 1\naddresses = 10.0.0.9\n{text}"),
        )
        .unwrap();
        load(&LoadOptions::new(&path))
            .unwrap_or_else(|it| panic!("{it}"))
            .config
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.surroundings.tables.stop();
        if let Some(publisher) = self.publisher.take() {
            publisher.join().unwrap();
        }
    }
}

async fn next(trackers: &mut Trackers) -> (Tracked, Report) {
    timeout(PATIENCE, trackers.next())
        .await
        .expect("a tracker tells something")
}

fn script(name: &str) -> Tracked {
    Tracked::Script(name.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_tells_its_first_result_and_every_change() {
    let world = World::new();
    let config = world.config(
        "track_scripts = s\n[track_script s]\ncommand = test -e DIR/well\ninterval = 50ms\ntimeout = 20s\nfall = 2\n\
         [track_script unused]\ncommand = touch DIR/ran\ninterval = 50ms\n",
    );
    let well = world.path().join("well");
    std::fs::write(&well, "").unwrap();
    let mut trackers = Trackers::default();
    assert_eq!(trackers.apply(&config, &world.surroundings), []);
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Up));
    std::fs::remove_file(&well).unwrap();
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Down));
    // A reload that changes nothing of it leaves it at work and knows what it said.
    let known = trackers.apply(&config, &world.surroundings);
    assert_eq!(known, [(script("s"), Report::Down)]);
    std::fs::write(&well, "").unwrap();
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Up));
    assert!(!world.path().join("ran").exists(), "nobody tracks it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_takes_too_long_has_failed_and_is_never_started_twice() {
    let world = World::new();
    let config = world.config(
        "track_scripts = slow, back\n\
         [track_script slow]\ncommand = echo x >> DIR/runs; exec sleep 60\ninterval = 20ms\ntimeout = 1s\n\
         [track_script back]\ncommand = false\nreverse = yes\n",
    );
    let mut trackers = Trackers::default();
    trackers.apply(&config, &world.surroundings);
    let mut told = vec![next(&mut trackers).await, next(&mut trackers).await];
    told.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        told,
        [(script("back"), Report::Up), (script("slow"), Report::Down)]
    );
    let runs = std::fs::read_to_string(world.path().join("runs")).unwrap();
    assert!(runs.lines().count() <= 2, "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_begins_as_failed_says_so_before_it_has_run() {
    let world = World::new();
    let config = world.config(
        "track_scripts = s\n[track_script s]\ncommand = true\ninterval = 20ms\ntimeout = 20s\n\
         init_fail = yes\nrise = 2\n",
    );
    let mut trackers = Trackers::default();
    trackers.apply(&config, &world.surroundings);
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Down));
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Up));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_told_when_its_number_changes() {
    let world = World::new();
    let config = world.config("track_files = f\n[track_file f]\nfile = DIR/f\n");
    let file = Tracked::File("f".into());
    let mut trackers = Trackers::default();
    trackers.apply(&config, &world.surroundings);
    assert_eq!(next(&mut trackers).await, (file.clone(), Report::Value(0)));
    // As whoever writes it should: in one piece.
    std::fs::write(world.path().join("new"), "-20\n").unwrap();
    std::fs::rename(world.path().join("new"), world.path().join("f")).unwrap();
    assert_eq!(next(&mut trackers).await, (file, Report::Value(-20)));
    // Nobody tracks it any more.
    let config = world.config("");
    assert_eq!(trackers.apply(&config, &world.surroundings), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_servers_has_no_quorum() {
    let world = World::new();
    let config = world.config(
        "track_services = web\n[virtual_server web]\naddresses = 10.0.0.9:80\n\
         [real_server web/a]\naddress = 10.0.0.11\n",
    );
    let mut trackers = Trackers::default();
    trackers.apply(&config, &world.surroundings);
    let web = Tracked::Service("web".into());
    assert_eq!(next(&mut trackers).await, (web, Report::Down));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_section_is_edited_keeps_what_it_has_found_out() {
    let world = World::new();
    let section = |more: &str| {
        world.config(&format!(
            "track_scripts = s\n[track_script s]\ncommand = test -e DIR/well || {{ echo >> DIR/failed; false; }}\n\
             timeout = 20s\ninit_fail = yes\n{more}"
        ))
    };
    std::fs::write(world.path().join("well"), "").unwrap();
    let mut trackers = Trackers::default();
    trackers.apply(&section("interval = 20ms\n"), &world.surroundings);
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Down));
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Up));
    let edited = section("interval = 30ms\nfall = 3\n");
    let known = trackers.apply(&edited, &world.surroundings);
    assert_eq!(known, [(script("s"), Report::Up)]);
    std::fs::remove_file(world.path().join("well")).unwrap();
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Down));
    let failed = std::fs::read_to_string(world.path().join("failed")).unwrap();
    assert!(failed.lines().count() >= 3, "{failed:?}");
    // The other way round is no new result either.
    let known = trackers.apply(
        &section("interval = 1s\nreverse = yes\n"),
        &world.surroundings,
    );
    assert_eq!(known, [(script("s"), Report::Up)]);
}

#[tokio::test]
async fn what_a_tracker_of_the_last_configuration_found_is_not_told() {
    let world = World::new();
    let mut trackers = Trackers::default();
    let old =
        world.config("track_scripts = s\n[track_script s]\ncommand = false\ninit_fail = yes\n");
    trackers.apply(&old, &world.surroundings);
    // It has told that it begins as failed, which nobody has taken yet.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let new = world.config("track_scripts = s\n[track_script s]\ncommand = true\ntimeout = 20s\n");
    assert_eq!(trackers.apply(&new, &world.surroundings), []);
    assert_eq!(next(&mut trackers).await, (script("s"), Report::Up));
}
