#!/bin/sh
# A Debian package of the static binary: tools/deb.sh [TARGET], result in target/deb.
#
# Needs dpkg-deb, and the binary that `make static` has built for TARGET. The package has no dependencies, so
# every release of Debian and of its derivatives can install it.
set -eu
cd "$(dirname "$0")/.."

target=${1:-x86_64-unknown-linux-musl}
binary=target/static/$target/rinotifyd
case $target in
x86_64-*) arch=amd64 ;;
aarch64-*) arch=arm64 ;;
armv7-*) arch=armhf ;;
*) echo "deb.sh: no name for $target in Debian" >&2 && exit 1 ;;
esac
[ -f "$binary" ] || {
    echo "deb.sh: $binary is not there: make static TARGET=$target first" >&2
    exit 1
}

version=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)
maintainer=$(sed -n 's/^ -- \(.*>\).*/\1/p' packaging/debian/changelog | head -1)
# No file in the package is newer than its changelog: the same sources give the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date --date "$(sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -1)" +%s)}
export SOURCE_DATE_EPOCH
stage=target/deb/$arch
doc=$stage/usr/share/doc/rinotifyd
rm -rf "$stage"
mkdir -p "$stage/DEBIAN" "$doc" "$stage/usr/share/lintian/overrides"

DESTDIR=$stage PREFIX=/usr SBINDIR=/usr/sbin MANDIR=/usr/share/man SYSCONFDIR=/etc \
    BINARY=$binary INIT=systemd UNITDIR=/lib/systemd/system \
    ZSHDIR=/usr/share/zsh/vendor-completions tools/install.sh install
cp -r conf/examples "$doc/examples"
cp packaging/debian/changelog "$doc/changelog.Debian"
cp CHANGELOG.md "$doc/changelog"
# The licence, in the format that debian/copyright requires.
sed -e 's/^$/./; s/^/ /' LICENSE-MIT >"$stage.mit"
sed -e "/^@MIT@$/{r $stage.mit" -e 'd}' packaging/debian/copyright >"$doc/copyright"
rm "$stage.mit"
find "$stage/usr/share/man" "$doc" \( -name '*.[0-9]' -o -name 'changelog*' \) -exec gzip -9n {} +
cp packaging/debian/lintian-overrides "$stage/usr/share/lintian/overrides/rinotifyd"

cp packaging/debian/conffiles packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm \
    "$stage/DEBIAN"
size=$(du -k -s --apparent-size --exclude=DEBIAN "$stage" | cut -f 1)
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@MAINTAINER@/$maintainer/; s/@SIZE@/$size/" \
    packaging/debian/control >"$stage/DEBIAN/control"
(cd "$stage" && find usr lib -type f -exec md5sum {} + | sort -k 2 >DEBIAN/md5sums)
find "$stage" -type d -exec chmod 755 {} +
find "$stage" -type f -exec chmod u=rw,go=r {} +
chmod 755 "$stage/usr/sbin/rinotifyd" "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm" "$stage/DEBIAN/postrm"
dpkg-deb --root-owner-group --build "$stage" "target/deb/rinotifyd_${version}_$arch.deb"
