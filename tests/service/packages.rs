//! The recipes for packages, with stand-ins for what the distributions bring.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tools::{BINARY, has, repository, succeed};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn recipe(path: &str) -> String {
    fs::read_to_string(repository().join("packaging").join(path)).unwrap()
}

/// Everything below that is no directory, sorted.
fn files(root: &Path) -> BTreeSet<String> {
    let listed = succeed(Command::new("find").current_dir(root).args([".", "!", "-type", "d"]));
    listed.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

/// Runs a script in the repository with the program and a root to install to.
fn install(shell: &str, script: &str) -> BTreeSet<String> {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(shell);
    command.current_dir(repository()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    succeed(command.env("BINARY", BINARY).env("ROOT", root.path()).args(["-euc", script]));
    files(root.path())
}

#[test]
fn all_have_the_version_of_the_crate() {
    assert!(recipe("alpine/APKBUILD").contains(&format!("\npkgver={VERSION}\n")));
    assert!(recipe("openwrt/Makefile").contains(&format!("\nPKG_VERSION:={VERSION}\n")));
    assert!(recipe("debian/changelog").starts_with(&format!("rinotifyd ({VERSION}-")));
    assert!(repository().join(format!("packaging/gentoo/rinotifyd-{VERSION}.ebuild")).is_file());
}

#[test]
fn alpine_gets_openrc_and_a_manual() {
    if has("make") {
        let script = ". packaging/alpine/APKBUILD; pkgdir=$ROOT; package; \
                      [ \"$subpackages\" ] && [ \"$pkgname\" = rinotifyd ]";
        let files = install("sh", script);
        for path in
            ["usr/sbin/rinotifyd", "usr/sbin/rinotifyctl", "etc/init.d/rinotifyd", "etc/conf.d/rinotifyd"]
        {
            assert!(files.contains(path), "{path}: {files:?}");
        }
        assert!(!files.iter().any(|path| path.contains("systemd") || path.contains("local")), "{files:?}");
    }
}

#[test]
fn gentoo_gets_openrc_and_systemd() {
    if has("bash") && has("make") {
        let script = "inherit() { :; }; emake() { make \"$@\"; }; die() { exit 1; }; einstalldocs() { :; }\n\
                      cargo_target_dir() { dirname \"$BINARY\"; }\n\
                      PV=$1 P=rinotifyd-$1 D=$ROOT EPREFIX= CARGO_CRATE_URIS=; source packaging/gentoo/rinotifyd-$PV.ebuild\n\
                      src_install";
        let files = install("bash", &script.replace("$1", VERSION));
        for path in ["usr/sbin/rinotifyd", "etc/init.d/rinotifyd", "usr/lib/systemd/system/rinotifyd.service"]
        {
            assert!(files.contains(path), "{path}: {files:?}");
        }
    }
}

#[test]
fn openwrt_gets_procd() {
    if has("make") {
        let script = "tree=$ROOT.tree; trap 'rm -rf \"$tree\"' EXIT\n\
            mkdir -p \"$tree/include\" \"$tree/feeds/packages/lang/rust\" \"$tree/built/bin\"\n\
            printf '%s\\n' 'INSTALL_DIR = install -d -m0755' 'INSTALL_BIN = install -m0755' \
                'INSTALL_CONF = install -m0600' 'LN = ln -sf' 'INCLUDE_DIR = $(TOPDIR)/include' >\"$tree/rules.mk\"\n\
            printf '%s\\n' 'define BuildPackage' 'install-$(1):' '$(call Package/$(1)/install,$(ROOT))' 'endef' \
                >\"$tree/include/package.mk\"\n\
            : >\"$tree/feeds/packages/lang/rust/rust-package.mk\"\n\
            cp \"$BINARY\" \"$tree/built/bin/rinotifyd\"\n\
            make -f packaging/openwrt/Makefile TOPDIR=\"$tree\" PKG_INSTALL_DIR=\"$tree/built\" \
                PKG_BUILD_DIR=. ROOT=\"$ROOT\" install-rinotifyd";
        let expected = [
            "etc/init.d/rinotifyd",
            "etc/rinotifyd/rinotifyd.conf",
            "usr/sbin/rinotifyctl",
            "usr/sbin/rinotifyd",
        ];
        assert_eq!(install("sh", script), expected.map(str::to_owned).into());
    }
}
