// SPDX-License-Identifier: Apache-2.0
#include "criu/images.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "util/fs.h"
#include "util/text.h"

namespace memplate::criu {
namespace {

constexpr uint32_t max_entry_bytes = 64u << 20;
constexpr uint64_t max_user_address = uint64_t{1} << 56;  // five-level page tables

uint32_t load_u32(std::string_view bytes, size_t offset) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return value;
}

void append_u32(std::string& bytes, uint32_t value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// Images other than the inventory begin with the common magic, then their own.
bool has_common_magic(uint32_t image_magic) {
    return image_magic != magic::inventory;
}

template <class Message>
Result<Message> read_single(int dirfd, const std::string& name, uint32_t expected_magic) {
    TRY_ASSIGN(auto entries, read_entries(dirfd, name, expected_magic));
    if (entries.empty()) return fail(fmt::format("{}: the image is empty", name));
    return parse_message<Message>(entries.front(), name);
}

Result<> check_vmas(const image::Mm& mm, const std::string& name) {
    uint64_t previous_end = 0;
    for (const auto& vma : mm.vmas()) {
        if (vma.start() % page_size != 0 || vma.end() % page_size != 0 ||
            vma.start() >= vma.end() || vma.start() < previous_end)
            return fail(
                fmt::format("{}: area {:#x}-{:#x} is misplaced", name, vma.start(), vma.end()));
        previous_end = vma.end();
    }
    return {};
}

Result<> check_ranges_in_vmas(const ProcessImage& process, const std::string& name) {
    auto vma = process.mm.vmas().begin();
    for (const PageRange& range : process.pagemap.ranges) {
        uint64_t at = range.vaddr;
        const uint64_t end = range.vaddr + range.pages * page_size;
        while (at < end) {
            while (vma != process.mm.vmas().end() && vma->end() <= at) ++vma;
            if (vma == process.mm.vmas().end() || vma->start() > at)
                return fail(fmt::format("{}: page {:#x} belongs to no memory area", name, at));
            at = std::min<uint64_t>(end, vma->end());
        }
    }
    return {};
}

/// Zombies have none; a stopped task (3) has.
bool has_memory(const image::Core& core) {
    constexpr uint32_t task_dead = 2;
    constexpr uint32_t task_zombie = 6;
    return core.tc().task_state() != task_dead && core.tc().task_state() != task_zombie;
}

Result<ProcessImage> load_process(int dirfd, image::Process entry) {
    ProcessImage process;
    const uint32_t pid = entry.pid();
    process.process = std::move(entry);

    const std::string core_name = fmt::format("core-{}.img", pid);
    TRY_ASSIGN(const auto core, read_single<image::Core>(dirfd, core_name, magic::core));
    process.comm = core.tc().comm();
    if (!has_memory(core)) return process;

    const std::string mm_name = fmt::format("mm-{}.img", pid);
    TRY_ASSIGN(process.mm, read_single<image::Mm>(dirfd, mm_name, magic::mm));
    TRY(check_vmas(process.mm, mm_name));

    const std::string pagemap_name = fmt::format("pagemap-{}.img", pid);
    TRY_ASSIGN(const std::string bytes, read_file_at(dirfd, pagemap_name));
    TRY_ASSIGN(process.pagemap, parse_pagemap(bytes, pagemap_name));
    TRY(check_ranges_in_vmas(process, pagemap_name));
    return process;
}

}  // namespace

Result<std::vector<std::string>> parse_entries(std::string_view bytes, const std::string& name,
                                               uint32_t expected_magic) {
    size_t at = 0;
    const auto take_u32 = [&]() -> Result<uint32_t> {
        if (bytes.size() - at < 4) return fail(fmt::format("{}: the image is cut short", name));
        const uint32_t value = load_u32(bytes, at);
        at += 4;
        return value;
    };
    TRY_ASSIGN(uint32_t found, take_u32());
    if (has_common_magic(expected_magic)) {
        if (found != magic::common) return fail(fmt::format("{}: not a CRIU image", name));
        TRY_ASSIGN(found, take_u32());
    }
    if (found != expected_magic)
        return fail(fmt::format("{}: not the CRIU image its name says", name));

    std::vector<std::string> entries;
    while (at < bytes.size()) {
        TRY_ASSIGN(const uint32_t size, take_u32());
        if (size > max_entry_bytes || size > bytes.size() - at)
            return fail(fmt::format("{}: the image is cut short", name));
        entries.emplace_back(bytes.substr(at, size));
        at += size;
    }
    return entries;
}

Result<std::vector<std::string>> read_entries(int dirfd, const std::string& name,
                                              uint32_t expected_magic) {
    TRY_ASSIGN(const std::string bytes, read_file_at(dirfd, name, size_t{256} << 20));
    return parse_entries(bytes, name, expected_magic);
}

std::string format_entries(const std::vector<std::string>& entries, uint32_t image_magic) {
    std::string bytes;
    if (has_common_magic(image_magic)) append_u32(bytes, magic::common);
    append_u32(bytes, image_magic);
    for (const std::string& entry : entries) {
        append_u32(bytes, static_cast<uint32_t>(entry.size()));
        bytes += entry;
    }
    return bytes;
}

Result<Pagemap> parse_pagemap(std::string_view bytes, const std::string& name) {
    TRY_ASSIGN(const auto entries, parse_entries(bytes, name, magic::pagemap));
    if (entries.empty()) return fail(fmt::format("{}: the image is empty", name));
    Pagemap pagemap;
    TRY_ASSIGN(const auto head, parse_message<image::PagemapHead>(entries.front(), name));
    pagemap.pages_id = head.pages_id();

    uint64_t offset = 0;
    uint64_t previous_end = 0;
    for (size_t i = 1; i < entries.size(); ++i) {
        TRY_ASSIGN(const auto entry, parse_message<image::PagemapEntry>(entries[i], name));
        const uint64_t pages = entry.has_nr_pages() ? entry.nr_pages() : entry.compat_nr_pages();
        if (entry.in_parent() || (entry.flags() & pagemap_flag::in_parent) != 0)
            return fail(
                fmt::format("{}: incremental image; checkpoint without --prev-images-dir", name));
        if (entry.has_flags() && (entry.flags() & pagemap_flag::present) == 0)
            return fail(
                fmt::format("{}: pages at {:#x} are not in the images; checkpoint without "
                            "--lazy-pages",
                            name, entry.vaddr()));
        if (pages == 0 || pages > max_user_address / page_size || entry.vaddr() % page_size != 0 ||
            entry.vaddr() < previous_end || entry.vaddr() > max_user_address - pages * page_size)
            return fail(fmt::format("{}: pages at {:#x} are misplaced", name, entry.vaddr()));
        const bool lazy = (entry.flags() & pagemap_flag::lazy) != 0;
        pagemap.ranges.push_back({entry.vaddr(), pages, offset, lazy});
        offset += pages * page_size;
        previous_end = entry.vaddr() + pages * page_size;
    }
    return pagemap;
}

std::string format_pagemap(const Pagemap& pagemap) {
    std::vector<std::string> entries;
    image::PagemapHead head;
    head.set_pages_id(pagemap.pages_id);
    entries.push_back(head.SerializeAsString());
    for (const PageRange& range : pagemap.ranges) {
        image::PagemapEntry entry;
        entry.set_vaddr(range.vaddr);
        entry.set_compat_nr_pages(static_cast<uint32_t>(range.pages));
        entry.set_nr_pages(range.pages);
        entry.set_flags(pagemap_flag::present | (range.lazy ? pagemap_flag::lazy : 0));
        entries.push_back(entry.SerializeAsString());
    }
    return format_entries(entries, magic::pagemap);
}

bool is_private_pagemap(const std::string& name) {
    constexpr std::string_view prefix = "pagemap-";
    constexpr std::string_view suffix = ".img";
    if (!name.starts_with(prefix) || !name.ends_with(suffix)) return false;
    const auto pid =
        std::string_view(name).substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    return parse_unsigned(pid).has_value();
}

Result<ImageSet> ImageSet::load(int dirfd) {
    ImageSet set;
    TRY_ASSIGN(set.names, list_directory(dirfd, "."));
    if (!std::ranges::binary_search(set.names, "inventory.img"))
        return fail("inventory.img is missing; is this a CRIU image directory of a finished dump?");
    TRY_ASSIGN(const auto inventory,
               read_single<image::Inventory>(dirfd, "inventory.img", magic::inventory));
    if (inventory.image_version() != 1 && inventory.image_version() != 2)
        return fail(
            fmt::format("inventory.img: image version {} is not known", inventory.image_version()));

    TRY_ASSIGN(const auto file_entries, read_entries(dirfd, "files.img", magic::files));
    for (const std::string& bytes : file_entries) {
        TRY_ASSIGN(auto file, parse_message<image::File>(bytes, "files.img"));
        set.files.push_back(std::move(file));
    }

    TRY_ASSIGN(const auto tree, read_entries(dirfd, "pstree.img", magic::process_tree));
    if (tree.empty()) return fail("pstree.img: no process in it");
    for (const std::string& bytes : tree) {
        TRY_ASSIGN(auto entry, parse_message<image::Process>(bytes, "pstree.img"));
        TRY_ASSIGN(auto process, load_process(dirfd, std::move(entry)));
        set.processes.push_back(std::move(process));
    }
    return set;
}

const image::File* ImageSet::file(uint32_t id) const {
    const auto found = std::ranges::find(files, id, &image::File::id);
    return found == files.end() ? nullptr : &*found;
}

std::string ImageSet::file_name(const image::Vma& vma) const {
    const image::File* found = file(static_cast<uint32_t>(vma.shmid()));
    return found != nullptr && found->has_reg() ? found->reg().name() : std::string();
}

}  // namespace memplate::criu
