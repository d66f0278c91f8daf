// SPDX-License-Identifier: Apache-2.0
//
// The ways to give a process the pages of a template, each as what the process maps beforehand and
// what is then done to fill it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/attach.h"
#include "engine/pseudo_mm.h"

namespace memplate::bench {

/// The pages that all variants deliver: a sealed memfd, none of its pages zero.
class AttachSource {
  public:
    static Result<AttachSource> create(uint64_t bytes);
    AttachSource(AttachSource&&) noexcept;
    AttachSource& operator=(AttachSource&&) = delete;
    AttachSource(const AttachSource&) = delete;
    ~AttachSource();

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const unsigned char* memory() const { return memory_; }
    [[nodiscard]] uint64_t bytes() const { return bytes_; }
    /// The first byte of a page.
    static unsigned char first_byte(uint64_t page) {
        return static_cast<unsigned char>(page % 251 + 1);
    }

  private:
    AttachSource(UniqueFd fd, uint64_t bytes) : fd_(std::move(fd)), bytes_(bytes) {}
    UniqueFd fd_;
    uint64_t bytes_;
    unsigned char* memory_ = nullptr;
};

/// Where the pages go in the process, whatever else it has mapped: above what sanitizers reserve.
inline constexpr uint64_t attach_address = 0x200000000000;

/// A part of the pages, in pages.
struct PagePart {
    uint64_t first = 0;
    uint64_t count = 0;
};
/// Pieces of 16 pages spread evenly that make up `part` of all pages; at least one, unless `part`
/// is 0.
[[nodiscard]] std::vector<PagePart> spread(uint64_t pages, double part);

class AttachVariant {
  public:
    virtual ~AttachVariant() = default;
    [[nodiscard]] virtual std::string name() const = 0;
    /// In the process, before the clock runs. Like fill_self(): no memory may be allocated, and an
    /// errno is the result.
    [[nodiscard]] virtual int map() const = 0;
    /// In the process: the measured part, if it is the process's own to do.
    [[nodiscard]] virtual int fill_self() const { return 0; }
    /// From outside, while the process waits: the measured part, if it is somebody else's to do.
    [[nodiscard]] virtual Result<> fill_other(pid_t) const { return {}; }
};

/// Copies into anonymous memory.
[[nodiscard]] std::unique_ptr<AttachVariant> copy_variant(const AttachSource& source);
/// A private mapping of the memfd, with `populated` pages mapped at once.
[[nodiscard]] std::unique_ptr<AttachVariant> memfd_variant(const AttachSource& source,
                                                           std::string name,
                                                           std::vector<PagePart> populated);
/// The module: `shared` pages at attach, the others at the first touch.
[[nodiscard]] Result<std::unique_ptr<AttachVariant>> attached_variant(
    const engine::Module& module, const AttachSource& source, std::string name,
    const std::vector<PagePart>& shared);

}  // namespace memplate::bench
