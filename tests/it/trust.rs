//! A daemon that runs as root reads only files that other users cannot exchange. An unprivileged user tries to
//! give it a configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::attacks::{USER, become_user};
use crate::scratch::{Scratch, is_root, rinotifyd};

/// A command that would run as root.
const CODE: &str = "[scheduler code]\ntype = shell\ncmd = true\n[watch w]\npath = /\ndefault_sched = code\n";

/// `shared` is a directory like `/tmp`, `ann` belongs to the user, and `good/conf.d/i.conf` belongs to root.
fn scene() -> Scratch {
    let scratch = Scratch::new();
    scratch.open_to_all();
    fs::set_permissions(scratch.dir("shared"), Permissions::from_mode(0o1777)).unwrap();
    chown(scratch.dir("ann"), Some(USER), Some(USER)).unwrap();
    scratch.dir("good/conf.d");
    scratch.write("good/conf.d/i.conf", CODE);
    scratch
}

/// Exit status and standard error of `-t` with this file included.
fn include(scratch: &Scratch, file: &str) -> (Option<i32>, String) {
    let config = scratch.config(&format!("[daemon]\ninclude = {file}\n"));
    let output = rinotifyd().arg("-t").arg("-c").arg(config).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn refuse(scratch: &Scratch, file: &str, part: &str, why: &str) {
    let (status, said) = include(scratch, file);
    assert_eq!(status, Some(2), "{file}: {said}");
    let part = format!("\"{}\": {why}", fs::canonicalize(scratch.path("")).unwrap().join(part).display());
    assert!(said.contains("root cannot trust the ") && said.contains(&part), "{part}\n{said}");
    assert!(!said.contains("chmod o-w"), "{said}");
}

fn as_user(work: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(|| (become_user(), work())).join().map(|_| ()).unwrap());
}

#[test]
fn every_directory_above_counts() {
    if !is_root("who may write above a configuration") {
        return;
    }
    let scratch = scene();
    assert_eq!(include(&scratch, "good/conf.d/i.conf"), (Some(0), String::new()));
    scratch.rename("good", "ann/good");
    let why =
        format!("it belongs to user id {USER}: keep the configuration below directories that only root");
    refuse(&scratch, "ann/good/conf.d/i.conf", "ann", &why);
    refuse(&scratch, "ann/good/conf.d/*.conf", "ann", &why);
    // By a link of root's, and as a file of filters.
    symlink("ann/good", scratch.path("link")).unwrap();
    refuse(&scratch, "link/conf.d/i.conf", "ann", &why);
    let filters = CODE.to_owned() + "exclude_filter_file = link/conf.d/i.conf\n";
    let output = rinotifyd().arg("-t").arg("-c").arg(scratch.config(&filters)).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("root cannot trust the directory"));
    // As the main file.
    scratch.write("ann/good/conf.d/i.conf", CODE);
    let output = rinotifyd().arg("-t").arg("-c").arg(scratch.path("link/conf.d/i.conf")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("root cannot trust the directory"));
}

#[test]
fn a_sticky_directory_may_hold_directories_of_roots_only() {
    if !is_root("configurations in sticky directories") {
        return;
    }
    let scratch = scene();
    let sticky = "other users can move files into its directory";
    fs::rename(scratch.path("good"), scratch.path("shared/good")).unwrap();
    assert_eq!(include(&scratch, "shared/good/conf.d/i.conf"), (Some(0), String::new()));
    // A file that root has left in a directory of the user's can be moved by the user.
    scratch.write("ann/log", CODE);
    let (from, to) = (scratch.path("ann/log"), scratch.path("shared/i.conf"));
    as_user(|| fs::rename(from, to).unwrap());
    refuse(&scratch, "shared/i.conf", "shared/i.conf", sticky);
    refuse(&scratch, "shared/*.conf", "shared/i.conf", sticky);
    // So can a link.
    symlink(scratch.path("shared/good/conf.d"), scratch.path("ann/link")).unwrap();
    let (from, to) = (scratch.path("ann/link"), scratch.path("shared/conf.d"));
    as_user(|| fs::rename(from, to).unwrap());
    refuse(&scratch, "shared/conf.d/i.conf", "shared/conf.d", sticky);
    // A directory of root's cannot be moved there.
    scratch.dir("ann/dir");
    let (from, to) = (scratch.path("ann/dir"), scratch.path("shared/dir"));
    as_user(|| assert!(fs::rename(from, to).is_err()));
    // A directory of the user is not trusted.
    let own = scratch.path("shared/own");
    as_user(|| fs::create_dir(own).unwrap());
    refuse(&scratch, "shared/own/i.conf", "shared/own", "it belongs to user id");
    let link = scratch.path("shared/link");
    let target = scratch.path("shared/good/conf.d");
    as_user(|| symlink(target, link).unwrap());
    refuse(&scratch, "shared/link/i.conf", "shared/link", "it belongs to user id");
}

/// The user exchanges a directory and a link to a directory of root, as fast as possible. Both belong to the
/// user, so the daemon must refuse whichever it finds.
#[test]
fn what_is_exchanged_meanwhile_is_not_read() {
    if !is_root("a configuration whose way changes") {
        return;
    }
    let scratch = scene();
    let (name, spare) = (scratch.path("shared/conf.d"), scratch.path("shared/spare"));
    let good = scratch.path("good/conf.d");
    let is_over = AtomicBool::new(false);
    let (ready, wait) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            become_user();
            fs::create_dir(&name).unwrap();
            fs::write(name.join("i.conf"), CODE).unwrap();
            symlink(&good, &spare).unwrap();
            ready.send(()).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                crate::attacks::exchange(&name, &spare);
            }
        });
        wait.recv().unwrap();
        let said: Vec<_> = (0..50).map(|_| include(&scratch, "shared/conf.d/i.conf")).collect();
        is_over.store(true, Ordering::Relaxed);
        for (status, said) in said {
            assert_eq!(status, Some(2), "{said}");
            assert!(said.contains("root cannot trust the "), "{said}");
        }
    });
}
