// SPDX-License-Identifier: Apache-2.0
#include "template/inspect.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>

#include "template/intervals.h"
#include "util/clock.h"

namespace memplate {
namespace {

constexpr uint64_t page_size = pool::page_size;

Json counts_json(const PageCounts& counts) {
    return Json{{"stored", counts.stored},       {"shared", counts.shared},
                {"precopied", counts.precopied}, {"copied", counts.copied},
                {"zero", counts.zero},           {"holes", counts.holes}};
}

std::string_view hazard_kind(proto::HazardKind kind) {
    switch (kind) {
        case proto::HAZARD_ALLOCATOR:
            return "allocator";
        case proto::HAZARD_DISCARD:
            return "discard";
        case proto::HAZARD_FREE:
            return "free";
        case proto::HAZARD_WIPEONFORK:
            return "wipe-on-fork";
        case proto::HAZARD_GROWTH:
            return "growth";
        case proto::HAZARD_UNTRACED:
            return "not-watched";
        default:
            return "unknown";
    }
}

std::string permissions(const criu::image::Vma& vma) {
    const bool shared = (vma.flags() & MAP_SHARED) != 0;
    return {(vma.prot() & PROT_READ) != 0 ? 'r' : '-', (vma.prot() & PROT_WRITE) != 0 ? 'w' : '-',
            (vma.prot() & PROT_EXEC) != 0 ? 'x' : '-', shared ? 's' : 'p'};
}

std::string area_name(const criu::image::Vma& vma,
                      const std::map<uint32_t, std::string>& file_names) {
    namespace status = criu::vma_status;
    if ((vma.status() & status::heap) != 0) return "[heap]";
    if ((vma.status() & status::stack) != 0) return "[stack]";
    if ((vma.status() & status::vdso) != 0) return "[vdso]";
    if ((vma.status() & status::vvar) != 0) return "[vvar]";
    if ((vma.status() & status::vsyscall) != 0) return "[vsyscall]";
    if ((vma.status() & (status::file_private | status::file_shared)) == 0) return {};
    const auto found = file_names.find(static_cast<uint32_t>(vma.shmid()));
    return found == file_names.end() ? std::string("(a file)") : found->second;
}

Result<std::map<uint32_t, std::string>> load_file_names(const Template& tmpl) {
    std::map<uint32_t, std::string> names;
    TRY_ASSIGN(const std::string bytes, tmpl.image("files.img"));
    TRY_ASSIGN(const auto entries, criu::parse_entries(bytes, "files.img", criu::magic::files));
    for (const std::string& entry : entries) {
        TRY_ASSIGN(const auto file, criu::parse_message<criu::image::File>(entry, "files.img"));
        if (file.has_reg()) names[file.id()] = file.reg().name();
    }
    return names;
}

/// Pages of one memory area by how they are delivered.
Json area_pages(const criu::image::Vma& vma, const proto::ProcessPages& process,
                const Intervals& present, const Intervals& written, std::string& why) {
    uint64_t shared = 0;
    uint64_t precopied = 0;
    uint64_t copied = 0;
    for (const auto& run : process.runs()) {
        if (run.vaddr() < vma.start() || run.vaddr() >= vma.end()) continue;
        const uint64_t end = run.vaddr() + run.pages() * page_size;
        const Intervals in_run = clip(present, run.vaddr(), end);
        const uint64_t pages = count_pages(in_run);
        const uint64_t dirty = count_pages(intersect(in_run, written));
        if (!run_is_mapped(run, dirty)) {
            copied += pages;
            if (run.placement() == proto::PLACEMENT_SHARED)
                why = "mostly written";
            else if (why.empty())
                why = placement_reason(run.placement());
        } else {
            precopied += dirty;
            shared += pages - dirty;
        }
    }
    return Json{{"shared", shared}, {"precopied", precopied}, {"copied", copied}};
}

Result<Json> inspect_process(const Template& tmpl, const criu::image::Process& entry,
                             const std::map<uint32_t, std::string>& file_names,
                             std::map<std::string, uint64_t>& by_owner) {
    const uint32_t pid = entry.pid();
    Json json{{"pid", pid}, {"parent", entry.ppid()}, {"threads", entry.threads_size()}};
    TRY_ASSIGN(const std::string core_bytes, tmpl.image(fmt::format("core-{}.img", pid)));
    TRY_ASSIGN(const auto cores, criu::parse_entries(core_bytes, "core", criu::magic::core));
    if (!cores.empty()) {
        TRY_ASSIGN(const auto core, criu::parse_message<criu::image::Core>(cores[0], "core"));
        json["command"] = core.tc().comm();
    }
    const auto& processes = tmpl.manifest.processes();
    const auto pages = std::ranges::find(processes, pid, &proto::ProcessPages::pid);
    json["zero_pages"] = pages == processes.end() ? 0 : pages->zero_pages();
    json["areas"] = Json::array();
    const auto mm_bytes = tmpl.image(fmt::format("mm-{}.img", pid));
    if (pages == processes.end() || !mm_bytes) return json;  // a zombie

    const Intervals present = to_intervals(pages->present());
    Intervals written;
    if (const auto* profile = tmpl.profile_of(pid))
        written = intersect(present, to_intervals(profile->written()));
    for (const auto& run : pages->runs())
        by_owner[std::string(owner_name(run.owner()))] += pages_within(run, pages->present());

    TRY_ASSIGN(const auto entries, criu::parse_entries(*mm_bytes, "mm", criu::magic::mm));
    if (entries.empty()) return fail("mm image is empty");
    TRY_ASSIGN(const auto mm, criu::parse_message<criu::image::Mm>(entries[0], "mm"));
    for (const auto& vma : mm.vmas()) {
        std::string why;
        Json area{{"start", fmt::format("{:x}", vma.start())},
                  {"end", fmt::format("{:x}", vma.end())},
                  {"permissions", permissions(vma)},
                  {"pages", (vma.end() - vma.start()) / page_size},
                  {"name", area_name(vma, file_names)},
                  {"delivered", area_pages(vma, *pages, present, written, why)}};
        area["not_shared_because"] = why;
        json["areas"].push_back(std::move(area));
    }
    return json;
}

}  // namespace

Json describe_profile(const Template& tmpl) {
    if (!tmpl.profile) return nullptr;
    const auto& profile = *tmpl.profile;
    uint64_t written = 0;
    uint64_t read = 0;
    for (const auto& process : profile.processes()) {
        for (const auto& stretch : process.written()) written += stretch.pages();
        for (const auto& stretch : process.read()) read += stretch.pages();
    }
    return Json{
        {"created", iso_time(profile.created())},
        {"requests", profile.requests()},
        {"written_pages", written},
        {"read_pages", read},
        {"restore_ms",
         {{"before", profile.restore_ms_before()}, {"after", profile.restore_ms_after()}}},
        {"first_answer_ms",
         {{"before", profile.first_answer_ms_before()},
          {"after", profile.first_answer_ms_after()}}},
        {"private_pages",
         {{"before", profile.private_pages_before()}, {"after", profile.private_pages_after()}}}};
}

Result<Json> describe_template(const Template& tmpl) {
    const auto& manifest = tmpl.manifest;
    uint64_t image_bytes = 0;
    for (const auto& image : manifest.images()) image_bytes += image.bytes();
    Json json{{"name", tmpl.record.name},
              {"id", tmpl.record.id},
              {"hash", tmpl.record.hash},
              {"domain", tmpl.record.domain},
              {"created", iso_time(manifest.created())},
              {"kernel", manifest.kernel()},
              {"criu", manifest.criu_version()},
              {"processes", manifest.processes_size()},
              {"images", manifest.images_size()},
              {"image_bytes", image_bytes},
              {"pages", counts_json(count_pages(tmpl))},
              {"hazards", Json::array()}};
    for (const auto& hazard : manifest.hazards())
        json["hazards"].push_back({{"kind", hazard_kind(hazard.kind())},
                                   {"pid", hazard.pid()},
                                   {"evidence", hazard.evidence()},
                                   {"start", fmt::format("{:x}", hazard.start())},
                                   {"end", fmt::format("{:x}", hazard.end())},
                                   {"whole_process", hazard.whole_process()}});
    if (manifest.has_gpu()) {
        json["gpu"] = {{"driver", manifest.gpu().driver()}, {"processes", Json::array()}};
        for (const auto& process : manifest.gpu().processes()) {
            Json devices = Json::array();
            for (const auto& need : process.needs())
                devices.push_back({{"uuid", need.uuid()}, {"bytes", need.bytes()}});
            json["gpu"]["processes"].push_back({{"pid", process.pid()}, {"devices", devices}});
        }
    }
    std::map<std::string, uint64_t> placements;
    for (const auto& process : manifest.processes()) {
        for (const auto& run : process.runs())
            placements[std::string(placement_reason(run.placement()))] +=
                pages_within(run, process.present());
    }
    json["placements"] = placements;
    json["profile"] = describe_profile(tmpl);
    return json;
}

Result<Json> inspect_template(const Template& tmpl) {
    TRY_ASSIGN(const auto file_names, load_file_names(tmpl));
    TRY_ASSIGN(const std::string tree_bytes, tmpl.image("pstree.img"));
    TRY_ASSIGN(const auto tree,
               criu::parse_entries(tree_bytes, "pstree.img", criu::magic::process_tree));
    std::map<std::string, uint64_t> by_owner;
    Json json{{"name", tmpl.record.name}, {"processes", Json::array()}};
    for (const std::string& bytes : tree) {
        TRY_ASSIGN(const auto entry, criu::parse_message<criu::image::Process>(bytes, "pstree"));
        TRY_ASSIGN(auto process, inspect_process(tmpl, entry, file_names, by_owner));
        json["processes"].push_back(std::move(process));
    }
    json["pages_by_owner"] = by_owner;
    return json;
}

}  // namespace memplate
