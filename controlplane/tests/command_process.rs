//! The command process, with this test program itself as the helper.

use controlplane::command_process::{
    Command, CommandError, CommandProcess, End, Outcome, serve_stdin,
};
use std::path::Path;
use std::time::{Duration, Instant};

const HELPER: &str = "SLUICE_TEST_HELPER";
const LONG: Duration = Duration::from_secs(20);

/// Not a test: what the helper runs when a test below starts this program again.
#[test]
fn helper_entry() {
    if std::env::var_os(HELPER).is_some() {
        std::process::exit(serve_stdin());
    }
}

fn helper_command() -> std::process::Command {
    let mut program = std::process::Command::new("/proc/self/exe");
    program
        .args(["--exact", "helper_entry", "--nocapture"])
        .env(HELPER, "1")
        .env("SECRET", "x");
    program
}

fn helper() -> CommandProcess {
    CommandProcess::start_as(helper_command()).unwrap()
}

async fn shell(helper: &CommandProcess, line: &str) -> Outcome {
    helper.run(Command::shell(line, LONG)).await.unwrap()
}

fn is_running(pid: &str) -> bool {
    // A zombie still has its directory; its command line is empty.
    std::fs::read(Path::new("/proc").join(pid.trim()).join("cmdline")).is_ok_and(|c| !c.is_empty())
}

async fn ends(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_running(pid) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

#[tokio::test]
async fn a_command_runs_and_reports_status_and_output() {
    let helper = helper();
    let outcome = shell(&helper, "echo out; echo err >&2; exit 3").await;
    assert_eq!(outcome.end, End::Exited(3));
    assert_eq!(outcome.stdout, "out\n");
    assert_eq!(outcome.stderr, "err\n");
    let command = Command::argv(["printf", "%s|", "a b", "$x"], LONG);
    let outcome = helper.run(command).await.unwrap();
    assert!(outcome.is_success());
    assert_eq!(outcome.stdout, "a b|$x|");
    let outcome = shell(&helper, "kill -USR2 $$").await;
    assert_eq!(outcome.end, End::Signalled(12));
}

#[tokio::test]
async fn a_command_gets_a_clean_environment_and_its_own_variables() {
    let helper = helper();
    let command =
        Command::shell("echo \"$SECRET|$A|$PWD|$USER\"; cat", LONG).with_variable("A", "1 2");
    let outcome = helper.run(command).await.unwrap();
    assert_eq!(outcome.stdout, "|1 2|/|root\n");
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why() {
    let helper = helper();
    for (command, why) in [
        (
            Command::argv(["/no/such/program"], LONG),
            "cannot start /no/such/program: No such file or directory (os error 2)",
        ),
        (
            Command::shell("true", LONG).as_user("no-such-user"),
            "there is no user no-such-user",
        ),
        (Command::argv::<&str>([], LONG), "the command is empty"),
    ] {
        let refused = helper.run(command).await;
        assert_eq!(refused, Err(CommandError::NotStarted(why.into())));
    }
    let refused = helper.run(Command::shell("x".repeat(300_000), LONG)).await;
    assert_eq!(refused, Err(CommandError::TooLong));
    assert_eq!(helper.failures(), 1);
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group_even_if_it_ignores_sigterm() {
    let helper = helper();
    let line = "trap '' TERM; sleep 100 & echo $!; sleep 100";
    let started = Instant::now();
    let command = Command::shell(line, Duration::from_millis(300));
    let outcome = helper.run(command).await.unwrap();
    assert_eq!(outcome.end, End::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(ends(&outcome.stdout).await);
}

#[tokio::test]
async fn a_command_that_heeds_sigterm_can_say_goodbye() {
    let helper = helper();
    let line = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done";
    let command = Command::shell(line, Duration::from_millis(300));
    let outcome = helper.run(command).await.unwrap();
    assert_eq!(outcome.end, End::TimedOut);
    assert_eq!(outcome.stdout, "bye\n");
}

#[tokio::test]
async fn what_stays_in_the_background_does_not_delay_the_outcome() {
    let helper = helper();
    let started = Instant::now();
    let outcome = shell(&helper, "sleep 100 & echo $!").await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(outcome.is_success());
    assert!(is_running(&outcome.stdout));
    shell(&helper, &format!("kill {}", outcome.stdout.trim())).await;
}

#[tokio::test]
async fn a_command_runs_as_its_user_without_other_groups() {
    let helper = helper();
    let command = Command::shell("id -un; id -gn; id -Gn; echo $USER", LONG).as_user("nobody");
    let outcome = helper.run(command).await.unwrap();
    assert_eq!(outcome.stdout, "nobody\nnogroup\nnogroup\nnobody\n");
}

#[tokio::test]
async fn only_the_end_of_long_output_is_kept() {
    let helper = helper();
    let outcome = shell(&helper, "seq 1 100000; seq 1 100000 >&2").await;
    assert!(outcome.is_success());
    assert_eq!(outcome.stdout.len(), 4096);
    assert_eq!(outcome.stderr.len(), 4096);
    assert!(outcome.stdout.ends_with("99999\n100000\n"));
}

#[tokio::test]
async fn a_hundred_commands_run_at_once() {
    let helper = helper();
    let started = Instant::now();
    let commands = (0..100).map(|n| Command::shell(format!("sleep 1; echo {n}"), LONG));
    let outcomes = futures::future::join_all(commands.map(|c| helper.run(c))).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap().stdout, format!("{n}\n"));
    }
    // One after the other they would take 100 s.
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn dropping_the_future_kills_the_command() {
    let helper = helper();
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("echo $$ > {}; sleep 100", file.path().display());
    let run = helper.run(Command::shell(line, LONG));
    let patience = Duration::from_millis(500);
    assert!(tokio::time::timeout(patience, run).await.is_err());
    let pid = std::fs::read_to_string(file.path()).unwrap();
    assert!(ends(&pid).await);
}

#[tokio::test]
async fn submitting_needs_no_executor_and_does_not_wait() {
    let helper = helper();
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("echo done > {}", file.path().display());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            helper
                .submit("notify", Command::shell(&line, LONG))
                .unwrap();
        });
    });
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::fs::read_to_string(file.path()).unwrap() != "done\n" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_helper_and_its_commands_die_with_the_daemon() {
    let helper = helper();
    let pid = helper.pid().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("echo $$ > {}; sleep 100", file.path().display());
    helper.submit("last", Command::shell(line, LONG)).unwrap();
    shell(&helper, "sleep 0.3").await;
    let command = std::fs::read_to_string(file.path()).unwrap();
    assert!(is_running(&command));
    drop(helper);
    assert!(ends(&command).await);
    assert!(ends(&pid).await);
}

#[tokio::test]
async fn a_dead_helper_is_an_error_and_a_count() {
    let helper = helper();
    let pid = rustix::process::Pid::from_raw(helper.pid().cast_signed()).unwrap();
    let running = helper.run(Command::shell("sleep 5", LONG));
    let kill = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let (outcome, ()) = tokio::join!(running, kill);
    assert_eq!(outcome, Err(CommandError::HelperGone));
    assert!(!helper.is_alive());
    let outcome = helper.run(Command::shell("true", LONG)).await;
    assert_eq!(outcome, Err(CommandError::HelperGone));
    assert_eq!(helper.failures(), 2);
}

#[tokio::test]
async fn the_helper_outlives_sigterm() {
    let helper = helper();
    shell(&helper, "true").await;
    let pid = rustix::process::Pid::from_raw(helper.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(shell(&helper, "true").await.is_success());
}

#[test]
fn without_a_socket_the_helper_refuses() {
    let status = helper_command()
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}
