// SPDX-License-Identifier: Apache-2.0
//
// The kernel module pseudo_mm, one object for each kind of its descriptors. What the ioctls do and
// when they fail is in kmod/include/uapi/linux/pseudo_mm.h; here every failure becomes one line for
// a person, with what to do about it.
#pragma once

#include <linux/pseudo_mm.h>
#include <sys/types.h>

#include <span>
#include <string>

#include "util/fd.h"

namespace memplate::engine {

/// A sealed or growing template: which pool page belongs at which address.
class ModuleTemplate {
  public:
    explicit ModuleTemplate(UniqueFd fd) : fd_(std::move(fd)) {}

    /// Any number of extents, ascending; sent in as many calls as it takes.
    [[nodiscard]] Result<> add(std::span<const pseudo_mm_extent> extents);
    [[nodiscard]] Result<> seal();
    /// Fills the memory of a process (pid 0: of this one). After an error the process holds zeros
    /// where pages should be and must not run.
    [[nodiscard]] Result<pseudo_mm_attach> attach(pid_t pid) const;
    [[nodiscard]] Result<pseudo_mm_stat> stat() const;
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    UniqueFd fd_;
};

/// Pages of which templates are made.
class ModulePool {
  public:
    explicit ModulePool(UniqueFd fd) : fd_(std::move(fd)) {}

    [[nodiscard]] Result<ModuleTemplate> start_template() const;
    /// Counts of a range of pages; both 0: of the whole pool.
    [[nodiscard]] Result<pseudo_mm_stat> stat(uint64_t first_page = 0, uint64_t pages = 0) const;
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    UniqueFd fd_;
};

class Module {
  public:
    /// Opens the device and checks that module and agent understand each other. What is missing is
    /// an error of kind unsupported.
    static Result<Module> open(const std::string& device = PSEUDO_MM_DEVICE);

    /// As of open().
    [[nodiscard]] const pseudo_mm_info& info() const { return info_; }
    [[nodiscard]] bool has(uint64_t feature) const { return (info_.features & feature) != 0; }
    /// An error of kind unsupported that says what the module lacks, unless it has all `features`.
    [[nodiscard]] Result<> require(uint64_t features) const;

    /// The ranges in their order are pages 0, 1, 2, … of the pool. `copy`: into pages that the
    /// module owns; otherwise the memory itself is pinned and shared.
    [[nodiscard]] Result<ModulePool> make_pool(std::span<const pseudo_mm_range> ranges,
                                               bool copy) const;

  private:
    explicit Module(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
    pseudo_mm_info info_{};
};

/// Names of the features of a module, for people: "remote, lazy, rollback".
[[nodiscard]] std::string feature_names(uint64_t features);

/// Whether agent and module speak the same interface, and whether the module has all `features`: if
/// not, an error of kind unsupported.
[[nodiscard]] Result<> check_interface(const pseudo_mm_info& info);
[[nodiscard]] Result<> check_features(const pseudo_mm_info& info, uint64_t features);

// What an errno of an ioctl means, with what to do about it.
[[nodiscard]] Error open_error(int code, const std::string& device);
[[nodiscard]] Error pool_error(int code, const pseudo_mm_info& info);
[[nodiscard]] Error template_error(int code);
[[nodiscard]] Error add_error(int code, const pseudo_mm_extent& first);
[[nodiscard]] Error attach_error(int code, pid_t pid, uint64_t address);

}  // namespace memplate::engine
