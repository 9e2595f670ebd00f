//! Mail to the operators: `[global] notification_email` and what goes with it.
//!
//! A minimal mailer: one queue, one conversation at a time, one second attempt unless the first may
//! have succeeded; who is refused keeps nobody else from being told. Invariant: whoever has something to tell never waits; what finds the queue full is counted and forgotten.

mod message;
mod smtp;

pub use message::Mail;

use crate::config::{GlobalConfig, mail_server};
use smtp::{Refusal, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Mails that may wait.
const QUEUE: usize = 64;
/// Before the second attempt.
const AGAIN: Duration = if cfg!(test) {
    Duration::from_millis(1)
} else {
    Duration::from_secs(5)
};

/// What mail can be about, as in `alerts`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alert {
    /// Virtual routers.
    Vrrp,
}

impl Alert {
    fn word(self) -> &'static str {
        match self {
            Self::Vrrp => "vrrp",
        }
    }
}

/// What became of mails.
#[derive(Debug, Default)]
pub struct MailCounters {
    /// Taken by the server.
    pub sent: AtomicU64,
    /// Refused by it, or it was not reached.
    pub failed: AtomicU64,
    /// Found the queue full.
    pub dropped: AtomicU64,
}

/// From whom, to whom, by which server, about what.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Route {
    server: Server,
    from: String,
    to: Vec<String>,
    alerts: Option<Vec<String>>,
}

impl Route {
    /// `None` if nobody is to be told.
    fn new(global: &GlobalConfig) -> Option<Self> {
        if global.notification_email.is_empty() {
            return None;
        }
        let (host, port) = mail_server(global.smtp_server.as_ref()?)?;
        let own = || host_name(&global.router_id);
        Some(Self {
            server: Server {
                host,
                port,
                helo: global.smtp_helo_name.clone().unwrap_or_else(own),
                timeout: global.smtp_connect_timeout,
            },
            from: match &global.notification_email_from {
                Some(from) => from.clone(),
                None => format!("sluice@{}", own()),
            },
            to: global.notification_email.clone(),
            alerts: global.alerts.clone(),
        })
    }
}

/// The name of this box with nothing in it that a host name has not.
fn host_name(router_id: &str) -> String {
    let labels = router_id.split('.').map(|label| {
        let label = label.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        label.trim_matches('-').to_owned()
    });
    let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
    if labels.is_empty() {
        "localhost".to_owned()
    } else {
        labels.join(".")
    }
}

/// Sends mail, beside everything else.
#[derive(Debug)]
pub struct Mailer {
    route: Option<Arc<Route>>,
    queue: mpsc::Sender<(Arc<Route>, Mail)>,
    worker: JoinHandle<()>,
    counters: Arc<MailCounters>,
}

impl Mailer {
    /// Starts it; needs a runtime.
    pub fn start(global: &GlobalConfig, counters: Arc<MailCounters>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Self {
            route: Route::new(global).map(Arc::new),
            queue,
            worker: tokio::spawn(work(waiting, Arc::clone(&counters))),
            counters,
        }
    }

    /// Takes over a changed configuration. What waits goes the old way.
    pub fn reconfigure(&mut self, global: &GlobalConfig) {
        self.route = Route::new(global).map(Arc::new);
    }

    /// Sends a mail if mails about `alert` are wanted. Never waits.
    pub fn send(&self, alert: Alert, mail: Mail) {
        let Some(route) = &self.route else { return };
        let wanted = |alerts: &Vec<String>| alerts.iter().any(|word| word == alert.word());
        if !route.alerts.as_ref().is_none_or(wanted) {
            return;
        }
        if let Err(refused) = self.queue.try_send((Arc::clone(route), mail)) {
            let before = self.counters.dropped.fetch_add(1, Relaxed);
            if before == 0 {
                log::warn!("mail: {refused}: mails are dropped from now on; see 'sluice vrrp'");
            }
        }
    }

    /// Lets the mails that wait be sent, and ends; what is not sent by then is lost.
    pub async fn finish(self, within: Duration) {
        drop(self.queue);
        if tokio::time::timeout(within, self.worker).await.is_err() {
            log::warn!("mail: some could not be sent before the end");
        }
    }

    /// What became of mails so far.
    pub fn counters(&self) -> &Arc<MailCounters> {
        &self.counters
    }
}

async fn work(mut waiting: mpsc::Receiver<(Arc<Route>, Mail)>, counters: Arc<MailCounters>) {
    let mut number = 0;
    let mut failing = false;
    let mut refused_before = Vec::new();
    while let Some((route, mail)) = waiting.recv().await {
        number += 1;
        let message = mail.encode(&route.from, &route.to, number);
        let attempt = || route.server.deliver(&route.from, &route.to, &message);
        let mut outcome = attempt().await;
        if outcome.as_ref().is_err_and(Refusal::may_be_repeated) {
            tokio::time::sleep(AGAIN).await;
            outcome = attempt().await;
        }
        match outcome {
            Ok(refused) => {
                // Told when it begins and when it changes, not with every mail.
                if refused != refused_before {
                    for who in &refused {
                        log::warn!("mail: the server does not take mails for {who}");
                    }
                    refused_before = refused;
                }
                counters.sent.fetch_add(1, Relaxed);
                if std::mem::take(&mut failing) {
                    log::info!("mail: {} takes mails again", route.server.host);
                }
            }
            Err(why) => {
                counters.failed.fetch_add(1, Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    let Server { host, port, .. } = &route.server;
                    log::warn!(
                        "mail: \"{}\" not sent by {host} port {port}: {why}",
                        mail.subject
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    /// Part of an address that the server does not take.
    const REFUSED: &str = "<gone";

    /// A mail server that takes one mail and returns what was said to it; `greeting` as given.
    async fn serve(listener: &TcpListener, greeting: &str) -> Vec<String> {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut said = Vec::new();
        let mut answer = greeting.to_owned();
        let mut in_data = false;
        loop {
            stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
            answer.clear();
            while answer.is_empty() {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap() == 0 {
                    return said;
                }
                let word = line.split_whitespace().next().unwrap_or_default();
                answer = match (in_data, word) {
                    // Says nothing of whether it took it.
                    (true, ".") if greeting.contains("silent") => return said,
                    (true, ".") => {
                        in_data = false;
                        "250 taken\r\n"
                    }
                    (false, "RCPT") if line.contains(REFUSED) => "550 no such user\r\n",
                    (true, _) => "",
                    (false, "DATA") => {
                        in_data = true;
                        "354 go on\r\n"
                    }
                    (false, "QUIT") => "221 bye\r\n",
                    (false, _) => "250-several\r\n250 lines\r\n",
                }
                .to_owned();
                said.push(line.trim_end().to_owned());
            }
        }
    }

    fn global(port: u16, more: &str) -> GlobalConfig {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        let text = format!(
            "[port lan]\ndevice = net_tap0\n[global]\nrouter_id = lb1\n\
             notification_email = ops@example.org, root@localhost\n\
             smtp_server = 127.0.0.1:{port}\nsmtp_connect_timeout = 2s\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        let loaded = crate::config::load(&crate::config::LoadOptions::new(&path));
        loaded.unwrap().config.global
    }

    fn mail(subject: &str) -> Mail {
        Mail {
            subject: subject.into(),
            body: "why\n.\n".into(),
            at: UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_mail_goes_to_everybody_in_one_conversation() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mailer = Mailer::start(&global(port, ""), Arc::default());
        mailer.send(
            Alert::Vrrp,
            mail("[lb1] VRRP Instance VI_1 - Entering MASTER state"),
        );
        let said = serve(&listener, "220-hello\r\n220 there\r\n").await;
        assert_eq!(
            said[..4],
            [
                "HELO lb1",
                "MAIL FROM:<sluice@lb1>",
                "RCPT TO:<ops@example.org>",
                "RCPT TO:<root@localhost>",
            ]
        );
        let subject = "Subject: [lb1] VRRP Instance VI_1 - Entering MASTER state";
        assert!(said.iter().any(|line| line == subject), "{said:#?}");
        assert_eq!(said[said.len() - 5..], ["", "why", "..", ".", "QUIT"]);
        let counters = Arc::clone(mailer.counters());
        mailer.finish(Duration::from_secs(5)).await;
        assert_eq!(counters.sent.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn only_wanted_alerts_are_sent_and_only_if_anybody_is_to_be_told() {
        let mut mailer = Mailer::start(&global(9, "alerts = real, service\n"), Arc::default());
        mailer.send(Alert::Vrrp, mail("unwanted"));
        let mut nobody = global(9, "");
        nobody.notification_email.clear();
        mailer.reconfigure(&nobody);
        mailer.send(Alert::Vrrp, mail("unwanted"));
        let counters = Arc::clone(mailer.counters());
        mailer.finish(Duration::from_secs(5)).await;
        let all = [&counters.sent, &counters.failed, &counters.dropped];
        assert_eq!(all.map(|counter| counter.load(Relaxed)), [0; 3]);
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_asked_twice_and_counted_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mailer = Mailer::start(&global(port, "smtp_helo_name = me\n"), Arc::default());
        mailer.send(Alert::Vrrp, mail("refused"));
        for _ in 0..2 {
            assert_eq!(serve(&listener, "554 go away\r\n").await, [""; 0]);
        }
        let counters = Arc::clone(mailer.counters());
        mailer.finish(Duration::from_mins(1)).await;
        assert_eq!(counters.failed.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn a_refused_recipient_keeps_nobody_else_from_being_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for (to, attempts, sent) in [
            (["gone@example.org", "ops@example.org"], 1, 1),
            (["ops@example.org", "gone@example.org"], 1, 1),
            (["gone@example.org", "gone2@example.org"], 2, 0),
        ] {
            let mut global = global(port, "");
            global.notification_email = to.map(str::to_owned).to_vec();
            let mailer = Mailer::start(&global, Arc::default());
            mailer.send(Alert::Vrrp, mail("told"));
            for _ in 0..attempts {
                let said = serve(&listener, "220 there\r\n").await;
                assert_eq!(
                    said.iter().any(|line| line == "DATA"),
                    sent == 1,
                    "{said:#?}"
                );
            }
            let counters = Arc::clone(mailer.counters());
            mailer.finish(Duration::from_mins(1)).await;
            let all = [&counters.sent, &counters.failed];
            assert_eq!(all.map(|counter| counter.load(Relaxed)), [sent, 1 - sent]);
        }
    }

    #[tokio::test]
    async fn a_mail_that_may_have_been_taken_is_not_sent_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mailer = Mailer::start(&global(port, ""), Arc::default());
        mailer.send(Alert::Vrrp, mail("first"));
        mailer.send(Alert::Vrrp, mail("second"));
        for subject in ["first", "second"] {
            let said = serve(&listener, "220 silent\r\n").await;
            let subject = format!("Subject: {subject}");
            assert!(said.contains(&subject), "{said:#?}");
        }
        let counters = Arc::clone(mailer.counters());
        mailer.finish(Duration::from_mins(1)).await;
        assert_eq!(counters.failed.load(Relaxed), 2);
    }

    #[test]
    fn a_box_without_a_host_name_gets_one_from_its_name() {
        for (router_id, expected) in [
            ("lb1.example.org", "lb1.example.org"),
            ("<lb 1>", "lb-1"),
            ("büro_1..x", "b-ro-1.x"),
            ("ß", "localhost"),
        ] {
            assert_eq!(host_name(router_id), expected);
        }
    }

    #[tokio::test]
    async fn who_tells_never_waits_and_what_is_too_much_is_counted() {
        // Nobody ever accepts, and the queue is as long as it is.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mailer = Mailer::start(&global(port, ""), Arc::default());
        for _ in 0..QUEUE + 10 {
            mailer.send(Alert::Vrrp, mail("many"));
        }
        let dropped = mailer.counters().dropped.load(Relaxed);
        assert!((9..=10).contains(&dropped), "{dropped}");
    }
}
