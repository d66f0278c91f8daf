// SPDX-License-Identifier: Apache-2.0
#include "engine/module_templates.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "util/proc.h"

namespace memplate::engine {
namespace {

constexpr uint64_t page_size = pool::page_size;

/// A read-only mapping of a pool's file.
class FileMapping {
  public:
    FileMapping() = default;
    FileMapping(const FileMapping&) = delete;
    FileMapping& operator=(const FileMapping&) = delete;
    ~FileMapping() {
        if (memory_ != MAP_FAILED) ::munmap(memory_, length_);
    }
    Result<> map(int fd, uint64_t length) {
        memory_ = ::mmap(nullptr, length, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (memory_ == MAP_FAILED) return fail_errno(errno, "pool: mmap");
        length_ = length;
        return {};
    }
    [[nodiscard]] uint64_t address() const { return reinterpret_cast<uintptr_t>(memory_); }

  private:
    void* memory_ = MAP_FAILED;
    uint64_t length_ = 0;
};

std::vector<pool::PageExtent> pages_of(const proto::AttachPlan& plan) {
    std::vector<pool::PageExtent> pages;
    for (const auto& process : plan.processes())
        for (const auto& extent : process.extents())
            pages.push_back({extent.page(), extent.pages()});
    return pages;
}

/// Memory of a device is shared as it is; pages of a file are copied: what the kernel has cached of
/// a file must not be used longer than the file exists.
Result<ModulePool> make_pool(const Module& module, const pool::Pool& pool, const PageRuns& pages) {
    const auto& runs = pages.runs();
    const uint64_t end = runs.back().first + runs.back().count;
    if (end > pool.total_pages())
        return fail(
            fmt::format("{}: page {} of the template lies outside the pool", pool.path(), end - 1));
    const bool in_place = !pool.mapping().empty();
    FileMapping file;
    if (!in_place) TRY(file.map(pool.fd(), pool.byte_offset(end)));
    const uint64_t base =
        in_place ? reinterpret_cast<uintptr_t>(pool.mapping().data()) : file.address();
    std::vector<pseudo_mm_range> ranges;
    ranges.reserve(runs.size());
    for (const auto& run : runs)
        ranges.push_back({base + pool.byte_offset(run.first), run.count * page_size});
    return module.make_pool(ranges, !in_place);
}

Result<ModuleTemplate> make_template(const ModulePool& pool, const PageRuns& pages,
                                     const proto::AttachProcess& process) {
    std::vector<pseudo_mm_extent> extents;
    extents.reserve(static_cast<size_t>(process.extents_size()));
    for (const auto& extent : process.extents())
        extents.push_back({.addr = extent.vaddr(),
                           .page = pages.index_of(extent.page()),
                           .nr_pages = extent.pages(),
                           .kind = static_cast<uint32_t>(extent.kind()),
                           .pad = 0});
    TRY_ASSIGN(auto made, pool.start_template());
    TRY(made.add(extents));
    TRY(made.seal());
    return made;
}

/// The module takes a pid, which might be somebody else's by then: the pidfd tells.
Result<> attach_process(int proc, const ModuleTemplate& memory, pid_t inside, pid_t host) {
    const auto gone = [&] {
        return fail(
            fmt::format("process {} of the template ended before its memory was filled", inside));
    };
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, host, 0)));
    if (!process) return gone();
    const auto still = proc::namespace_pid(proc, host);
    if (!still || *still != inside) return gone();
    TRY(memory.attach(host));
    pollfd ended{process.get(), POLLIN, 0};
    if (::poll(&ended, 1, 0) != 0) return gone();
    return {};
}

}  // namespace

PageRuns::PageRuns(std::vector<pool::PageExtent> extents) {
    std::ranges::sort(extents, {}, &pool::PageExtent::first);
    for (const auto& extent : extents) {
        if (runs_.empty() || extent.first > runs_.back().first + runs_.back().count) {
            runs_.push_back(extent);
            continue;
        }
        auto& last = runs_.back();
        last.count = std::max(last.count, extent.first + extent.count - last.first);
    }
    uint64_t before = 0;
    for (const auto& run : runs_) {
        before_.push_back(before);
        before += run.count;
    }
}

uint64_t PageRuns::index_of(uint64_t page) const {
    const auto after = std::ranges::upper_bound(runs_, page, {}, &pool::PageExtent::first);
    const auto index = static_cast<size_t>(after - runs_.begin()) - 1;
    return before_[index] + (page - runs_[index].first);
}

Result<ModuleTemplates> ModuleTemplates::build(const Module& module, const pool::Pool& pool,
                                               const pool::TemplateRecord& record,
                                               const proto::AttachPlan& plan) {
    TRY_ASSIGN(auto pin, pool.pin(record));
    const PageRuns pages(pages_of(plan));
    if (pages.runs().empty()) return ModuleTemplates(std::vector<Process>());
    TRY(module.require(PSEUDO_MM_FEATURE_REMOTE));
    TRY_ASSIGN(auto made, make_pool(module, pool, pages));
    std::vector<Process> processes;
    for (const auto& process : plan.processes()) {
        if (process.mapped()) TRY(module.require(PSEUDO_MM_FEATURE_LAZY));
        TRY_ASSIGN(auto memory, make_template(made, pages, process));
        processes.push_back({process.pid(), process.mapped(), std::move(memory)});
    }
    ModuleTemplates templates(std::move(processes));
    if (!pool.mapping().empty()) templates.pin_ = std::move(pin);
    return templates;
}

Result<> ModuleTemplates::attach(const std::map<pid_t, pid_t>& host_pids) const {
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    for (const Process& process : processes_) {
        const auto inside = static_cast<pid_t>(process.pid);
        const auto host = host_pids.find(inside);
        if (host == host_pids.end())
            return fail(
                fmt::format("process {} of the template is not in the restored tree", inside));
        TRY(attach_process(proc.get(), process.memory, inside, host->second));
    }
    return {};
}

}  // namespace memplate::engine
