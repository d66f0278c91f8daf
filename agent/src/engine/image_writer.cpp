// SPDX-License-Identifier: Apache-2.0
#include "engine/image_writer.h"

#include <fcntl.h>
#include <linux/capability.h>

#include <algorithm>
#include <array>

#include "util/text.h"

namespace memplate::engine {
namespace {

constexpr uint64_t page_size = pool::page_size;

/// What docker, containerd and podman give a container by default.
constexpr uint64_t default_capabilities =
    1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FSETID | 1ull << CAP_FOWNER |
    1ull << CAP_MKNOD | 1ull << CAP_NET_RAW | 1ull << CAP_SETGID | 1ull << CAP_SETUID |
    1ull << CAP_SETFCAP | 1ull << CAP_SETPCAP | 1ull << CAP_NET_BIND_SERVICE |
    1ull << CAP_SYS_CHROOT | 1ull << CAP_KILL | 1ull << CAP_AUDIT_WRITE;

void restrict_words(google::protobuf::RepeatedField<uint32_t>& words) {
    for (int i = 0; i < words.size(); ++i)
        words[i] &= i < 2 ? static_cast<uint32_t>(default_capabilities >> (32 * i)) : 0;
}

bool is_in(const std::string& path, const std::vector<std::string>& directories) {
    return std::ranges::any_of(directories,
                               [&](const auto& directory) { return path.starts_with(directory); });
}

/// CRIU's own rule: private anonymous memory that is neither locked nor of the kernel.
bool may_be_lazy(const proto::Run& run) {
    return run.owner() != proto::OWNER_FILE && run.placement() != proto::PLACEMENT_KERNEL &&
           run.placement() != proto::PLACEMENT_LOCKED &&
           run.placement() != proto::PLACEMENT_HUGETLB;
}

}  // namespace

Result<> write_image(int directory, const std::string& name, std::string_view bytes) {
    TRY_ASSIGN(UniqueFd file,
               open_at(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    TRY_CONTEXT(write_all(file.get(), std::as_bytes(std::span(bytes))), name);
    return {};
}

Result<> write_pages(int directory, const Template& tmpl, const proto::ProcessPages& process,
                     uint32_t pages_id, const Intervals& which) {
    criu::Pagemap pagemap;
    pagemap.pages_id = pages_id;
    const std::string pages_name = fmt::format("pages-{}.img", pages_id);
    TRY_ASSIGN(UniqueFd file,
               open_at(directory, pages_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    std::vector<std::byte> buffer(256 * page_size);
    const auto add_range = [&](const Interval& interval, bool lazy) {
        const uint64_t pages = (interval.end - interval.start) / page_size;
        auto* last = pagemap.ranges.empty() ? nullptr : &pagemap.ranges.back();
        if (last != nullptr && last->lazy == lazy &&
            last->vaddr + last->pages * page_size == interval.start)
            last->pages += pages;
        else
            pagemap.ranges.push_back({interval.start, pages, 0, lazy});
    };
    for (const auto& run : process.runs()) {
        const uint64_t run_end = run.vaddr() + run.pages() * page_size;
        for (const Interval& interval : clip(which, run.vaddr(), run_end)) {
            add_range(interval, may_be_lazy(run));
            for (uint64_t at = interval.start; at < interval.end;) {
                const uint64_t end = std::min<uint64_t>(interval.end, at + buffer.size());
                const auto bytes = std::span(buffer).first(end - at);
                TRY(tmpl.pages.read(run.page() + (at - run.vaddr()) / page_size, bytes));
                TRY_CONTEXT(write_all(file.get(), bytes), pages_name);
                at = end;
            }
        }
    }
    return write_image(directory, fmt::format("pagemap-{}.img", process.pid()),
                       criu::format_pagemap(pagemap));
}

uint32_t first_free_pages_id(const proto::Manifest& manifest) {
    uint32_t next = 1;
    for (const auto& image : manifest.images()) {
        std::string_view name = image.name();
        if (!name.starts_with("pages-") || !name.ends_with(".img")) continue;
        name.remove_prefix(6);
        name.remove_suffix(4);
        if (const auto id = parse_unsigned(name); id && *id < UINT32_MAX - 65536)
            next = std::max(next, static_cast<uint32_t>(*id) + 1);
    }
    return next;
}

Result<std::string> restrict_capabilities(const std::string& name, std::string bytes) {
    if (!name.starts_with("core-")) return bytes;
    TRY_ASSIGN(const auto entries, criu::parse_entries(bytes, name, criu::magic::core));
    std::vector<std::string> rewritten;
    for (const std::string& entry : entries) {
        TRY_ASSIGN(auto core, criu::parse_message<criu::image::Core>(entry, name));
        if (core.has_thread_core() && core.thread_core().has_creds()) {
            auto* creds = core.mutable_thread_core()->mutable_creds();
            restrict_words(*creds->mutable_cap_inh());
            restrict_words(*creds->mutable_cap_prm());
            restrict_words(*creds->mutable_cap_eff());
            restrict_words(*creds->mutable_cap_bnd());
        }
        rewritten.push_back(core.SerializeAsString());
    }
    return criu::format_entries(rewritten, criu::magic::core);
}

Result<std::string> rewrite_files(const std::string& bytes,
                                  const std::vector<std::string>& volatile_directories,
                                  const std::vector<criu::image::File>& extra) {
    TRY_ASSIGN(const auto entries, criu::parse_entries(bytes, "files.img", criu::magic::files));
    std::vector<std::string> rewritten;
    for (const std::string& entry : entries) {
        TRY_ASSIGN(auto file, criu::parse_message<criu::image::File>(entry, "files.img"));
        for (const auto& added : extra) {
            if (file.id() == added.id())
                return fail(fmt::format("files.img: id {:#x} is taken", file.id()));
        }
        if (file.has_reg() && is_in(file.reg().name(), volatile_directories))
            file.mutable_reg()->clear_size();
        rewritten.push_back(file.SerializeAsString());
    }
    for (const auto& file : extra) rewritten.push_back(file.SerializeAsString());
    return criu::format_entries(rewritten, criu::magic::files);
}

Result<> write_images(Kind kind, const Template& tmpl, int directory, const WriteOptions& options) {
    std::vector<criu::image::File> extra_files;
    const bool writes_areas = kind == Kind::mapped || kind == Kind::attached;
    if (kind == Kind::mapped)
        TRY(write_mapped_memory(directory, tmpl, extra_files));
    else if (kind == Kind::attached)
        TRY(write_attached_memory(directory, tmpl, options.lazy, extra_files));
    else
        TRY(write_copy_memory(directory, tmpl));
    for (const auto& entry : tmpl.manifest.images()) {
        if (writes_areas && entry.name().starts_with("mm-")) continue;
        TRY_ASSIGN(std::string bytes, tmpl.image(entry));
        if (entry.name() == "files.img") {
            TRY_ASSIGN(bytes, rewrite_files(bytes, options.volatile_directories, extra_files));
        }
        if (options.restrict_capabilities) {
            TRY_ASSIGN(bytes, restrict_capabilities(entry.name(), std::move(bytes)));
        }
        TRY(write_image(directory, entry.name(), bytes));
    }
    return {};
}

}  // namespace memplate::engine
