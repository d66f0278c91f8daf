# shellcheck shell=bash disable=SC2154,SC2054
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by scripts/vm: the QEMU command line, and the machine from its start to its end.

qemu_command='qemu-system-x86_64'
kernel_arguments="console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check nowatchdog"
kernel_arguments+=" random.trust_cpu=on rcupdate.rcu_cpu_stall_timeout=120"
devices=()

# Whether the kernel really boots with KVM here: /dev/kvm alone does not tell. Remembered until the
# next start of this machine.
kvm_works() {
    local trial answer
    [[ -w /dev/kvm ]] || return 1
    trial="$(</proc/sys/kernel/random/boot_id) $kernel_image $(stat -L -c %Y "$kernel_image")"
    answer=$(grep -F -m 1 "$trial " "$cache/kvm-trials" 2>/dev/null) || true
    if [[ -z $answer ]]; then
        local status=0
        make_guest_archive
        # QEMU may abort: the shell's word about that is not for the user.
        (
            timeout 20 "$qemu_command" -machine q35 -accel kvm -cpu host -m 512M -nodefaults \
                -no-user-config -display none -no-reboot \
                -device isa-debug-exit,iobase=0xf4,iosize=0x04 -kernel "$kernel_image" \
                -initrd "$temporary/initrd" -append "panic=-1 memplate_trial" </dev/null >/dev/null
            exit $?
        ) 2>/dev/null || status=$?
        answer="$trial $([[ $status == 33 ]] && echo yes || echo no)"
        echo "$answer" >>"$cache/kvm-trials"
    fi
    [[ $answer == *yes ]]
}

choose_accelerator() {
    command -v "$qemu_command" >/dev/null || die "$qemu_command is missing: scripts/install-deps vm"
    local why=''
    if [[ $icount == yes ]]; then
        why='--icount'
    elif [[ $accelerator == tcg ]]; then
        why='--tcg'
    elif [[ $dax == cxl ]]; then
        # Instructions on emulated device memory that KVM cannot emulate would stop the machine.
        why='--dax cxl'
    elif ! kvm_works; then
        why='KVM does not work here'
    fi
    if [[ -z $why ]]; then
        accelerator=kvm
        accelerate=(-accel kvm -cpu host)
        say "kernel $kver, virtualized (KVM)"
        return
    fi
    accelerator=tcg
    # The hypervisor bit makes 6.12 refuse CXL regions.
    accelerate=(-accel "tcg,thread=multi" -cpu max)
    [[ $dax != cxl ]] || accelerate=(-accel "tcg,thread=multi" -cpu max,-hypervisor)
    [[ $icount == no ]] || accelerate=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -cpu max)
    say "kernel $kver, emulated (TCG: $why)"
}

# Sets machine, memory_options and, for kinds with a file, memory_file or pool.
prepare_dax() {
    machine=q35
    memory_options=(-m "${memory_mb}M")
    dax_blank=0
    local file
    case $dax in
        '') return ;;
        hmem)
            # Above 4 GiB lies what does not fit below: the reserved range and the rest of the memory.
            ((memory_mb >= 2560)) || memory_mb=2560
            memory_options=(-m "$((memory_mb + dax_mb))M")
            # memmap=SIZE%START-OLD+NEW: from memory (1) to soft-reserved, in the types of e820.
            kernel_arguments+=" memmap=${dax_mb}M%0x100000000-1+0xefffffff"
            return
            ;;
    esac
    if [[ -n $pool ]]; then
        pool=$(realpath "$pool")
        # One machine prepares a blank pool, others that want it wait.
        exec 8>>"$pool"
        flock 8
        [[ -s $pool ]] || truncate -s "${dax_mb}M" "$pool"
        file=$pool
    else
        memory_file=$(mktemp "/dev/shm/memplate-vm.$$.XXXXXX")
        truncate -s "${dax_mb}M" "$memory_file"
        file=$memory_file
    fi
    local backend="memory-backend-file,id=dax,share=on,mem-path=${file//,/,,},size=${dax_mb}M"
    if [[ $dax == nvdimm ]]; then
        machine=q35,nvdimm=on
        memory_options=(-m "${memory_mb}M,slots=2,maxmem=$((memory_mb + dax_mb + 1024))M")
        devices+=(-object "$backend,align=2M" -device nvdimm,id=nvdimm0,memdev=dax)
        [[ $(dd if="$file" bs=1 skip=4096 count=15 status=none | tr -d '\0') == NVDIMM_DAX_INFO ]] ||
            dax_blank=1
    else
        # The labels say where the namespace lies; every machine writes its own copy.
        labels=$temporary/labels
        if [[ -n $pool && -s $pool.labels ]]; then
            cp "$pool.labels" "$labels"
        else
            truncate -s 1M "$labels"
            dax_blank=1
        fi
        machine=q35,cxl=on
        [[ $series == 6.1 ]] || kernel_arguments+=" pcie_aspm=off"
        # The second root port matters: with one, Linux leaves a decoder of the host bridge
        # unprogrammed, and QEMU then drops every access.
        devices+=(
            -object "$backend"
            -object "memory-backend-file,id=labels,share=on,mem-path=${labels//,/,,},size=1M"
            -device "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1"
            -device "cxl-rp,port=0,bus=cxl.1,id=cxl-port0,chassis=0,slot=2"
            -device "cxl-rp,port=1,bus=cxl.1,id=cxl-port1,chassis=0,slot=3"
            -device "cxl-type3,bus=cxl-port0,memdev=dax,lsa=labels,id=cxl-memory0,sn=0x1234"
            -M "cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G"
        )
    fi
    if [[ -n $pool && $dax_blank == 0 ]]; then
        exec 8>&-
    fi
}

# The guest says that device DAX is ready: others may use the pool.
dax_is_ready() {
    if [[ $dax == cxl && -n $pool && $dax_blank == 1 ]]; then
        cp "$temporary/labels" "$pool.labels.new"
        mv "$pool.labels.new" "$pool.labels"
    fi
    if [[ -n $pool && $dax_blank == 1 ]]; then
        exec 8>&-
    fi
}

prepare_links() {
    link_host=()
    local link path number=0 hash tries
    for link in "${links[@]}"; do
        path=$(realpath -m "${link%,server}")
        hash=$(printf '%s' "$path" | md5sum)
        local server=off host=2
        if [[ $link == *,server ]]; then
            server=on host=1
            [[ ! -e $path ]] || die "--link $path is there already: another machine is its server, or delete it"
            sockets+=("$path")
        else
            for ((tries = 0; tries < 600; tries++)); do
                [[ ! -S $path ]] || break
                sleep 0.1
            done
            [[ -S $path ]] || die "--link $path: no machine became its server within 60 s"
        fi
        devices+=(
            -netdev "stream,id=link$number,server=$server,addr.type=unix,addr.path=${path//,/,,}"
            -device "virtio-net-pci,bus=pcie.0,netdev=link$number,mac=52:54:${hash:0:2}:${hash:2:2}:${hash:4:2}:0$host"
        )
        link_host+=("$host")
        number=$((number + 1))
    done
}

# The initramfs of the kernel, and a second archive after it with what is of this run.
make_guest_archive() {
    local tree=$temporary/archive
    mkdir -p "$tree/memplate"
    cp "$here/vm.d/init" "$tree/init"
    cp "$here/vm.d/guest" "$here/vm.d/dax" "$tree/memplate/"
    [[ ! -f $temporary/settings ]] || cp "$temporary/settings" "$tree/memplate/settings"
    pack_initramfs "$tree" | cat "$initramfs" - >"$temporary/initrd"
}

prepare_guest() {
    local name directory=$PWD want_log=0 rows=24 columns=80 environment=()
    for name in PATH HOME LANG TZ TERM "${!MEMPLATE_@}"; do
        [[ -z ${!name:-} || $name == MEMPLATE_VM* ]] || environment+=("$name=${!name}")
    done
    if [[ -n $log_file || $strict == yes ]]; then
        want_log=1
    fi
    if ((${#command[@]} == 0)); then
        read -r rows columns < <(stty size)
    fi
    declare -p kver modules command directory environment shares link_host dax dax_align \
        dax_blank want_log rows columns >"$temporary/settings"
    make_guest_archive
}

start_machine() {
    local number stream
    console=$temporary/console
    mkfifo "$temporary/status"
    : >"$console"
    # Without ioeventfd a write of the guest is in the file before the guest goes on: nothing is
    # lost when it ends the machine.
    devices+=(-device "virtio-serial-pci,bus=pcie.0,ioeventfd=off")
    for stream in status out err log; do
        [[ $stream == status ]] || : >"$temporary/$stream"
        devices+=(-chardev "file,id=$stream,path=$temporary/$stream"
            -device "virtserialport,chardev=$stream,name=$stream")
    done
    devices+=(-fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"
        -device "virtio-9p-pci,bus=pcie.0,fsdev=root,mount_tag=hostroot")
    for ((number = 0; number < ${#shares[@]}; number++)); do
        devices+=(
            -fsdev "local,id=share$number,path=${shares[number]//,/,,},security_model=none,multidevs=remap"
            -device "virtio-9p-pci,bus=pcie.0,fsdev=share$number,mount_tag=share$number"
        )
    done
    if ((${#command[@]} == 0)); then
        devices+=(-chardev "stdio,id=terminal,signal=off" -serial chardev:terminal)
        exec 6<&0
    else
        exec 6</dev/null
    fi
    exec 7<>"$temporary/status"
    started=$SECONDS
    # The machine ends with this script, however the script ends.
    setpriv --pdeathsig KILL "$qemu_command" -machine "$machine" "${accelerate[@]}" -smp "$cpus" \
        "${memory_options[@]}" -nodefaults -no-user-config -display none -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=0x04 -serial "file:$console" "${devices[@]}" \
        -kernel "$kernel_image" -initrd "$temporary/initrd" -append "$kernel_arguments $append" \
        <&6 2>"$temporary/qemu-errors" 7>&- 8>&- &
    qemu=$!
    exec 6<&-
    for stream in out err; do
        # shellcheck disable=SC2261 # one of the two
        if [[ $stream == out ]]; then
            tail -q -c +1 -s 0.05 -f --pid="$qemu" "$temporary/out" 7>&- 8>&- &
        else
            tail -q -c +1 -s 0.05 -f --pid="$qemu" "$temporary/err" >&2 7>&- 8>&- &
        fi
        tails+=("$!")
    done
}

# keep_console: the console's log outlives this run; sets kept.
keep_console() {
    local old
    kept=$cache/logs/$(date +%Y%m%d-%H%M%S)-$$.log
    cp "$console" "$kept"
    while read -r old; do
        rm -f "$old"
    done < <(find "$cache/logs" -name '*.log' | sort -r | tail -n +21)
}

# machine_failed TEXT: the tail of the console, one line, and the end.
machine_failed() {
    keep_console
    if [[ -s $console ]]; then
        echo "vm: end of the guest's console:" >&2
        tail -n 25 "$console" | tr -d '\r' | sed 's/^/    /' >&2
    fi
    [[ -z $log_file ]] || tr -d '\r' <"$console" >"$log_file"
    die "$1; console log: $kept"
}

# end_of_machine: why it ended without a status.
end_of_machine() {
    local reason pattern
    reason=$(for pattern in 'memplate-vm: .*' '(kernel )?BUG[: ].*' 'Kernel panic - not syncing.*'; do
        grep -aoE -m 1 "$pattern" "$console"
    done | tr -d '\r' | paste -sd ';' | sed 's/;/; /g') || true
    if [[ -s $temporary/qemu-errors ]]; then
        reason="${reason:+$reason; }$(head -n 1 "$temporary/qemu-errors")"
    fi
    machine_failed "the virtual machine ended early: ${reason:-no message}"
}

# What a kernel prints when something is wrong with it.
complaints='BUG:|WARNING:|INFO: (task|possible|rcu|trying)|KASAN|UBSAN|Bad (rss|page|swap)|bad pm?d|general protection|Oops|kmemleak: [0-9]+ new|refcount_t|corrupted'

watch_machine() {
    local word text status='' phase=boot boot_limit=180
    [[ $series != debug ]] || boot_limit=900
    while [[ -z $status ]]; do
        if read -r -t 0.5 -u 7 word text; then
            case $word in
                status) status=$text ;;
                started) phase=run ;;
                dax-ready) dax_is_ready ;;
                error) machine_failed "$text" ;;
            esac
            continue
        fi
        if ! kill -0 "$qemu" 2>/dev/null; then
            # It may have written its status just before; a busy host needs time to read it.
            while [[ -z $status ]] && read -r -t 2 -u 7 word text; do
                [[ $word != status ]] || status=$text
            done
            [[ -z $status ]] || break
            end_of_machine
        fi
        if ((timeout && SECONDS - started >= timeout)); then
            kill -KILL "$qemu"
            wait "${tails[@]}" || true
            keep_console
            printf 'vm: stopped after --timeout %s s; console log: %s\n' "$timeout" "$kept" >&2
            [[ -z $log_file ]] || tr -d '\r' <"$console" >"$log_file"
            exit 124
        fi
        if [[ $phase == boot ]] && ((SECONDS - started >= boot_limit)); then
            machine_failed "the guest did not get ready within $boot_limit s"
        fi
    done
    wait "$qemu" || true
    qemu=''
    wait "${tails[@]}" || true
    tails=()
    [[ -z $log_file ]] || cp "$temporary/log" "$log_file"
    if [[ $strict == yes ]] && grep -aE -m 20 "$complaints" "$temporary/log" >"$temporary/complaints"; then
        sed 's/^/    /' "$temporary/complaints" >&2
        cp "$temporary/log" "$console"
        keep_console
        die "the guest's kernel complained, command's status $status; kernel log: $kept"
    fi
    exit "$status"
}
