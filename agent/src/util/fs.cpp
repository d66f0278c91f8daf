// SPDX-License-Identifier: Apache-2.0
#include "util/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "util/text.h"

namespace memplate {
namespace {

struct DirCloser {
    void operator()(DIR* dir) const { ::closedir(dir); }
};
using UniqueDir = std::unique_ptr<DIR, DirCloser>;

Result<UniqueDir> read_directory(UniqueFd fd, const std::string& path) {
    UniqueDir dir(::fdopendir(fd.get()));
    if (!dir) return fail_errno(errno, path);
    (void)fd.release();
    return dir;
}

/// The next name without "." and ".."; empty at the end.
Result<std::string> next_name(DIR* dir, const std::string& path) {
    for (;;) {
        errno = 0;
        const dirent* entry = ::readdir(dir);
        if (entry == nullptr && errno != 0) return fail_errno(errno, path);
        if (entry == nullptr) return std::string();
        std::string name = entry->d_name;
        if (name != "." && name != "..") return name;
    }
}

/// Opens a directory below another for removal: never a symbolic link, never a mount point. A bind
/// mount of the same file system has the same device number, so the kernel must judge this.
Result<UniqueDir> open_child(int dirfd, const std::string& name, const std::string& path) {
    const open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                          .mode = 0,
                          .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
    const auto fd = ::syscall(SYS_openat2, dirfd, name.c_str(), &how, sizeof how);
    if (fd < 0 && errno == EXDEV)
        return fail_errno(EXDEV, fmt::format("{}: something is mounted there; unmount it", path));
    if (fd < 0) return fail_errno(errno, path);
    return read_directory(UniqueFd(static_cast<int>(fd)), path);
}

Result<> remove_contents(DIR* dir, const std::string& path) {
    const int fd = ::dirfd(dir);
    for (;;) {
        TRY_ASSIGN(const std::string name, next_name(dir, path));
        if (name.empty()) return {};
        const std::string full = path + "/" + name;
        if (::unlinkat(fd, name.c_str(), 0) == 0 || errno == ENOENT) continue;
        if (errno != EISDIR) return fail_errno(errno, full);
        {
            TRY_ASSIGN(const UniqueDir child, open_child(fd, name, full));
            TRY(remove_contents(child.get(), full));
        }
        if (::unlinkat(fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
            return fail_errno(errno, full);
    }
}

}  // namespace

Result<std::string> read_file_at(int dirfd, const std::string& path, size_t limit) {
    TRY_ASSIGN(UniqueFd fd, open_at(dirfd, path, O_RDONLY));
    std::string text;
    std::array<char, 16384> buffer;
    for (;;) {
        const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, path);
        if (n == 0) return text;
        if (text.size() + static_cast<size_t>(n) > limit) return fail_errno(EFBIG, path);
        text.append(buffer.data(), static_cast<size_t>(n));
    }
}

Result<std::string> read_file(const std::string& path, size_t limit) {
    return read_file_at(AT_FDCWD, path, limit);
}

Result<> write_file_atomic(int dirfd, const std::string& path, std::string_view data,
                           unsigned mode) {
    const std::string temporary = fmt::format("{}.{}.tmp", path, random_hex(8));
    TRY_ASSIGN(UniqueFd fd, open_at(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL, mode));
    auto written = write_all(fd.get(), std::as_bytes(std::span(data)));
    if (written && ::fsync(fd.get()) != 0) written = fail_errno(errno, "fsync");
    if (written && ::renameat(dirfd, temporary.c_str(), dirfd, path.c_str()) != 0)
        written = fail_errno(errno, "rename");
    if (!written) {
        ::unlinkat(dirfd, temporary.c_str(), 0);
        return Failure(std::move(written.error()).context(path));
    }
    return {};
}

Result<> write_control_file(int dirfd, const std::string& path, std::string_view data) {
    TRY_ASSIGN(UniqueFd fd, open_at(dirfd, path, O_WRONLY));
    const ssize_t n = ::write(fd.get(), data.data(), data.size());
    if (n < 0) return fail_errno(errno, path);
    // Rest would be taken for a second command.
    if (static_cast<size_t>(n) != data.size()) return fail_errno(EIO, path);
    return {};
}

Result<std::vector<std::string>> list_directory(int dirfd, const std::string& path) {
    TRY_ASSIGN(UniqueFd fd, open_at(dirfd, path, O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(const UniqueDir dir, read_directory(std::move(fd), path));
    std::vector<std::string> names;
    for (;;) {
        TRY_ASSIGN(std::string name, next_name(dir.get(), path));
        if (name.empty()) break;
        names.push_back(std::move(name));
    }
    std::ranges::sort(names);
    return names;
}

Result<> make_directories(const std::string& path, unsigned mode) {
    for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        const std::string part = path.substr(0, slash);
        if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) return fail_errno(errno, part);
        if (slash == std::string::npos) break;
    }
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) return fail_errno(errno, path);
    if (!S_ISDIR(st.st_mode)) return fail_errno(ENOTDIR, path);
    return {};
}

Result<> make_private_directory(const std::string& path, unsigned mode) {
    TRY(make_directories(path, mode));
    struct stat st{};
    if (::lstat(path.c_str(), &st) != 0) return fail_errno(errno, path);
    if (S_ISDIR(st.st_mode) && st.st_uid == ::geteuid() && (st.st_mode & 0022) == 0) return {};
    return fail(
        fmt::format("{}: must be a directory that belongs to uid {} and that nobody else can "
                    "write to; others could exchange what is kept there",
                    path, ::geteuid()));
}

Result<> remove_tree(const std::string& path) {
    struct stat st{};
    if (::lstat(path.c_str(), &st) != 0) {
        if (errno == ENOENT) return {};
        return fail_errno(errno, path);
    }
    if (!S_ISDIR(st.st_mode)) {
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, path);
        return {};
    }
    {
        TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        TRY_ASSIGN(const UniqueDir dir, read_directory(std::move(fd), path));
        TRY(remove_contents(dir.get(), path));
    }
    if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, path);
    return {};
}

Result<std::string> make_temporary_directory(const std::string& parent, const std::string& prefix) {
    TRY(make_directories(parent));
    std::string path = fmt::format("{}/{}-XXXXXX", parent, prefix);
    if (::mkdtemp(path.data()) == nullptr) return fail_errno(errno, path);
    return path;
}

Result<std::string> absolute_path(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr),
                                                               &std::free);
    if (!resolved) return fail_errno(errno, path);
    return std::string(resolved.get());
}

bool on_tmpfs(const std::string& path) {
    struct statfs fs{};
    return ::statfs(path.c_str(), &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

Result<TemporaryDirectory> TemporaryDirectory::create(const std::string& parent,
                                                      const std::string& prefix) {
    TRY_ASSIGN(std::string path, make_temporary_directory(parent, prefix));
    return TemporaryDirectory(std::move(path));
}

TemporaryDirectory::~TemporaryDirectory() {
    if (!path_.empty()) (void)remove_tree(path_);
}

}  // namespace memplate
