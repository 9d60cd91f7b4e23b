//! Lines to syslog: to receivers of the test's own, to busybox's syslogd and to rsyslog.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::scratch::{Daemon, Scratch, is_root, rinotifyd, wait_for};

const CONFIG: &str = "[scheduler run]\ntype = shell\ncmd = true\n\
                      [watch src]\npath = @/src\nevent_map = map\n[event_map map]\nIN_CLOSE_WRITE = run\n";

fn start(scratch: &Scratch, syslog: &str) -> Daemon {
    scratch.dir("src");
    Daemon::start_ready(scratch, &format!("{CONFIG}{syslog}"), &[])
}

/// A receiver of lines.
trait Receiver {
    /// The next line, if there is one.
    fn next(&mut self) -> Option<String>;

    /// Waits for a line that holds `text`, and returns it.
    #[track_caller]
    fn wait(&mut self, text: &str) -> String {
        let mut found = None;
        let mut seen = Vec::new();
        let hope = format!("{text} in syslog");
        wait_for(
            || {
                while let Some(line) = self.next() {
                    seen.push(line.clone());
                    if line.contains(text) {
                        found = Some(line);
                        return true;
                    }
                }
                false
            },
            &hope,
        );
        found.unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Receiver for UnixDatagram {
    fn next(&mut self) -> Option<String> {
        self.set_nonblocking(true).unwrap();
        let mut buffer = [0; 10_000];
        let count = self.recv(&mut buffer).ok()?;
        Some(text(&buffer[..count]))
    }
}

impl Receiver for UdpSocket {
    fn next(&mut self) -> Option<String> {
        self.set_nonblocking(true).unwrap();
        let mut buffer = [0; 10_000];
        let count = self.recv(&mut buffer).ok()?;
        Some(text(&buffer[..count]))
    }
}

/// A connection, and what was read of the next line.
struct Lines<S>(S, Vec<u8>, u8);

impl Lines<TcpStream> {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        Self(stream, Vec::new(), b'\n')
    }
}

impl<S: Read> Receiver for Lines<S> {
    fn next(&mut self) -> Option<String> {
        let mut buffer = [0; 10_000];
        if !self.1.contains(&self.2) {
            match self.0.read(&mut buffer) {
                Ok(count) => self.1.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        let end = self.1.iter().position(|&byte| byte == self.2)?;
        let line = text(&self.1[..end]);
        self.1.drain(..=end);
        Some(line)
    }
}

#[test]
fn a_datagram_has_priority_tag_pid_and_the_line() {
    let scratch = Scratch::new();
    let mut log = UnixDatagram::bind(scratch.path("log")).unwrap();
    let daemon = start(&scratch, "[syslog]\naddress = @/log\nfacility = local3\n");
    let pid = daemon.pid();
    let line = log.wait(" ready ");
    assert!(line.starts_with(&format!("<158>rinotifyd[{pid}]: info daemon: ready directories=")), "{line}");
    // Control characters are escaped, nothing ends the line early.
    scratch.write("src/a\n<0>forged: \x1b[2J", "");
    let line = log.wait("start task");
    let expected = format!("<158>rinotifyd[{pid}]: info run: start task event=IN_CLOSE_WRITE path=\"");
    assert!(
        line.starts_with(&expected) && line.contains("/src/a\\n<0>forged: \\x1b[2J\" task_id=1"),
        "{line}"
    );
    daemon.stop();
    log.wait("info daemon: stopped");
}

#[test]
fn every_log_name_goes_where_its_section_says() {
    let scratch = Scratch::new();
    let mut all = UnixDatagram::bind(scratch.path("all")).unwrap();
    let mut own = UnixDatagram::bind(scratch.path("own")).unwrap();
    // What the log does not show goes to syslog all the same.
    let text = "[log]\nlevel = error\n[log daemon]\nlevel = info\n[syslog]\naddress = @/all\nlevel = warning\n\
                [syslog src]\naddress = @/own\nlevel = debug\nfacility = user\n\
                [watch missing]\npath = @/missing\nevent_map = map\n";
    let daemon = start(&scratch, text);
    scratch.write("src/file", "");
    let line = own.wait("event event=");
    assert!(
        line.starts_with("<15>rinotifyd[") && line.contains("debug src: event event=IN_CLOSE_WRITE"),
        "{line}"
    );
    let line = all.wait("missing");
    assert!(
        line.starts_with("<28>rinotifyd[") && line.contains("warning missing: watch path is missing"),
        "{line}"
    );
    let log = daemon.stop();
    assert!(!log.contains("watch path is missing") && !log.contains("event event="), "{log}");
    assert_eq!(all.next(), None, "the watch's and the scheduler's lines are too low or another's");
}

#[test]
fn a_syslogd_that_is_restarted_gets_the_next_line() {
    let scratch = Scratch::new();
    let text = "[syslog]\naddress = @/log\n";
    // There is no receiver at first: the log says so once.
    let mut daemon = start(&scratch, text);
    let complaint = format!("syslog \"{}\": ENOENT", scratch.path("log").display());
    daemon.wait_log(&complaint);
    let mut log = UnixDatagram::bind(scratch.path("log")).unwrap();
    scratch.write("src/one", "");
    log.wait("/src/one ");
    daemon.wait_lines(1, "task finished");
    drop(log);
    // The socket's name still exists, and no process listens.
    scratch.write("src/two", "");
    daemon.wait_lines(2, "task finished");
    daemon.wait_log("ECONNREFUSED");
    fs::remove_file(scratch.path("log")).unwrap();
    let mut log = UnixDatagram::bind(scratch.path("log")).unwrap();
    scratch.write("src/again", "");
    let line = log.wait("log lines dropped");
    assert!(line.starts_with("<28>rinotifyd[") && line.contains("warning log: "), "{line}");
    log.wait("/src/again ");
    daemon.wait_lines(2, "works again");
    let said = daemon.stop();
    assert_eq!(said.matches(" warning log: syslog ").count(), 4, "{said}");
}

#[test]
fn a_full_socket_stops_nothing_and_drops_are_counted() {
    const FILES: usize = 300;
    let scratch = Scratch::new();
    let mut log = UnixDatagram::bind(scratch.path("log")).unwrap();
    let mut daemon = start(&scratch, "[syslog]\naddress = @/log\n");
    for number in 0..FILES {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_lines(FILES, "task finished");
    let mut kept = 0;
    while let Some(line) = log.next() {
        assert!(!line.contains("dropped"), "{line}");
        kept += 1;
    }
    assert!(kept < 2 * FILES, "{kept} lines had room");
    scratch.write("src/last", "");
    let line = log.wait("log lines dropped");
    let dropped: usize = line.split_once("log: ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let logged = daemon.log().lines().count();
    log.wait("/src/last ");
    assert!(dropped + kept <= logged && dropped > 100, "{dropped} dropped, {kept} kept, {logged} logged");
    daemon.stop();
}

#[test]
fn a_stream_socket_at_a_path_is_recognised() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.path("log")).unwrap();
    let daemon = start(&scratch, "[syslog]\naddress = @/log\n");
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut log = Lines(stream, Vec::new(), 0);
    let line = log.wait(" ready ");
    assert!(line.starts_with("<30>rinotifyd[") && !line.contains('\n'), "{line:?}");
    daemon.stop();
    log.wait("stopped");
}

#[test]
fn over_the_network_a_line_has_time_and_host() {
    let scratch = Scratch::new();
    let mut log = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = log.local_addr().unwrap().port();
    let daemon = start(&scratch, &format!("[syslog]\naddress = udp:localhost:{port}\n"));
    let line = log.wait(" ready ");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (head, rest) = line.split_once(&format!(" {} rinotifyd[", host.trim())).unwrap();
    let shape: String = head.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape.starts_with("<00>") && (shape.ends_with(" 00:00:00")) && head.len() == 19, "{head}");
    assert!(rest.contains("]: info daemon: ready "), "{line}");
    daemon.stop();
    // The same by IPv6, where there is such a thing.
    let Ok(mut log) = UdpSocket::bind("[::1]:0") else { return };
    let port = log.local_addr().unwrap().port();
    let daemon = start(&scratch, &format!("[syslog]\naddress = udp:[::1]:{port}\n"));
    log.wait(" ready ");
    daemon.stop();
    log.wait("stopped");
}

#[test]
fn a_connection_is_made_again_and_loses_nothing_meanwhile() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut daemon = start(&scratch, &format!("[syslog]\naddress = tcp:{address}\n"));
    let mut log = Lines::accept(&listener);
    let line = log.wait(" ready ");
    assert!(line.starts_with("<30>"), "{line}");
    drop((log, listener));
    scratch.write("src/one", "");
    daemon.wait_log(&format!("syslog tcp:{address}: ECONNREFUSED"));
    scratch.write("src/two", "");
    daemon.wait_lines(2, "task finished");
    let listener = TcpListener::bind(address).unwrap();
    // Connected again with a line that comes a second later, at the latest.
    let mut number = 0;
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    wait_for(
        || {
            number += 1;
            scratch.write(format!("src/more-{number}"), "");
            stream = listener.accept().ok();
            stream.is_some()
        },
        "a further connection",
    );
    let (stream, _) = stream.unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut log = Lines(stream, Vec::new(), b'\n');
    for expected in ["start task", "/src/one ", "/src/two ", "/src/more-1 "] {
        log.wait(expected);
    }
    daemon.wait_log("works again");
    daemon.stop();
    log.wait("stopped");
}

#[test]
fn an_unread_connection_stops_nothing() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let text = format!("[scheduler chat]\ntype = shell\ncmd = yes {} | head -n 20000\n", "x".repeat(500));
    let text = text + &format!("[log chat]\nlevel = warning\n[syslog]\naddress = tcp:{address}\n");
    let text = text + "[watch out]\npath = @/out\ndefault_sched = chat\n";
    scratch.dir("out");
    let mut daemon = start(&scratch, &text);
    let (stream, _) = listener.accept().unwrap();
    scratch.write("out/file", "");
    daemon.wait_for(|| scratch.ask(&["status", "--json"]).contains("\"tasks_done\":1"), "10 MB of output");
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    stream.set_nonblocking(true).unwrap();
    let mut log = Lines(stream, Vec::new(), b'\n');
    wait_for(
        || {
            scratch.write("src/more", "");
            std::iter::from_fn(|| log.next()).any(|line| line.contains("log lines dropped"))
        },
        "what was dropped",
    );
    daemon.stop();
}

#[test]
fn what_cannot_be_reached_is_told_once_and_a_reload_changes_it() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let config = |syslog: &str| format!("{CONFIG}[syslog]\naddress = {syslog}\n");
    let mut daemon = Daemon::start_ready(&scratch, &config("udp:no-such-host.invalid:514"), &[]);
    daemon.wait_log("warning log: no syslog to \"no-such-host.invalid\": ");
    let mut log = UnixDatagram::bind(scratch.path("log")).unwrap();
    daemon.reload(&scratch, &config("@/log"));
    log.wait("configuration reloaded");
    // Another level, the same socket; then none.
    daemon.reload(&scratch, &(config("@/log") + "level = error\n"));
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    daemon.reload(&scratch, &config("@/log"));
    let line = log.wait("daemon: ");
    assert!(line.contains("configuration reloaded"), "{line}");
    daemon.reload(&scratch, CONFIG);
    let said = daemon.stop();
    assert_eq!(log.next(), None);
    assert_eq!(said.matches(" warning ").count(), 1, "{said}");
}

/// A program that is ended with the test.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts it; `None` when it is not installed, which is said, or a failure where all tools must be.
fn other(command: &mut Command, what: &str) -> Option<Other> {
    match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
        Ok(child) => Some(Other(child)),
        Err(error) => {
            assert!(std::env::var_os("RINOTIFYD_REQUIRE_TOOLS").is_none(), "cannot start {what}: {error}");
            let text = format!("\n*** NOT TESTED: {what} cannot be started: {error} ***\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            None
        }
    }
}

/// Waits for the line of a file that a real syslogd writes.
#[track_caller]
fn wait_message(scratch: &Scratch, text: &str) -> String {
    let find = || scratch.lines("messages").into_iter().find(|line| line.contains(text));
    wait_for(|| find().is_some(), &format!("{text:?} in what syslogd wrote"));
    find().unwrap()
}

#[test]
fn busybox_syslogd_takes_what_goes_to_dev_log() {
    if !is_root("busybox syslogd, which has /dev/log for itself") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src");
    // A /dev of its own, in which syslogd makes its socket.
    let script = scratch.expand(
        "set -e; mkdir @/dev; mount -t tmpfs none @/dev; for name in null urandom; do : >@/dev/$name; \
         mount --bind /dev/$name @/dev/$name; done; mount --rbind @/dev /dev; \
         exec busybox syslogd -n -O @/messages",
    );
    let mut unshare = Command::new("unshare");
    let Some(mut syslogd) = other(unshare.args(["--mount", "sh", "-c", &script]), "busybox syslogd") else {
        return;
    };
    let socket = format!("/proc/{}/root/dev/log", syslogd.0.id());
    wait_for(
        || {
            let ended = syslogd.0.try_wait().unwrap();
            assert!(ended.is_none(), "busybox syslogd {ended:?}");
            // Before it has a /dev of its own it sees the machine's, which may have a syslogd too.
            scratch.path("messages").exists() && Path::new(&socket).exists()
        },
        "socket of busybox syslogd",
    );
    let file = scratch.config(&format!("{CONFIG}[syslog]\nfacility = local0\n"));
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &syslogd.0.id().to_string(), "--"]).arg(rinotifyd().get_program());
    command.arg("-c").arg(file).env_remove("NOTIFY_SOCKET");
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    let line = wait_message(&scratch, ": ready ");
    // Time, host and severity are syslogd's own.
    let expected = format!(" local0.info rinotifyd[{}]: info daemon: ready ", daemon.pid());
    assert!(line.contains(&expected), "{line}");
    scratch.write("src/a b", "");
    let line = wait_message(&scratch, "start task");
    assert!(line.ends_with(&format!("path=\"{}\" task_id=1", scratch.path("src/a b").display())), "{line}");
    daemon.stop();
}

#[test]
fn rsyslog_takes_it_from_a_socket_by_udp_and_by_tcp() {
    if !is_root("rsyslog") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src");
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "module(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=\"@/log\")\n\
         module(load=\"imudp\")\ninput(type=\"imudp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         template(name=\"t\" type=\"string\" \
         string=\"%syslogfacility-text%.%syslogseverity-text% %hostname% %syslogtag% %msg%\\n\")\n\
         action(type=\"omfile\" file=\"@/messages\" template=\"t\")\n"
    );
    scratch.write("rsyslog.conf", scratch.expand(&config));
    let mut command = Command::new("rsyslogd");
    command.args(["-n", "-f"]).arg(scratch.path("rsyslog.conf")).arg("-i").arg(scratch.path("rsyslog.pid"));
    let start = |command: &mut Command| {
        let rsyslog = other(command, "rsyslogd");
        wait_for(
            || {
                rsyslog.is_none()
                    || UnixDatagram::unbound().unwrap().connect(scratch.path("log")).is_ok()
                        && TcpStream::connect(("127.0.0.1", port)).is_ok()
            },
            "socket of rsyslogd",
        );
        rsyslog
    };
    let Some(rsyslog) = start(&mut command) else { return };
    let text = format!(
        "{CONFIG}[syslog]\naddress = @/log\n[syslog run]\naddress = udp:127.0.0.1:{port}\nfacility = local1\n\
         [syslog src]\naddress = tcp:127.0.0.1:{port}\nlevel = debug\nfacility = local7\n"
    );
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    let (pid, host) = (daemon.pid(), fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
    let host = host.trim();
    let expect = |wanted: &str, facility: &str, level: &str| {
        let line = wait_message(&scratch, wanted);
        let start = format!("{facility}.{level} {host} rinotifyd[{pid}]:  ");
        assert!(line.starts_with(&start), "{line:?} does not start with {start:?}");
    };
    expect(" ready ", "daemon", "info");
    expect("watching ", "local7", "info");
    scratch.write("src/file", "");
    expect("task finished", "local1", "info");
    expect("event event=IN_CLOSE_WRITE", "local7", "debug");
    // It is restarted, and gets later lines by all three ways.
    drop(rsyslog);
    fs::remove_file(scratch.path("messages")).unwrap();
    let _rsyslog = start(&mut command);
    let mut number = 0;
    wait_for(
        || {
            number += 1;
            scratch.write(format!("src/again-{number}"), "");
            let messages = scratch.read("messages");
            messages.contains("local7.debug") && messages.contains("local1.info")
        },
        "lines after a restart of rsyslogd",
    );
    daemon.reload(&scratch, &text);
    expect("configuration reloaded", "daemon", "info");
    daemon.stop();
}
