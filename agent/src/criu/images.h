// SPDX-License-Identifier: Apache-2.0
//
// CRIU image files: a magic number or two, then length-prefixed protobuf messages. Images are
// untrusted input: sizes and counts are bounded before anything is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "criu_images.pb.h"
#include "util/fd.h"

namespace memplate::criu {

inline constexpr uint64_t page_size = 4096;

namespace magic {
inline constexpr uint32_t common = 0x54564319;
inline constexpr uint32_t inventory = 0x58313116;
inline constexpr uint32_t process_tree = 0x50273030;
inline constexpr uint32_t core = 0x55053847;
inline constexpr uint32_t mm = 0x57492820;
inline constexpr uint32_t pagemap = 0x56084025;
inline constexpr uint32_t files = 0x56303138;
}  // namespace magic

/// Bits of Vma.status.
namespace vma_status {
inline constexpr uint32_t regular = 1u << 0;
inline constexpr uint32_t stack = 1u << 1;
inline constexpr uint32_t vsyscall = 1u << 2;
inline constexpr uint32_t vdso = 1u << 3;
inline constexpr uint32_t heap = 1u << 5;
inline constexpr uint32_t file_private = 1u << 6;
inline constexpr uint32_t file_shared = 1u << 7;
inline constexpr uint32_t anon_shared = 1u << 8;
inline constexpr uint32_t anon_private = 1u << 9;
inline constexpr uint32_t sysv_ipc = 1u << 10;
inline constexpr uint32_t socket = 1u << 11;
inline constexpr uint32_t vvar = 1u << 12;
inline constexpr uint32_t aio_ring = 1u << 13;
}  // namespace vma_status

/// Bits of PagemapEntry.flags.
namespace pagemap_flag {
inline constexpr uint32_t in_parent = 1u << 0;
inline constexpr uint32_t lazy = 1u << 1;
inline constexpr uint32_t present = 1u << 2;
}  // namespace pagemap_flag

/// The raw messages of one image, magic checked and stripped.
[[nodiscard]] Result<std::vector<std::string>> read_entries(int dirfd, const std::string& name,
                                                            uint32_t expected_magic);
/// The same from memory; `name` is for messages.
[[nodiscard]] Result<std::vector<std::string>> parse_entries(std::string_view bytes,
                                                             const std::string& name,
                                                             uint32_t expected_magic);
/// Bytes of an image with these messages.
[[nodiscard]] std::string format_entries(const std::vector<std::string>& entries, uint32_t magic);

/// A run of pages of one process and where its bytes are in the pages image.
struct PageRange {
    uint64_t vaddr = 0;
    uint64_t pages = 0;
    uint64_t offset = 0;  ///< in pages-N.img
    bool lazy = false;    ///< may be left to the lazy-pages daemon
};

/// pagemap-PID.img and the pages image it points to.
struct Pagemap {
    uint32_t pages_id = 0;
    std::vector<PageRange> ranges;  ///< ascending, not overlapping
};

/// Memory of one process.
struct ProcessImage {
    image::Process process;
    std::string comm;
    image::Mm mm;
    Pagemap pagemap;
};

/// The parts of a CRIU image directory that the agent works on.
struct ImageSet {
    std::vector<ProcessImage> processes;  ///< in pstree order: the root first
    std::vector<image::File> files;
    std::vector<std::string> names;  ///< every file of the directory, sorted

    /// Reads and cross-checks a directory. Refuses what the agent cannot restore from: incremental
    /// images (in_parent), pages left with the process (lazy dump), pages that belong to no VMA,
    /// overlapping VMAs.
    static Result<ImageSet> load(int dirfd);

    [[nodiscard]] const image::File* file(uint32_t id) const;
    /// The name of the file mapped by a file VMA, empty if unknown.
    [[nodiscard]] std::string file_name(const image::Vma& vma) const;
};

[[nodiscard]] Result<Pagemap> parse_pagemap(std::string_view bytes, const std::string& name);
[[nodiscard]] std::string format_pagemap(const Pagemap& pagemap);
/// Messages of a type out of raw entries.
template <class Message>
Result<Message> parse_message(const std::string& bytes, const std::string& name) {
    Message message;
    if (!message.ParseFromString(bytes))
        return fail(fmt::format("{}: not a valid {} message", name, message.GetTypeName()));
    return message;
}

/// True for the images that hold private memory (rewritten by engines): pagemap-PID.img and the
/// pages images those refer to. Shared memory (pagemap-shmem-*) stays with the other images.
[[nodiscard]] bool is_private_pagemap(const std::string& name);

}  // namespace memplate::criu
