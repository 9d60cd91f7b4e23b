//! Starting children and reaping them, in a process of its own: a child holds open until its exec
//! what the tests beside it have closed, be it a lock or a file whose writers are counted.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rinotifyd::sys::Errno;
use rinotifyd::sys::process::{Pid, Sig, close_on_exec_from, dev_null, ended, reap, signal_group};
use rinotifyd::sys::spawn::{EXECUTE_WAIT_MS, Spawn, SpawnError, Spawner};
use rinotifyd::types::{ExitStatus, Identity};

/// Runs an ignored test in yet another process, because it would disturb the others.
fn alone(test: &str) {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    let output = command.args(["--exact", test, "--ignored", "--test-threads=1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Whether an emulator makes the child a copy, so that failures come as exit status 127.
fn emulated() -> bool {
    let shell = Shell::new("true");
    let spawned = Spawner::new().unwrap().spawn(&Spawn { cwd: c"/none", ..shell.spawn(PLAIN) });
    if let Ok(pid) = spawned {
        assert_eq!(wait(pid), ExitStatus::Exited(127));
        eprintln!("memory is not shared with children here: failures are not tested");
    }
    spawned.is_ok()
}

fn wait(pid: Pid) -> ExitStatus {
    let id = Id::Pid(nix::unistd::Pid::from_raw(pid.as_raw()));
    waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    reap(pid).unwrap().unwrap()
}

/// No command, and the default environment.
const PLAIN: Spawn<'static> = Spawn {
    candidates: &[],
    argv: &[],
    env: &[],
    cwd: c"/",
    umask: None,
    nice: 0,
    identity: None,
    stdin: None,
    stdout: None,
    stderr: None,
};

/// A shell command.
struct Shell {
    candidates: [CString; 1],
    argv: [CString; 3],
    env: [CString; 2],
}

impl Shell {
    fn new(command: &str) -> Self {
        Self {
            candidates: [c("/bin/sh")],
            argv: [c("sh"), c("-c"), c(command)],
            env: [c("PATH=/usr/bin:/bin"), c("X=a b")],
        }
    }

    fn spawn<'a>(&'a self, surroundings: Spawn<'a>) -> Spawn<'a> {
        Spawn { candidates: &self.candidates, argv: &self.argv, env: &self.env, ..surroundings }
    }
}

/// What the command prints in this environment.
fn output(command: &str, surroundings: Spawn<'_>) -> String {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let null = dev_null().unwrap();
    let shell = Shell::new(command);
    let spawn = Spawn {
        stdin: Some(null.as_fd()),
        stdout: Some(write.as_fd()),
        stderr: Some(write.as_fd()),
        ..shell.spawn(surroundings)
    };
    let pid = Spawner::new().unwrap().spawn(&spawn).unwrap();
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(wait(pid), ExitStatus::Exited(0), "{text}");
    text
}

fn check(command: &str, surroundings: Spawn<'_>, expected: &str) {
    assert_eq!(output(command, surroundings).trim_end(), expected, "{command}");
}

#[test]
fn signals_are_as_after_login() {
    std::thread::spawn(|| {
        // SIGPIPE is ignored in every Rust program; this thread blocks everything it may.
        let all = nix::sys::signal::SigSet::all();
        all.thread_block().unwrap();
        let status = output("cat /proc/self/status", PLAIN);
        for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
            assert!(status.contains(line), "{status}");
        }
        let mut mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        assert!(mask.contains(nix::sys::signal::SIGUSR1), "the mask was not restored");
        mask.clear();
        mask.thread_set_mask().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn leads_its_own_group() {
    if emulated() {
        return;
    }
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let shell = Shell::new("read line; sleep 1000 & wait");
    let mut spawner = Spawner::new().unwrap();
    let pid = spawner.spawn(&Spawn { stdin: Some(read.as_fd()), ..shell.spawn(PLAIN) }).unwrap();
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.as_raw()))).unwrap();
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.as_raw()))).unwrap();
    assert_eq!(session, group, "no controlling terminal comes along");
    assert_eq!(group.as_raw(), pid.as_raw());
    signal_group(pid, Sig::Terminate).unwrap();
    assert_eq!(wait(pid), ExitStatus::Signaled(libc::SIGTERM));
    drop(write);
}

fn can_change_user() -> bool {
    let can = nix::unistd::Uid::effective().is_root() && !emulated();
    if !can {
        eprintln!("not root: a child of another user was not tested");
    }
    can
}

/// A user without other processes.
fn user_without_processes(id: u32) -> Identity {
    Identity { uid: id, gid: id, groups: vec![id], name: "x".into(), home: b"/".to_vec() }
}

/// A long search for the program, during which the child already has its user's rights.
fn detour(steps: usize, program: &str) -> Vec<CString> {
    let mut candidates = vec![c("/no/such/program"); steps];
    candidates.push(c(program));
    candidates
}

fn spawn_as(identity: &Identity, candidates: &[CString]) -> Result<Pid, SpawnError> {
    let shell = Shell::new("true");
    Spawner::new().unwrap().spawn(&Spawn { identity: Some(identity), candidates, ..shell.spawn(PLAIN) })
}

/// Stops all processes of the user, until dropped.
struct Stopper(Child);

impl Stopper {
    fn start(user: &Identity) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do kill -STOP -1; done"]).uid(user.uid);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The child's user may stop it before it has become its program: the parent continues, and the child
/// holds none of the parent's descriptors.
#[test]
fn a_child_that_its_user_stops_is_not_waited_for() {
    if !can_change_user() {
        return;
    }
    let user = user_without_processes(70_100);
    let _stopper = Stopper::start(&user);
    let candidates = detour(50_000, "/bin/sh");
    let this = std::env::current_exe().unwrap();
    let mut stopped = false;
    for _ in 0..100 {
        let before = rinotifyd::sys::clock::now();
        let pid = spawn_as(&user, &candidates).unwrap();
        let took = rinotifyd::sys::clock::now() - before;
        assert!(took < 50 * rinotifyd::types::Millis::from(EXECUTE_WAIT_MS), "{took} ms");
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw()));
        // It may have become its program first, and is stopped there.
        stopped = fs::read_link(proc.join("exe")).unwrap() == this;
        let open = fs::read_dir(proc.join("fd")).unwrap().map(|entry| entry.unwrap().file_name());
        let open: Vec<_> =
            open.filter(|name| !matches!(name.to_str(), Some("0" | "1" | "2" | "3"))).collect();
        assert!(!stopped || open.is_empty(), "{open:?}");
        signal_group(pid, Sig::Kill).unwrap();
        assert_eq!(wait(pid), ExitStatus::Signaled(libc::SIGKILL));
        if stopped {
            break;
        }
    }
    assert!(stopped, "the stopper never came in time: nothing was tested");
}

/// A loaded machine, or a disk that must wake up first, is no failure.
#[test]
fn a_child_of_another_user_may_start_slowly() {
    if !can_change_user() {
        return;
    }
    // Not the one whose processes are stopped.
    let user = user_without_processes(70_101);
    let mut steps = 100_000;
    let late = loop {
        match spawn_as(&user, &detour(steps, "/no/such/program")) {
            Ok(pid) => break pid,
            Err(error) => assert_eq!(error, SpawnError { step: "execve", errno: Errno::ENOENT }),
        }
        steps *= 2;
    };
    assert_eq!(wait(late), ExitStatus::Exited(127), "as from a shell that finds no program");
    let started = spawn_as(&user, &detour(steps, "/bin/sh")).unwrap();
    assert_eq!(wait(started), ExitStatus::Exited(0));
}

#[test]
fn has_three_descriptors() {
    alone("alone_has_three_descriptors");
}

#[test]
#[ignore = "run by has_three_descriptors"]
fn alone_has_three_descriptors() {
    // As the daemon does at its start: what it was started with may be anything.
    close_on_exec_from(libc::STDERR_FILENO + 1).unwrap();
    let _open = [dev_null().unwrap(), dev_null().unwrap()];
    // `ls` itself has the directory open as a fourth.
    check("ls /proc/self/fd | tr '\\n' ' '", PLAIN, "0 1 2 3");
}

#[test]
fn any_descriptors_can_become_the_standard_ones() {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    // The process's own 0, 1 and 2 in another order: 2 as input, 0 and 1 replaced by the pipe.
    let stderr = std::io::stderr();
    let shell = Shell::new("echo out; echo err >&2; test -e /dev/fd/0");
    let spawn = Spawn {
        stdin: Some(stderr.as_fd()),
        stdout: Some(write.as_fd()),
        stderr: Some(write.as_fd()),
        ..shell.spawn(PLAIN)
    };
    let pid = Spawner::new().unwrap().spawn(&spawn).unwrap();
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), wait(pid)), ("out\nerr\n", ExitStatus::Exited(0)));
}

#[test]
fn the_environment_is_as_given() {
    let scratch = tempfile::tempdir().unwrap();
    let cwd = path(&scratch.path().canonicalize().unwrap());
    check("pwd", Spawn { cwd: &cwd, ..PLAIN }, cwd.to_str().unwrap());
    check("umask", Spawn { umask: Some(0o027), ..PLAIN }, "0027");
    check("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort", PLAIN, "PATH=/usr/bin:/bin\nX=a b");
    let nice: i32 = output("nice", PLAIN).trim().parse().unwrap();
    check("nice", Spawn { nice: 3, ..PLAIN }, &(nice + 3).min(19).to_string());
    check("nice", Spawn { nice: i32::MAX, ..PLAIN }, "19");
    check("cat; echo end", PLAIN, "end");
}

#[test]
fn becomes_another_user() {
    let identity = Identity {
        uid: 65_534,
        gid: 70_001,
        groups: vec![70_001, 70_002],
        name: "nobody".into(),
        home: b"/".to_vec(),
    };
    if !nix::unistd::Uid::effective().is_root() {
        let shell = Shell::new("true");
        let spawn = Spawn { identity: Some(&identity), ..shell.spawn(PLAIN) };
        let error = Spawner::new().unwrap().spawn(&spawn).unwrap_err();
        assert_eq!(error, SpawnError { step: "setgroups", errno: Errno::EPERM });
        eprintln!("not root: only the refusal was tested, not the change of user");
        return;
    }
    let status = output("cat /proc/self/status", Spawn { identity: Some(&identity), ..PLAIN });
    for line in [
        "Uid:\t65534\t65534\t65534\t65534\n",
        "Gid:\t70001\t70001\t70001\t70001\n",
        "Groups:\t70001 70002 \n",
        "CapEff:\t0000000000000000\n",
    ] {
        assert!(status.contains(line), "{line:?} {status}");
    }
    assert!(nix::unistd::Uid::effective().is_root(), "the parent changed too");
    if emulated() {
        return;
    }
    let private = tempfile::tempdir().unwrap();
    fs::set_permissions(private.path(), Permissions::from_mode(0o700)).unwrap();
    let cwd = path(private.path());
    let shell = Shell::new("true");
    let spawn = Spawn { identity: Some(&identity), cwd: &cwd, ..shell.spawn(PLAIN) };
    let error = loop {
        match Spawner::new().unwrap().spawn(&spawn) {
            Err(error) => break error,
            // This machine is loaded.
            Ok(late) => assert_eq!(wait(late), ExitStatus::Exited(127)),
        }
    };
    assert_eq!(error, SpawnError { step: "chdir", errno: Errno::EACCES });
}

fn outcome(candidates: &[CString]) -> Result<ExitStatus, (&'static str, Errno)> {
    let shell = Shell::new("exit 3");
    let spawn = Spawn { candidates, ..shell.spawn(PLAIN) };
    let spawned = Spawner::new().unwrap().spawn(&spawn);
    spawned.map(wait).map_err(|error| (error.step, error.errno))
}

#[test]
fn candidates_are_tried_as_execvp_does() {
    if emulated() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("script");
    fs::write(&script, "exit 7\n").unwrap();
    let (none, not_dir) = (c("/none/x"), c("/dev/null/x"));
    let (denied, sh) = (path(&script), c("/bin/sh"));
    assert_eq!(outcome(&[none.clone(), not_dir.clone(), denied.clone(), sh]), Ok(ExitStatus::Exited(3)));
    assert_eq!(outcome(&[none.clone(), not_dir.clone()]), Err(("execve", Errno::ENOENT)));
    assert_eq!(outcome(&[denied.clone(), none.clone()]), Err(("execve", Errno::EACCES)));
    assert_eq!(outcome(&[]), Err(("execve", Errno::ENOENT)));
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome(&[denied, none]), Err(("execve", Errno::ENOEXEC)), "no shell steps in");
}

#[test]
fn a_failed_step_is_named_and_leaves_no_child() {
    if emulated() {
        return;
    }
    let shell = Shell::new("true");
    let mut spawner = Spawner::new().unwrap();
    let error = spawner.spawn(&Spawn { cwd: c"/none", ..shell.spawn(PLAIN) }).unwrap_err();
    assert_eq!(error.to_string(), "chdir: ENOENT (No such file or directory)");
    let pid = spawner.spawn(&shell.spawn(PLAIN)).unwrap();
    assert_eq!(wait(pid), ExitStatus::Exited(0), "the stack is good for the next");
    assert_eq!(reap(pid), Err(Errno::ECHILD));
}

#[test]
fn every_child_is_reaped_once() {
    alone("alone_every_child_is_reaped_once");
}

#[test]
#[ignore = "run by every_child_is_reaped_once"]
fn alone_every_child_is_reaped_once() {
    assert_eq!(ended(), Ok(None));
    let mut spawner = Spawner::new().unwrap();
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    // RTMIN+1: nix cannot name it.
    let commands = ["read line; exit 0", "read line; exit 255", "read line; kill -35 $$"];
    let mut expected = Vec::new();
    for (command, status) in
        commands.iter().zip([ExitStatus::Exited(0), ExitStatus::Exited(255), ExitStatus::Signaled(35)])
    {
        let shell = Shell::new(command);
        let spawn = Spawn { stdin: Some(read.as_fd()), ..shell.spawn(PLAIN) };
        expected.push((spawner.spawn(&spawn).unwrap(), status));
    }
    assert_eq!(ended(), Ok(None), "all are waiting for their input to end");
    drop(write);
    let mut found = Vec::new();
    while found.len() < expected.len() {
        if let Some(pid) = ended().unwrap() {
            assert_eq!(ended(), Ok(Some(pid)), "it stays until it is reaped");
            found.push((pid, reap(pid).unwrap().unwrap()));
        }
    }
    found.sort_by_key(|(pid, _)| *pid);
    expected.sort_by_key(|(pid, _)| *pid);
    assert_eq!(found, expected);
    assert_eq!(ended(), Ok(None));
    assert_eq!(reap(expected[0].0), Err(Errno::ECHILD));
    assert_eq!(signal_group(expected[0].0, Sig::Kill), Err(Errno::ESRCH));
}
