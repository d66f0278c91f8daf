// SPDX-License-Identifier: Apache-2.0
#include "pool/lease.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "util/clock.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/proc.h"

namespace memplate::pool {
namespace {

std::array<uint8_t, 16> boot_id() {
    auto text = read_file("/proc/sys/kernel/random/boot_id");
    if (!text) return {};
    std::erase_if(*text, [](char c) { return c == '-' || c == '\n'; });
    return from_hex(*text).value_or(std::array<uint8_t, 16>{});
}

uint64_t own_start_time() {
    auto proc = proc::open_host();
    if (!proc) return 0;
    const auto stat = proc::stat(proc->get(), ::getpid());
    return stat ? stat->start_time : 0;
}

/// As the block stores it: printable ASCII only.
std::string printable(std::string_view text) {
    std::string out(text);
    std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    return out;
}

}  // namespace

Result<UniqueFd> lock_lease(const Medium& medium) {
    TRY_ASSIGN(UniqueFd fd, medium.reopen(OpenMode::read_write));
    TRY_ASSIGN(const bool locked,
               try_lock_range(fd.get(), LockMode::exclusive, lease_lock_offset, 1));
    if (locked) return fd;
    TRY_ASSIGN(const std::string holder, lease_holder(medium));
    auto failure =
        fail(fmt::format("{}: the pool is being written by {}; try again when it has "
                         "finished",
                         medium.path(), holder.empty() ? "another process" : holder));
    failure.error().code = EBUSY;
    return failure;
}

LeaseBlock own_lease(uint64_t epoch, const std::string& purpose) {
    LeaseBlock lease;
    lease.epoch = epoch;
    lease.held = true;
    lease.pid = static_cast<uint64_t>(::getpid());
    lease.start_time = own_start_time();
    lease.since = unix_time();
    lease.boot_id = boot_id();
    struct utsname names{};
    if (::uname(&names) == 0) lease.host = printable(names.nodename);
    lease.purpose = printable(purpose);
    return lease;
}

Result<> write_lease(Medium& medium, const LeaseBlock& lease) {
    return medium.write(encode(lease), lease_offset);
}

Result<std::optional<LeaseBlock>> read_lease(const Medium& medium) {
    Block block{};
    TRY(medium.read(block, lease_offset));
    return decode_lease(block);
}

Result<std::string> lease_holder(const Medium& medium) {
    TRY_ASSIGN(const bool held,
               range_is_locked(medium.fd(), LockMode::exclusive, lease_lock_offset, 1));
    if (!held) return std::string();
    TRY_ASSIGN(const auto lease, read_lease(medium));
    // The lock is of this boot of this host; a block that is not was left by an earlier holder.
    if (!lease || !lease->held || lease->boot_id != boot_id()) return "another process";
    return fmt::format("pid {} on {} ({}), since {}", lease->pid, lease->host, lease->purpose,
                       iso_time(lease->since));
}

}  // namespace memplate::pool
