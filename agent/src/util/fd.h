// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "util/result.h"

namespace memplate {

/// Owns one file descriptor; closed when it goes out of scope.
class UniqueFd {
  public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~UniqueFd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    void reset();

    /// A second descriptor of the same open file description.
    [[nodiscard]] Result<UniqueFd> duplicate() const;

  private:
    int fd_ = -1;
};

/// openat(2), always O_CLOEXEC. `dirfd` may be AT_FDCWD. The message names the path.
[[nodiscard]] Result<UniqueFd> open_at(int dirfd, const std::string& path, int flags,
                                       unsigned mode = 0);

/// Reads exactly `buffer.size()` bytes at `offset`; a short file is an error (code ENODATA).
[[nodiscard]] Result<> pread_exact(int fd, std::span<std::byte> buffer, uint64_t offset);
/// Writes all of `data` at `offset`.
[[nodiscard]] Result<> pwrite_all(int fd, std::span<const std::byte> data, uint64_t offset);
/// Writes all of `data` at the current position.
[[nodiscard]] Result<> write_all(int fd, std::span<const std::byte> data);
/// Size of the open file in bytes.
[[nodiscard]] Result<uint64_t> file_size(int fd);

/// Views of memory as bytes, for the calls above.
template <class T>
std::span<const std::byte> bytes_of(const T& container) {
    return std::as_bytes(std::span(container.data(), container.size()));
}
template <class T>
std::span<std::byte> writable_bytes_of(T& container) {
    return std::as_writable_bytes(std::span(container.data(), container.size()));
}

}  // namespace memplate
