// SPDX-License-Identifier: Apache-2.0
//
// A cold page cache for some files, and back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "util/result.h"

namespace memplate::gpu {

/// Takes files out of the page cache while it lives, and reads what was there back when it goes.
/// The kernel keeps pages that a running process has mapped, and all of a tmpfs: kept_bytes().
class ColdFiles {
  public:
    /// Files that cannot be opened are left out.
    explicit ColdFiles(const std::vector<std::string>& paths);
    ColdFiles(const ColdFiles&) = delete;
    ColdFiles& operator=(const ColdFiles&) = delete;
    ~ColdFiles();

    /// In the page cache before, and still there after; bytes in whole pages.
    [[nodiscard]] uint64_t cached_bytes() const { return cached_bytes_; }
    [[nodiscard]] uint64_t kept_bytes() const { return kept_bytes_; }

  private:
    struct File {
        std::string path;
        std::vector<bool> cached;  ///< by page
    };
    std::vector<File> files_;
    uint64_t cached_bytes_ = 0;
    uint64_t kept_bytes_ = 0;
};

/// Which pages of a file the page cache holds. Others' files that the caller may not write look as
/// if all of their pages were there.
[[nodiscard]] Result<std::vector<bool>> cached_pages(int fd);

}  // namespace memplate::gpu
