// SPDX-License-Identifier: Apache-2.0
//
// Open-file-description byte-range locks (fcntl F_OFD_*). They belong to the open file, not to the
// process: every duplicate of the descriptor, and every mapping made through it, keeps them, and
// the kernel drops them with the last of those. So a lock can never be left over by a crash.
#pragma once

#include <cstdint>

#include "util/fd.h"

namespace memplate {

enum class LockMode { shared, exclusive };

/// Tries to lock bytes [offset, offset+length) through `fd`. False if somebody else holds it.
[[nodiscard]] Result<bool> try_lock_range(int fd, LockMode mode, uint64_t offset, uint64_t length);
/// Waits for the lock.
[[nodiscard]] Result<> lock_range(int fd, LockMode mode, uint64_t offset, uint64_t length);
/// Drops it.
[[nodiscard]] Result<> unlock_range(int fd, uint64_t offset, uint64_t length);
/// True if some other open file description holds a lock that conflicts with `mode`.
[[nodiscard]] Result<bool> range_is_locked(int fd, LockMode mode, uint64_t offset, uint64_t length);

/// A lock file, exclusively held while this object lives. Used between agents on one host.
class LockFile {
  public:
    LockFile() = default;
    /// Opens (creating) and waits for the lock.
    static Result<LockFile> acquire(const std::string& path);
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    explicit LockFile(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace memplate
