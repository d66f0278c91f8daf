// SPDX-License-Identifier: Apache-2.0
#include "engine/pseudo_mm.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <utility>

namespace memplate::engine {
namespace {

template <class Argument>
Argument sized() {
    Argument argument{};
    argument.size = sizeof argument;
    return argument;
}

/// The result of an ioctl, or minus errno.
template <class Argument>
int call(int fd, unsigned long request, Argument& argument) {
    const int result = ::ioctl(fd, request, &argument);
    return result < 0 ? -errno : result;
}

Result<pseudo_mm_stat> stat_of(int fd, uint64_t first_page, uint64_t pages) {
    auto argument = sized<pseudo_mm_stat>();
    argument.first_page = first_page;
    argument.nr_pages = pages;
    const int result = call(fd, PSEUDO_MM_IOC_STAT, argument);
    if (result < 0) return fail_errno(-result, "pseudo_mm: STAT");
    return argument;
}

}  // namespace

Result<Module> Module::open(const std::string& device) {
    auto fd = open_at(AT_FDCWD, device, O_RDWR);
    if (!fd) return Failure(open_error(fd.error().code, device));
    Module module(std::move(*fd));
    module.info_ = sized<pseudo_mm_info>();
    const int result = call(module.fd_.get(), PSEUDO_MM_IOC_INFO, module.info_);
    if (result < 0) return Failure(open_error(-result, device));
    TRY(check_interface(module.info_));
    return module;
}

Result<> Module::require(uint64_t features) const {
    return check_features(info_, features);
}

Result<ModulePool> Module::make_pool(std::span<const pseudo_mm_range> ranges, bool copy) const {
    if (ranges.size() > PSEUDO_MM_MAX_RANGES)
        return fail(fmt::format("pseudo_mm: {} ranges of pages, at most {} are possible",
                                ranges.size(), PSEUDO_MM_MAX_RANGES));
    auto argument = sized<pseudo_mm_pool>();
    argument.flags = copy ? PSEUDO_MM_POOL_COPY : 0;
    argument.ranges = reinterpret_cast<uintptr_t>(ranges.data());
    argument.nr_ranges = static_cast<uint32_t>(ranges.size());
    const int result = call(fd_.get(), PSEUDO_MM_IOC_POOL, argument);
    if (result < 0) {
        auto now = sized<pseudo_mm_info>();
        return Failure(
            pool_error(-result, call(fd_.get(), PSEUDO_MM_IOC_INFO, now) < 0 ? info_ : now));
    }
    return ModulePool(UniqueFd(result));
}

Result<ModuleTemplate> ModulePool::start_template() const {
    auto argument = sized<pseudo_mm_template>();
    const int result = call(fd_.get(), PSEUDO_MM_IOC_TEMPLATE, argument);
    if (result < 0) return Failure(template_error(-result));
    return ModuleTemplate(UniqueFd(result));
}

Result<pseudo_mm_stat> ModulePool::stat(uint64_t first_page, uint64_t pages) const {
    return stat_of(fd_.get(), first_page, pages);
}

Result<> ModuleTemplate::add(std::span<const pseudo_mm_extent> extents) {
    while (!extents.empty()) {
        const auto batch =
            extents.first(std::min<size_t>(extents.size(), size_t{PSEUDO_MM_MAX_ADD}));
        auto argument = sized<pseudo_mm_add>();
        argument.extents = reinterpret_cast<uintptr_t>(batch.data());
        argument.nr_extents = static_cast<uint32_t>(batch.size());
        const int result = call(fd_.get(), PSEUDO_MM_IOC_ADD, argument);
        if (result < 0) return Failure(add_error(-result, batch.front()));
        extents = extents.subspan(batch.size());
    }
    return {};
}

Result<> ModuleTemplate::seal() {
    auto argument = sized<pseudo_mm_seal>();
    const int result = call(fd_.get(), PSEUDO_MM_IOC_SEAL, argument);
    if (result < 0) return fail_errno(-result, "pseudo_mm: SEAL");
    return {};
}

Result<pseudo_mm_attach> ModuleTemplate::attach(pid_t pid) const {
    auto argument = sized<pseudo_mm_attach>();
    argument.pid = pid;
    const int result = call(fd_.get(), PSEUDO_MM_IOC_ATTACH, argument);
    if (result < 0) return Failure(attach_error(-result, pid, argument.error_addr));
    return argument;
}

Result<pseudo_mm_stat> ModuleTemplate::stat() const {
    return stat_of(fd_.get(), 0, 0);
}

}  // namespace memplate::engine
