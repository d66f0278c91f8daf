// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <array>

#include "sandbox/keeper_fault.h"

namespace memplate::keeper {

Outcome<> make_parents(const std::string& path) {
    for (size_t slash = path.find('/', 1); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
        const std::string part = path.substr(0, slash);
        if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) return fault(errno, part);
    }
    return {};
}

Outcome<> make_directory(const std::string& path, mode_t mode) {
    KEEPER_TRY(make_parents(path));
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fault(errno, path);
    return {};
}

Outcome<> replace_file(const std::string& path, const std::string& data, mode_t mode) {
    KEEPER_TRY(make_parents(path));
    const std::string temporary = path + ".memplate-new";
    ::unlink(temporary.c_str());
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return fault(errno, temporary);
    for (size_t done = 0; done < data.size();) {
        const ssize_t n = ::write(file.get(), data.data() + done, data.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int error = errno;
            ::unlink(temporary.c_str());
            return fault(error, path);
        }
        done += static_cast<size_t>(n);
    }
    if (::fchmod(file.get(), mode) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        return fault(error, path);
    }
    return {};
}

Outcome<std::string> contents(int fd) {
    std::string text;
    std::array<char, 65536> buffer;
    for (;;) {
        const ssize_t n =
            ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fault(errno, "read");
        if (n == 0) return text;
        text.append(buffer.data(), static_cast<size_t>(n));
    }
}

}  // namespace memplate::keeper
