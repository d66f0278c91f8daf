// SPDX-License-Identifier: Apache-2.0
#include "engine/attached.h"

#include <fcntl.h>
#include <linux/pseudo_mm.h>
#include <sys/mman.h>

#include <algorithm>
#include <span>

#include "engine/area_converter.h"
#include "engine/image_writer.h"
#include "util/fs.h"

namespace memplate::engine {
namespace {

constexpr uint64_t page_size = pool::page_size;
namespace status = criu::vma_status;

static_assert(proto::ATTACH_SHARED == PSEUDO_MM_SHARED &&
              proto::ATTACH_COPIED == PSEUDO_MM_COPIED && proto::ATTACH_LAZY == PSEUDO_MM_LAZY);

/// With fewer untouched pages than this (1 MiB) a mapping of its own is not worth it.
constexpr uint64_t min_lazy_pages = 256;

/// Plain private anonymous memory: what is special in any way stays with CRIU.
bool can_be_filled(const criu::image::Vma& area) {
    constexpr uint32_t plain =
        status::regular | status::anon_private | status::heap | status::stack;
    constexpr uint32_t special = MAP_SHARED | MAP_HUGETLB | MAP_LOCKED;
    return (area.status() & status::anon_private) != 0 && (area.status() & ~plain) == 0 &&
           (area.flags() & special) == 0;
}

bool can_be_filled(const proto::Run& run) {
    return run.owner() != proto::OWNER_FILE && run.placement() != proto::PLACEMENT_HUGETLB &&
           run.placement() != proto::PLACEMENT_LOCKED && run.placement() != proto::PLACEMENT_KERNEL;
}

/// Nothing was seen that rules out a mapping; small runs can be part of a larger one.
bool may_be_mapped(const proto::Run& run) {
    return run.placement() == proto::PLACEMENT_SHARED || run.placement() == proto::PLACEMENT_SMALL;
}

/// Whether pages that nobody has touched may behave as those of a file (DESIGN.md D4).
bool may_be_lazy(const criu::image::Vma& area, const proto::Run& run) {
    return may_be_mapped(run) && (area.prot() & PROT_WRITE) != 0 && (area.prot() & PROT_EXEC) == 0;
}

/// Whether `next` continues `run`: pools with dedup cut runs wherever pool pages are not
/// contiguous.
bool continues(const proto::Run& run, const proto::Run& next) {
    constexpr uint64_t largest_gap = 16 * page_size;
    return next.vaddr() - (run.vaddr() + run.pages() * page_size) <= largest_gap &&
           run.owner() == next.owner() && may_be_mapped(run) == may_be_mapped(next);
}

/// Whether the builder saw nothing, and could see, that rules out lazy pages in a process.
bool may_be_lazy(const Template& tmpl, uint32_t pid) {
    return std::ranges::none_of(tmpl.manifest.hazards(), [&](const proto::Hazard& hazard) {
        return hazard.kind() == proto::HAZARD_UNTRACED ||
               (hazard.whole_process() && hazard.pid() == pid);
    });
}

/// What is in `all` but not in `removed`.
Intervals subtract(const Intervals& all, const Intervals& removed) {
    Intervals result;
    for (const Interval& interval : all) {
        uint64_t at = interval.start;
        for (const Interval& hole : clip(removed, interval.start, interval.end)) {
            if (at < hole.start) append(result, {at, hole.start});
            at = hole.end;
        }
        if (at < interval.end) append(result, {at, interval.end});
    }
    return result;
}

/// Pages that hold the restartable-sequences area of a thread. The kernel has written to them since
/// CRIU registered the area, and may not do so again: they must not be replaced.
Result<Intervals> rseq_pages(const Template& tmpl, uint32_t pid) {
    TRY_ASSIGN(const std::string tree, tmpl.image("pstree.img"));
    TRY_ASSIGN(const auto entries,
               criu::parse_entries(tree, "pstree.img", criu::magic::process_tree));
    std::vector<uint64_t> pages;
    for (const std::string& bytes : entries) {
        TRY_ASSIGN(const auto process,
                   criu::parse_message<criu::image::Process>(bytes, "pstree.img"));
        if (process.pid() != pid) continue;
        for (const uint32_t thread : process.threads()) {
            const std::string name = fmt::format("core-{}.img", thread);
            if (!tmpl.has_image(name)) continue;
            TRY_ASSIGN(const std::string image, tmpl.image(name));
            TRY_ASSIGN(const auto cores, criu::parse_entries(image, name, criu::magic::core));
            for (const std::string& entry : cores) {
                TRY_ASSIGN(const auto core, criu::parse_message<criu::image::Core>(entry, name));
                if (!core.thread_core().has_rseq()) continue;
                // 32 bytes, aligned: never across a page border.
                pages.push_back(core.thread_core().rseq().address() / page_size * page_size);
            }
        }
    }
    std::ranges::sort(pages);
    Intervals result;
    for (const uint64_t page : pages) {
        if (result.empty() || result.back().end <= page) append(result, {page, page + page_size});
    }
    return result;
}

uint64_t end_of(const proto::Run& run) {
    return run.vaddr() + run.pages() * page_size;
}

using Runs = std::span<const proto::Run* const>;

/// Decides for one process, run by run; runs that belong together come together.
class Planner {
  public:
    Planner(const Template& tmpl, const proto::ProcessPages& process, Lazy lazy)
        : present_(to_intervals(process.present())), lazy_(lazy) {
        plan.attach.set_pid(process.pid());
        if (const auto* profile = tmpl.profile_of(process.pid())) {
            profiled_ = true;
            written_ = intersect(present_, to_intervals(profile->written()));
            read_ = intersect(present_, to_intervals(profile->read()));
        }
        if (!may_be_lazy(tmpl, process.pid())) lazy_ = Lazy::never;
    }

    void keep_pages(Intervals pages) { kept_ = std::move(pages); }

    void copy(const proto::Run& run) {
        for (const auto& interval : clip(present_, run.vaddr(), end_of(run)))
            append(plan.copied, interval);
    }

    /// `runs`: of one area, ascending.
    void fill(const criu::image::Vma& area, Runs runs) {
        const uint64_t start = runs.front()->vaddr();
        const uint64_t end = end_of(*runs.back());
        const auto here = [&](const Intervals& all) { return clip(all, start, end); };
        const Intervals pages = here(present_);
        for (const auto& interval : intersect(pages, here(kept_))) append(plan.copied, interval);
        const Intervals filled = subtract(pages, here(kept_));
        // Nobody runs without writing to its stack.
        const bool all_written = runs.front()->owner() == proto::OWNER_STACK;
        const Intervals copied = all_written ? filled : intersect(filled, here(written_));
        const Intervals rest = subtract(filled, copied);
        Intervals untouched;
        if (is_mapped(area, *runs.front()))
            untouched = lazy_ == Lazy::everything ? rest : subtract(rest, here(read_));
        if (count_pages(untouched) < min_lazy_pages) untouched.clear();
        const Intervals shared = subtract(rest, untouched);
        add(runs, {{&copied, proto::ATTACH_COPIED},
                   {&shared, proto::ATTACH_SHARED},
                   {&untouched, proto::ATTACH_LAZY}});
        if (untouched.empty()) return;
        plan.mapped.push_back({start, end});
        plan.attach.set_mapped(true);
    }

    ProcessPlan plan;

  private:
    using Part = std::pair<const Intervals*, proto::AttachKind>;

    [[nodiscard]] bool is_mapped(const criu::image::Vma& area, const proto::Run& run) const {
        if (lazy_ == Lazy::never || !may_be_lazy(area, run)) return false;
        return lazy_ == Lazy::everything || profiled_;
    }

    /// Adds the extents of the parts in order of their addresses.
    void add(Runs runs, std::initializer_list<Part> parts) {
        std::vector<std::pair<Interval, proto::AttachKind>> pieces;
        for (const auto& [intervals, kind] : parts)
            for (const Interval& interval : *intervals) pieces.emplace_back(interval, kind);
        std::ranges::sort(pieces, {}, [](const auto& piece) { return piece.first.start; });
        auto run = runs.begin();
        for (auto [interval, kind] : pieces) {
            while (interval.start < interval.end) {
                while (end_of(**run) <= interval.start) ++run;
                const uint64_t end = std::min(interval.end, end_of(**run));
                auto* extent = plan.attach.add_extents();
                extent->set_vaddr(interval.start);
                extent->set_pages((end - interval.start) / page_size);
                extent->set_page((*run)->page() + (interval.start - (*run)->vaddr()) / page_size);
                extent->set_kind(kind);
                interval.start = end;
            }
        }
    }

    Intervals present_;
    Intervals written_;
    Intervals read_;
    Intervals kept_;
    Lazy lazy_;
    bool profiled_ = false;
};

std::string mm_name(uint32_t pid) {
    return fmt::format("mm-{}.img", pid);
}

Failure misplaced(const proto::Run& run, const std::string& name) {
    return fail(fmt::format("{}: run at {:#x} does not fit the memory areas", name, run.vaddr()));
}

Result<> validate(const proto::AttachPlan& plan) {
    const auto wrong = [] {
        return fail(fmt::format("{} is damaged; remove the cache and run again", attach_plan_file));
    };
    if (plan.version() != attach_plan_version) return wrong();
    for (const auto& process : plan.processes()) {
        uint64_t end = 0;
        for (const auto& extent : process.extents()) {
            constexpr uint64_t most = uint64_t{1} << 56;
            if (extent.vaddr() < end || extent.vaddr() >= most || extent.pages() == 0 ||
                extent.pages() > most / page_size || extent.page() > most)
                return wrong();
            end = extent.vaddr() + extent.pages() * page_size;
        }
    }
    return {};
}

}  // namespace

Result<ProcessPlan> plan_process(const Template& tmpl, const proto::ProcessPages& process,
                                 Lazy lazy) {
    Planner planner(tmpl, process, lazy);
    const std::string name = mm_name(process.pid());
    if (!tmpl.has_image(name)) return std::move(planner.plan);  // a zombie
    TRY_ASSIGN(Intervals kept, rseq_pages(tmpl, process.pid()));
    planner.keep_pages(std::move(kept));
    TRY_ASSIGN(const std::string bytes, tmpl.image(name));
    TRY_ASSIGN(const auto entries, criu::parse_entries(bytes, name, criu::magic::mm));
    if (entries.empty()) return fail(fmt::format("{}: the image is empty", name));
    TRY_ASSIGN(const auto mm, criu::parse_message<criu::image::Mm>(entries.front(), name));
    auto area = mm.vmas().begin();
    std::vector<const proto::Run*> together;
    const auto fill_together = [&] {
        if (!together.empty()) planner.fill(*area, together);
        together.clear();
    };
    for (const auto& run : process.runs()) {
        const bool fillable = can_be_filled(run);
        if (!together.empty() &&
            (!fillable || run.vaddr() >= area->end() || !continues(*together.back(), run)))
            fill_together();
        while (area != mm.vmas().end() && area->end() <= run.vaddr()) ++area;
        if (area == mm.vmas().end() || area->start() > run.vaddr() ||
            area->end() - run.vaddr() < run.pages() * page_size)
            return misplaced(run, name);
        if (fillable && can_be_filled(*area))
            together.push_back(&run);
        else
            planner.copy(run);
    }
    fill_together();
    return std::move(planner.plan);
}

std::string module_template_key(uint32_t pid) {
    return fmt::format("memplate-template-{}", pid);
}

Result<> write_attached_memory(int directory, const Template& tmpl, Lazy lazy,
                               std::vector<criu::image::File>& extra_files) {
    proto::AttachPlan plan;
    plan.set_version(attach_plan_version);
    uint32_t pages_id = first_free_pages_id(tmpl.manifest);
    uint32_t file_id = first_file_id;
    for (const auto& process : tmpl.manifest.processes()) {
        TRY_ASSIGN(auto part, plan_process(tmpl, process, lazy));
        TRY(write_pages(directory, tmpl, process, pages_id++, part.copied));
        const std::string name = mm_name(process.pid());
        if (!tmpl.has_image(name)) continue;
        TRY_ASSIGN(std::string bytes, tmpl.image(name));
        if (!part.mapped.empty()) {
            std::vector<MappedArea> areas;
            for (const Interval& area : part.mapped)
                areas.push_back({area.start, area.end, area.start});
            TRY_ASSIGN(bytes, convert_areas(name, bytes, areas, file_id));
            extra_files.push_back(inherited_file(file_id, module_template_key(process.pid())));
        }
        ++file_id;
        TRY(write_image(directory, name, bytes));
        if (!part.attach.extents().empty()) *plan.add_processes() = std::move(part.attach);
    }
    return write_image(directory, attach_plan_file, plan.SerializeAsString());
}

Result<proto::AttachPlan> read_plan(const std::string& directory) {
    TRY_ASSIGN(const std::string bytes,
               read_file(directory + "/" + attach_plan_file, max_attach_plan_bytes));
    proto::AttachPlan plan;
    if (!plan.ParseFromString(bytes))
        return fail(fmt::format("{}/{} is damaged; remove the cache and run again", directory,
                                attach_plan_file));
    TRY_CONTEXT(validate(plan), directory);
    return plan;
}

}  // namespace memplate::engine
