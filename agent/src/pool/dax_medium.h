// SPDX-License-Identifier: Apache-2.0
//
// The medium `dax`: memory that is mapped, never read() or written(): a device DAX node (persistent
// memory, CXL memory), which other hosts may have mapped, too. Tests put it over a memfd.
#pragma once

#include "pool/medium.h"

namespace memplate::pool {

/// A shared mapping of a whole device or file, unmapped when it goes out of scope.
class SharedMapping {
  public:
    static Result<SharedMapping> create(int fd, uint64_t bytes, OpenMode mode,
                                        const std::string& what);
    SharedMapping(SharedMapping&& other) noexcept
        : bytes_(std::exchange(other.bytes_, std::span<std::byte>())) {}
    SharedMapping& operator=(SharedMapping&& other) noexcept {
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~SharedMapping();
    [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

  private:
    explicit SharedMapping(std::span<std::byte> bytes) : bytes_(bytes) {}
    std::span<std::byte> bytes_;
};

class DaxMedium : public Medium {
  public:
    /// A device DAX node.
    static Result<std::shared_ptr<DaxMedium>> open(const std::string& path, OpenMode mode);
    /// Anything of `bytes` bytes that can be mapped shared.
    static Result<std::shared_ptr<DaxMedium>> over(UniqueFd fd, const std::string& path,
                                                   OpenMode mode, uint64_t bytes);
    DaxMedium(UniqueFd fd, SharedMapping mapping, std::string path, OpenMode mode)
        : fd_(std::move(fd)), mapping_(std::move(mapping)), path_(std::move(path)), mode_(mode) {}

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::string_view kind() const override { return "dax"; }
    [[nodiscard]] int fd() const override { return fd_.get(); }
    [[nodiscard]] OpenMode mode() const override { return mode_; }
    [[nodiscard]] bool across_hosts() const override { return true; }
    [[nodiscard]] std::span<const std::byte> mapping() const override { return mapping_.bytes(); }
    [[nodiscard]] Result<uint64_t> size() const override { return mapping_.bytes().size(); }
    [[nodiscard]] Result<uint64_t> allocated_bytes() const override { return size(); }
    [[nodiscard]] Result<std::string> state() const override;
    /// Sees what other hosts have written, whether or not their memory is coherent with ours.
    /// Damaged memory is an error, not a signal.
    [[nodiscard]] Result<> read(std::span<std::byte> buffer, uint64_t offset) const override;
    [[nodiscard]] Result<> write(std::span<const std::byte> data, uint64_t offset) override;
    /// Memory has no holes: always false.
    [[nodiscard]] Result<bool> punch(uint64_t offset, uint64_t length) override;
    [[nodiscard]] Result<> resize(uint64_t size) override;
    [[nodiscard]] Result<> sync() override;
    [[nodiscard]] Result<UniqueFd> reopen(OpenMode mode) const override;

  private:
    /// Bytes [offset, offset + length) with their page tables filled: touching them afterwards
    /// raises no signal.
    [[nodiscard]] Result<std::span<std::byte>> touchable(uint64_t offset, uint64_t length,
                                                         int advice) const;

    UniqueFd fd_;
    SharedMapping mapping_;
    std::string path_;
    OpenMode mode_;
};

}  // namespace memplate::pool
