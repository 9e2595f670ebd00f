//! Tells systemd how the daemon does (`sd_notify(3)`, `Type=notify-reload`).
//!
//! The socket's name is read from the environment once, at start, and may be given directly in
//! tests; without one every call does nothing. A message that cannot be delivered is logged and
//! forgotten: the supervisor's trouble must not become ours.

use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Readiness {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Readiness {
    /// The manager `NOTIFY_SOCKET` names, with the watchdog of `WATCHDOG_USEC`.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        match Self::to_socket(&name) {
            Ok(readiness) => readiness.with_watchdog(
                std::env::var("WATCHDOG_USEC").ok().as_deref(),
                std::env::var("WATCHDOG_PID").ok().as_deref(),
            ),
            Err(error) => {
                log::warn!("cannot notify the service manager: {error}");
                Self::default()
            }
        }
    }

    /// The manager behind the socket `name`: a path, or `@` and an abstract name.
    pub fn to_socket(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop us.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Some((socket, address)),
            watchdog: None,
        })
    }

    /// The same with the watchdog those variables ask for: half of `usec` microseconds, unless
    /// `pid` is another process.
    pub fn with_watchdog(mut self, usec: Option<&str>, pid: Option<&str>) -> Self {
        let ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        self.watchdog = usec
            .filter(|_| ours)
            .and_then(|usec| usec.parse().ok())
            .filter(|usec| *usec > 0)
            .map(|usec: u64| Duration::from_micros(usec) / 2);
        self
    }

    /// The daemon forwards; also said after a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins.
    pub fn reloading(&self) {
        // systemd compares the time with that of its own request.
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The daemon begins to stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// How often to call [`Self::alive`], if at all.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The daemon is alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            log::warn!("cannot notify the service manager: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (UnixDatagram, Readiness, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let readiness = Readiness::to_socket(path.as_os_str()).unwrap();
        (manager, readiness, directory)
    }

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_each_state() {
        let (manager, readiness, _directory) = manager();
        readiness.ready();
        assert_eq!(received(&manager), "READY=1");
        readiness.status("serving\n2 services");
        assert_eq!(received(&manager), "STATUS=serving 2 services");
        readiness.alive();
        assert_eq!(received(&manager), "WATCHDOG=1");
        readiness.stopping();
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[test]
    fn a_reload_carries_the_monotonic_time() {
        let (manager, readiness, _directory) = manager();
        let before = clock_gettime(ClockId::Monotonic).tv_sec * 1_000_000;
        readiness.reloading();
        let message = received(&manager);
        let usec = message
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        let usec: i64 = usec.parse().unwrap();
        assert!((before..before + 5_000_000).contains(&usec));
    }

    #[test]
    fn an_abstract_name_works_too() {
        let name = format!("sluice-readiness-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let readiness = Readiness::to_socket(OsStr::new(&format!("@{name}"))).unwrap();
        readiness.ready();
        assert_eq!(received(&manager), "READY=1");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let readiness = Readiness::default();
        readiness.ready();
        assert_eq!(readiness.watchdog_interval(), None);
    }

    #[test]
    fn a_manager_that_is_gone_is_no_trouble() {
        let (manager, readiness, directory) = manager();
        drop((manager, directory));
        readiness.ready();
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_and_only_by_the_process_it_watches() {
        let own = std::process::id().to_string();
        let interval = |usec, pid| {
            Readiness::default()
                .with_watchdog(usec, pid)
                .watchdog_interval()
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(Some("2000000"), None), second);
        assert_eq!(interval(Some("2000000"), Some(&own)), second);
        assert_eq!(interval(Some("2000000"), Some("1")), None);
        assert_eq!(interval(Some("0"), None), None);
        assert_eq!(interval(Some("x"), None), None);
        assert_eq!(interval(None, None), None);
    }
}
