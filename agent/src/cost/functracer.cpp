// SPDX-License-Identifier: Apache-2.0
#include "cost/functracer.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "cost/clock.h"
#include "util/text.h"

namespace memplate::cost {
namespace {

constexpr int64_t day = int64_t{24} * 3600 * 1000;
/// docker's "no limit" is some petabytes.
constexpr uint64_t no_limit = 1'000'000'000'000;

/// "HH:MM:SS.mmm" → milliseconds of the day; -1 if it is anything else.
int64_t parse_time(std::string_view text) {
    constexpr std::string_view shape = "dd:dd:dd.ddd";
    if (text.size() != shape.size()) return -1;
    for (size_t i = 0; i < shape.size(); i++)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i]) return -1;
    const auto number = [&](size_t at, size_t count) {
        int64_t value = 0;
        std::from_chars(text.data() + at, text.data() + at + count, value);
        return value;
    };
    if (number(0, 2) > 23 || number(3, 2) > 59 || number(6, 2) > 59) return -1;
    return ((number(0, 2) * 60 + number(3, 2)) * 60 + number(6, 2)) * 1000 + number(9, 3);
}

/// As bc(1) prints it: no zero before the point, zeros after it up to its scale.
std::string bc_number(Decimal value, int scale) {
    if (value.is_zero()) return "0";
    std::string text = value.text(scale);
    if (const size_t zero = text.find("0."); zero == 0 || (zero == 1 && text[0] == '-'))
        text.erase(zero, 1);
    return text;
}

/// As the shell's printf "%.2f" rounds it.
std::string two_decimals(Decimal value) {
    if (!value.valid()) return "nan";
    std::array<char, 64> text{};
    const int size = std::snprintf(text.data(), text.size(), "%.2Lf",
                                   std::strtold(value.text().c_str(), nullptr));
    return {text.data(), static_cast<size_t>(size)};
}

}  // namespace

Result<Trace> parse_functracer_trace(std::string_view text, const std::string& origin) {
    Trace trace;
    trace.name = origin;
    trace.header["format"] = "functracer";
    size_t number = 0;
    int64_t midnights = 0;
    int64_t last = 0;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        if (end == text.npos) break;  // cut off while it was written
        const std::string_view line = trim(text.substr(0, end));
        text.remove_prefix(end + 1);
        number++;
        const auto cells = split(line, ',');
        int64_t time = parse_time(cells.front());
        Sample sample;
        const auto bytes = cells.size() > 1 ? parse_unsigned(cells[1]) : fail("");
        const auto limit = cells.size() > 2 ? parse_unsigned(cells[2]) : Result<uint64_t>(no_limit);
        if (time < 0 || cells.size() > 3 || !bytes || *bytes > most_trace_bytes || !limit)
            return fail(ErrorKind::usage,
                        fmt::format("{}:{}: not a trace; a row is HH:MM:SS.mmm,BYTES[,LIMIT], or "
                                    "the first line is \"{}\"",
                                    origin, number, trace_signature));
        time += midnights * day;
        // Another clock reading than the samples', the end may be a little before the last of them.
        if (number > 1 && time < last && last - time < 1000 && *bytes == 0 && text.empty())
            time = last;
        if (number > 1 && time < last) {
            if (last - time <= day / 2)
                return fail(ErrorKind::usage,
                            fmt::format("{}:{}: the clock goes back by {:.3f} s: it was set during "
                                        "the recording; record again (the memplate format is "
                                        "immune to that)",
                                        origin, number, static_cast<double>(last - time) / 1000));
            midnights++;
            time += day;
        }
        last = time;
        sample.time_ns = time * ns_per_ms;
        sample.bytes = *bytes;
        if (*limit < no_limit) sample.limit = *limit;
        if (number == 1) trace.events.push_back({sample.time_ns, "exec", ""});
        trace.samples.push_back(sample);
    }
    if (number > 1 && trace.samples.back().bytes == 0) {
        trace.events.push_back({trace.samples.back().time_ns, "exit", ""});
        trace.complete = true;
    }
    return trace;
}

Result<std::unique_ptr<FunctracerWriter>> FunctracerWriter::create(const std::string& path,
                                                                   int64_t start_ns,
                                                                   int64_t day_ms) {
    TRY_ASSIGN(LineFile file, LineFile::create(path));
    return std::make_unique<FunctracerWriter>(std::move(file), start_ns, day_ms);
}

void FunctracerWriter::row(int64_t time_ns, const std::string& values) {
    const int64_t ms = ((day_ms_ + (time_ns - start_ns_) / ns_per_ms) % day + day) % day;
    file_.write(fmt::format("{:02}:{:02}:{:02}.{:03},{}\n", ms / 3'600'000, ms / 60'000 % 60,
                            ms / 1000 % 60, ms % 1000, values));
}

void FunctracerWriter::add(const Sample& sample) {
    if (!started_) return;
    row(sample.time_ns, sample.limit ? fmt::format("{},{}", sample.bytes, *sample.limit)
                                     : std::to_string(sample.bytes));
}

void FunctracerWriter::add(const Event& event) {
    // What ran before it was followed has no exec, but a start that says so.
    const bool begins =
        !started_ && (event.name == "exec" || (event.name == "start" && !event.detail.empty()));
    if (begins || event.name == "exit") row(event.time_ns, "0");
    started_ = started_ || begins;
}

int64_t local_day_ms(int64_t wall_ns) {
    const time_t seconds = wall_ns / ns_per_second;
    tm parts{};
    ::localtime_r(&seconds, &parts);
    return ((parts.tm_hour * 60 + parts.tm_min) * 60 + parts.tm_sec) * int64_t{1000} +
           wall_ns % ns_per_second / ns_per_ms;
}

std::string functracer_row(const Bill& bill) {
    return fmt::format("{} {} {}   {} {}    {}    {}\n", bill.used_ms, bill.used_mb, bill.units,
                       bill.billed_mb, bc_number(bill.total, 9), bc_number(bill.net, 20),
                       bc_number(bill.overhead, 20));
}

std::string functracer_report(const Bill& bill, uint64_t memory_bytes) {
    return fmt::format(
        "Max memory usage: {} bytes\n"
        "Container runtime: {} milliseconds\n"
        "=== AWS ===\n"
        "Memory: {} MB used, {} MB allocated\n"
        "Time: {} ms used, {} units of {} ms billed\n"
        "Cost of {} million requests: ${}\n"
        "Net cost: ${}, overhead cost: ${}\n"
        "Price increase: {}% by wasted memory, {}% by wasted time\n"
        "Wasted time: {} milliseconds\n"
        "Wasted memory: {} MB\n",
        memory_bytes, bill.used_ms, bill.used_mb, bill.billed_mb, bill.used_ms, bill.units,
        bill.units != 0 ? bill.billed_ms / bill.units : 100,
        Decimal(static_cast<int64_t>(bill.requests)).times(1, 1'000'000).text(),
        two_decimals(bill.total), two_decimals(bill.net), two_decimals(bill.overhead),
        two_decimals(bill.memory_increase_percent), two_decimals(bill.time_increase_percent),
        bill.wasted_ms(), bill.wasted_mb());
}

}  // namespace memplate::cost
