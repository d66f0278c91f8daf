// SPDX-License-Identifier: Apache-2.0
//
// What a pool is stored on. Everything the pool reads, writes or makes durable goes through here,
// so that tests can record the order of operations and replay a crash between any two of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pool/pool.h"

namespace memplate::pool {

class Medium {
  public:
    virtual ~Medium() = default;

    [[nodiscard]] virtual const std::string& path() const = 0;
    /// As PoolInfo::medium names it.
    [[nodiscard]] virtual std::string_view kind() const = 0;
    /// For mmap and for lock queries. Locks that must end with their owner are taken on reopen().
    [[nodiscard]] virtual int fd() const = 0;
    [[nodiscard]] virtual OpenMode mode() const = 0;
    /// True if other hosts may write to the medium as well. Locks do not reach them, so the lease
    /// block binds (FORMAT.md, "Several hosts").
    [[nodiscard]] virtual bool across_hosts() const { return false; }
    /// The whole medium as shared memory; empty if it is not memory.
    [[nodiscard]] virtual std::span<const std::byte> mapping() const { return {}; }
    [[nodiscard]] virtual Result<uint64_t> size() const = 0;
    /// Changes with every commit.
    [[nodiscard]] virtual Result<std::string> state() const = 0;
    /// Bytes of storage really occupied.
    [[nodiscard]] virtual Result<uint64_t> allocated_bytes() const = 0;

    /// Exactly buffer.size() bytes; a medium that ends earlier is an error (code ENODATA).
    [[nodiscard]] virtual Result<> read(std::span<std::byte> buffer, uint64_t offset) const = 0;
    [[nodiscard]] virtual Result<> write(std::span<const std::byte> data, uint64_t offset) = 0;
    /// Gives the storage of a range back; it reads as zero afterwards. False, with nothing done, if
    /// the medium cannot.
    [[nodiscard]] virtual Result<bool> punch(uint64_t offset, uint64_t length) = 0;
    /// Takes storage for a range that reads as zero, so that whoever maps it finds it: on a full
    /// tmpfs a process that touches a hole is killed by SIGBUS.
    [[nodiscard]] virtual Result<> allocate(uint64_t /*offset*/, uint64_t /*length*/) { return {}; }
    [[nodiscard]] virtual Result<> resize(uint64_t size) = 0;
    /// Everything written or resized before is durable afterwards.
    [[nodiscard]] virtual Result<> sync() = 0;

    /// A descriptor with an open file description of its own, so that locks taken through it belong
    /// to it alone.
    [[nodiscard]] virtual Result<UniqueFd> reopen(OpenMode mode) const = 0;
};

/// The medium `file`: a regular file on any file system, a tmpfs file or a memfd.
class FileMedium : public Medium {
  public:
    FileMedium(UniqueFd fd, std::string path, OpenMode mode)
        : fd_(std::move(fd)), path_(std::move(path)), mode_(mode) {}
    static Result<std::shared_ptr<Medium>> open(const std::string& path, OpenMode mode);

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::string_view kind() const override { return "file"; }
    [[nodiscard]] int fd() const override { return fd_.get(); }
    [[nodiscard]] OpenMode mode() const override { return mode_; }
    [[nodiscard]] Result<uint64_t> size() const override;
    [[nodiscard]] Result<uint64_t> allocated_bytes() const override;
    [[nodiscard]] Result<std::string> state() const override;
    [[nodiscard]] Result<> read(std::span<std::byte> buffer, uint64_t offset) const override;
    [[nodiscard]] Result<> write(std::span<const std::byte> data, uint64_t offset) override;
    [[nodiscard]] Result<bool> punch(uint64_t offset, uint64_t length) override;
    [[nodiscard]] Result<> allocate(uint64_t offset, uint64_t length) override;
    [[nodiscard]] Result<> resize(uint64_t size) override;
    [[nodiscard]] Result<> sync() override;
    [[nodiscard]] Result<UniqueFd> reopen(OpenMode mode) const override;

  private:
    UniqueFd fd_;
    std::string path_;
    OpenMode mode_;
};

}  // namespace memplate::pool
