//! The init script for procd, with stand-ins for what OpenWrt brings.

use std::process::Command;

use crate::tools::{BINARY, has, repository, succeed};

fn check(shell: &[&str]) {
    let mut command = Command::new(shell[0]);
    command.current_dir(repository()).args(&shell[1..]).args(["tests/procd.sh", BINARY]);
    let said = succeed(&mut command);
    assert!(said.ends_with("procd.sh: everything passed\n"), "{said}");
}

#[test]
fn it_does_what_procd_wants() {
    check(&["sh"]);
}

#[test]
fn so_it_does_in_the_shell_of_openwrt() {
    if has("busybox") {
        check(&["busybox", "ash"]);
    }
}
