// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "util/fd.h"

namespace memplate::gpu {

/// The file of a driver that a process has mapped, opened by way of that process: whatever its
/// mount namespace, and whatever the file is called there now.
class DriverFile {
  public:
    /// One that nobody needs to have mapped: base() is 0.
    static Result<DriverFile> open(const std::string& path);
    /// The one that is mapped at `address`.
    static Result<DriverFile> mapped_by(pid_t pid, uint64_t address);

    struct Function {
        std::string name;
        uint64_t address = 0;  ///< in the file's own address space
        uint64_t offset = 0;   ///< in the file
    };
    /// The exported functions of the driver ("cu…"), one name for each address.
    [[nodiscard]] Result<std::vector<Function>> functions() const;
    /// Where an address of the process lies in the file; nothing if in no code of it.
    [[nodiscard]] std::optional<Function> at(uint64_t address) const;

    [[nodiscard]] uint64_t base() const { return base_; }  ///< where its address 0 is
    /// What the place of its first byte lacks to be that of its address 0, modulo 2^64. Nothing if
    /// parts of its code differ in that.
    [[nodiscard]] std::optional<uint64_t> shift() const;
    /// For calls of the kernel by this process.
    [[nodiscard]] std::string path() const;
    [[nodiscard]] dev_t device() const { return device_; }
    [[nodiscard]] ino_t inode() const { return inode_; }

  private:
    struct Segment {
        uint64_t address = 0;
        uint64_t offset = 0;
        uint64_t bytes = 0;
    };
    static Result<DriverFile> read(UniqueFd fd);
    UniqueFd fd_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
    uint64_t base_ = 0;
    std::vector<Segment> code_;
};

}  // namespace memplate::gpu
