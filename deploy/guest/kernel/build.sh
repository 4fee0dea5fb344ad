#!/usr/bin/env bash
# A small kernel for guests, from Debian's source: OUT/small/{vmlinuz,vmlinux}, which `make guest` then takes.
#     build.sh OUT [config]     "config": only work the configuration out, and check it
# Needs the Debian packages flex bison bc libelf-dev libssl-dev xz-utils gcc make; ten minutes and more on two cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
release=linux-source-6.1
source=$out/.source/$release

missing=()
for tool in flex bison bc xz gcc make apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
[ "${#missing[@]}" -eq 0 ] || { echo "No kernel: needs ${missing[*]}." >&2; exit 1; }

mkdir -p "$out/.source" "$out/small"
cd "$out/.source"
if [ ! -d "$source" ]; then
    apt-get -q download "$release"
    dpkg-deb -x "$release"_*.deb unpacked
    tar -xf "unpacked/usr/src/$release.tar.xz"
    rm -rf unpacked "$release"_*.deb
fi

cd "$source"
export KBUILD_BUILD_TIMESTAMP=2000-01-01 KBUILD_BUILD_USER=bulkhead KBUILD_BUILD_HOST=bulkhead
make -s tinyconfig
scripts/kconfig/merge_config.sh -m .config "$here/guest.config" &>/dev/null
make -s olddefconfig
# What was asked for and did not come depends on something that is not set.
wanting=$(sed -n 's/^\(CONFIG_[A-Z0-9_]*=y\)$/\1/p' "$here/guest.config" | grep -vxFf .config || true)
[ -z "$wanting" ] || { echo "No kernel: not to be had: $wanting" >&2; exit 1; }
[ "${2:-}" != config ] || exit 0

make -s -j"$(nproc)" bzImage
strip -o "$out/small/vmlinux" vmlinux
cp arch/x86/boot/bzImage "$out/small/vmlinuz"
