// SPDX-License-Identifier: Apache-2.0
#include "util/lock.h"

#include <fcntl.h>

namespace memplate {
namespace {

struct flock make_lock(short type, uint64_t offset, uint64_t length) {
    struct flock lock{};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(offset);
    lock.l_len = static_cast<off_t>(length);
    return lock;
}

short lock_type(LockMode mode) {
    return mode == LockMode::shared ? F_RDLCK : F_WRLCK;
}

}  // namespace

Result<bool> try_lock_range(int fd, LockMode mode, uint64_t offset, uint64_t length) {
    auto lock = make_lock(lock_type(mode), offset, length);
    if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
    if (errno == EAGAIN || errno == EACCES) return false;
    return fail_errno(errno, "lock");
}

Result<> lock_range(int fd, LockMode mode, uint64_t offset, uint64_t length) {
    auto lock = make_lock(lock_type(mode), offset, length);
    while (::fcntl(fd, F_OFD_SETLKW, &lock) != 0) {
        if (errno != EINTR) return fail_errno(errno, "lock");
    }
    return {};
}

Result<> unlock_range(int fd, uint64_t offset, uint64_t length) {
    auto lock = make_lock(F_UNLCK, offset, length);
    if (::fcntl(fd, F_OFD_SETLK, &lock) != 0) return fail_errno(errno, "unlock");
    return {};
}

Result<bool> range_is_locked(int fd, LockMode mode, uint64_t offset, uint64_t length) {
    auto lock = make_lock(lock_type(mode), offset, length);
    if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) return fail_errno(errno, "query lock");
    return lock.l_type != F_UNLCK;
}

Result<LockFile> LockFile::acquire(const std::string& path) {
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600));
    TRY_CONTEXT(lock_range(fd.get(), LockMode::exclusive, 0, 1), path);
    return LockFile(std::move(fd));
}

}  // namespace memplate
