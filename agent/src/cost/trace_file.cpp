// SPDX-License-Identifier: Apache-2.0
#include "cost/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "cost/clock.h"
#include "cost/functracer.h"
#include "util/fs.h"
#include "util/text.h"
#include "util/toml_reader.h"

namespace memplate::cost {
namespace {

constexpr std::string_view columns =
    "time_ns,memory_bytes,peak_bytes,limit_bytes,inactive_file_bytes,event,detail";
constexpr int64_t second = 1'000'000'000;

std::string cell(const std::optional<uint64_t>& value) {
    return value ? std::to_string(*value) : "";
}

/// Details are free text: no comma, quote or line end may come from them.
std::string plain(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == ',' || c == '"'; },
        ' ');
    return text;
}

template <class Integer>
bool read_number(std::string_view text, Integer& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
}

bool read_cell(std::string_view text, std::optional<uint64_t>& value) {
    if (text.empty()) return true;
    uint64_t number = 0;
    if (!read_number(text, number)) return false;
    value = number;
    return true;
}

}  // namespace

Result<LineFile> LineFile::create(const std::string& path) {
    LineFile file;
    file.path_ = path;
    TRY_ASSIGN(file.fd_, open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644));
    file.synced_ns_ = monotonic_ns();
    return file;
}

void LineFile::write(std::string_view line) {
    if (!state_) return;
    state_ = write_all(fd_.get(), bytes_of(line));
    if (!state_) return;
    const int64_t now = monotonic_ns();
    if (now - synced_ns_ < second) return;
    synced_ns_ = now;
    // Pipes and devices have nothing to flush.
    if (::fdatasync(fd_.get()) != 0 && errno != EINVAL && errno != EROFS)
        state_ = fail_errno(errno, "fdatasync");
}

Result<> LineFile::finish() {
    fd_.reset();
    if (!state_) return Failure(Error(state_.error()).context("trace " + path_));
    return {};
}

Result<std::unique_ptr<TraceWriter>> TraceWriter::create(const std::string& path,
                                                         const Json& header) {
    TRY_ASSIGN(LineFile file, LineFile::create(path));
    file.write(fmt::format("{}\n# {}\n{}\n", trace_signature,
                           header.dump(-1, ' ', false, Json::error_handler_t::replace), columns));
    return std::make_unique<TraceWriter>(std::move(file));
}

void TraceWriter::add(const Sample& sample) {
    file_.write(fmt::format("{},{},{},{},{},,\n", sample.time_ns, sample.bytes, cell(sample.peak),
                            cell(sample.limit), cell(sample.inactive_file)));
}

void TraceWriter::add(const Event& event) {
    file_.write(
        fmt::format("{},,,,,{},{}\n", event.time_ns, plain(event.name), plain(event.detail)));
}

Result<Trace> parse_memplate_trace(std::string_view text, const std::string& origin) {
    Trace trace;
    trace.name = origin;
    size_t number = 0;
    int64_t last = INT64_MIN;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        if (end == text.npos) break;  // cut off while it was written
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end + 1);
        number++;
        const auto refuse = [&](std::string_view what) {
            return fail(ErrorKind::usage,
                        fmt::format("{}:{}: {}; expected {}", origin, number, what, columns));
        };
        if (number == 1) {
            if (line == trace_signature) continue;
            return fail(ErrorKind::usage,
                        fmt::format("{}: \"{}\" cannot be read; known: \"{}\"", origin,
                                    printable(line, 40), trace_signature));
        }
        if (number == 2) {
            trace.header = line.starts_with("# ") ? Json::parse(line.substr(2), nullptr, false)
                                                  : Json(Json::value_t::discarded);
            if (!trace.header.is_object()) return refuse("the header is not a JSON object");
            continue;
        }
        if (number == 3) {
            if (line != columns) return refuse("other columns");
            continue;
        }
        const auto cells = split(line, ',');
        int64_t time = 0;
        if (cells.size() != 7) return refuse(fmt::format("{} columns", cells.size()));
        if (!read_number(std::string_view(cells[0]), time) || time < 0) return refuse("no time");
        if (time < last)
            return fail(ErrorKind::usage,
                        fmt::format("{}:{}: time goes back by {:.3f} s; monotonic time cannot: the "
                                    "file was changed or joined from several",
                                    origin, number, static_cast<double>(last - time) / 1e9));
        last = time;
        if (!cells[5].empty()) {
            trace.events.push_back({time, cells[5], cells[6]});
            if (cells[5] == "exit") trace.complete = true;
            continue;
        }
        Sample sample{.time_ns = time};
        if (!read_number(std::string_view(cells[1]), sample.bytes) ||
            !read_cell(cells[2], sample.peak) || !read_cell(cells[3], sample.limit) ||
            !read_cell(cells[4], sample.inactive_file) || sample.bytes > most_trace_bytes ||
            sample.peak.value_or(0) > most_trace_bytes)
            return refuse("not a number of bytes");
        trace.samples.push_back(sample);
    }
    return trace;
}

Result<Trace> parse_trace(std::string_view text, const std::string& origin) {
    auto trace = text.starts_with(trace_signature) ? parse_memplate_trace(text, origin)
                                                   : parse_functracer_trace(text, origin);
    if (trace && trace->samples.empty() && trace->events.empty())
        return fail(ErrorKind::usage, fmt::format("{}: no sample in this trace", origin));
    return trace;
}

Result<Trace> read_trace(const std::string& path) {
    TRY_ASSIGN(const std::string text, read_file(path, size_t{4} << 30));
    return parse_trace(text, path);
}

const Event* Trace::event(std::string_view wanted) const {
    const auto found = std::ranges::find(events, wanted, &Event::name);
    return found == events.end() ? nullptr : &*found;
}

int64_t Trace::zero_ns() const {
    if (const Event* exec = event("exec")) return exec->time_ns;
    int64_t zero = INT64_MAX;
    if (!samples.empty()) zero = samples.front().time_ns;
    if (!events.empty()) zero = std::min(zero, events.front().time_ns);
    return zero;
}

int64_t Trace::end_ns() const {
    int64_t end = INT64_MIN;
    if (!samples.empty()) end = samples.back().time_ns;
    if (const Event* exit = event("exit")) return std::max(end, exit->time_ns);
    if (!events.empty()) end = std::max(end, events.back().time_ns);
    return end;
}

uint64_t Trace::peak_bytes() const {
    // A watermark that was there from the start is of this run only if its exec was seen.
    const uint64_t before =
        samples.empty() || event("exec") != nullptr ? 0 : samples.front().peak.value_or(0);
    uint64_t peak = 0;
    for (const Sample& sample : samples) {
        peak = std::max(peak, sample.bytes);
        if (sample.peak.value_or(0) > before) peak = std::max(peak, *sample.peak);
    }
    return peak;
}

}  // namespace memplate::cost
