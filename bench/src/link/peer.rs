//! The peers on the other end of the link: `sluiced` and testpmd, each in a process of its own.
//!
//! A peer is ended before the generator polls again, and before the generator ends.

use super::pattern::{REALS, STATION, real, vip};
use crate::figure::Failure;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Directory of the run.
    pub(crate) work: PathBuf,
    /// Directory of `sluiced` and `sluice`.
    pub(crate) binaries: PathBuf,
    /// CPU of the peer's worker.
    pub(crate) worker: usize,
    /// CPU of its control core.
    pub(crate) control: usize,
    /// All CPUs this process may use: a peer gets them, although the generator is pinned.
    pub(crate) cpus: CpuSet,
}

impl Place {
    /// The device string of one end of the link.
    pub(crate) fn device(&self, role: &str) -> String {
        let socket = self.work.join("link.sock");
        let mac = STATION.0.map(|byte| format!("{byte:02x}")).join(":");
        let mac = match role {
            "client" => format!(",mac={mac}"),
            _ => String::new(),
        };
        format!(
            "net_memif0,role={role},socket={},socket-abstract=no,rsize=11{mac}",
            socket.display()
        )
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, Failure> {
        sched_setaffinity(None, &self.cpus)?;
        let child = command.spawn();
        crate::pipeline::pin(self.control);
        Ok(child?)
    }

    fn log(&self, name: &str) -> Result<File, Failure> {
        let path = self.work.join(format!("{name}.log"));
        Ok(File::options().create(true).append(true).open(path)?)
    }
}

/// A running `sluiced`.
pub(crate) struct Sluiced {
    child: Child,
    place: Place,
}

/// Counters of its worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: f64,
    pub(crate) ticks: f64,
    /// Turns of its loop that found packets.
    pub(crate) polls: f64,
    pub(crate) created: f64,
    pub(crate) tx_full: f64,
}

impl Sluiced {
    /// Starts one that balances by `forward` with room for so many connections.
    pub(crate) fn start(place: &Place, forward: &str, connections: u32) -> Result<Self, Failure> {
        write_config(place, forward, connections, 1)?;
        let mut command = Command::new(place.binaries.join("sluiced"));
        command
            .arg("--config")
            .arg(place.work.join("sluice.ini"))
            .stdin(Stdio::null())
            .stdout(place.log("sluiced")?)
            .stderr(place.log("sluiced")?);
        let child = place
            .spawn(&mut command)
            .map_err(|e| format!("sluiced does not start: {e}"))?;
        let mut sluiced = Self {
            child,
            place: place.clone(),
        };
        let until = Instant::now() + Duration::from_mins(1);
        while sluiced.ask(&["status"]).is_err() {
            if let Some(status) = sluiced.child.try_wait()? {
                let log = fs::read_to_string(place.work.join("sluiced.log"))?;
                return Err(format!("sluiced ended with {status}:\n{log}").into());
            }
            if Instant::now() > until {
                return Err("sluiced does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(sluiced)
    }

    /// Its counters now.
    pub(crate) fn counters(&self) -> Result<Counters, Failure> {
        let stats: Value = serde_json::from_str(&self.ask(&["--json", "stats"])?)?;
        let events = &stats["total"]["events"];
        let event = |name: &str| events[name].as_f64().unwrap_or(0.0);
        Ok(Counters {
            received: event("rx_packets"),
            ticks: event("busy_ticks"),
            polls: event("busy_polls"),
            created: event("connections_created"),
            tx_full: stats["total"]["drops"]["tx_full"].as_f64().unwrap_or(0.0),
        })
    }

    /// Runs `sluice` with these arguments; its output.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = Command::new(self.place.binaries.join("sluice"))
            .arg("--socket")
            .arg(self.place.work.join("admin.sock"))
            .args(arguments)
            .output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into())
        }
    }

    /// What a thread needs to reload it.
    pub(crate) fn reloader(
        &self,
    ) -> impl FnMut(&str, u32, u32) -> Result<(), Failure> + Send + use<> {
        let place = self.place.clone();
        move |forward, connections, weight| {
            write_config(&place, forward, connections, weight)?;
            let output = Command::new(place.binaries.join("sluice"))
                .arg("--socket")
                .arg(place.work.join("admin.sock"))
                .arg("reload")
                .output()?;
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).into())
        }
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        end(&mut self.child, "sluiced")
    }
}

impl Drop for Sluiced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGTERM and waits; kills what does not listen.
fn end(child: &mut Child, name: &str) -> Result<(), Failure> {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(format!("{name} did not end").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Services beside the one that is used, so that a reload has something to swap.
const OTHER_SERVICES: u8 = 100;

fn write_config(
    place: &Place,
    forward: &str,
    connections: u32,
    weight: u32,
) -> Result<(), Failure> {
    let text = config(place, forward, connections, weight);
    let (new, path) = (
        place.work.join("sluice.ini.new"),
        place.work.join("sluice.ini"),
    );
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}

fn config(place: &Place, forward: &str, connections: u32, weight: u32) -> String {
    let mut text = format!(
        "[global]\nconfig_version = 1\nworker_cores = {}\ncontrol_core = {}\nidle = busy\n\
         hugepages = no\nconnections = {connections}\nadmin_socket = {}\nhttp_listen = off\n\
         log = warn\n\n\
         [port lan]\ndevice = {}\naddresses = 10.0.1.1/24\n\
         routes = 10.0.9.0/24 via 10.0.1.254\n\n\
         [neighbor 10.0.1.254]\non = lan\nmac = 02:04:0a:00:01:fe\n\n",
        place.worker,
        place.control,
        place.work.join("admin.sock").display(),
        place.device("client"),
    );
    let mut service = |name: &str, address: &str, weight: u32| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[virtual_server {name}]\naddresses = {address}\nscheduler = wrr\nforward = {forward}\n\
             serve = always\n\n"
        );
        for number in 0..REALS {
            let _ = write!(
                text,
                "[real_server {name}/r{number}]\naddress = {}\nweight = {weight}\n\n",
                real(number)
            );
        }
    };
    service("web", &vip().to_string(), 1);
    for number in 0..OTHER_SERVICES {
        service(
            &format!("other{number}"),
            &format!("10.0.2.{}:80", number + 1),
            weight,
        );
    }
    for number in 0..REALS {
        let address = real(number).ip();
        let _ = write!(
            text,
            "[neighbor {address}]\non = lan\nmac = 02:04:0a:00:01:{:02x}\n\n",
            101 + number
        );
    }
    text
}

/// A running testpmd.
pub(crate) struct Testpmd {
    child: Child,
    log: PathBuf,
}

impl Testpmd {
    /// Starts one in a forwarding mode.
    pub(crate) fn start(place: &Place, mode: &str) -> Result<Self, Failure> {
        let log = place.work.join("testpmd.log");
        let output = File::create(&log)?;
        // A line at a time, as `lap` waits for one.
        let mut command = Command::new("stdbuf");
        command
            .args(["-oL", "dpdk-testpmd"])
            .arg(format!("--lcores=0@{},1@{}", place.control, place.worker))
            .args([
                "--no-huge",
                "--no-shconf",
                "--no-pci",
                "--no-telemetry",
                "--iova-mode=va",
                "-m256",
            ])
            .arg(format!(
                "--file-prefix=bench-testpmd-{}",
                std::process::id()
            ))
            .arg(format!("--vdev={}", place.device("client")))
            .args([
                "--",
                "--interactive",
                "--auto-start",
                "--nb-cores=1",
                "--burst=32",
            ])
            .args([
                "--total-num-mbufs=16384",
                "--rxd=1024",
                "--txd=1024",
                "--record-core-cycles",
            ])
            .arg(format!("--forward-mode={mode}"))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = place
            .spawn(&mut command)
            .map_err(|e| format!("dpdk-testpmd (Debian package dpdk-dev) does not start: {e}"))?;
        Ok(Self { child, log })
    }

    /// TSC ticks per packet of its forwarding core since its start or the last lap, if it forwarded any. It
    /// stops for that and starts again, which takes it a while: whatever arrives meanwhile is thrown away.
    pub(crate) fn lap(&mut self) -> Result<Option<f64>, Failure> {
        let before = starts(&read(&self.log)?);
        let input = self.child.stdin.as_mut().ok_or("testpmd hears nothing")?;
        input.write_all(b"stop\nstart\n")?;
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let output = read(&self.log)?;
            if starts(&output) > before {
                return Ok(ticks_per_packet(&output));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("testpmd does not start again".into())
    }

    /// Ends it; TSC ticks per packet of its forwarding core, if it forwarded any.
    pub(crate) fn stop(mut self) -> Result<Option<f64>, Failure> {
        if let Some(mut input) = self.child.stdin.take() {
            input.write_all(b"stop\nquit\n")?;
        }
        let until = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                return Err("testpmd did not end".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(ticks_per_packet(&read(&self.log)?))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// How often it has started to forward: the line is the first it says when nothing is thrown away any more.
fn starts(output: &str) -> usize {
    output.matches(" packet forwarding packets/burst=").count()
}

/// The last `CPU cycles/packet=123.4` of testpmd's output.
fn ticks_per_packet(output: &str) -> Option<f64> {
    let (_, rest) = output.rsplit_once("CPU cycles/packet=")?;
    let number: String = rest
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn testpmd_says_when_it_forwards() {
        let start = "icmpecho packet forwarding - ports=1 - cores=1 - streams=1 - NUMA support enabled\n\n  \
                     icmpecho packet forwarding packets/burst=32\n  nb forwarding cores=1\n";
        assert_eq!(starts(start), 1);
        let stop = "Telling cores to stop...\n\nDone.\n";
        assert_eq!(starts(&[start, stop, start].concat()), 2);
    }

    #[test]
    fn testpmd_says_what_a_packet_cost() {
        let output =
            "\n  CPU cycles/packet=93.25 (total cycles=1 / total RX packets=2) at 2596 MHz Clock\n";
        assert_eq!(ticks_per_packet(output), Some(93.25));
        assert_eq!(ticks_per_packet("Bye...\n"), None);
    }
}
