// SPDX-License-Identifier: Apache-2.0
#include "pool/dax_medium.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "pool/cache_lines.h"
#include "pool/dax_device.h"
#include "pool/format.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/text.h"

namespace memplate::pool {
namespace {

int open_flags(OpenMode mode) {
    return mode == OpenMode::read_write ? O_RDWR : O_RDONLY;
}

/// Copies without a signal if the source cannot be read: the kernel does it for us. Its reading of
/// our own memory is the direction in which it survives damaged memory (copy_from_user).
Result<> guarded_copy(std::span<std::byte> to, std::span<const std::byte> from) {
    while (!from.empty()) {
        iovec local{const_cast<std::byte*>(from.data()), from.size()};
        iovec remote{to.data(), to.size()};
        const ssize_t copied = ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0);
        if (copied < 0 && (errno == ENOSYS || errno == EPERM)) {
            // A sandbox that forbids the call: its pages were just touched, a plain copy will do.
            std::memcpy(to.data(), from.data(), from.size());
            return {};
        }
        if (copied < 0) return fail_errno(errno, "copy");
        if (copied == 0) return fail_errno(EFAULT, "copy");
        from = from.subspan(static_cast<size_t>(copied));
        to = to.subspan(static_cast<size_t>(copied));
    }
    return {};
}

}  // namespace

Result<SharedMapping> SharedMapping::create(int fd, uint64_t bytes, OpenMode mode,
                                            const std::string& what) {
    const int protection = mode == OpenMode::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
    void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return fail_errno(errno, what + ": map");
    // A core dump of the agent must not contain the pool.
    (void)::madvise(address, bytes, MADV_DONTDUMP);
    return SharedMapping({static_cast<std::byte*>(address), bytes});
}

SharedMapping::~SharedMapping() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<std::shared_ptr<DaxMedium>> DaxMedium::open(const std::string& path, OpenMode mode) {
    auto fd = open_at(AT_FDCWD, path, open_flags(mode) | O_NOCTTY);
    if (!fd) {
        if (fd.error().code != EACCES && fd.error().code != EPERM && fd.error().code != ENXIO)
            return Failure(std::move(fd.error()));
        const std::string_view fix =
            fd.error().code == ENXIO
                ? "no driver serves the device; `daxctl list -Di` shows its state"
                : "no permission; run as root (a pool holds the memory of processes)";
        auto failure = fail(fmt::format("{}: {}", path, fix));
        failure.error().code = fd.error().code;
        return failure;
    }
    struct stat st{};
    if (::fstat(fd->get(), &st) != 0) return fail_errno(errno, path);
    if (!is_dax_node(st)) return fail(path + ": is not a device DAX node, so not a pool");
    const auto bytes = dax_node_bytes(st);
    if (!bytes) return fail(path + ": the size of the device is not known");
    return over(std::move(*fd), path, mode, *bytes);
}

Result<std::shared_ptr<DaxMedium>> DaxMedium::over(UniqueFd fd, const std::string& path,
                                                   OpenMode mode, uint64_t bytes) {
    if (!can_write_back_cache_lines())
        return fail(ErrorKind::unsupported,
                    path + ": pools on devices need an x86-64 processor (cache write-back)");
    TRY_ASSIGN(SharedMapping mapping, SharedMapping::create(fd.get(), bytes, mode, path));
    return std::make_shared<DaxMedium>(std::move(fd), std::move(mapping), path, mode);
}

Result<std::string> DaxMedium::state() const {
    // Every commit changes a superblock; after a restart of the host anything may have happened.
    std::array<std::byte, 2 * block_bytes> superblocks{};
    TRY(read(superblocks, 0));
    Xxh3Stream hash;
    hash.update(superblocks);
    TRY_ASSIGN(const std::string boot, read_file("/proc/sys/kernel/random/boot_id"));
    return fmt::format("dax:{}:{}", trim(boot), hash.hex());
}

Result<std::span<std::byte>> DaxMedium::touchable(uint64_t offset, uint64_t length,
                                                  int advice) const {
    const std::span<std::byte> all = mapping_.bytes();
    if (length > all.size() || offset > all.size() - length) {
        auto failure = fail(fmt::format("{}: bytes {}+{} lie beyond its end, {}", path_, offset,
                                        length, all.size()));
        failure.error().code = ENODATA;
        return failure;
    }
    const uint64_t first = offset / page_size * page_size;
    const std::span<std::byte> pages =
        all.subspan(first, std::min((offset + length + page_size - 1) / page_size * page_size,
                                    static_cast<uint64_t>(all.size())) -
                               first);
    while (!pages.empty() && ::madvise(pages.data(), pages.size(), advice) != 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        if (errno == EINVAL) break;  // a kernel before 5.14
        return fail_errno(
            errno == EFAULT || errno == EHWPOISON ? EIO : errno,
            fmt::format("{}: bytes {}+{} (the memory is damaged or gone)", path_, offset, length));
    }
    return all.subspan(offset, length);
}

Result<> DaxMedium::read(std::span<std::byte> buffer, uint64_t offset) const {
    TRY_ASSIGN(const auto bytes, touchable(offset, buffer.size(), MADV_POPULATE_READ));
    invalidate(bytes);
    TRY_CONTEXT(guarded_copy(buffer, bytes),
                fmt::format("{}: bytes {}+{} (the memory is damaged or gone)", path_, offset,
                            buffer.size()));
    return {};
}

Result<> DaxMedium::write(std::span<const std::byte> data, uint64_t offset) {
    if (mode_ != OpenMode::read_write) return fail_errno(EBADF, path_ + ": write");
    TRY_ASSIGN(const auto bytes, touchable(offset, data.size(), MADV_POPULATE_WRITE));
    std::memcpy(bytes.data(), data.data(), data.size());
    write_back(bytes);
    return {};
}

Result<bool> DaxMedium::punch(uint64_t /*offset*/, uint64_t /*length*/) {
    return false;
}

Result<> DaxMedium::resize(uint64_t size) {
    if (size <= mapping_.bytes().size()) return {};
    auto failure = fail(
        ErrorKind::usage,
        fmt::format("{}: the device has {}; a pool on it cannot be larger. Make a pool on a larger "
                    "device",
                    path_, format_size(mapping_.bytes().size())));
    failure.error().code = ENOSPC;
    return failure;
}

Result<> DaxMedium::sync() {
    fence();
    return {};
}

Result<UniqueFd> DaxMedium::reopen(OpenMode mode) const {
    // By descriptor, as a file: the name may stand for another device by now.
    auto fd =
        open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd_.get()), open_flags(mode) | O_NOCTTY);
    if (!fd) return fail_errno(fd.error().code, path_ + ": open again");
    return fd;
}

}  // namespace memplate::pool
