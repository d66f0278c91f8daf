# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by scripts/vm: kernels in the cache. Debian's packages are downloaded and unpacked, never
# installed, into $cache/KVER, which then holds
#   vmlinux            the uncompressed kernel, for a start without its slow decompressor
#   initramfs.cpio     busybox and the modules that reach the host's root directory
#   lib/modules/KVER   all modules, with their dependency files
#   usr/src/..., usr/lib/...  headers that build modules where they lie
# $cache/SERIES.current names the KVER in use for a series (6.1, 6.12).

# What the kernel needs before it sees the host's files.
early_modules=(virtio_pci virtio_console 9pnet_virtio 9p overlay)

# newest_kernel SERIES: the KVER of the newest kernel of the series that apt knows.
newest_kernel() {
    local pattern
    case $1 in
        6.1) pattern='6\.1\.0-[0-9]+-amd64' ;;
        6.12) pattern='6\.12\.[0-9]+\+deb[0-9]+-amd64' ;;
    esac
    apt-cache pkgnames linux-image-6.1 2>/dev/null | sed -nE "s/^linux-image-($pattern)\$/\1/p" |
        sort -V | tail -n 1
}

# extract_vmlinux BZIMAGE OUTPUT: the format is in the kernel's Documentation/x86/boot.rst.
extract_vmlinux() {
    local setup_sectors offset length magic unpack
    setup_sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
    read -r offset length < <(od -An -tu4 -j $((0x248)) -N 8 "$1")
    ((setup_sectors != 0)) || setup_sectors=4
    offset=$(((setup_sectors + 1) * 512 + offset))
    magic=$(od -An -tx1 -j "$offset" -N 4 "$1" | tr -d ' ')
    case $magic in
        fd377a58) unpack=(xz -dc --single-stream) ;;
        28b52ffd) unpack=(zstd -dcq) ;;
        1f8b*) unpack=(gzip -dcq) ;;
        *) return 1 ;;
    esac
    # The last four bytes are the uncompressed size, not part of the compressed stream.
    head -c $((offset + length - 4)) "$1" | tail -c $((length - 4)) | "${unpack[@]}" >"$2"
}

# make_initramfs MODULES_ROOT KVER OUTPUT: MODULES_ROOT has lib/modules/KVER; empty: no modules.
make_initramfs() {
    local root=$1 kver=$2 output=$3 tree module line file
    local -A seen=()
    tree=$(mktemp -d "$temporary/initramfs.XXXXXX")
    mkdir -p "$tree"/{bin,modules,proc,sys,dev,ro,rw,root}
    cp "$(busybox_path)" "$tree/bin/busybox"
    : >"$tree/modules/order"
    if [[ -n $root ]]; then
        for module in "${early_modules[@]}"; do
            while read -r line file _; do
                [[ $line == insmod && -z ${seen[$file]:-} ]] || continue
                seen[$file]=1
                file=${file%/}
                module=$(basename "$file")
                case $file in
                    *.xz) xz -dc "$file" >"$tree/modules/${module%.xz}" ;;
                    *.zst) zstd -dcq "$file" >"$tree/modules/${module%.zst}" ;;
                    *.gz) gzip -dc "$file" >"$tree/modules/${module%.gz}" ;;
                    *) cp "$file" "$tree/modules/$module" ;;
                esac
                echo "${module%.ko*}.ko" >>"$tree/modules/order"
            done < <(modprobe -d "$root" -S "$kver" --show-depends "$module" 2>/dev/null)
        done
    fi
    pack_initramfs "$tree" >"$output"
    rm -rf "$tree"
}

# pack_initramfs FOLDER: the archive to standard output.
pack_initramfs() {
    (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 2>/dev/null)
}

busybox_path() {
    local path
    path=$(command -v busybox) || die "busybox is missing: scripts/install-deps vm"
    if ldd "$path" >/dev/null 2>&1; then
        die "$path is not static: scripts/install-deps vm (package busybox-static)"
    fi
    echo "$path"
}

# fetch_kernel KVER: fills $cache/KVER; does nothing if it is there.
fetch_kernel() {
    local kver=$1 tree packages package kbuild headers
    [[ ! -d $cache/$kver ]] || return 0
    headers=linux-headers-$kver
    kbuild=$(apt-cache show --no-all-versions "$headers" 2>/dev/null |
        grep -oE -m 1 'linux-kbuild-[^ ,]+' | head -n 1) || true
    [[ -n $kbuild ]] || die "apt offers no $headers: run apt-get update"
    packages=("linux-image-$kver" "$headers" "linux-headers-${kver%-amd64}-common" "$kbuild")
    say "fetching ${packages[*]}"
    tree=$(mktemp -d "$cache/fetch.XXXXXX")
    fetching=$tree
    mkdir "$tree/packages"
    # Nothing already downloaded by hand is downloaded again: apt checks size and hash.
    (cd "$tree/packages" && apt-get download "${packages[@]}" >"$tree/download.log" 2>&1) || {
        cat "$tree/download.log" >&2
        die "a package cannot be downloaded (apt's messages are above; apt-get update may help)"
    }
    for package in "$tree"/packages/*.deb; do
        dpkg -x "$package" "$tree"
    done
    rm -rf "$tree/packages" "$tree/download.log" "${tree:?}/usr/share"
    mv "$tree/boot/vmlinuz-$kver" "$tree/vmlinuz"
    mv "$tree/boot/config-$kver" "$tree/config"
    rm -rf "${tree:?}/boot"
    extract_vmlinux "$tree/vmlinuz" "$tree/vmlinux" ||
        die "the kernel in linux-image-$kver is packed in an unknown way"
    # The headers name each other by the places where they would be installed.
    sed -i "s#/usr/src/#$cache/$kver/usr/src/#" "$tree/usr/src/$headers/Makefile"
    ln -sfn "$cache/$kver/usr/src/$headers" "$tree/lib/modules/$kver/build"
    ln -sfn "$cache/$kver/usr/src/${packages[2]}" "$tree/lib/modules/$kver/source"
    depmod -b "$tree" "$kver"
    make_initramfs "$tree" "$kver" "$tree/initramfs.cpio"
    chmod 755 "$tree"
    mv "$tree" "$cache/$kver"
    fetching=''
}

# current_kernel SERIES: sets kver; fetches what is missing. With `update`, looks for a newer one.
current_kernel() {
    local series=$1 update=${2:-}
    kver=$(cat "$cache/$series.current" 2>/dev/null) || true
    if [[ -n $kver && -d $cache/$kver && -z $update ]]; then
        return
    fi
    local tool missing=()
    for tool in apt-get apt-cache dpkg xz zstd gzip cpio depmod modprobe busybox; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} == 0)) || die "missing: ${missing[*]} (scripts/install-deps vm)"
    exec 9>"$cache/lock"
    flock -n 9 || { say "another fetch is running; waiting for it"; flock 9; }
    local newest
    newest=$(newest_kernel "$series")
    kver=${newest:-$(cat "$cache/$series.current" 2>/dev/null)} || true
    [[ -n $kver ]] || die "apt offers no kernel $series: run apt-get update, or add Debian 12's sources"
    fetch_kernel "$kver"
    echo "$kver" >"$cache/$series.current.new"
    mv "$cache/$series.current.new" "$cache/$series.current"
    exec 9>&-
}

# debug_kernel: sets kver; builds nothing.
debug_kernel() {
    local build=$cache/debug/build
    [[ -f $build/complete ]] || die "the debug kernel is not built: run scripts/debug-kernel (10 to 20 minutes)"
    kver=$(cat "$build/include/config/kernel.release")
}
