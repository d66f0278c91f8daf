// SPDX-License-Identifier: Apache-2.0
//
// CRIU images and template manifests are untrusted input: whatever their bytes, reading, storing
// and checking them must end with a result or an error, and what passed the checks must be usable.
//
// Byte 0 of the input says what the rest is: an image of one of the kinds, a file of a small valid
// image directory (all others stay good), or a manifest with a profile after it.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "template/store.h"
#include "template/template.h"
#include "util/fs.h"

namespace {

using namespace memplate;
namespace image = criu::image;

constexpr uint64_t page_size = criu::page_size;
constexpr uint64_t start = 0x10000000;
constexpr uint64_t pool_pages = 64;

template <class T>
T must(Result<T> result) {
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error().message.c_str());
        std::abort();
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

struct NamedImage {
    const char* name;
    uint32_t magic;
    std::string good;
};

std::string one(const google::protobuf::Message& message, uint32_t magic) {
    return criu::format_entries({message.SerializeAsString()}, magic);
}

std::vector<NamedImage> make_images() {
    image::Inventory inventory;
    inventory.set_image_version(2);
    image::Process process;
    process.set_pid(1);
    process.set_ppid(0);
    process.set_pgid(1);
    process.set_sid(1);
    image::Core core;
    core.set_mtype(1);
    core.mutable_tc()->set_task_state(1);
    core.mutable_tc()->set_comm("fuzz");
    image::Mm mm;
    mm.set_start_brk(start);
    mm.set_brk(start);
    mm.set_exe_file_id(1);
    auto* vma = mm.add_vmas();
    vma->set_start(start);
    vma->set_end(start + 32 * page_size);
    vma->set_pgoff(0);
    vma->set_shmid(0);
    vma->set_prot(PROT_READ | PROT_WRITE);
    vma->set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
    vma->set_status(criu::vma_status::regular | criu::vma_status::anon_private);
    vma->set_fd(-1);
    const criu::Pagemap pagemap{1, {{start, 2, 0, true}, {start + 8 * page_size, 4, 0, false}}};
    return {
        {"inventory.img", criu::magic::inventory, one(inventory, criu::magic::inventory)},
        {"pstree.img", criu::magic::process_tree, one(process, criu::magic::process_tree)},
        {"core-1.img", criu::magic::core, one(core, criu::magic::core)},
        {"mm-1.img", criu::magic::mm, one(mm, criu::magic::mm)},
        {"pagemap-1.img", criu::magic::pagemap, criu::format_pagemap(pagemap)},
        {"files.img", criu::magic::files, criu::format_entries({}, criu::magic::files)},
        {"pages-1.img", 0, std::string(5 * page_size, 'p') + std::string(page_size, '\0')},
    };
}

const std::vector<NamedImage>& images() {
    static const std::vector<NamedImage> all = make_images();
    return all;
}

void put(int directory, const char* name, std::string_view bytes) {
    const UniqueFd file = must(open_at(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    must(write_all(file.get(), std::as_bytes(std::span(bytes))));
}

/// A directory in memory with good images, removed at exit.
struct GoodDirectory {
    TemporaryDirectory place = must(TemporaryDirectory::create("/dev/shm", "fuzz_images"));
    UniqueFd fd = must(open_at(AT_FDCWD, place.path(), O_RDONLY | O_DIRECTORY));
    GoodDirectory() {
        for (const auto& entry : images()) put(fd.get(), entry.name, entry.good);
    }
};

void read_image(const NamedImage& kind, const std::string& bytes) {
    const auto entries = criu::parse_entries(bytes, kind.name, kind.magic);
    if (entries) {
        require(criu::format_entries(*entries, kind.magic) == bytes, "entries do not round trip");
        for (const auto& entry : *entries) {
            (void)criu::parse_message<image::Core>(entry, kind.name);
            (void)criu::parse_message<image::Mm>(entry, kind.name);
            (void)criu::parse_message<image::File>(entry, kind.name);
            (void)criu::parse_message<image::Process>(entry, kind.name);
        }
    }
    if (const auto pagemap = criu::parse_pagemap(bytes, kind.name)) {
        const auto again = must(criu::parse_pagemap(criu::format_pagemap(*pagemap), "again"));
        require(again.ranges.size() == pagemap->ranges.size(), "ranges do not round trip");
    }
}

void load_directory(const NamedImage& changed, const std::string& bytes) {
    static const GoodDirectory directory;
    const int fd = directory.fd.get();
    put(fd, changed.name, bytes);
    if (const auto set = criu::ImageSet::load(fd)) {
        auto store = must(MemfdPageStore::create());
        proto::Manifest manifest;
        manifest.set_version(manifest_version);
        if (store_images(fd, *set, {}, store, manifest)) must(validate(manifest, store.source()));
    }
    put(fd, changed.name, changed.good);
}

/// A pool of zeros.
PageSource empty_pool() {
    static const UniqueFd fd(::memfd_create("pool", MFD_CLOEXEC));
    if (::ftruncate(fd.get(), pool_pages * page_size) != 0) std::abort();
    return {fd.get(), 0, pool_pages};
}

void read_manifest(std::string_view bytes) {
    Template tmpl;
    tmpl.pages = empty_pool();
    const size_t cut = std::min(bytes.find("|profile|"), bytes.size());
    if (!tmpl.manifest.ParseFromString(std::string(bytes.substr(0, cut)))) return;
    if (!validate(tmpl.manifest, tmpl.pages)) return;
    if (cut < bytes.size()) {
        proto::Profile profile;
        if (profile.ParseFromString(std::string(bytes.substr(cut + 9))) && validate(profile))
            tmpl.profile = std::move(profile);
    }
    const auto counts = count_pages(tmpl);
    require(counts.stored == counts.shared + counts.precopied + counts.copied,
            "page counts do not add up");
    for (const auto& entry : tmpl.manifest.images()) (void)must(tmpl.image(entry));
    std::vector<std::byte> page(page_size);
    for (const auto& process : tmpl.manifest.processes()) {
        for (const auto& run : process.runs()) {
            must(tmpl.pages.read(run.page(), page));
            must(tmpl.pages.read(run.page() + run.pages() - 1, page));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const size_t kinds = images().size();
    const std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
    const size_t choice = data[0] % (2 * kinds + 1);
    if (choice < kinds)
        read_image(images()[choice], bytes);
    else if (choice < 2 * kinds)
        load_directory(images()[choice - kinds], bytes);
    else
        read_manifest(bytes);
    return 0;
}
