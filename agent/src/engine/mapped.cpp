// SPDX-License-Identifier: Apache-2.0
//
// Engine mapped: shared runs of private memory become private file mappings of the pool, so that a
// restore does not depend on their size and instances share them until they write. The rules, each
// of which CRIU or the kernel enforces:
//   - one file id per process: CRIU takes equal id and addresses in parent and child for memory
//     shared by fork and would ignore the offset;
//   - a converted area is a regular private file mapping without MAP_ANONYMOUS and MAP_STACK;
//   - the entry of the pool in files.img has neither size nor mode, so nothing is compared.
// Semantics that a file mapping does not have (zeros after MADV_DONTNEED, MADV_FREE, WIPEONFORK,
// zeros in memory gained by mremap) are the reason for placements and hazards: see template/.
#include <sys/mman.h>

#include <algorithm>

#include "engine/image_writer.h"

namespace memplate::engine {
namespace {

constexpr uint64_t page_size = pool::page_size;
constexpr uint32_t first_file_id = 0x7f000001;
constexpr uint32_t regular_file = 1;

criu::image::File pool_file(uint32_t id) {
    criu::image::File file;
    file.set_type(regular_file);
    file.set_id(id);
    auto* regular = file.mutable_reg();
    regular->set_id(id);
    regular->set_flags(0);
    regular->set_pos(0);
    regular->set_name(std::string("/") + pool_file_key);
    auto* owner = regular->mutable_fown();
    owner->set_uid(0);
    owner->set_euid(0);
    owner->set_signum(0);
    owner->set_pid_type(0);
    owner->set_pid(0);
    return file;
}

/// The runs of a process that are mapped, and the pages that CRIU still has to copy.
struct Split {
    std::vector<const proto::Run*> mapped;
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
        if (mapped) split.mapped.push_back(&run);
        for (const auto& interval : mapped ? run_written : clip(present, run.vaddr(), end))
            append(split.copied, interval);
    }
    return split;
}

class AreaConverter {
  public:
    AreaConverter(const PageSource& pages, uint32_t file_id, criu::image::Mm& out)
        : pages_(pages), file_id_(file_id), out_(out) {}

    void keep(const criu::image::Vma& area, uint64_t start, uint64_t end) {
        if (start == end) return;
        auto* piece = out_.add_vmas();
        *piece = area;
        piece->set_start(start);
        piece->set_end(end);
        constexpr uint32_t file_backed =
            criu::vma_status::file_private | criu::vma_status::file_shared;
        if ((area.status() & file_backed) != 0)
            piece->set_pgoff(area.pgoff() + (start - area.start()));
    }

    void map(const criu::image::Vma& area, const proto::Run& run) {
        auto* piece = out_.add_vmas();
        *piece = area;
        piece->set_start(run.vaddr());
        piece->set_end(run.vaddr() + run.pages() * page_size);
        piece->set_status(criu::vma_status::regular | criu::vma_status::file_private);
        piece->set_flags(area.flags() & ~static_cast<uint32_t>(MAP_ANONYMOUS | MAP_STACK));
        piece->set_shmid(file_id_);
        piece->set_pgoff(pages_.byte_offset(run.page()));
        piece->set_fd(-1);
        piece->set_fdflags(0);
    }

  private:
    const PageSource& pages_;
    uint32_t file_id_;
    criu::image::Mm& out_;
};

Result<std::string> convert_mm(const std::string& name, const std::string& bytes,
                               const std::vector<const proto::Run*>& runs, const PageSource& pages,
                               uint32_t file_id) {
    TRY_ASSIGN(const auto entries, criu::parse_entries(bytes, name, criu::magic::mm));
    if (entries.empty()) return fail(fmt::format("{}: the image is empty", name));
    TRY_ASSIGN(auto mm, criu::parse_message<criu::image::Mm>(entries.front(), name));
    criu::image::Mm converted = mm;
    converted.clear_vmas();
    AreaConverter converter(pages, file_id, converted);
    auto run = runs.begin();
    for (const auto& area : mm.vmas()) {
        uint64_t at = area.start();
        for (; run != runs.end() && (*run)->vaddr() < area.end(); ++run) {
            const uint64_t end = (*run)->vaddr() + (*run)->pages() * page_size;
            if ((*run)->vaddr() < at || end > area.end())
                return fail(fmt::format("{}: run at {:#x} does not fit the memory areas", name,
                                        (*run)->vaddr()));
            converter.keep(area, at, (*run)->vaddr());
            converter.map(area, **run);
            at = end;
        }
        converter.keep(area, at, area.end());
    }
    if (run != runs.end())
        return fail(fmt::format("{}: run at {:#x} is in no memory area", name, (*run)->vaddr()));
    return criu::format_entries({converted.SerializeAsString()}, criu::magic::mm);
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
        const bool has_memory = std::ranges::any_of(
            tmpl.manifest.images(), [&](const auto& image) { return image.name() == name; });
        if (!has_memory) continue;  // a zombie
        TRY_ASSIGN(const std::string bytes, tmpl.image(name));
        TRY_ASSIGN(const std::string converted,
                   convert_mm(name, bytes, split.mapped, tmpl.pages, file_id));
        TRY(write_image(directory, name, converted));
        if (!split.mapped.empty()) extra_files.push_back(pool_file(file_id));
        ++file_id;
    }
    return {};
}

}  // namespace memplate::engine
