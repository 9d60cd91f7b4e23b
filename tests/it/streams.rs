//! A worker without answers as a stream to other machines: MQTT, with a real broker.

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scratch::{Daemon, Scratch, wait_for};

const EVENTS: usize = 10_000;

/// A program that is ended with the test.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("mosquitto and mosquitto-clients are installed"))
    }

    /// SIGTERM, and waits: the broker saves what it holds.
    fn stop(mut self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn broker(scratch: &Scratch, port: u16) -> Program {
    // As the user who runs the test; the broker keeps all messages for a slow reader.
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("an account").name;
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location @/broker/\n\
         max_queued_messages 0\nmax_inflight_messages 0\nuser {user}\n"
    );
    let config = scratch.write("mosquitto.conf", scratch.expand(&config));
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "mosquitto"]
        .into_iter()
        .find(|path| !path.starts_with('/') || std::path::Path::new(path).exists())
        .expect("the last one");
    let broker = Program::start(Command::new(program).arg("-c").arg(config));
    wait_for(|| TcpStream::connect(("127.0.0.1", port)).is_ok(), "the broker listens");
    broker
}

/// The reader of what arrives. The broker keeps messages for a reader that it knows while the reader is away.
fn subscriber(scratch: &Scratch, port: u16) -> Program {
    let command =
        scratch.expand("exec mosquitto_sub -h 127.0.0.1 -p \"$0\" -t files -q 1 -c -i reader >>@/got");
    let reader = Program::start(Command::new("/bin/sh").arg("-c").arg(command).arg(port.to_string()));
    let probe = || {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "127.0.0.1", "-t", "files", "-m", "probe", "-p"]).arg(port.to_string());
        publish.status().expect("mosquitto_pub is installed");
        !scratch.lines("got").is_empty()
    };
    wait_for(probe, "the reader is known to the broker");
    reader
}

/// Makes a file by renaming. Files that are written and closed are no order: a child that another thread
/// starts may hold one open a moment longer.
fn create(scratch: &Scratch, number: usize) {
    scratch.write("new", "");
    scratch.rename("new", format!("src/{number}"));
}

/// The numbers of the files that arrived, each the first time.
fn arrived(scratch: &Scratch) -> Vec<usize> {
    let mut known = HashSet::new();
    let mut numbers = Vec::new();
    for line in scratch.lines("got") {
        let Some(path) = line.split('\t').nth(3) else { continue };
        let number = path.rsplit('/').next().unwrap().parse().expect("the file's name");
        if known.insert(number) {
            numbers.push(number);
        }
    }
    numbers
}

#[test]
fn events_reach_an_mqtt_broker_in_order_though_it_is_restarted() {
    let scratch = Scratch::new();
    for dir in ["src", "broker"] {
        scratch.dir(dir);
    }
    let port = free_port();
    let first = broker(&scratch, port);
    let reader = subscriber(&scratch, port);
    let config = format!(
        "[daemon]\nshutdown_timeout = 15\n[log]\nlevel = warning\n[log daemon]\nlevel = info\n\
         [scheduler mqtt]\ntype = worker\n\
         cmd = mosquitto_pub -l -q 1 -h 127.0.0.1 -p {port} -t files\nack = no\nstart = eager\n\
         [event_map map]\nIN_MOVED_TO = mqtt\n[watch src]\npath = @/src\nevent_map = map\n"
    );
    let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
    let write = |range: std::ops::Range<usize>| {
        for number in range {
            create(&scratch, number);
        }
    };
    write(0..EVENTS / 3);
    wait_for(|| !arrived(&scratch).is_empty(), "something arrives");
    first.stop();
    write(EVENTS / 3..EVENTS * 2 / 3);
    let second = broker(&scratch, port);
    write(EVENTS * 2 / 3..EVENTS);
    daemon.wait_status(&format!(" done={EVENTS} "));
    wait_for(|| arrived(&scratch).len() == EVENTS, "every event");
    assert_eq!(arrived(&scratch), (0..EVENTS).collect::<Vec<_>>(), "in order");
    let log = daemon.stop();
    assert!(!log.contains("lost"), "{log}");
    drop(reader);
    second.stop();
}

/// The broker is not there at first: the program ends, and what it had not read is not lost.
#[test]
fn lines_wait_for_a_broker_that_is_not_there_yet() {
    let scratch = Scratch::new();
    for dir in ["src", "broker"] {
        scratch.dir(dir);
    }
    let port = free_port();
    let config = format!(
        "[daemon]\nshutdown_timeout = 15\n[scheduler mqtt]\ntype = worker\n\
         cmd = mosquitto_pub -l -q 1 -h 127.0.0.1 -p {port} -t files -r\nack = no\n\
         [event_map map]\nIN_MOVED_TO = mqtt\n[watch src]\npath = @/src\nevent_map = map\n"
    );
    let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
    for number in 0..100 {
        create(&scratch, number);
    }
    daemon.wait_lines(2, "worker ended");
    let broker = broker(&scratch, port);
    let reader = subscriber(&scratch, port);
    // The last one is retained.
    daemon.wait_for(|| arrived(&scratch).last() == Some(&99), "the last of them");
    daemon.stop();
    drop((reader, broker));
}
