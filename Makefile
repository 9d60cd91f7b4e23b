# `make help` lists what there is.

CARGO  ?= cargo
TARGET ?= x86_64-unknown-linux-musl

STATIC         = target/static/$(TARGET)/rinotifyd
STATIC_MAX     = 1572864
RELEASE_BINARY = $(or $(CARGO_TARGET_DIR),target)/release/rinotifyd

# Where make install puts things; see tools/install.sh for more.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
SBINDIR    ?= $(PREFIX)/sbin
MANDIR     ?= $(PREFIX)/share/man
BINARY     ?= $(RELEASE_BINARY)
# Only for these: what else runs make within make says itself where to.
install uninstall: export DESTDIR := $(DESTDIR)
install uninstall: export PREFIX := $(PREFIX)
install uninstall: export SYSCONFDIR := $(SYSCONFDIR)
install uninstall: export SBINDIR := $(SBINDIR)
install uninstall: export MANDIR := $(MANDIR)
ifneq ($(SYSCONFDIR),/etc)
# Where the program looks for it.
export RINOTIFYD_CONFIG = $(SYSCONFDIR)/rinotifyd/rinotifyd.conf
endif

.DEFAULT_GOAL := build
.PHONY: help build test churn soak faults fuzz differential demo smoke bench static size deb install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 16

build: ## the release binary, linked against the system's C library (the default)
	$(CARGO) build --release --locked

test: ## everything that has to pass: format, lints, all tests
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked
	@echo "make test: everything passed"

churn: ## random changes to a watched tree, compared with the disk; SEED=1 SECONDS=60
	CHURN_SEED=$(or $(SEED),1) CHURN_SECONDS=$(or $(SECONDS),60) \
	    $(CARGO) test --locked --test churn -- --nocapture

soak: ## attackers, changes, reloads, kills and clients at once: nothing is lost, nothing grows; SECONDS=60
	SOAK_SECONDS=$(or $(SECONDS),60) $(CARGO) test --locked --test soak -- --nocapture

faults: ## each system call of file operations and of a scan failed and killed once, by strace; ONLY=fsync:error=EIO:when=1
	$(if $(ONLY),FAULTS_ONLY=$(ONLY),FAULTS_WHOLE=1) $(CARGO) test --locked --test faults

fuzz: ## bytes from outside make no panic and no hang; SECONDS=8 for each target, TARGETS="events control"
	tools/fuzz.sh $(or $(SECONDS),8) $(TARGETS)

differential: build ## the same random changes for pyinotifyd (from PyPI) and rinotifyd; SEED=1 SEEDS=4 GROUPS=5
	tests/differential.py --first $(or $(SEED),1) --seeds $(or $(SEEDS),4) --groups $(or $(GROUPS),5) \
	    $(RELEASE_BINARY)

demo: build ## run the shell-command example in a scratch directory and check what it did
	tests/demo.sh $(RELEASE_BINARY)

smoke: build ## try the release binary from the outside
	tests/smoke.sh $(RELEASE_BINARY)

bench: ## measure it beside bare C loops; ONLY=latency,storm QUICK=1 IDLE_SECONDS=5 BINARY=FILE
	$(CARGO) bench --locked --bench bench

static: ## one static binary for TARGET, in target/static/TARGET/rinotifyd
	tools/static.sh $(TARGET)

size: ## fail when the static binary is over 1.5 MiB
	@size=$$(wc -c <$(STATIC)) && echo "$(STATIC): $$size bytes, at most $(STATIC_MAX)" && \
	    test "$$size" -le $(STATIC_MAX)

deb: ## a Debian package of the static binary for TARGET, in target/deb
	tools/deb.sh $(TARGET)

install: ## what make has built; DESTDIR PREFIX SYSCONFDIR SBINDIR MANDIR, INIT="systemd openrc procd", BINARY
	@BINARY=$(BINARY) tools/install.sh install

uninstall: ## the same again, but for a configuration that was changed
	@tools/install.sh uninstall

clean: ## remove what was built
	$(CARGO) clean
	rm -rf target/static
