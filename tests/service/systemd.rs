//! The unit, as systemd's own tools judge it.

use std::fs;
use std::process::Command;

use crate::tools::{BINARY, has, repository, run};

/// Tenths of the "exposure level" that `systemd-analyze security` computes, 96 being a service
/// without any hardening. The unit reaches 35: what remains open is what a daemon needs that runs
/// the administrator's commands as any user on any file, and talks to the network for them (root,
/// setuid, file capabilities, signals: 1.6; network: 0.8; temporary files, other users and processes:
/// 0.6). Beyond 40 something was lost.
const EXPOSURE_MAX: u32 = 40;

/// The unit, with a program that exists here.
fn unit() -> String {
    let text = fs::read_to_string(repository().join("conf/systemd/rinotifyd.service")).unwrap();
    assert!(text.contains("ExecStart=/usr/sbin/rinotifyd "));
    text.replace("/usr/sbin/rinotifyd", BINARY)
}

/// What `systemd-analyze` says about a unit with this text.
fn analyze(args: &[&str], text: &str) -> (bool, String) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("rinotifyd.service");
    fs::write(&path, text).unwrap();
    run(Command::new("systemd-analyze").args(args).arg(path))
}

#[test]
fn systemd_analyze_verify_finds_nothing() {
    if has("systemd-analyze") {
        assert_eq!(analyze(&["verify", "--man=no"], &unit()), (true, String::new()));
        for (right, wrong) in [("KillMode", "KilMode"), ("Type=notify", "Type=ntify"), (BINARY, "/no/such")] {
            let (_, said) = analyze(&["verify", "--man=no"], &unit().replace(right, wrong));
            assert!(said.contains(wrong.trim_start_matches("Type=")), "{wrong}: {said}");
        }
    }
}

#[test]
fn the_exposure_level_has_not_grown() {
    if has("systemd-analyze") {
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        let args = ["security", "--offline=true", threshold.as_str()];
        let (succeeded, said) = analyze(&args, &unit());
        assert!(succeeded, "{said}");
        let open = unit().replace("ProtectSystem=strict", "").replace("CapabilityBoundingSet=", "#");
        assert!(!analyze(&args, &open).0, "the threshold finds nothing");
    }
}

/// Booted in a container: start, reload, what the hardening leaves, stop, watchdog.
#[test]
fn a_real_systemd_runs_it() {
    crate::machine::run(&["--systemd"], "tests/systemd.sh", &[]);
}

/// With nothing but the manual and what the installation says.
#[test]
fn a_new_user_gets_a_working_watch() {
    crate::machine::run(&["--systemd"], "tests/new-user.sh", &[]);
}
