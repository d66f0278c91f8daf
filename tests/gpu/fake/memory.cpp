// SPDX-License-Identifier: Apache-2.0
#include "fake/memory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "fake/settings.h"

namespace fake_gpu {
namespace {

std::string path_of(const std::string& name) {
    return settings().state + "/" + name;
}

std::string owner_file(int number) {
    return path_of("owner." + std::to_string(number));
}

struct Owner {
    std::mutex mutex;
    pid_t pid = 0;  ///< after a fork we are another owner
    int number = 0;
    int fd = -1;
};
Owner& own() {
    static auto& one = *new Owner;
    return one;
}

constexpr pid_t nobody = -1;

/// Who holds the lock on an owner's file; 0 if that process is not seen from here.
pid_t holder(int number) {
    const int fd = ::open(owner_file(number).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return nobody;
    const bool unlocked = ::flock(fd, LOCK_SH | LOCK_NB) == 0;
    struct stat status{};
    ::fstat(fd, &status);
    ::close(fd);
    if (unlocked) return nobody;
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        int pid = 0;
        unsigned long inode = 0;
        if (std::sscanf(line.c_str(), "%*s FLOCK %*s %*s %d %*x:%*x:%lu", &pid, &inode) == 2 &&
            inode == status.st_ino)
            return pid;
    }
    return 0;
}

/// The blocks of processes that live; those of others go.
template <class Visit>
void for_each_block(int device, const Visit& visit) {
    std::map<int, pid_t> holders;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(settings().state, error)) {
        const std::string name = entry.path().filename().string();
        int owner_device = 0;
        int owner = 0;
        if (std::sscanf(name.c_str(), "%d.%d.", &owner_device, &owner) != 2) continue;
        const auto [found, added] = holders.try_emplace(owner, 0);
        if (added) found->second = holder(owner);
        if (found->second == nobody) {
            ::unlink(entry.path().c_str());
            ::unlink(owner_file(owner).c_str());
        } else if (owner_device == device) {
            visit(found->second, name);
        }
    }
}

}  // namespace

int owner_number() {
    Owner& owner = own();
    const std::lock_guard lock(owner.mutex);
    if (owner.pid == ::getpid()) return owner.number;
    unsigned random = 0;
    (void)!::getrandom(&random, sizeof random, 0);
    owner.number = static_cast<int>(random >> 1);
    // Locked before anybody can find it.
    const std::string unfinished = path_of("new." + std::to_string(owner.number));
    owner.fd = ::open(unfinished.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    ::flock(owner.fd, LOCK_EX);
    ::rename(unfinished.c_str(), owner_file(owner.number).c_str());
    owner.pid = ::getpid();
    return owner.number;
}

void forget_owner() {
    Owner& owner = own();
    const std::lock_guard lock(owner.mutex);
    if (owner.pid != ::getpid()) return;
    ::unlink(owner_file(owner.number).c_str());
    ::close(owner.fd);
    owner.pid = 0;
}

std::map<pid_t, uint64_t> usage(int device) {
    std::map<pid_t, uint64_t> result;
    for_each_block(device,
                   [&](pid_t pid, const std::string& name) { result[pid] += block_size(name); });
    return result;
}

bool is_mps_client() {
    const char* folder = std::getenv("CUDA_MPS_PIPE_DIRECTORY");
    return folder != nullptr && ::access((std::string(folder) + "/control").c_str(), F_OK) == 0;
}

std::set<pid_t> mps_clients(int device) {
    std::set<pid_t> result;
    for_each_block(device, [&](pid_t pid, const std::string& name) {
        if (name.ends_with(mps_context)) result.insert(pid);
    });
    return result;
}

std::string create_block(int device, uint64_t bytes, const char* kind) {
    static std::atomic<int> number = 0;
    uint64_t used = 0;
    for (const auto& [pid, size] : usage(device)) used += size;
    if (used + bytes > settings().devices.at(device).memory_bytes) return {};
    std::string name = std::to_string(device) + "." + std::to_string(owner_number()) + "." +
                       std::to_string(++number) + "." + kind;
    const int fd = ::open(path_of(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return {};
    const bool sized = ::ftruncate(fd, static_cast<off_t>(bytes)) == 0;
    ::close(fd);
    return sized ? name : std::string();
}

void* map_block(const std::string& name, uint64_t* bytes, void* wanted) {
    const int fd = ::open(path_of(name).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return nullptr;
    struct stat status{};
    ::fstat(fd, &status);
    const auto size = static_cast<size_t>(status.st_size);
    void* address = ::mmap(wanted, size, PROT_READ | PROT_WRITE,
                           MAP_SHARED | (wanted != nullptr ? MAP_FIXED : 0), fd, 0);
    ::close(fd);
    if (address == MAP_FAILED) return nullptr;
    *bytes = size;
    return address;
}

void remove_block(const std::string& name) {
    ::unlink(path_of(name).c_str());
}

uint64_t block_size(const std::string& name) {
    struct stat status{};
    return ::stat(path_of(name).c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

}  // namespace fake_gpu
