// SPDX-License-Identifier: Apache-2.0
#include "trace/device.h"

#include <fmt/format.h>

#include "util/fs.h"
#include "util/text.h"

namespace memplate::trace {

std::string_view name_of(FaultCount::Kind kind) {
    switch (kind) {
        case FaultCount::Kind::minor:
            return "minor";
        case FaultCount::Kind::major:
            return "major";
        case FaultCount::Kind::copy_on_write:
            return "cow";
    }
    return "";
}

std::string_view name_of(FaultCount::Backing backing) {
    switch (backing) {
        case FaultCount::Backing::anonymous:
            return "anonymous";
        case FaultCount::Backing::file:
            return "file";
        case FaultCount::Backing::shared_memory:
            return "shared memory";
        case FaultCount::Backing::other:
            return "other";
    }
    return "";
}

std::string device_name(const FaultCount& count) {
    if (count.device == 0) return "-";
    const std::string number = fmt::format("{}:{}", count.device >> 20, count.device & 0xfffff);
    if (const auto text = read_file(fmt::format("/sys/dev/block/{}/uevent", number))) {
        for (const std::string& line : split(*text, '\n'))
            if (line.starts_with("DEVNAME=")) return line.substr(8);
    }
    // A file system without a device: "36 35 0:32 / /run rw - tmpfs tmpfs rw".
    if (const auto mounts = read_file("/proc/self/mountinfo")) {
        for (const std::string& line : split(*mounts, '\n')) {
            const auto fields = split(line, ' ');
            const size_t separator = line.find(" - ");
            if (fields.size() < 5 || fields[2] != number || separator == line.npos) continue;
            const size_t end = line.find(' ', separator + 3);
            return line.substr(separator + 3, end - separator - 3);
        }
    }
    // Of memory shared without a file system that anybody mounted.
    return count.backing == FaultCount::Backing::shared_memory ? "tmpfs" : number;
}

}  // namespace memplate::trace
