# Copyright 2026 The rinotifyd authors
# Distributed under the terms of the MIT licence or the Apache License, version 2.0
# shellcheck shell=bash disable=SC2034

EAPI=8

# Put in by "pycargoebuild", once there is a release; it lists what Cargo.lock names.
CRATES=""

inherit cargo linux-info optfeature

DESCRIPTION="Run tasks when files and directories change"
HOMEPAGE="https://rinotifyd.invalid"
SRC_URI="
	https://rinotifyd.invalid/archive/${P}.tar.gz
	${CARGO_CRATE_URIS}
"

LICENSE="|| ( MIT Apache-2.0 )"
SLOT="0"
KEYWORDS="~amd64 ~arm ~arm64"

CONFIG_CHECK="~INOTIFY_USER"
QA_FLAGS_IGNORED="usr/sbin/rinotifyd"

src_test() {
	tests/smoke.sh "$(cargo_target_dir)/rinotifyd" || die
}

src_install() {
	emake install DESTDIR="${D}" PREFIX="${EPREFIX}/usr" SYSCONFDIR="${EPREFIX}/etc" \
		BINARY="$(cargo_target_dir)/rinotifyd" INIT="systemd openrc"
	einstalldocs
}

pkg_postinst() {
	optfeature "the log of the OpenRC service" app-admin/sysklogd
}
