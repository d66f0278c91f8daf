// SPDX-License-Identifier: Apache-2.0
#include "instance/hazards.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <set>

#include "util/fd.h"

namespace memplate::instance {
namespace {

/// An allocator is known by the name of its library, or, linked statically, by a text that its
/// messages begin with.
struct Allocator {
    std::string_view library;
    std::string_view text;
    std::string_view why;
};
constexpr std::array allocators{
    Allocator{"libjemalloc.so", "<jemalloc>: ", "relies on zeros after MADV_DONTNEED"},
};

bool contains_text(const std::string& path, std::string_view text) {
    const auto file = open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    if (!file) return false;
    const auto size = file_size(file->get());
    if (!size) return false;
    std::string buffer;
    constexpr uint64_t piece = 4u << 20;
    for (uint64_t at = 0; at < *size; at += piece) {
        // Pieces overlap, so that a text across their border is found.
        buffer.resize(std::min<uint64_t>(piece + text.size(), *size - at));
        if (!pread_exact(file->get(), writable_bytes_of(buffer), at)) return false;
        if (buffer.find(text) != std::string::npos) return true;
    }
    return false;
}

/// Files mapped executable by a process, each once.
std::set<std::string> code_files(const criu::ImageSet& images, const criu::ProcessImage& process) {
    std::set<std::string> files;
    for (const auto& vma : process.mm.vmas()) {
        if ((vma.prot() & PROT_EXEC) == 0) continue;
        if (std::string name = images.file_name(vma); !name.empty()) files.insert(std::move(name));
    }
    return files;
}

std::string base_name(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

constexpr uint64_t page_mask = criu::page_size - 1;

proto::Hazard area_hazard(proto::HazardKind kind, uint32_t pid, uint64_t start, uint64_t length,
                          std::string evidence) {
    proto::Hazard hazard;
    hazard.set_kind(kind);
    hazard.set_pid(pid);
    hazard.set_start(start & ~page_mask);
    hazard.set_end((start + length + page_mask) & ~page_mask);
    hazard.set_evidence(std::move(evidence));
    return hazard;
}

}  // namespace

std::vector<proto::Hazard> find_allocators(const criu::ImageSet& images, const std::string& root) {
    std::vector<proto::Hazard> hazards;
    std::map<std::string, bool> known;  // path → contains the text
    for (const auto& process : images.processes) {
        for (const Allocator& allocator : allocators) {
            std::string evidence;
            for (const std::string& file : code_files(images, process)) {
                if (base_name(file).starts_with(allocator.library)) {
                    evidence =
                        fmt::format("{} is loaded, which {}", base_name(file), allocator.why);
                    break;
                }
                auto [entry, added] = known.try_emplace(file, false);
                if (added) entry->second = contains_text(root + file, allocator.text);
                if (entry->second)
                    evidence = fmt::format("{} contains jemalloc, which {}", base_name(file),
                                           allocator.why);
            }
            if (evidence.empty()) continue;
            proto::Hazard hazard;
            hazard.set_kind(proto::HAZARD_ALLOCATOR);
            hazard.set_pid(process.process.pid());
            hazard.set_evidence(evidence);
            hazard.set_whole_process(true);
            hazards.push_back(std::move(hazard));
        }
    }
    return hazards;
}

std::vector<proto::Hazard> judge_calls(const std::vector<SyscallRecorder::Record>& records,
                                       const std::map<pid_t, pid_t>& inside) {
    using Call = SyscallRecorder::Call;
    std::vector<proto::Hazard> hazards;
    std::set<std::tuple<int, uint32_t, uint64_t, uint64_t>> seen;
    for (const auto& record : records) {
        const auto found = inside.find(record.pid);
        if (found == inside.end()) continue;
        const auto pid = static_cast<uint32_t>(found->second);
        proto::Hazard hazard;
        if (record.call == Call::mremap) {
            if (record.new_length <= record.length) continue;
            hazard = area_hazard(proto::HAZARD_GROWTH, pid, record.address, record.length,
                                 "an area is grown by mremap");
        } else if (record.advice == MADV_DONTNEED || record.advice == MADV_REMOVE ||
                   record.advice == MADV_DONTNEED_LOCKED) {
            hazard = area_hazard(proto::HAZARD_DISCARD, pid, record.address, record.length,
                                 "pages are given back by madvise(MADV_DONTNEED)");
        } else if (record.advice == MADV_FREE) {
            hazard = area_hazard(proto::HAZARD_FREE, pid, record.address, record.length,
                                 "pages are given back by madvise(MADV_FREE)");
        } else if (record.advice == MADV_WIPEONFORK) {
            hazard = area_hazard(proto::HAZARD_WIPEONFORK, pid, record.address, record.length,
                                 "an area is wiped on fork");
        } else {
            continue;
        }
        if (seen.emplace(hazard.kind(), pid, hazard.start(), hazard.end()).second)
            hazards.push_back(std::move(hazard));
    }
    return hazards;
}

std::vector<proto::Hazard> find_wiped_areas(const criu::ImageSet& images) {
    constexpr int wipeonfork_bit = 18;
    std::vector<proto::Hazard> hazards;
    for (const auto& process : images.processes) {
        for (const auto& vma : process.mm.vmas()) {
            if ((vma.madv() >> wipeonfork_bit & 1) == 0) continue;
            hazards.push_back(area_hazard(proto::HAZARD_WIPEONFORK, process.process.pid(),
                                          vma.start(), vma.end() - vma.start(),
                                          "an area is wiped on fork"));
        }
    }
    return hazards;
}

std::map<uint32_t, std::vector<UnsharedArea>> unshared_areas(
    const std::vector<proto::Hazard>& hazards) {
    std::map<uint32_t, std::vector<UnsharedArea>> areas;
    for (const auto& hazard : hazards) {
        if (hazard.end() == 0) continue;
        const proto::Placement reason =
            hazard.kind() == proto::HAZARD_GROWTH       ? proto::PLACEMENT_GROWN
            : hazard.kind() == proto::HAZARD_WIPEONFORK ? proto::PLACEMENT_WIPEONFORK
                                                        : proto::PLACEMENT_DISCARDED;
        areas[hazard.pid()].push_back({hazard.start(), hazard.end(), reason});
    }
    return areas;
}

}  // namespace memplate::instance
