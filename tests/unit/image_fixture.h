// SPDX-License-Identifier: Apache-2.0
//
// What the tests of images, templates and engines share: CRIU image directories made of nothing but
// protobuf messages, and what their memory must look like after a restore.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "criu/images.h"
#include "util/fs.h"

namespace memplate::test {

namespace image = criu::image;
namespace status = criu::vma_status;
using criu::page_size;

/// Fails the test with the message of the error.
template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error("unexpected error: " + result.error().message);
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

template <class T>
std::string error_of(const Result<T>& result) {
    return result ? std::string("no error") : result.error().message;
}

/// The address of page `n` of the tests' memory.
constexpr uint64_t at(uint64_t n) {
    return 0x10000000 + n * page_size;
}

/// A page that differs from every other one; the letter 0 means a page of zeros.
inline std::string page_content(uint64_t vaddr, char letter) {
    std::string page(page_size, letter);
    if (letter != 0) page.replace(0, sizeof(vaddr), reinterpret_cast<const char*>(&vaddr), 8);
    return page;
}

/// Pages by address.
using Memory = std::map<uint64_t, std::string>;

inline image::Vma area(uint64_t first, uint64_t pages,
                       uint32_t state = status::regular | status::anon_private,
                       uint32_t flags = MAP_PRIVATE | MAP_ANONYMOUS) {
    image::Vma vma;
    vma.set_start(at(first));
    vma.set_end(at(first + pages));
    vma.set_pgoff(0);
    vma.set_shmid(0);
    vma.set_prot(PROT_READ | PROT_WRITE);
    vma.set_flags(flags);
    vma.set_status(state);
    vma.set_fd(-1);
    return vma;
}

/// A private mapping of a file from page `file_page` on.
inline image::Vma file_area(uint64_t first, uint64_t pages, uint32_t file_id, uint64_t file_page) {
    auto vma = area(first, pages, status::regular | status::file_private, MAP_PRIVATE);
    vma.set_shmid(file_id);
    vma.set_pgoff(file_page * page_size);
    return vma;
}

/// Puts a field into a message that its schema does not know.
inline void add_unknown_field(google::protobuf::Message& message, uint64_t value) {
    message.GetReflection()->MutableUnknownFields(&message)->AddVarint(1000, value);
}

inline uint64_t unknown_field(const google::protobuf::Message& message) {
    const auto& fields = message.GetReflection()->GetUnknownFields(message);
    return fields.field_count() == 1 && fields.field(0).number() == 1000 ? fields.field(0).varint()
                                                                         : 0;
}

struct TestProcess {
    uint32_t pid = 100;
    uint32_t parent = 0;
    uint32_t task_state = 1;  ///< alive
    std::string comm = "function";
    std::vector<image::Vma> areas = {};
    Memory memory = {};  ///< the pages in the images
    uint32_t pages_id = 1;

    /// Fills `count` pages.
    void fill(uint64_t first, uint64_t count, char letter) {
        for (uint64_t n = first; n < first + count; ++n)
            memory[at(n)] = page_content(at(n), letter);
    }

    [[nodiscard]] criu::Pagemap pagemap() const {
        criu::Pagemap result;
        result.pages_id = pages_id;
        uint64_t offset = 0;
        for (const auto& [vaddr, bytes] : memory) {
            auto& ranges = result.ranges;
            if (ranges.empty() || ranges.back().vaddr + ranges.back().pages * page_size != vaddr)
                ranges.push_back({vaddr, 0, offset, false});
            ++ranges.back().pages;
            offset += page_size;
        }
        return result;
    }

    [[nodiscard]] std::string pages() const {
        std::string result;
        for (const auto& [vaddr, bytes] : memory) result += bytes;
        return result;
    }

    [[nodiscard]] image::Process entry() const {
        image::Process process;
        process.set_pid(pid);
        process.set_ppid(parent);
        process.set_pgid(100);
        process.set_sid(100);
        process.add_threads(pid);
        return process;
    }

    [[nodiscard]] image::Core core() const {
        image::Core result;
        result.set_mtype(1);
        result.mutable_tc()->set_task_state(task_state);
        result.mutable_tc()->set_comm(comm);
        auto* creds = result.mutable_thread_core()->mutable_creds();
        for (int word = 0; word < 2; ++word) {
            creds->add_cap_inh(0xffffffff);
            creds->add_cap_prm(0xffffffff);
            creds->add_cap_eff(0xffffffff);
            creds->add_cap_bnd(0xffffffff);
        }
        return result;
    }

    [[nodiscard]] image::Mm mm() const {
        image::Mm result;
        result.set_start_brk(at(0));
        result.set_brk(at(0));
        result.set_exe_file_id(1);
        for (const auto& vma : areas) *result.add_vmas() = vma;
        return result;
    }

    /// As ImageSet::load() gives it.
    [[nodiscard]] criu::ProcessImage loaded() const { return {entry(), comm, mm(), pagemap()}; }
};

inline image::File regular_file(uint32_t id, const std::string& name, uint64_t size) {
    image::File file;
    file.set_type(1);
    file.set_id(id);
    auto* regular = file.mutable_reg();
    regular->set_id(id);
    regular->set_flags(0);
    regular->set_pos(0);
    regular->set_name(name);
    regular->set_size(size);
    auto* owner = regular->mutable_fown();
    owner->set_uid(0);
    owner->set_euid(0);
    owner->set_signum(0);
    owner->set_pid_type(0);
    owner->set_pid(0);
    return file;
}

inline UniqueFd memory_file(std::string_view bytes) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
    must(pwrite_all(fd.get(), std::as_bytes(std::span(bytes)), 0));
    return fd;
}

/// A directory of images on the disk.
class ImageDirectory {
  public:
    ImageDirectory()
        : directory_(must(TemporaryDirectory::create(::testing::TempDir(), "images"))),
          fd_(must(open_at(AT_FDCWD, directory_.path(), O_RDONLY | O_DIRECTORY))) {}

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string& path() const { return directory_.path(); }

    void put(const std::string& name, std::string_view bytes) const {
        const UniqueFd file = must(open_at(fd(), name, O_WRONLY | O_CREAT | O_TRUNC, 0600));
        must(write_all(file.get(), std::as_bytes(std::span(bytes))));
    }
    void put_message(const std::string& name, const google::protobuf::Message& message,
                     uint32_t magic) const {
        put(name, criu::format_entries({message.SerializeAsString()}, magic));
    }
    void remove(const std::string& name) const { must(remove_tree(path() + "/" + name)); }
    [[nodiscard]] std::string get(const std::string& name) const {
        return must(read_file_at(fd(), name));
    }
    [[nodiscard]] std::vector<std::string> names() const { return must(list_directory(fd(), ".")); }

    void put_inventory(uint32_t version = 2) const {
        image::Inventory inventory;
        inventory.set_image_version(version);
        put_message("inventory.img", inventory, criu::magic::inventory);
    }

    /// All images of these processes and files.
    void fill(const std::vector<TestProcess>& processes,
              const std::vector<image::File>& files = {
                  regular_file(1, "/bin/function", 4711)}) const {
        put_inventory();
        std::vector<std::string> entries;
        for (const auto& file : files) entries.push_back(file.SerializeAsString());
        put("files.img", criu::format_entries(entries, criu::magic::files));
        entries.clear();
        for (const auto& process : processes)
            entries.push_back(process.entry().SerializeAsString());
        put("pstree.img", criu::format_entries(entries, criu::magic::process_tree));
        for (const auto& process : processes) put_process(process);
    }

    void put_process(const TestProcess& process) const {
        const std::string number = std::to_string(process.pid) + ".img";
        put_message("core-" + number, process.core(), criu::magic::core);
        if (process.areas.empty()) return;
        put_message("mm-" + number, process.mm(), criu::magic::mm);
        put("pagemap-" + number, criu::format_pagemap(process.pagemap()));
        put(fmt::format("pages-{}.img", process.pages_id), process.pages());
    }

    [[nodiscard]] Result<criu::ImageSet> load() const { return criu::ImageSet::load(fd()); }

    /// The memory areas of a process.
    [[nodiscard]] image::Mm mm(uint32_t pid) const {
        const auto name = fmt::format("mm-{}.img", pid);
        const auto entries = must(criu::read_entries(fd(), name, criu::magic::mm));
        return must(criu::parse_message<image::Mm>(entries.at(0), name));
    }

    [[nodiscard]] criu::Pagemap pagemap(uint32_t pid) const {
        const auto name = fmt::format("pagemap-{}.img", pid);
        return must(criu::parse_pagemap(get(name), name));
    }

    /// The pages that the pagemap of a process names; all of its pages image must be used.
    [[nodiscard]] Memory memory(uint32_t pid) const {
        const auto map = pagemap(pid);
        const std::string pages = get(fmt::format("pages-{}.img", map.pages_id));
        Memory result;
        uint64_t used = 0;
        for (const auto& range : map.ranges) {
            for (uint64_t n = 0; n < range.pages; ++n)
                result[range.vaddr + n * page_size] =
                    pages.substr(range.offset + n * page_size, page_size);
            used += range.pages * page_size;
        }
        EXPECT_EQ(used, pages.size()) << "pages image of process " << pid;
        return result;
    }

  private:
    TemporaryDirectory directory_;
    UniqueFd fd_;
};

}  // namespace memplate::test
