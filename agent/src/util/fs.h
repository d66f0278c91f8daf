// SPDX-License-Identifier: Apache-2.0
//
// Whole-file and directory helpers, relative to a directory descriptor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "util/fd.h"

namespace memplate {

/// The whole file as text. Works for /proc and /sys files, whose size is not known beforehand.
/// Files above `limit` bytes are refused (EFBIG).
[[nodiscard]] Result<std::string> read_file_at(int dirfd, const std::string& path,
                                               size_t limit = size_t{64} << 20);
[[nodiscard]] Result<std::string> read_file(const std::string& path,
                                            size_t limit = size_t{64} << 20);

/// Writes to a temporary beside `path`, fsyncs and renames: readers see the old or the new file.
[[nodiscard]] Result<> write_file_atomic(int dirfd, const std::string& path, std::string_view data,
                                         unsigned mode = 0644);
/// One write(2) to an existing control file (cgroup, /proc, /sys).
[[nodiscard]] Result<> write_control_file(int dirfd, const std::string& path,
                                          std::string_view data);

/// Names in a directory without "." and "..", sorted.
[[nodiscard]] Result<std::vector<std::string>> list_directory(int dirfd, const std::string& path);

/// mkdir -p; an existing directory is fine.
[[nodiscard]] Result<> make_directories(const std::string& path, unsigned mode = 0755);
/// The same; an existing one must be ours, no symbolic link, and writable by nobody else.
[[nodiscard]] Result<> make_private_directory(const std::string& path, unsigned mode = 0700);
/// rm -rf that does not follow symbolic links or enter anything mounted below; a missing path is
/// fine.
[[nodiscard]] Result<> remove_tree(const std::string& path);
/// A fresh directory named PREFIX-XXXXXX under `parent` (created if needed).
[[nodiscard]] Result<std::string> make_temporary_directory(const std::string& parent,
                                                           const std::string& prefix);

/// realpath(3) of an existing path.
[[nodiscard]] Result<std::string> absolute_path(const std::string& path);

/// True if `path` lies on a tmpfs.
[[nodiscard]] bool on_tmpfs(const std::string& path);

/// A directory that is removed with its contents when this object goes out of scope.
class TemporaryDirectory {
  public:
    TemporaryDirectory() = default;
    static Result<TemporaryDirectory> create(const std::string& parent, const std::string& prefix);
    TemporaryDirectory(TemporaryDirectory&& other) noexcept
        : path_(std::exchange(other.path_, {})) {}
    TemporaryDirectory& operator=(TemporaryDirectory&& other) noexcept {
        std::swap(path_, other.path_);
        return *this;
    }
    ~TemporaryDirectory();
    [[nodiscard]] const std::string& path() const { return path_; }
    /// Gives up ownership: the directory stays.
    std::string release() { return std::exchange(path_, {}); }

  private:
    explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

}  // namespace memplate
