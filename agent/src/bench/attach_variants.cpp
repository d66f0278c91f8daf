// SPDX-License-Identifier: Apache-2.0
#include "bench/attach_variants.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace memplate::bench {
namespace {

constexpr uint64_t page_size = 4096;
constexpr int fixed_private = MAP_PRIVATE | MAP_FIXED_NOREPLACE;

void* address_of(uint64_t page) {
    return reinterpret_cast<void*>(attach_address + page * page_size);
}

int map_there(uint64_t bytes, int flags, int fd, off_t offset) {
    void* memory = ::mmap(address_of(0), bytes, PROT_READ | PROT_WRITE, flags, fd, offset);
    return memory == MAP_FAILED ? errno : 0;
}

class Copy final : public AttachVariant {
  public:
    explicit Copy(const AttachSource& source) : source_(source) {}
    std::string name() const override { return "copy"; }
    int map() const override {
        return map_there(source_.bytes(), fixed_private | MAP_ANONYMOUS, -1, 0);
    }
    int fill_self() const override {
        std::memcpy(address_of(0), source_.memory(), source_.bytes());
        return 0;
    }

  private:
    const AttachSource& source_;
};

class Memfd final : public AttachVariant {
  public:
    Memfd(const AttachSource& source, std::string name, std::vector<PagePart> populated)
        : source_(source), name_(std::move(name)), populated_(std::move(populated)) {}
    std::string name() const override { return name_; }
    int map() const override { return 0; }
    int fill_self() const override {
        if (const int error = map_there(source_.bytes(), fixed_private, source_.fd(), 0))
            return error;
        for (const PagePart& part : populated_) {
            if (::madvise(address_of(part.first), part.count * page_size, MADV_POPULATE_READ) != 0)
                return errno;
        }
        return 0;
    }

  private:
    const AttachSource& source_;
    std::string name_;
    std::vector<PagePart> populated_;
};

class Attached final : public AttachVariant {
  public:
    Attached(const AttachSource& source, std::string name, engine::ModuleTemplate memory, bool lazy)
        : source_(source), name_(std::move(name)), memory_(std::move(memory)), lazy_(lazy) {}
    std::string name() const override { return name_; }
    int map() const override {
        return lazy_ ? map_there(source_.bytes(), fixed_private, memory_.fd(), attach_address)
                     : map_there(source_.bytes(), fixed_private | MAP_ANONYMOUS, -1, 0);
    }
    Result<> fill_other(pid_t pid) const override {
        TRY(memory_.attach(pid));
        return {};
    }

  private:
    const AttachSource& source_;
    std::string name_;
    engine::ModuleTemplate memory_;
    bool lazy_;
};

pseudo_mm_extent extent(const PagePart& part, uint32_t kind) {
    return {.addr = attach_address + part.first * page_size,
            .page = part.first,
            .nr_pages = part.count,
            .kind = kind,
            .pad = 0};
}

}  // namespace

AttachSource::AttachSource(AttachSource&& other) noexcept
    : fd_(std::move(other.fd_)),
      bytes_(other.bytes_),
      memory_(std::exchange(other.memory_, nullptr)) {}

AttachSource::~AttachSource() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

Result<AttachSource> AttachSource::create(uint64_t bytes) {
    UniqueFd fd(::memfd_create("memplate-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return fail_errno(errno, "memfd_create");
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
        return fail_errno(errno, "memfd: ftruncate");
    std::vector<unsigned char> block(256 * page_size);
    for (uint64_t done = 0; done < bytes; done += block.size()) {
        for (uint64_t page = 0; page < block.size() / page_size; ++page)
            std::memset(block.data() + page * page_size, first_byte(done / page_size + page),
                        page_size);
        const auto part = std::span(block).first(std::min<uint64_t>(block.size(), bytes - done));
        TRY(pwrite_all(fd.get(), std::as_bytes(part), done));
    }
    constexpr int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "memfd: seal");
    AttachSource source(std::move(fd), bytes);
    void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, source.fd(), 0);
    if (memory == MAP_FAILED) return fail_errno(errno, "memfd: mmap");
    source.memory_ = static_cast<unsigned char*>(memory);
    return source;
}

std::vector<PagePart> spread(uint64_t pages, double part) {
    constexpr uint64_t piece = 16;
    if (part >= 1.0) return {{0, pages}};
    const uint64_t pieces = pages / piece;
    if (part <= 0.0) return {};
    const auto wanted =
        static_cast<uint64_t>(std::max(1LL, std::llround(static_cast<double>(pieces) * part)));
    std::vector<PagePart> parts;
    for (uint64_t i = 0; i < wanted; ++i) parts.push_back({i * pieces / wanted * piece, piece});
    return parts;
}

std::unique_ptr<AttachVariant> copy_variant(const AttachSource& source) {
    return std::make_unique<Copy>(source);
}

std::unique_ptr<AttachVariant> memfd_variant(const AttachSource& source, std::string name,
                                             std::vector<PagePart> populated) {
    return std::make_unique<Memfd>(source, std::move(name), std::move(populated));
}

Result<std::unique_ptr<AttachVariant>> attached_variant(const engine::Module& module,
                                                        const AttachSource& source,
                                                        std::string name,
                                                        const std::vector<PagePart>& shared) {
    const uint64_t pages = source.bytes() / page_size;
    std::vector<pseudo_mm_extent> extents;
    uint64_t next = 0;
    bool lazy = false;
    const auto deliver_later = [&](uint64_t end) {
        if (next == end) return;
        extents.push_back(extent({next, end - next}, PSEUDO_MM_LAZY));
        lazy = true;
    };
    for (const PagePart& part : shared) {
        deliver_later(part.first);
        extents.push_back(extent(part, PSEUDO_MM_SHARED));
        next = part.first + part.count;
    }
    deliver_later(pages);
    TRY(module.require(PSEUDO_MM_FEATURE_REMOTE | (lazy ? PSEUDO_MM_FEATURE_LAZY : 0)));
    const pseudo_mm_range range{reinterpret_cast<uintptr_t>(source.memory()), source.bytes()};
    TRY_ASSIGN(const auto pool, module.make_pool({&range, 1}, true));
    TRY_ASSIGN(auto memory, pool.start_template());
    TRY(memory.add(extents));
    TRY(memory.seal());
    return std::make_unique<Attached>(source, std::move(name), std::move(memory), lazy);
}

}  // namespace memplate::bench
