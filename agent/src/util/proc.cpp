// SPDX-License-Identifier: Apache-2.0
#include "util/proc.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "util/fs.h"
#include "util/text.h"

namespace memplate::proc {
namespace {

constexpr uint64_t page_size = 4096;

std::string file_of(pid_t pid, std::string_view name) {
    return fmt::format("{}/{}", pid, name);
}

Failure malformed(std::string_view file, std::string_view line) {
    return fail(fmt::format("/proc/{}: line {:?} is not understood", file, line));
}

/// Takes the next field up to `separator` (or the end) off `text`.
std::string_view take(std::string_view& text, char separator) {
    const size_t at = text.find(separator);
    const std::string_view field = text.substr(0, at);
    text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
    return field;
}

template <class Number>
bool parse(std::string_view text, Number& number, int base = 10) {
    const char* last = text.data() + text.size();
    // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): `last` is the size
    const auto [end, error] = std::from_chars(text.data(), last, number, base);
    return error == std::errc() && end == last;
}

bool parse_mapping(std::string_view line, Mapping& mapping) {
    const std::string_view start = take(line, '-');
    const std::string_view end = take(line, ' ');
    mapping.permissions = take(line, ' ');
    const std::string_view offset = take(line, ' ');
    take(line, ' ');  // device
    const std::string_view inode = take(line, ' ');
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    mapping.path = line;
    return parse(start, mapping.start, 16) && parse(end, mapping.end, 16) &&
           parse(offset, mapping.offset, 16) && parse(inode, mapping.inode) &&
           mapping.permissions.size() == 4 && mapping.start < mapping.end;
}

}  // namespace

Result<UniqueFd> open_host() {
    return open_at(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY);
}

MemoryRollup& MemoryRollup::operator+=(const MemoryRollup& other) {
    rss += other.rss;
    pss += other.pss;
    private_clean += other.private_clean;
    private_dirty += other.private_dirty;
    shared_clean += other.shared_clean;
    shared_dirty += other.shared_dirty;
    anonymous += other.anonymous;
    return *this;
}

Result<MemoryRollup> memory_rollup(int proc, pid_t pid) {
    const std::string file = file_of(pid, "smaps_rollup");
    TRY_ASSIGN(const std::string text, read_file_at(proc, file));
    MemoryRollup rollup;
    struct Field {
        std::string_view key;
        uint64_t& value;
        bool seen = false;
    };
    std::array fields = {Field{"Rss", rollup.rss},
                         Field{"Pss", rollup.pss},
                         Field{"Private_Clean", rollup.private_clean},
                         Field{"Private_Dirty", rollup.private_dirty},
                         Field{"Shared_Clean", rollup.shared_clean},
                         Field{"Shared_Dirty", rollup.shared_dirty},
                         Field{"Anonymous", rollup.anonymous}};
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::string_view line = take(rest, '\n');
        std::string_view value = line;
        const std::string_view key = take(value, ':');
        auto* const field = std::ranges::find(fields, key, &Field::key);
        if (field == fields.end()) continue;
        value = trim(value);
        if (!value.ends_with(" kB")) return malformed(file, line);
        value.remove_suffix(3);
        uint64_t kibibytes = 0;
        if (!parse(value, kibibytes) || kibibytes > UINT64_MAX / 1024) return malformed(file, line);
        field->value = kibibytes * 1024;
        field->seen = true;
    }
    for (const Field& field : fields)
        if (!field.seen) return fail(fmt::format("/proc/{}: {} is missing", file, field.key));
    return rollup;
}

Result<std::vector<Mapping>> mappings(int proc, pid_t pid) {
    const std::string file = file_of(pid, "maps");
    TRY_ASSIGN(const std::string text, read_file_at(proc, file));
    std::vector<Mapping> result;
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::string_view line = take(rest, '\n');
        if (!parse_mapping(line, result.emplace_back())) return malformed(file, line);
    }
    return result;
}

Result<Stat> stat(int proc, pid_t pid) {
    const std::string file = file_of(pid, "stat");
    TRY_ASSIGN(const std::string text, read_file_at(proc, file));
    // The name may itself contain blanks and parentheses: it ends at the last one.
    const size_t open = text.find('(');
    const size_t close = text.rfind(')');
    if (open == std::string::npos || close == std::string::npos || close < open)
        return malformed(file, text);
    Stat result;
    result.comm = text.substr(open + 1, close - open - 1);
    const auto fields = split(trim(std::string_view(text).substr(close + 1)), ' ');
    // proc(5) counts fields from 1; the state, third there, is first here.
    constexpr size_t state = 0;
    constexpr size_t parent = 4 - 3;
    constexpr size_t threads = 20 - 3;
    constexpr size_t start_time = 22 - 3;
    if (fields.size() <= start_time || fields[state].size() != 1 ||
        !parse(fields[parent], result.parent) || !parse(fields[threads], result.threads) ||
        !parse(fields[start_time], result.start_time))
        return malformed(file, text);
    result.state = fields[state].front();
    return result;
}

Result<pid_t> namespace_pid(int proc, pid_t pid) {
    const std::string file = file_of(pid, "status");
    TRY_ASSIGN(const std::string text, read_file_at(proc, file));
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::string_view line = take(rest, '\n');
        if (!line.starts_with("NSpid:")) continue;
        pid_t innermost = 0;
        const std::string_view value = trim(line);
        if (!parse(value.substr(value.find_last_of(":\t ") + 1), innermost))
            return malformed(file, line);
        return innermost;
    }
    return fail(fmt::format("/proc/{}: NSpid is missing", file));
}

Result<std::vector<PageState>> page_states(int proc, pid_t pid, uint64_t start, uint64_t count) {
    if (start % page_size != 0)
        return fail_errno(EINVAL, fmt::format("page states from address {:#x}", start));
    const std::string file = file_of(pid, "pagemap");
    TRY_ASSIGN(const UniqueFd fd, open_at(proc, file, O_RDONLY));
    std::vector<PageState> states;
    std::vector<uint64_t> entries;
    constexpr uint64_t chunk = 65536;
    for (uint64_t done = 0; done < count; done += entries.size()) {
        entries.resize(std::min(chunk, count - done));
        const uint64_t offset = (start / page_size + done) * sizeof(uint64_t);
        TRY_CONTEXT(pread_exact(fd.get(), writable_bytes_of(entries), offset), "/proc/" + file);
        for (const uint64_t entry : entries)
            states.push_back({.present = (entry >> 63 & 1) != 0,
                              .swapped = (entry >> 62 & 1) != 0,
                              .file_or_shared = (entry >> 61 & 1) != 0});
    }
    return states;
}

std::vector<pid_t> descendants(int proc, pid_t pid) {
    std::vector<pid_t> found;
    const std::string tasks = std::to_string(pid) + "/task";
    const auto threads = list_directory(proc, tasks);
    if (!threads) return found;  // it has just ended
    for (const std::string& thread : *threads) {
        const auto text = read_file_at(proc, tasks + "/" + thread + "/children");
        if (!text) continue;
        for (const std::string& word : split(trim(*text), ' ')) {
            const auto child = parse_unsigned(word);
            if (!child) continue;
            found.push_back(static_cast<pid_t>(*child));
            for (const pid_t deeper : descendants(proc, found.back())) found.push_back(deeper);
        }
    }
    return found;
}

}  // namespace memplate::proc
