// SPDX-License-Identifier: Apache-2.0
#include "template/template.h"

#include <algorithm>
#include <limits>

#include "template/intervals.h"

namespace memplate {
namespace {

constexpr uint64_t page_size = pool::page_size;
constexpr uint64_t max_pages = uint64_t{1} << 40;
/// Images are read whole; memory contents are not among them.
constexpr uint64_t max_image_bytes = uint64_t{1} << 30;
constexpr uint64_t max_device_bytes = uint64_t{1} << 44;

bool span_is_sane(uint64_t vaddr, uint64_t pages) {
    return vaddr % page_size == 0 && pages != 0 && pages < max_pages &&
           vaddr <= std::numeric_limits<uint64_t>::max() - pages * page_size;
}

Failure damaged(std::string what) {
    return fail("damaged manifest: " + std::move(what));
}

Result<> validate_process(const proto::ProcessPages& process, const PageSource& pages) {
    uint64_t end = 0;
    for (const auto& run : process.runs()) {
        if (!span_is_sane(run.vaddr(), run.pages()) || run.vaddr() < end)
            return damaged(fmt::format("run at {:#x} of process {}", run.vaddr(), process.pid()));
        if (run.page() > pages.total_pages || run.pages() > pages.total_pages - run.page())
            return damaged(fmt::format("run at {:#x} lies outside the pool", run.vaddr()));
        end = run.vaddr() + run.pages() * page_size;
    }
    end = 0;
    auto run = process.runs().begin();
    for (const auto& stretch : process.present()) {
        if (!span_is_sane(stretch.vaddr(), stretch.pages()) || stretch.vaddr() < end)
            return damaged(
                fmt::format("pages at {:#x} of process {}", stretch.vaddr(), process.pid()));
        end = stretch.vaddr() + stretch.pages() * page_size;
        // One run, or several that touch: a pool with dedup cuts them where pages are shared.
        for (uint64_t at = stretch.vaddr(); at < end;) {
            while (run != process.runs().end() && run->vaddr() + run->pages() * page_size <= at)
                ++run;
            if (run == process.runs().end() || run->vaddr() > at)
                return damaged(fmt::format("pages at {:#x} are in no run", at));
            at = run->vaddr() + run->pages() * page_size;
        }
    }
    return {};
}

Result<> validate_stretches(const google::protobuf::RepeatedPtrField<proto::Stretch>& stretches) {
    uint64_t end = 0;
    for (const auto& stretch : stretches) {
        if (!span_is_sane(stretch.vaddr(), stretch.pages()) || stretch.vaddr() < end)
            return fail(fmt::format("damaged profile: pages at {:#x}", stretch.vaddr()));
        end = stretch.vaddr() + stretch.pages() * page_size;
    }
    return {};
}

}  // namespace

Result<> validate(const proto::Profile& profile) {
    if (profile.version() != profile_version)
        return fail(fmt::format("profile format version {} is not known", profile.version()));
    for (const auto& process : profile.processes()) {
        TRY(validate_stretches(process.written()));
        TRY(validate_stretches(process.read()));
    }
    return {};
}

Result<> validate(const proto::Manifest& manifest, const PageSource& pages) {
    if (manifest.version() != manifest_version)
        return fail(fmt::format("template format version {} is newer than this memplate",
                                manifest.version()));
    if (manifest.processes().empty()) return damaged("no process");
    for (const auto& process : manifest.processes()) TRY(validate_process(process, pages));
    for (const auto& image : manifest.images()) {
        const std::string& name = image.name();
        if (name.empty() || name.size() > 128 || name.find('/') != std::string::npos ||
            name.starts_with('.'))
            return damaged("an image has an impossible name");
        const uint64_t count = image.bytes() / page_size + (image.bytes() % page_size != 0);
        if (image.page() > pages.total_pages || count > pages.total_pages - image.page())
            return damaged(fmt::format("image {} lies outside the pool", name));
        if (image.bytes() > max_image_bytes)
            return damaged(fmt::format("image {} has {} bytes, more than {}", name, image.bytes(),
                                       max_image_bytes));
    }
    for (const auto& process : manifest.gpu().processes()) {
        for (const auto& need : process.needs()) {
            if (need.bytes() > max_device_bytes)
                return damaged(
                    fmt::format("process {} needs {} bytes on a GPU", process.pid(), need.bytes()));
        }
    }
    return {};
}

Result<Template> Template::open(const pool::Pool& pool, const std::string& name) {
    Template tmpl;
    TRY_ASSIGN(tmpl.record, pool.find(name));
    TRY_ASSIGN(tmpl.pages, PageSource::of(pool));
    TRY_ASSIGN(const std::string manifest, pool.read_manifest(tmpl.record));
    if (!tmpl.manifest.ParseFromString(manifest))
        return fail(fmt::format("template {}: manifest not understood", name));
    TRY_CONTEXT(validate(tmpl.manifest, tmpl.pages), "template " + name);
    if (tmpl.record.profile_bytes > 0) {
        TRY_ASSIGN(const std::string profile, pool.read_profile(tmpl.record));
        proto::Profile parsed;
        // A profile only tunes: one that is not understood is as good as none.
        if (parsed.ParseFromString(profile) && validate(parsed)) tmpl.profile = std::move(parsed);
    }
    return tmpl;
}

Result<std::string> Template::image(const proto::Image& entry) const {
    std::string bytes((entry.bytes() + page_size - 1) / page_size * page_size, '\0');
    TRY(pages.read(entry.page(), writable_bytes_of(bytes)));
    bytes.resize(entry.bytes());
    return bytes;
}

Result<std::string> Template::image(const std::string& name) const {
    for (const auto& entry : manifest.images()) {
        if (entry.name() == name) return image(entry);
    }
    return fail(fmt::format("template {}: image {} is missing", record.name, name));
}

bool Template::has_image(const std::string& name) const {
    return std::ranges::any_of(manifest.images(),
                               [&](const auto& entry) { return entry.name() == name; });
}

const proto::Hazard* Template::blocking_hazard() const {
    const auto found = std::ranges::find_if(manifest.hazards(), &proto::Hazard::whole_process);
    return found == manifest.hazards().end() ? nullptr : &*found;
}

const proto::ProcessProfile* Template::profile_of(uint32_t pid) const {
    if (!profile) return nullptr;
    const auto found =
        std::ranges::find_if(profile->processes(), [&](const auto& p) { return p.pid() == pid; });
    return found == profile->processes().end() ? nullptr : &*found;
}

uint64_t pages_within(const proto::Run& run,
                      const google::protobuf::RepeatedPtrField<proto::Stretch>& stretches) {
    const uint64_t run_end = run.vaddr() + run.pages() * page_size;
    uint64_t pages = 0;
    auto at = std::ranges::lower_bound(
        stretches, run.vaddr(), std::ranges::less_equal{},
        [](const proto::Stretch& s) { return s.vaddr() + s.pages() * page_size; });
    for (; at != stretches.end() && at->vaddr() < run_end; ++at) {
        const uint64_t start = std::max(at->vaddr(), run.vaddr());
        const uint64_t end = std::min(at->vaddr() + at->pages() * page_size, run_end);
        if (start < end) pages += (end - start) / page_size;
    }
    return pages;
}

bool run_is_mapped(const proto::Run& run, uint64_t written_pages) {
    return run.placement() == proto::PLACEMENT_SHARED && written_pages * 4 < run.pages() * 3;
}

PageCounts count_pages(const Template& tmpl) {
    PageCounts counts;
    for (const auto& process : tmpl.manifest.processes()) {
        // As the engine counts: what was written in the holes of a run is no page of the template.
        Intervals written;
        if (const auto* profile = tmpl.profile_of(process.pid()))
            written = intersect(to_intervals(process.present()), to_intervals(profile->written()));
        counts.zero += process.zero_pages();
        for (const auto& run : process.runs()) {
            const uint64_t present = pages_within(run, process.present());
            const uint64_t end = run.vaddr() + run.pages() * page_size;
            const uint64_t dirty = count_pages(clip(written, run.vaddr(), end));
            counts.stored += present;
            counts.holes += run.pages() - present;
            if (!run_is_mapped(run, dirty)) {
                counts.copied += present;
            } else {
                counts.precopied += dirty;
                counts.shared += present - dirty;
            }
        }
    }
    return counts;
}

std::string_view placement_reason(proto::Placement placement) {
    switch (placement) {
        case proto::PLACEMENT_SHARED:
            return "shared";
        case proto::PLACEMENT_GROWSDOWN:
            return "stack: grows down";
        case proto::PLACEMENT_HUGETLB:
            return "huge pages";
        case proto::PLACEMENT_WIPEONFORK:
            return "wiped on fork";
        case proto::PLACEMENT_SMALL:
            return "small";
        case proto::PLACEMENT_DISCARDED:
            return "given back by madvise";
        case proto::PLACEMENT_GROWN:
            return "grown by mremap";
        case proto::PLACEMENT_LOCKED:
            return "locked in memory";
        case proto::PLACEMENT_KERNEL:
            return "of the kernel";
        default:
            return "unknown";
    }
}

std::string_view owner_name(proto::PageOwner owner) {
    switch (owner) {
        case proto::OWNER_ANONYMOUS:
            return "anonymous";
        case proto::OWNER_HEAP:
            return "heap";
        case proto::OWNER_STACK:
            return "stack";
        case proto::OWNER_FILE:
            return "file data";
        default:
            return "unknown";
    }
}

}  // namespace memplate
