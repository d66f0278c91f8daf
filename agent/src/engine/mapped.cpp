// SPDX-License-Identifier: Apache-2.0
//
// Engine mapped: shared runs of private memory become private file mappings of the pool, so that a
// restore does not depend on their size and instances share them until they write. Semantics that a
// file mapping does not have (zeros after MADV_DONTNEED, MADV_FREE, WIPEONFORK, zeros in memory
// gained by mremap) are the reason for placements and hazards: see template/.
#include <algorithm>

#include "engine/area_converter.h"
#include "engine/image_writer.h"

namespace memplate::engine {
namespace {

constexpr uint64_t page_size = pool::page_size;

/// The runs of a process that are mapped, and the pages that CRIU still has to copy.
struct Split {
    std::vector<MappedArea> mapped;
    Intervals copied;
};

Split split_runs(const Template& tmpl, const proto::ProcessPages& process) {
    Split split;
    const Intervals present = to_intervals(process.present());
    Intervals written;
    if (const auto* profile = tmpl.profile_of(process.pid()))
        written = intersect(present, to_intervals(profile->written()));
    for (const auto& run : process.runs()) {
        const uint64_t end = run.vaddr() + run.pages() * page_size;
        const Intervals run_written = clip(written, run.vaddr(), end);
        const bool mapped = run_is_mapped(run, count_pages(run_written));
        if (mapped) split.mapped.push_back({run.vaddr(), end, tmpl.pages.byte_offset(run.page())});
        for (const auto& interval : mapped ? run_written : clip(present, run.vaddr(), end))
            append(split.copied, interval);
    }
    return split;
}

}  // namespace

Result<> write_mapped_memory(int directory, const Template& tmpl,
                             std::vector<criu::image::File>& extra_files) {
    uint32_t pages_id = first_free_pages_id(tmpl.manifest);
    uint32_t file_id = first_file_id;
    for (const auto& process : tmpl.manifest.processes()) {
        const Split split = split_runs(tmpl, process);
        TRY(write_pages(directory, tmpl, process, pages_id++, split.copied));
        const std::string name = fmt::format("mm-{}.img", process.pid());
        if (!tmpl.has_image(name)) continue;  // a zombie
        TRY_ASSIGN(const std::string bytes, tmpl.image(name));
        TRY_ASSIGN(const std::string converted, convert_areas(name, bytes, split.mapped, file_id));
        TRY(write_image(directory, name, converted));
        if (!split.mapped.empty()) extra_files.push_back(inherited_file(file_id, pool_file_key));
        ++file_id;
    }
    return {};
}

}  // namespace memplate::engine
