//! Scripts, as shellcheck sees them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tools::{has, repository, succeed};

#[test]
fn shellcheck_finds_nothing() {
    if !has("shellcheck") {
        return;
    }
    let listed =
        ["tests", "tools"].into_iter().flat_map(|folder| fs::read_dir(repository().join(folder)).unwrap());
    let mut scripts: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|end| end == "sh"));
    assert!(scripts.len() >= 8, "{scripts:?}");
    scripts.extend(
        [
            ".ci/run",
            "conf/openrc/rinotifyd.initd",
            "conf/procd/rinotifyd.init",
            "conf/completions/rinotifyd.bash",
            "packaging/alpine/APKBUILD",
            "packaging/debian/postinst",
            "packaging/debian/prerm",
            "packaging/debian/postrm",
        ]
        .map(|path| repository().join(path)),
    );
    succeed(Command::new("shellcheck").arg("--severity=warning").args(scripts));
}
