// SPDX-License-Identifier: Apache-2.0
//
// Errors and descriptors of the keeper, which links nothing of the agent.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace memplate::keeper {

struct Fault {
    int code = 0;         ///< errno, 0 where none applies
    std::string message;  ///< "what: why"
};

template <class T = void>
using Outcome = std::expected<T, Fault>;

inline std::unexpected<Fault> fault(int code, const std::string& what) {
    return std::unexpected(Fault{code, what + ": " + std::strerror(code)});
}

/// Owns one descriptor.
class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    explicit operator bool() const { return fd_ >= 0; }

  private:
    int fd_ = -1;
};

/// Creates the directories above `path` (absolute).
Outcome<> make_parents(const std::string& path);
/// mkdir -p.
Outcome<> make_directory(const std::string& path, mode_t mode = 0755);
/// Replaces the file at `path`; nothing planted there (a FIFO, a link) is followed.
Outcome<> replace_file(const std::string& path, const std::string& data, mode_t mode);
/// The rest of what `fd` holds, from its start.
Outcome<std::string> contents(int fd);

}  // namespace memplate::keeper

/// Returns the fault of `expr` from the enclosing function, if it has one.
#define KEEPER_TRY(expr)                                         \
    do {                                                         \
        if (auto outcome_ = (expr); !outcome_) [[unlikely]]      \
            return std::unexpected(std::move(outcome_.error())); \
    } while (false)
