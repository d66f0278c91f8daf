// SPDX-License-Identifier: Apache-2.0
#include "gpu/driver_file.h"

#include <fcntl.h>
#include <gelf.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "util/proc.h"

namespace memplate::gpu {
namespace {

struct EndElf {
    void operator()(Elf* elf) const { ::elf_end(elf); }
};
using OwnedElf = std::unique_ptr<Elf, EndElf>;

Failure not_understood() {
    return fail(fmt::format("the driver's library: {}", ::elf_errmsg(-1)));
}

Result<OwnedElf> open_elf(int fd) {
    ::elf_version(EV_CURRENT);
    OwnedElf elf(::elf_begin(fd, ELF_C_READ_MMAP, nullptr));
    if (!elf || ::elf_kind(elf.get()) != ELF_K_ELF) return not_understood();
    return elf;
}

bool is_call(std::string_view name) {
    return name.size() > 2 && name.starts_with("cu") && std::isupper(name[2]) != 0;
}

}  // namespace

Result<DriverFile> DriverFile::read(UniqueFd fd) {
    DriverFile file;
    file.fd_ = std::move(fd);
    struct stat status{};
    if (::fstat(file.fd_.get(), &status) != 0) return fail_errno(errno, "the driver's library");
    file.device_ = status.st_dev;
    file.inode_ = status.st_ino;
    TRY_ASSIGN(const OwnedElf elf, open_elf(file.fd_.get()));
    size_t count = 0;
    if (::elf_getphdrnum(elf.get(), &count) != 0) return not_understood();
    for (size_t i = 0; i < count; ++i) {
        GElf_Phdr header{};
        if (::gelf_getphdr(elf.get(), static_cast<int>(i), &header) == nullptr)
            return not_understood();
        if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
        file.code_.push_back({header.p_vaddr, header.p_offset, header.p_filesz});
    }
    return file;
}

Result<DriverFile> DriverFile::open(const std::string& path) {
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, path, O_RDONLY));
    return read(std::move(fd));
}

Result<DriverFile> DriverFile::mapped_by(pid_t pid, uint64_t address) {
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const auto mappings, proc::mappings(proc.get(), pid));
    const auto mapping = std::ranges::find_if(
        mappings, [&](const auto& one) { return one.start <= address && address < one.end; });
    if (mapping == mappings.end())
        return fail(fmt::format("process {}: nothing is mapped at {:#x}", pid, address));
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD,
                                    fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping->start,
                                                mapping->end),
                                    O_RDONLY));
    TRY_ASSIGN(DriverFile file, read(std::move(fd)));
    const auto code = std::ranges::find_if(file.code_, [&](const Segment& segment) {
        return mapping->offset < segment.offset + segment.bytes &&
               segment.offset < mapping->offset + (mapping->end - mapping->start);
    });
    if (code == file.code_.end()) return fail("the driver's library: no code where it is mapped");
    file.base_ = mapping->start - mapping->offset + code->offset - code->address;
    return file;
}

std::optional<uint64_t> DriverFile::shift() const {
    std::optional<uint64_t> common;
    for (const Segment& segment : code_) {
        const uint64_t own = segment.offset - segment.address;
        if (common && *common != own) return std::nullopt;
        common = own;
    }
    return common;
}

Result<std::vector<DriverFile::Function>> DriverFile::functions() const {
    TRY_ASSIGN(const OwnedElf elf, open_elf(fd_.get()));
    std::vector<Function> found;
    Elf_Scn* section = nullptr;
    while ((section = ::elf_nextscn(elf.get(), section)) != nullptr) {
        GElf_Shdr header{};
        if (::gelf_getshdr(section, &header) == nullptr) return not_understood();
        if (header.sh_type != SHT_DYNSYM || header.sh_entsize == 0) continue;
        Elf_Data* data = ::elf_getdata(section, nullptr);
        if (data == nullptr) return not_understood();
        for (size_t i = 0; i < header.sh_size / header.sh_entsize; ++i) {
            GElf_Sym symbol{};
            if (::gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) break;
            const char* name = ::elf_strptr(elf.get(), header.sh_link, symbol.st_name);
            if (name == nullptr || !is_call(name) || symbol.st_shndx == SHN_UNDEF ||
                GELF_ST_TYPE(symbol.st_info) != STT_FUNC)
                continue;
            if (auto function = at(base_ + symbol.st_value)) {
                function->name = name;
                found.push_back(std::move(*function));
            }
        }
    }
    std::ranges::sort(found, {},
                      [](const Function& one) { return std::pair(one.address, one.name); });
    const auto repeated = std::ranges::unique(found, {}, &Function::address);
    found.erase(repeated.begin(), repeated.end());
    if (found.empty()) return fail("the driver's library exports no call of the driver");
    return found;
}

std::optional<DriverFile::Function> DriverFile::at(uint64_t address) const {
    const uint64_t own = address - base_;
    for (const Segment& segment : code_)
        if (segment.address <= own && own - segment.address < segment.bytes)
            return Function{{}, own, own - segment.address + segment.offset};
    return std::nullopt;
}

std::string DriverFile::path() const {
    return fmt::format("/proc/self/fd/{}", fd_.get());
}

}  // namespace memplate::gpu
