//! What a service manager is told: `sd_notify(3)`, to a socket of the test's own.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::scratch::{Daemon, Scratch, rinotifyd, wait_for};

const CONFIG: &str = "[scheduler run]\ntype = shell\ncmd = env >@/env; cat /proc/$PPID/status >@/daemon\n\
                      [watch src]\npath = @/src\ndefault_sched = run\n";

/// The other side of the socket.
struct Manager {
    socket: UnixDatagram,
    messages: Vec<String>,
}

impl Manager {
    fn at(scratch: &Scratch) -> Self {
        Self::new(UnixDatagram::bind(scratch.path("notify")).unwrap())
    }

    fn new(socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self { socket, messages: Vec::new() }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(count) => self.messages.push(String::from_utf8(buffer[..count].to_vec()).unwrap()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return;
                }
            }
        }
    }

    /// Waits until the newest message begins like this.
    #[track_caller]
    fn wait(&mut self, start: &str) -> String {
        wait_for(
            || {
                self.read();
                self.messages.last().is_some_and(|message| message.starts_with(start))
            },
            start,
        );
        self.messages.last().unwrap().clone()
    }
}

fn command(scratch: &Scratch, config: &str, socket: &str) -> Command {
    scratch.dir("src");
    let mut command = rinotifyd();
    command.arg("-c").arg(scratch.config(config)).env("NOTIFY_SOCKET", scratch.expand(socket));
    command
}

fn start(scratch: &Scratch, socket: &str) -> Daemon {
    let mut daemon = Daemon::spawn(command(scratch, CONFIG, socket));
    daemon.ready();
    daemon
}

#[test]
fn it_is_told_of_start_reload_and_end() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(&scratch);
    let daemon = start(&scratch, "@/notify");
    let ready = manager.wait("READY=1\n");
    assert!(ready.starts_with("READY=1\nSTATUS=watching ") && ready.ends_with(" directories\n"), "{ready:?}");
    daemon.signal(Signal::SIGHUP);
    wait_for(
        || {
            manager.read();
            manager.messages.len() == 3
        },
        "a reload",
    );
    let reloading = manager.messages[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let (then, now) = (reloading.trim_end().parse::<i64>().unwrap(), now.tv_sec() * 1_000_000);
    assert!((now - 60_000_000..now + 1_000_000).contains(&then), "{then} {now}");
    assert!(manager.messages[2].starts_with("READY=1\n"));
    // A bad configuration is the end of a reload as well.
    scratch.config("[nonsense]");
    daemon.signal(Signal::SIGHUP);
    wait_for(
        || {
            manager.read();
            manager.messages.len() == 5
        },
        "a reload that fails",
    );
    assert!(manager.messages[4].starts_with("READY=1\n"));
    let log = daemon.stop();
    manager.wait("STOPPING=1\n");
    assert_eq!(manager.messages.len(), 6);
    assert!(!log.contains("warning"), "{log}");
}

#[test]
fn an_abstract_name_works_too() {
    let scratch = Scratch::new();
    let name = format!("rinotifyd-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut manager = Manager::new(UnixDatagram::bind_addr(&address).unwrap());
    let daemon = start(&scratch, &format!("@{name}"));
    manager.wait("READY=1\n");
    daemon.stop();
}

#[test]
fn commands_do_not_get_what_is_the_daemons() {
    let scratch = Scratch::new();
    let _manager = Manager::at(&scratch);
    let mut command = command(&scratch, CONFIG, "@/notify");
    command.env("WATCHDOG_USEC", "30000000").env("WATCHDOG_PID", "1").env("KEPT", "yes");
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    daemon.stop();
    let env = scratch.read("env");
    assert!(env.contains("KEPT=yes\n"), "{env}");
    assert!(!env.contains("NOTIFY_SOCKET") && !env.contains("WATCHDOG"), "{env}");
}

#[test]
fn watchdog_messages_come_as_often_as_asked_for() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(&scratch);
    let mut daemon = command(&scratch, CONFIG, "@/notify");
    daemon.env("WATCHDOG_USEC", "100000");
    let daemon = Daemon::spawn(daemon);
    wait_for(
        || {
            manager.read();
            manager.messages.iter().filter(|message| *message == "WATCHDOG=1\n").count() >= 5
        },
        "five signs of life",
    );
    daemon.stop();
}

/// How often the daemon was woken up.
fn switches(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn the_watchdog_of_another_process_gets_no_message() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(&scratch);
    let mut watched = command(&scratch, CONFIG, "@/notify");
    watched.env("WATCHDOG_USEC", "2000").env("WATCHDOG_PID", "1");
    let mut daemon = Daemon::spawn(watched);
    daemon.ready();
    // The watchdog messages of another daemon are the clock: in that time this daemon does nothing.
    let other_scratch = Scratch::new();
    let mut other_manager = Manager::at(&other_scratch);
    let mut other = command(&other_scratch, CONFIG, "@/notify");
    other.env("WATCHDOG_USEC", "20000");
    let other = Daemon::spawn(other);
    let mut wait_signs = |count: usize| {
        wait_for(
            || {
                other_manager.read();
                other_manager.messages.len() >= count
            },
            "signs of life of the other daemon",
        );
    };
    wait_signs(10);
    let before = switches(&daemon);
    wait_signs(60);
    // Half a second, with a message each millisecond if there were any. Other tests mount filesystems
    // meanwhile, which wakes every daemon.
    let woken = switches(&daemon) - before;
    assert!(woken < 250, "woken up {woken} times");
    manager.read();
    assert!(!manager.messages.iter().any(|message| message.contains("WATCHDOG")), "{:?}", manager.messages);
    daemon.stop();
    other.stop();
}

#[test]
fn what_cannot_be_used_is_told_in_one_line() {
    let scratch = Scratch::new();
    let long = format!("/{}", "x".repeat(200));
    for (socket, why) in [
        ("nonsense", "cannot use NOTIFY_SOCKET \"nonsense\": it must begin with / or @"),
        (long.as_str(), "cannot use NOTIFY_SOCKET \"/xxx"),
        ("/no/such/socket", "cannot notify the service manager: No such file"),
        ("@no such name", "cannot notify the service manager: Connection refused"),
    ] {
        let mut daemon = start(&scratch, socket);
        daemon.wait_log(why);
        daemon.signal(Signal::SIGHUP);
        daemon.wait_log("configuration reloaded");
        let log = daemon.stop();
        assert_eq!(log.matches("warning").count(), 1, "{log}");
    }
    for (name, value, why) in [
        ("WATCHDOG_USEC", "soon", "WATCHDOG_USEC is no number: \"soon\""),
        ("WATCHDOG_USEC", "0", "WATCHDOG_USEC is 0"),
        ("WATCHDOG_PID", "-1", "WATCHDOG_PID is no number: \"-1\""),
    ] {
        let _ = fs::remove_file(scratch.path("notify"));
        let mut manager = Manager::at(&scratch);
        let mut command = command(&scratch, CONFIG, "@/notify");
        command.env("WATCHDOG_USEC", "1000000").env(name, value);
        let mut daemon = Daemon::spawn(command);
        daemon.ready();
        daemon.wait_log(why);
        manager.wait("READY=1\n");
        daemon.stop();
    }
}

#[test]
fn a_manager_that_does_not_read_is_not_waited_for_and_misses_nothing() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(&scratch);
    // Several senders fill the queue until none has room; each may queue only a part of it.
    loop {
        let flood = UnixDatagram::unbound().unwrap();
        flood.set_nonblocking(true).unwrap();
        let sent = std::iter::from_fn(|| flood.send_to(b"FLOOD=1\n", scratch.path("notify")).ok()).count();
        if sent == 0 {
            break;
        }
    }
    let mut daemon = start(&scratch, "@/notify");
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    manager.wait("READY=1\n");
    let log = daemon.stop();
    assert!(!log.contains("warning"), "{log}");
}
