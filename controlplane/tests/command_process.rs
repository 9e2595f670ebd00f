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

/// What a command has written into `file`, which it does all at once.
async fn written(file: &Path) -> String {
    let deadline = Instant::now() + LONG;
    loop {
        let text = std::fs::read_to_string(file).unwrap();
        if !text.is_empty() {
            return text;
        }
        assert!(Instant::now() < deadline, "nothing has been written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_running(pid: &str) -> bool {
    // Without one it would be the file of the whole machine, which is always there.
    assert!(!pid.trim().is_empty(), "no process id is known");
    // A zombie still has its directory. That its command line is empty tells nothing: so it is for a moment in exec.
    std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
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
    // On a busy machine the time may be up before the shell has said whom it started: then once more, with more time.
    for timeout in [1, 3, 9].map(Duration::from_secs) {
        let started = Instant::now();
        let outcome = helper.run(Command::shell(line, timeout)).await.unwrap();
        assert_eq!(outcome.end, End::TimedOut);
        assert!(started.elapsed() < timeout + Duration::from_secs(4));
        if !outcome.stdout.is_empty() {
            assert!(ends(&outcome.stdout).await);
            return;
        }
    }
    panic!("the shell never said whom it started");
}

#[tokio::test]
async fn a_command_that_heeds_sigterm_can_say_goodbye() {
    let helper = helper();
    let line = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done";
    let mut said = Vec::new();
    // A busy machine may leave the shell no turn between the two signals; it does not do so time and again.
    for _ in 0..5 {
        let command = Command::shell(line, Duration::from_secs(1));
        let outcome = helper.run(command).await.unwrap();
        assert_eq!(outcome.end, End::TimedOut);
        if outcome.stdout == "bye\n" {
            return;
        }
        said.push(outcome.stdout);
    }
    panic!("no goodbye in five times: {said:?}");
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
    let begun = async {
        let pid = written(file.path()).await;
        assert!(is_running(&pid));
        pid
    };
    // The future is dropped as soon as the command runs.
    let pid = tokio::select! {
        outcome = helper.run(Command::shell(line, LONG)) => panic!("it has ended: {outcome:?}"),
        pid = begun => pid,
    };
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
    assert_eq!(written(file.path()).await, "done\n");
}

#[tokio::test]
async fn the_helper_and_its_commands_die_with_the_daemon() {
    let helper = helper();
    let pid = helper.pid().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("echo $$ > {}; sleep 100", file.path().display());
    helper.submit("last", Command::shell(line, LONG)).unwrap();
    let command = written(file.path()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_order_start_in_the_order_they_were_handed_over() {
    let helper = helper();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut all = Vec::new();
    for number in 0..60 {
        // A number that is started later has a later start time, in ticks, or the same and a later process id.
        let line = format!(
            "echo {number} $(cut -d' ' -f22 /proc/$$/stat) $$ >> {}",
            log.display()
        );
        let mut command = Command::shell(line, LONG).in_order();
        // A user who is looked up slowly, or not there at all, lets nobody pass.
        match number % 6 {
            0 => command.user = Some("root".into()),
            1 => command.user = Some("no-such-user".into()),
            _ => {}
        }
        all.push(helper.begin(command).unwrap());
    }
    for begun in all {
        let _ = begun.outcome().await;
    }
    let text = std::fs::read_to_string(&log).unwrap();
    let mut lines: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    lines.sort_by_key(|line| line[0]);
    assert_eq!(lines.len(), 50);
    // Process ids begin again at the bottom when they have reached their limit: they are counted from half a circle
    // before the first one's, so that one a little lower than that still comes before it.
    let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let pid_max: u64 = pid_max.trim().parse().unwrap();
    let first = lines[0][2];
    let started: Vec<_> = lines
        .iter()
        .map(|line| (line[1], (line[2] + pid_max + pid_max / 2 - first) % pid_max))
        .collect();
    assert!(started.is_sorted(), "{started:?}");
}
