// SPDX-License-Identifier: Apache-2.0
#include "pool/lease.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

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

Result<> write_lease(Medium& medium, LeaseBlock lease) {
    if (!medium.across_hosts()) return medium.write(encode(lease), lease_offset);
    Block block{};
    TRY(medium.read(block, lease_offset));
    const auto newest = newest_lease_copy(block);
    if (newest) {
        lease.sequence = decode_lease(block)->sequence + 1;
        TRY(medium.write(encode(lease), lease_offset + (1 - *newest) * lease_bytes));
    } else {
        lease.sequence = 1;
        block = {};
        std::ranges::copy(encode(lease), block.begin());
        TRY(medium.write(block, lease_offset));
    }
    return medium.sync();
}

Result<std::optional<LeaseBlock>> read_lease(const Medium& medium) {
    Block block{};
    TRY(medium.read(block, lease_offset));
    return decode_lease(block);
}

namespace {

std::string describe(const LeaseBlock& lease) {
    return fmt::format("pid {} on {} ({}), since {}", lease.pid, lease.host, lease.purpose,
                       iso_time(lease.since));
}

bool held_elsewhere(const Medium& medium, const std::optional<LeaseBlock>& lease) {
    return medium.across_hosts() && lease && lease->held && lease->boot_id != boot_id();
}

Failure held_by_other_host(const Medium& medium, const LeaseBlock& lease) {
    auto failure = fail(
        fmt::format("{}: the pool is being written by {}; if that host has gone down or restarted "
                    "since, take over with `memplate pool break-lease {} --host {}`",
                    medium.path(), describe(lease), medium.path(),
                    lease.host.empty() ? "unknown" : lease.host));
    failure.error().code = EBUSY;
    return failure;
}

}  // namespace

Result<> check_other_hosts(const Medium& medium) {
    TRY_ASSIGN(const auto lease, read_lease(medium));
    if (held_elsewhere(medium, lease)) return held_by_other_host(medium, *lease);
    return {};
}

Result<> check_other_hosts(const Medium& medium, const std::string& break_lease_of) {
    if (!medium.across_hosts()) return {};
    TRY_ASSIGN(const auto lease, read_lease(medium));
    const std::string host = lease && !lease->host.empty() ? lease->host : "unknown";
    const bool binds = !lease || held_elsewhere(medium, lease);
    if (!binds || host == break_lease_of) return {};
    if (lease) return held_by_other_host(medium, *lease);
    return fail(
        fmt::format("{}: the lease block is damaged, so it is not known whether another host "
                    "writes to the pool; if none does, `memplate pool break-lease {} --host "
                    "unknown`",
                    medium.path(), medium.path()));
}

Result<> settle_lease(const Medium& medium, const LeaseBlock& own) {
    if (!medium.across_hosts()) return {};
    // Two hosts may have found the lease free at the same moment. There is no atomic operation
    // across hosts, but the one that wrote last stays.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    TRY_ASSIGN(const auto lease, read_lease(medium));
    if (lease && lease->same_writer(own)) return {};
    auto failure = fail(fmt::format("{}: {} took the lease at the same moment; try again later",
                                    medium.path(), lease ? describe(*lease) : "another host"));
    failure.error().code = EBUSY;
    return failure;
}

Result<std::string> lease_holder(const Medium& medium) {
    TRY_ASSIGN(const auto lease, read_lease(medium));
    if (held_elsewhere(medium, lease)) return describe(*lease);
    TRY_ASSIGN(const bool locked,
               range_is_locked(medium.fd(), LockMode::exclusive, lease_lock_offset, 1));
    if (!locked) return std::string();
    // The lock is of this boot of this host; a block that is not was left by an earlier holder.
    if (!lease || !lease->held || lease->boot_id != boot_id()) return "another process";
    return describe(*lease);
}

}  // namespace memplate::pool
