// SPDX-License-Identifier: Apache-2.0
#include "bench/environment.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <optional>
#include <string_view>

#include "util/fs.h"
#include "util/text.h"

namespace memplate {
namespace {

/// Reads facts from two trees; a file that cannot be read is a fact less.
class FactReader {
  public:
    explicit FactReader(const Context& context) : context_(context) {}

    std::optional<std::string> read(int dirfd, const char* path) const {
        auto text = read_file_at(dirfd, path, size_t{4} << 20);
        if (text) return std::move(*text);
        if (context_.log) context_.log->debug("environment: {}", text.error().message);
        return std::nullopt;
    }

  private:
    const Context& context_;
};

/// The value of the first line "key : value".
std::optional<std::string> field(std::string_view text, std::string_view key) {
    for (const std::string& line : split(text, '\n')) {
        const size_t colon = line.find(':');
        if (colon != std::string::npos && trim(std::string_view(line).substr(0, colon)) == key)
            return std::string(trim(std::string_view(line).substr(colon + 1)));
    }
    return std::nullopt;
}

/// "0-1,4" → 3.
std::optional<uint64_t> count_of_list(std::string_view list) {
    uint64_t count = 0;
    for (const std::string& range : split(trim(list), ',')) {
        const auto ends = split(range, '-');
        const auto first = parse_unsigned(ends.front());
        const auto last = parse_unsigned(ends.back());
        if (ends.size() > 2 || !first || !last || *last < *first) return std::nullopt;
        count += *last - *first + 1;
    }
    return count;
}

void describe_processor(Json& result, const FactReader& facts, int proc, int sys) {
    const std::string cpuinfo = facts.read(proc, "cpuinfo").value_or("");
    // "model name" is x86's; other architectures name the part or the machine, or nothing.
    for (const char* key : {"model name", "cpu model", "uarch", "Processor", "cpu", "Model"}) {
        if (const auto name = field(cpuinfo, key); name && !name->empty()) {
            result["cpu"] = *name;
            // What QEMU calls the processor when it runs on none: times mean nothing there.
            if (name->find("TCG") != std::string::npos) result["emulated"] = true;
            break;
        }
    }
    if (const auto online = facts.read(sys, "devices/system/cpu/online"))
        if (const auto count = count_of_list(*online)) result["cores"] = *count;
    if (const auto flags = field(cpuinfo, "flags"))
        result["virtual_machine"] = (" " + *flags + " ").find(" hypervisor ") != std::string::npos;
}

/// "0.54 0.13 0.04 2/89 6349" → the three averages.
std::optional<Json> load_averages(std::string_view text) {
    Json load = Json::array();
    for (const std::string& word : split(trim(text), ' ')) {
        if (load.size() == 3) break;
        double value = 0;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
        load.push_back(value);
    }
    return load.size() == 3 ? std::optional(load) : std::nullopt;
}

}  // namespace

Json describe_environment(const Context& context, const CriuDescription& criu) {
    const auto open = [&](const char* path) {
        auto fd = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
        return fd ? std::move(*fd) : UniqueFd();
    };
    const UniqueFd proc = open("/proc");
    const UniqueFd sys = open("/sys");
    return describe_environment_at(proc.get(), sys.get(), context, criu);
}

Json describe_environment_at(int proc, int sys, const Context& context,
                             const CriuDescription& criu) {
    const FactReader facts(context);
    Json result = Json::object();
    if (const auto release = facts.read(proc, "sys/kernel/osrelease"))
        result["kernel"] = std::string(trim(*release));
    if (utsname names{}; ::uname(&names) == 0) result["machine"] = names.machine;
    describe_processor(result, facts, proc, sys);
    if (const auto meminfo = facts.read(proc, "meminfo")) {
        const auto total = field(*meminfo, "MemTotal");  // "25884352 kB"
        const auto kib = parse_unsigned(total ? split(*total, ' ').front() : "");
        if (kib) result["memory_mb"] = *kib * 1024 / 1'000'000;
    }
    if (sys >= 0 && ::faccessat(sys, "fs/cgroup", F_OK, 0) == 0)
        result["cgroup"] =
            ::faccessat(sys, "fs/cgroup/cgroup.controllers", F_OK, 0) == 0 ? "v2" : "v1";
    if (const auto modes = facts.read(sys, "kernel/mm/transparent_hugepage/enabled")) {
        const size_t open = modes->find('[');  // "always [madvise] never"
        const size_t close = modes->find(']', open == std::string::npos ? open : open + 1);
        if (close != std::string::npos)
            result["transparent_hugepages"] = modes->substr(open + 1, close - open - 1);
    }
    if (!criu.version.empty()) result["criu"] = criu.version;
    if (!criu.root.empty()) result["criu_root"] = criu.root;
    result["memplate"] = MEMPLATE_VERSION;
    if (const auto averages = facts.read(proc, "loadavg"))
        if (auto load = load_averages(*averages)) result["load"] = std::move(*load);
    return result;
}

}  // namespace memplate
