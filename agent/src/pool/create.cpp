// SPDX-License-Identifier: Apache-2.0
//
// Pools coming into being and going away.
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "pool/bytes.h"
#include "pool/dax_medium.h"
#include "pool/lease.h"
#include "pool/reference.h"
#include "pool/snapshot.h"
#include "util/fs.h"
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

/// Two empty generations, so that there is a previous catalogue from the start. Superblocks last:
/// what is cut off is no pool.
Result<> write_empty_pool(Medium& medium, Superblock superblock) {
    TRY_ASSIGN(superblock.uuid, random_uuid());
    TRY(write_lease(medium, LeaseBlock{}));
    std::array<Block, 2> blocks;
    for (const size_t i : {0, 1}) {
        Catalogue empty;
        empty.generation = i + 1;
        const auto bytes = encode(empty);
        TRY(medium.write(bytes, superblock.slot_offset[i]));
        superblock.generation = empty.generation;
        superblock.slot = static_cast<uint32_t>(i);
        superblock.catalogue_bytes = bytes.size();
        superblock.catalogue_crc = crc32c(bytes);
        blocks[i] = encode(superblock);
    }
    TRY(medium.sync());
    for (const size_t i : {0, 1}) TRY(medium.write(blocks[i], superblock_offset[i]));
    return medium.sync();
}

Result<> write_empty_file(FileMedium& medium, const Superblock& superblock) {
    TRY(medium.resize(superblock.size_bytes));
    // Only a convenience: not every file system can.
    (void)::fallocate(medium.fd(), 0, 0, static_cast<off_t>(slots_offset));
    for (const uint64_t offset : superblock.slot_offset)
        (void)::fallocate(medium.fd(), 0, static_cast<off_t>(offset),
                          static_cast<off_t>(preallocated_slot_bytes));
    TRY(write_empty_pool(medium, superblock));
    if (::fsync(medium.fd()) != 0) return fail_errno(errno, medium.path() + ": fsync");
    return {};
}

Result<> wipe_superblocks(Medium& medium) {
    for (const uint64_t offset : superblock_offset) TRY(medium.write(Block{}, offset));
    return medium.sync();
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

/// The writer's lock and all pins: while they are held nobody of this host can begin to use the
/// pool. `verb`: for what is told.
Result<UniqueFd> lock_unused(const Medium& medium, const PagesInUse& pages_in_use,
                             bool no_other_hosts, std::string_view verb) {
    TRY_ASSIGN(UniqueFd lease, lock_lease(medium));
    TRY_ASSIGN(const bool unpinned, try_lock_range(lease.get(), LockMode::exclusive,
                                                   pin_locks_offset, pin_locks_length));
    bool used = !unpinned;
    std::array<Block, 2> blocks;
    for (size_t i = 0; i < blocks.size(); ++i) TRY(medium.read(blocks[i], superblock_offset[i]));
    // Without a superblock nobody can write to it, whatever the lease block says.
    const auto superblock = newest_superblock(blocks);
    if (superblock) {
        TRY(check_other_hosts(medium));
        if (medium.across_hosts() && !no_other_hosts)
            return fail(ErrorKind::usage,
                        fmt::format("{}: other hosts may use the pool, which cannot be seen from "
                                    "here; when none does, `memplate pool {} --no-other-hosts` "
                                    "destroys it",
                                    medium.path(), verb));
    }
    if (!used && pages_in_use) {
        TRY_ASSIGN(const uint64_t size, medium.size());
        const uint64_t pages = superblock ? superblock->total_pages() : size / page_size;
        TRY_ASSIGN(used, pages_in_use({0, pages}));
    }
    if (!used) return lease;
    auto failure = fail(
        fmt::format("{}: templates of the pool are in use; stop the instances first (`memplate ps` "
                    "lists them)",
                    medium.path()));
    failure.error().code = EBUSY;
    return failure;
}

/// The second superblock tells a pool whose first block is damaged.
bool begins_like_a_pool(const Medium& medium) {
    return std::ranges::any_of(superblock_offset, [&](uint64_t offset) {
        std::array<std::byte, 8> magic{};
        return medium.read(magic, offset) && has_magic(magic, "MEMPLATE");
    });
}

/// What --force would destroy; empty if the medium is blank.
Result<std::string> contents_of(const std::shared_ptr<Medium>& medium) {
    std::vector<std::byte> header(slots_offset);
    TRY(medium->read(header, 0));
    if (all_zero(header)) return std::string();
    std::array<Block, 2> blocks;
    bool is_pool = false;
    for (size_t i = 0; i < blocks.size(); ++i) {
        std::ranges::copy(std::span(header).subspan(superblock_offset[i], block_bytes),
                          blocks[i].begin());
        is_pool = is_pool || decode_superblock(blocks[i]) ||
                  decode_superblock(blocks[i]).error() != SuperblockFault::foreign;
    }
    // What a removed pool leaves: wiped superblocks and its lease block.
    if (all_zero(std::span(header).first(lease_offset))) {
        Block lease{};
        std::ranges::copy(std::span(header).subspan(lease_offset, block_bytes), lease.begin());
        if (decode_lease(lease)) return std::string();
    }
    if (!is_pool) return std::string("data that is not a pool");
    const auto pool = Pool::open(medium);
    if (!pool) return std::string("a damaged pool");
    std::string names;
    for (const TemplateRecord& record : pool->templates())
        names += (names.empty() ? ": " : ", ") + record.name;
    return fmt::format("pool {} with {} templates{}", pool->uuid(), pool->templates().size(),
                       names);
}

}  // namespace

Result<Pool> Pool::create(const std::string& path, uint64_t size_bytes,
                          const CreateOptions& options) {
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
    Superblock superblock = geometry_for(size_bytes);
    if (options.dedup) superblock.features |= feature_dedup;
    auto made = write_empty_file(medium, superblock);
    if (made) made = rename_without_replacing(temporary, path);
    if (!made) {
        ::unlink(temporary.c_str());
        return Failure(std::move(made.error()));
    }
    TRY_ASSIGN(UniqueFd parent, open_at(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY));
    if (::fsync(parent.get()) != 0) return fail_errno(errno, directory + ": fsync");
    return open(path, OpenMode::read_write);
}

Result<Pool> Pool::create_on_device(const std::string& device, const std::string& reference,
                                    const CreateOptions& options) {
    const bool named = !reference.empty() && reference != device;
    if (named && ::faccessat(AT_FDCWD, reference.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return exists_already(reference);
    TRY_ASSIGN(const DaxDevice found, find_dax_device(SystemDaxInventory(), device));
    TRY(check_dax_device(found));
    TRY_ASSIGN(auto medium, DaxMedium::open(device, OpenMode::read_write));
    TRY_ASSIGN(Pool pool, create_on(std::move(medium), options));
    if (named)
        TRY(write_file_atomic(AT_FDCWD, reference, format_reference({device, pool.uuid()}), 0600));
    return pool;
}

Result<Pool> Pool::create_on(std::shared_ptr<Medium> medium, const CreateOptions& options) {
    TRY_ASSIGN(const uint64_t size, medium->size());
    if (size < min_pool_bytes)
        return fail(ErrorKind::unsupported,
                    fmt::format("{}: has {}, a pool needs at least {}", medium->path(),
                                format_size(size), format_size(min_pool_bytes)));
    TRY_ASSIGN(const std::string contents, contents_of(medium));
    if (!contents.empty() && !options.force) {
        auto failure = fail(fmt::format("{}: holds {}; --force destroys that and makes a new pool",
                                        medium->path(), contents));
        failure.error().code = EEXIST;
        return failure;
    }
    TRY_ASSIGN(const UniqueFd lock, lock_unused(*medium, options.pages_in_use,
                                                options.no_other_hosts, "create --force"));
    TRY(wipe_superblocks(*medium));
    Superblock superblock = geometry_for(std::min(size, max_pool_bytes));
    superblock.features |= feature_dedup;
    TRY(write_empty_pool(*medium, superblock));
    return open(std::move(medium));
}

bool Pool::is_pool(const std::string& path) {
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) return false;
    // Opening a device of another kind could do anything.
    if (!S_ISREG(st.st_mode) && !is_dax_node(st)) return false;
    if (read_reference(path)) return true;
    const auto medium = open_medium(path, OpenMode::read_only);
    return medium && begins_like_a_pool(**medium);
}

Result<> Pool::remove(const std::string& path, const RemoveOptions& options) {
    TRY_ASSIGN(const auto medium, open_medium(path, OpenMode::read_write));
    // Also where a reference leads: the device may have been given to something else since.
    if (!begins_like_a_pool(*medium))
        return fail(medium->path() == path
                        ? path + ": not a pool; it is left alone"
                        : fmt::format("{}: the pool it stands for is no longer on {}, which is "
                                      "left alone; delete the file yourself",
                                      path, medium->path()));
    // Held until the pool is gone: nobody can pin a template of a pool that is being removed.
    TRY_ASSIGN(const UniqueFd lock,
               lock_unused(*medium, options.pages_in_use, options.no_other_hosts, "rm"));
    struct stat st{};
    if (::fstat(medium->fd(), &st) != 0) return fail_errno(errno, path);
    if (!S_ISREG(st.st_mode)) TRY(wipe_superblocks(*medium));
    // The file that holds the pool, or the one that stands for it.
    const bool has_file = S_ISREG(st.st_mode) || read_reference(path);
    if (has_file && ::unlink(path.c_str()) != 0) return fail_errno(errno, path);
    return {};
}

}  // namespace memplate::pool
