// SPDX-License-Identifier: Apache-2.0
#include "check/probes.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "check/child.h"
#include "util/fd.h"
#include "util/proc.h"

namespace memplate::check {
namespace {

constexpr size_t page = 4096;

struct Unmap {
    void operator()(char* memory) const { ::munmap(memory, page); }
};
using MappedPage = std::unique_ptr<char, Unmap>;

Result<MappedPage> map_page(int fd, int flags) {
    void* memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) return fail_errno(errno, "mmap");
    return MappedPage(static_cast<char*>(memory));
}

Result<UniqueFd> memfd_with(std::string_view text) {
    UniqueFd fd(::memfd_create("memplate-check", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return fail_errno(errno, "memfd_create");
    if (::ftruncate(fd.get(), page) != 0) return fail_errno(errno, "ftruncate");
    TRY(pwrite_all(fd.get(), bytes_of(text), 0));
    return fd;
}

Result<> first_in_namespace_is_pid_1() {
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) ::_exit(::getpid() == 1 ? 0 : 1);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return fail_errno(errno, "waitpid");
    }
    if (status != 0) return fail("the first process is not pid 1");
    return {};
}

Result<> mount_overlay() {
    if (::unshare(CLONE_NEWNS) != 0) return fail_errno(errno, "unshare");
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        return fail_errno(errno, "make mounts private");
    // Seen by this mount namespace alone; /tmp only serves as a directory that exists.
    if (::mount("tmpfs", "/tmp", "tmpfs", 0, "mode=755,size=64k") != 0)
        return fail_errno(errno, "mount tmpfs");
    if (::chdir("/tmp") != 0) return fail_errno(errno, "chdir");
    for (const char* name : {"upper", "work", "root", "upper/tmp"})
        if (::mkdir(name, 0755) != 0) return fail_errno(errno, "mkdir");
    if (::setxattr("upper/tmp", "trusted.overlay.opaque", "y", 1, 0) != 0)
        return fail_errno(errno, "extended attributes on tmpfs");
    if (::mount("overlay", "root", "overlay", 0, "lowerdir=/,upperdir=upper,workdir=work") != 0)
        return fail_errno(errno, "mount overlay over /");
    const UniqueFd file(
        ::open("root/memplate-check", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return fail_errno(errno, "write to the overlay");
    if (::access("upper/memplate-check", F_OK) != 0)
        return fail("what is written does not go to the upper layer");
    return {};
}

}  // namespace

Result<> try_namespace(int flag) {
    return in_child([flag]() -> Result<> {
        if (::unshare(flag) != 0) return fail_errno(errno, "unshare");
        if (flag == CLONE_NEWPID) return first_in_namespace_is_pid_1();
        return {};
    });
}

Result<> try_overlay() {
    return in_child(mount_overlay);
}

Result<> try_userfaultfd() {
    const UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    if (!fd) return fail_errno(errno, "userfaultfd");
    // CRIU follows a process that forks, unmaps or moves memory while pages are still missing.
    constexpr uint64_t events = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = events;
    if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) return fail_errno(errno, "UFFDIO_API");
    return {};
}

Result<> try_memfd_sealing() {
    TRY_ASSIGN(const UniqueFd fd, memfd_with("template"));
    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
        0)
        return fail_errno(errno, "F_ADD_SEALS");
    TRY_ASSIGN(const MappedPage memory, map_page(fd.get(), MAP_PRIVATE));
    *memory = 'T';
    char first = 0;
    if (::pread(fd.get(), &first, 1, 0) != 1 || first != 't')
        return fail("a private write reached the sealed file");
    if (map_page(fd.get(), MAP_SHARED)) return fail("a sealed file can be mapped writable");
    return {};
}

Result<> try_pagemap() {
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const UniqueFd fd, memfd_with("template"));
    TRY_ASSIGN(const MappedPage memory, map_page(fd.get(), MAP_PRIVATE));
    const auto shared = [&]() -> Result<bool> {
        TRY_ASSIGN(
            const auto pages,
            proc::page_states(proc.get(), ::getpid(), reinterpret_cast<uint64_t>(memory.get()), 1));
        if (pages.size() != 1 || !pages[0].present) return fail("a page in use is not shown");
        return pages[0].file_or_shared;
    };
    // Volatile: the accesses themselves are what matters.
    volatile char* byte = memory.get();
    (void)*byte;
    TRY_ASSIGN(const bool before, shared());
    *byte = 'T';
    TRY_ASSIGN(const bool after, shared());
    if (!before || after) return fail("a copied page is not told from a page of the file");
    return {};
}

Result<> try_socket_options() {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) return fail_errno(errno, "socket");
    int value = 0;
    socklen_t size = sizeof value;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &value, &size) != 0)
        return fail_errno(errno, "SO_PASSCRED of an internet socket");
    return {};
}

Result<std::string> try_cuda_driver() {
    void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return fail("libcuda.so.1 is not installed");
    const auto close = [](void* handle) { ::dlclose(handle); };
    const std::unique_ptr<void, decltype(close)> owner(library, close);
    using DriverGetVersion = int (*)(int*);
    const auto get_version =
        reinterpret_cast<DriverGetVersion>(::dlsym(library, "cuDriverGetVersion"));
    int version = 0;
    if (get_version == nullptr || get_version(&version) != 0)
        return fail("libcuda.so.1 does not tell its version");
    return fmt::format("libcuda.so.1, CUDA {}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace memplate::check
