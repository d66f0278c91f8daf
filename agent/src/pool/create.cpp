// SPDX-License-Identifier: Apache-2.0
//
// Pool files coming into being and going away.
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "pool/bytes.h"
#include "pool/lease.h"
#include "pool/snapshot.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/text.h"

namespace memplate::pool {
namespace {

/// Storage of each slot allocated from the start, so that on a full file system templates can still
/// be removed.
constexpr uint64_t preallocated_slot_bytes = uint64_t{64} << 10;

Failure exists_already(const std::string& path) {
    auto failure =
        fail(fmt::format("{}: exists already; choose another path, or remove it first "
                         "with `memplate pool rm {}`",
                         path, path));
    failure.error().code = EEXIST;
    return failure;
}

Result<std::array<uint8_t, 16>> random_uuid() {
    std::array<uint8_t, 16> uuid{};
    if (::getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size()))
        return fail_errno(errno, "getrandom");
    uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0f) | 0x40);
    uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3f) | 0x80);
    return uuid;
}

/// Two empty generations, so that there is a previous catalogue from the start.
Result<> write_empty_pool(FileMedium& medium, uint64_t size_bytes) {
    Superblock superblock = geometry_for(size_bytes);
    TRY_ASSIGN(superblock.uuid, random_uuid());
    TRY(medium.resize(superblock.size_bytes));
    (void)::fallocate(medium.fd(), 0, 0, static_cast<off_t>(slots_offset));
    TRY(write_lease(medium, LeaseBlock{}));
    for (const size_t i : {0, 1}) {
        const uint64_t slot_offset = superblock.slot_offset[i];
        // Only a convenience: not every file system can.
        (void)::fallocate(medium.fd(), 0, static_cast<off_t>(slot_offset),
                          static_cast<off_t>(preallocated_slot_bytes));
        Catalogue empty;
        empty.generation = i + 1;
        const auto bytes = encode(empty);
        TRY(medium.write(bytes, slot_offset));
        superblock.generation = empty.generation;
        superblock.slot = static_cast<uint32_t>(i);
        superblock.catalogue_bytes = bytes.size();
        superblock.catalogue_crc = crc32c(bytes);
        TRY(medium.write(encode(superblock), superblock_offset[i]));
    }
    if (::fsync(medium.fd()) != 0) return fail_errno(errno, medium.path() + ": fsync");
    return {};
}

Result<> rename_without_replacing(const std::string& from, const std::string& to) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno == EINVAL || errno == ENOSYS) {
        // A file system without RENAME_NOREPLACE: a hard link refuses an existing path as well.
        if (::link(from.c_str(), to.c_str()) == 0) {
            ::unlink(from.c_str());
            return {};
        }
    }
    if (errno == EEXIST) return exists_already(to);
    return fail_errno(errno, to);
}

std::string directory_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<Pool> Pool::create(const std::string& path, uint64_t size_bytes) {
    if (size_bytes < min_pool_bytes || size_bytes > max_pool_bytes)
        return fail(ErrorKind::usage,
                    fmt::format("{}: a pool of {} bytes is not possible; choose between {} and {} "
                                "bytes",
                                path, size_bytes, min_pool_bytes, max_pool_bytes));
    if (::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return exists_already(path);
    // Made under another name: whoever finds `path` finds a whole pool, or nothing.
    const std::string directory = directory_of(path);
    const std::string name = path.substr(path.rfind('/') + 1);
    if (name.empty()) return fail(ErrorKind::usage, path + ": not a file name");
    const std::string temporary = fmt::format("{}/.{}.{}.tmp", directory, name, random_hex(6));
    // 0600: a pool holds the memory of processes.
    TRY_ASSIGN(UniqueFd fd,
               open_at(AT_FDCWD, temporary, O_RDWR | O_CREAT | O_EXCL | O_NOCTTY, 0600));
    FileMedium medium(std::move(fd), path, OpenMode::read_write);
    auto made = write_empty_pool(medium, size_bytes);
    if (made) made = rename_without_replacing(temporary, path);
    if (!made) {
        ::unlink(temporary.c_str());
        return Failure(std::move(made.error()));
    }
    TRY_ASSIGN(UniqueFd parent, open_at(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY));
    if (::fsync(parent.get()) != 0) return fail_errno(errno, directory + ": fsync");
    return open(path, OpenMode::read_write);
}

bool Pool::is_pool(const std::string& path) {
    auto medium = FileMedium::open(path, OpenMode::read_only);
    if (!medium) return false;
    // The second superblock tells a pool whose first block is damaged.
    for (const uint64_t offset : superblock_offset) {
        std::array<std::byte, 8> magic{};
        if ((*medium)->read(magic, offset) &&
            std::string_view(reinterpret_cast<const char*>(magic.data()), magic.size()) ==
                "MEMPLATE")
            return true;
    }
    return false;
}

Result<> Pool::remove_file(const std::string& path) {
    TRY_ASSIGN(const auto medium, FileMedium::open(path, OpenMode::read_write));
    if (!is_pool(path)) return fail(path + ": not a pool; it is left alone");
    TRY_ASSIGN(const UniqueFd lease, lock_lease(*medium));
    // Held until the file is gone: nobody can pin a template of a pool that is being removed.
    TRY_ASSIGN(const bool unused, try_lock_range(lease.get(), LockMode::exclusive, pin_locks_offset,
                                                 pin_locks_length));
    if (!unused) {
        auto failure =
            fail(fmt::format("{}: templates of the pool are in use; stop the instances "
                             "first (`memplate ps` lists them)",
                             path));
        failure.error().code = EBUSY;
        return failure;
    }
    if (::unlink(path.c_str()) != 0) return fail_errno(errno, path);
    return {};
}

}  // namespace memplate::pool
