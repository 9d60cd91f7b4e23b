//! Kernels and filesystems that lack something.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::events::{config, told, wait_told, watch};
use crate::scratch::{Daemon, Scratch, is_root, rinotifyd};

const WRITTEN: [&str; 1] = ["IN_CLOSE_WRITE"];

/// Makes `openat2(2)` fail with ENOSYS, as before Linux 5.6.
#[allow(unsafe_code, reason = "a filter for system calls can be had in no other way")]
fn without_openat2(command: &mut Command) {
    const LOAD_NUMBER: libc::sock_filter = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let statement = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let number = u32::try_from(libc::SYS_openat2).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut filter = [
        LOAD_NUMBER,
        statement(0x15, 1, number),
        statement(0x06, 0, refuse),
        statement(0x06, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the filter lives until the call returns, which copies it (seccomp(2)).
        let outcome = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: prctl(2) may be called between fork and exec (signal-safety(7)).
    unsafe { command.pre_exec(install) };
}

#[test]
fn without_openat2_directories_are_opened_step_by_step() {
    let scratch = Scratch::new();
    scratch.dir("src/old/deep");
    scratch.dir("outside");
    let mut command = rinotifyd();
    without_openat2(&mut command);
    command.args(["-n", "-c"]).arg(scratch.config(&config(&WRITTEN, &watch("src"))));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    assert_eq!(daemon.directories("src"), 3);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    scratch.dir("src/old/deep/new/a");
    std::os::unix::fs::symlink(scratch.path("outside"), scratch.path("src/old/deep/link")).unwrap();
    scratch.write("src/old/deep/new/a/file", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/old/deep/new/a/file");
    scratch.rename("src/old", "src/renamed");
    scratch.write("src/renamed/deep/new/a/last", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/renamed/deep/new/a/last");
    daemon.wait_directories("src", 5);
    daemon.stop();
}

/// Writes to a file, over and over, until told to stop.
#[allow(clippy::disallowed_methods, reason = "how fast it writes does not matter")]
fn grow(mut file: File, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        file.write_all(b"more").unwrap();
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_leases_a_file_is_complete_when_it_does_not_change() {
    if !is_root("another user's files") {
        return;
    }
    let scratch = Scratch::new();
    scratch.open_to_all();
    fs::set_permissions(scratch.dir("src"), Permissions::from_mode(0o755)).unwrap();
    let copy = scratch.path("rinotifyd");
    let status = Command::new("cp").arg(rinotifyd().get_program()).arg(&copy).status().unwrap();
    assert!(status.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(copy).args(["-n", "-c"]);
    command.arg(scratch.config(&config(&WRITTEN, &watch("src"))));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    // The new directory is unwatched until its files are there.
    daemon.signal(Signal::SIGSTOP);
    for folder in ["src/new", "src/new/deep"] {
        fs::set_permissions(scratch.dir(folder), Permissions::from_mode(0o755)).unwrap();
    }
    scratch.write("src/new/deep/file", "content");
    let growing = File::create(scratch.path("src/new/deep/growing")).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| grow(growing, &done));
        daemon.signal(Signal::SIGCONT);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/new/deep/file");
            told(&scratch, &daemon)
        }));
        done.store(true, Ordering::Relaxed);
        assert_eq!(told.unwrap(), ["IN_CLOSE_WRITE src/new/deep/file"]);
    });
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/new/deep/growing");
    scratch.write("src/last", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/last");
    assert_eq!(told(&scratch, &daemon).len(), 3, "{}", daemon.log());
    daemon.stop();
}
