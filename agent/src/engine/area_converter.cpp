// SPDX-License-Identifier: Apache-2.0
#include "engine/area_converter.h"

#include <sys/mman.h>

namespace memplate::engine {
namespace {

constexpr uint32_t regular_file = 1;

void keep(criu::image::Mm& out, const criu::image::Vma& area, uint64_t start, uint64_t end) {
    if (start == end) return;
    auto* piece = out.add_vmas();
    *piece = area;
    piece->set_start(start);
    piece->set_end(end);
    constexpr uint32_t file_backed = criu::vma_status::file_private | criu::vma_status::file_shared;
    if ((area.status() & file_backed) != 0) piece->set_pgoff(area.pgoff() + (start - area.start()));
}

void map(criu::image::Mm& out, const criu::image::Vma& area, const MappedArea& mapped,
         uint32_t file_id) {
    auto* piece = out.add_vmas();
    *piece = area;
    piece->set_start(mapped.start);
    piece->set_end(mapped.end);
    piece->set_status(criu::vma_status::regular | criu::vma_status::file_private);
    piece->set_flags(area.flags() & ~static_cast<uint32_t>(MAP_ANONYMOUS | MAP_STACK));
    piece->set_shmid(file_id);
    piece->set_pgoff(mapped.offset);
    piece->set_fd(-1);
    piece->set_fdflags(0);
}

}  // namespace

criu::image::File inherited_file(uint32_t id, const std::string& key) {
    criu::image::File file;
    file.set_type(regular_file);
    file.set_id(id);
    auto* regular = file.mutable_reg();
    regular->set_id(id);
    regular->set_flags(0);
    regular->set_pos(0);
    regular->set_name("/" + key);
    auto* owner = regular->mutable_fown();
    owner->set_uid(0);
    owner->set_euid(0);
    owner->set_signum(0);
    owner->set_pid_type(0);
    owner->set_pid(0);
    return file;
}

Result<std::string> convert_areas(const std::string& name, const std::string& bytes,
                                  const std::vector<MappedArea>& areas, uint32_t file_id) {
    TRY_ASSIGN(const auto entries, criu::parse_entries(bytes, name, criu::magic::mm));
    if (entries.empty()) return fail(fmt::format("{}: the image is empty", name));
    TRY_ASSIGN(auto mm, criu::parse_message<criu::image::Mm>(entries.front(), name));
    criu::image::Mm converted = mm;
    converted.clear_vmas();
    auto mapped = areas.begin();
    for (const auto& area : mm.vmas()) {
        uint64_t at = area.start();
        for (; mapped != areas.end() && mapped->start < area.end(); ++mapped) {
            if (mapped->start < at || mapped->end > area.end())
                return fail(fmt::format("{}: run at {:#x} does not fit the memory areas", name,
                                        mapped->start));
            keep(converted, area, at, mapped->start);
            map(converted, area, *mapped, file_id);
            at = mapped->end;
        }
        keep(converted, area, at, area.end());
    }
    if (mapped != areas.end())
        return fail(fmt::format("{}: run at {:#x} is in no memory area", name, mapped->start));
    return criu::format_entries({converted.SerializeAsString()}, criu::magic::mm);
}

}  // namespace memplate::engine
