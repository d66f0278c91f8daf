// SPDX-License-Identifier: Apache-2.0
#include "sandbox/kdat.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>

#include "sandbox/message.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/text.h"

namespace memplate::sandbox {
namespace {

constexpr std::string_view prefix = "criu.kdat.";
constexpr size_t largest_kdat = size_t{1} << 20;

}  // namespace

Result<std::string> warm_kdat_path(const Context& context, const std::string& criu_root) {
    const std::string binary = criu_root + "/usr/sbin/criu";
    struct stat st{};
    if (::stat(binary.c_str(), &st) != 0) return fail_errno(errno, binary);
    utsname name{};
    ::uname(&name);
    TRY_ASSIGN(const std::string boot, read_file("/proc/sys/kernel/random/boot_id"));
    const std::string key =
        fmt::format("{}|{}|{}|{}|{}|{}.{}", static_cast<const char*>(name.release),
                    static_cast<const char*>(name.version), trim(boot), binary, st.st_size,
                    st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    Xxh3Stream hash;
    hash.update(bytes_of(key));
    return fmt::format("{}/{}{}", context.settings.state_dir, prefix, hash.hex());
}

Result<> save_kdat(const Context& context, const std::string& criu_root, const Sandbox& sandbox) {
    TRY_ASSIGN(const std::string path, warm_kdat_path(context, criu_root));
    TRY_ASSIGN(const UniqueFd file, sandbox.open_inside(std::string(kdat_inside), O_RDONLY));
    TRY_ASSIGN(const uint64_t size, file_size(file.get()));
    if (size == 0 || size > largest_kdat) return fail(fmt::format("{}: {} bytes", path, size));
    std::string data(size, '\0');
    TRY(pread_exact(file.get(), writable_bytes_of(data), 0));
    const std::string& folder = context.settings.state_dir;
    TRY(make_directories(folder));
    TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, folder));
    for (const auto& name : names) {
        if (name.starts_with(prefix)) ::unlink((folder + "/" + name).c_str());
    }
    return write_file_atomic(AT_FDCWD, path, data, 0600);
}

Result<> probe_kernel(const UniqueFd& criu_socket) {
    // criu_req { type = FEATURE_CHECK; features { mem_track = true } }: the request that probes
    // the kernel and does nothing else. What it answers does not matter.
    constexpr std::array<unsigned char, 6> request = {0x08, 0x09, 0x2a, 0x02, 0x08, 0x01};
    if (::send(criu_socket.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0)
        return fail_errno(errno, "criu");
    pollfd wait{criu_socket.get(), POLLIN, 0};
    constexpr int timeout_ms = 10'000;
    if (::poll(&wait, 1, timeout_ms) <= 0) return fail_errno(ETIMEDOUT, "criu");
    std::array<char, 4096> answer;
    if (::recv(criu_socket.get(), answer.data(), answer.size(), 0) <= 0)
        return fail("criu ended without an answer");
    return {};
}

}  // namespace memplate::sandbox
