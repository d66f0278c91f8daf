// SPDX-License-Identifier: Apache-2.0
#include "engine/pages_in_use.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/pseudo_mm.h"
#include "pool/medium.h"

namespace memplate::engine {
namespace {

/// Pinned at once, below the module's limit of pages by default.
constexpr uint64_t pages_at_once = uint64_t{1} << 16;

Result<bool> in_use(const Module& module, std::span<const std::byte> memory) {
    const pseudo_mm_range range{reinterpret_cast<uintptr_t>(memory.data()), memory.size()};
    TRY_ASSIGN(const auto pool, module.make_pool({&range, 1}, false));
    TRY_ASSIGN(const auto stat, pool.stat());
    return stat.live_references > 0;
}

}  // namespace

Result<bool> module_is_loaded(const std::string& root) {
    const std::string modules = root + "/sys/module";
    if (::access((modules + "/pseudo_mm").c_str(), F_OK) == 0) return true;
    if (::access(modules.c_str(), F_OK) == 0) return false;
    return fail(fmt::format("cannot tell whether the kernel module is loaded: {}: {}", modules,
                            std::strerror(errno)));
}

pool::PagesInUse pages_in_use(const pool::Pool& pool) {
    return pages_in_use(pool.medium(), pool.byte_offset(0));
}

pool::PagesInUse pages_in_use(const std::shared_ptr<const pool::Medium>& medium, uint64_t base) {
    if (medium->mapping().empty()) return {};
    return [medium, base](const pool::PageExtent& extent) -> Result<bool> {
        const auto module = Module::open();
        if (!module) {
            TRY_ASSIGN(const bool loaded, module_is_loaded());
            if (!loaded) return false;
            return fail(
                fmt::format("cannot tell which pages of {} are in use: the module is loaded, "
                            "but /dev/pseudo_mm cannot be opened here ({})",
                            medium->path(), std::strerror(module.error().code)));
        }
        // What a lazy mapping has yet to deliver is in no page table.
        if (module->info().lazy_regions > 0) return true;
        const auto memory = medium->mapping();
        for (uint64_t done = 0; done < extent.count; done += pages_at_once) {
            const uint64_t count = std::min(pages_at_once, extent.count - done);
            const uint64_t offset = base + (extent.first + done) * pool::page_size;
            if (offset + count * pool::page_size > memory.size())
                return fail(fmt::format("{}: page {} lies outside the pool", medium->path(),
                                        extent.first + done));
            TRY_ASSIGN(const bool used,
                       in_use(*module, memory.subspan(offset, count * pool::page_size)));
            if (used) return true;
        }
        return false;
    };
}

}  // namespace memplate::engine
