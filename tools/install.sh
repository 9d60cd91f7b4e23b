#!/bin/sh
# Installs all files, or removes them: tools/install.sh install|uninstall, for `make`.
#
# Environment: BINARY (the program to install), DESTDIR (a root to install below), PREFIX, SBINDIR, MANDIR,
# DATADIR, ZSHDIR, SYSCONFDIR, UNITDIR, and INIT: any of systemd, openrc and procd. Without INIT, the init system
# of this machine; below a DESTDIR, systemd and openrc.
#
# The files name /usr/sbin and /etc; the installed ones name SBINDIR and SYSCONFDIR instead.
set -eu
cd "$(dirname "$0")/.."

: "${DESTDIR=}" "${PREFIX=/usr/local}" "${SYSCONFDIR=/etc}"
: "${SBINDIR=$PREFIX/sbin}" "${DATADIR=$PREFIX/share}" "${UNITDIR=$PREFIX/lib/systemd/system}"
: "${MANDIR=$DATADIR/man}" "${ZSHDIR=$DATADIR/zsh/site-functions}" "${BINARY=target/release/rinotifyd}"
config=$SYSCONFDIR/rinotifyd/rinotifyd.conf

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

find_init() {
    if [ -n "$DESTDIR" ]; then
        echo "systemd openrc"
    elif [ -d /run/systemd/system ]; then
        echo systemd
    elif [ -d /run/openrc ] || [ -e /sbin/openrc-run ]; then
        echo openrc
    elif [ -e /sbin/procd ]; then
        echo procd
    elif [ -e /lib/systemd/systemd ]; then
        echo systemd
    fi
}

# Both commands make the same calls; `file`, `link` and `setting` are defined once for each.
everything() {
    for page in man/*; do
        file 644 "$page" "$MANDIR/man${page##*.}/${page##*/}"
    done
    file 644 conf/completions/rinotifyd.bash "$DATADIR/bash-completion/completions/rinotifyd"
    link rinotifyd "$DATADIR/bash-completion/completions/rinotifyctl"
    file 644 conf/completions/_rinotifyd "$ZSHDIR/_rinotifyd"
    file 644 conf/completions/rinotifyd.fish "$DATADIR/fish/vendor_completions.d/rinotifyd.fish"
    link rinotifyd.fish "$DATADIR/fish/vendor_completions.d/rinotifyctl.fish"
    link rinotifyd "$SBINDIR/rinotifyctl"
    for init in $INIT; do
        case $init in
        systemd) file 644 conf/systemd/rinotifyd.service "$UNITDIR/rinotifyd.service" ;;
        openrc)
            file 755 conf/openrc/rinotifyd.initd "$SYSCONFDIR/init.d/rinotifyd"
            setting conf/openrc/rinotifyd.confd "$SYSCONFDIR/conf.d/rinotifyd"
            ;;
        procd) file 755 conf/procd/rinotifyd.init "$SYSCONFDIR/init.d/rinotifyd" ;;
        *) die "INIT=$init: that is none of systemd, openrc, procd" ;;
        esac
    done
    setting conf/rinotifyd.conf "$config"
}

install_all() {
    [ -f "$BINARY" ] || die "$BINARY is not there: build it with make first"
    # file MODE SOURCE PATH
    file() {
        place "$2" "$3"
        sed -e "s|/usr/sbin/|$SBINDIR/|g" -e "s|/etc/rinotifyd/|$SYSCONFDIR/rinotifyd/|g" "$2" >"$scratch"
        install -m "$1" "$scratch" "$DESTDIR$3"
    }
    # link TARGET PATH
    link() {
        place "$1" "$2"
        ln -sf "$1" "$DESTDIR$2"
    }
    # setting SOURCE PATH: an existing file stays.
    setting() {
        if [ -e "$DESTDIR$2" ] || [ -L "$DESTDIR$2" ]; then
            echo "kept $DESTDIR$2"
        else
            place "$1" "$2"
            install -m 644 "$1" "$DESTDIR$2"
        fi
    }
    # place SOURCE PATH: prints the path of the installed file.
    place() {
        [ ! -d "$DESTDIR$2" ] || die "$DESTDIR$2 is a directory"
        install -d "$DESTDIR${2%/*}"
        echo "install $1 as $DESTDIR$2"
    }
    scratch=$(mktemp)
    trap 'rm -f "$scratch"' EXIT
    place "$BINARY" "$SBINDIR/rinotifyd"
    install -m 755 "$BINARY" "$DESTDIR$SBINDIR/rinotifyd"
    everything
    [ -n "$DESTDIR" ] || tell_what_is_next
}

tell_what_is_next() {
    echo "now write $config, then"
    echo "    rinotifyd -t"
    for init in $INIT; do
        case $init in
        systemd) echo "    systemctl daemon-reload && systemctl enable --now rinotifyd" ;;
        openrc) echo "    rc-update add rinotifyd && rc-service rinotifyd start" ;;
        procd) echo "    /etc/init.d/rinotifyd enable && /etc/init.d/rinotifyd start" ;;
        esac
    done
}

uninstall_all() {
    file() {
        remove "$3"
    }
    link() {
        remove "$2"
    }
    # A changed file stays.
    setting() {
        if cmp -s "$1" "$DESTDIR$2"; then
            remove "$2"
        elif [ -e "$DESTDIR$2" ]; then
            echo "kept $DESTDIR$2"
        fi
    }
    remove() {
        if [ -e "$DESTDIR$1" ] || [ -L "$DESTDIR$1" ]; then
            echo "remove $DESTDIR$1"
            rm "$DESTDIR$1"
        fi
    }
    everything
    remove "$SBINDIR/rinotifyd"
    rmdir "$DESTDIR${config%/*}" 2>/dev/null || :
}

: "${INIT=$(find_init)}"
case ${1-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) die "usage: tools/install.sh install|uninstall" ;;
esac
