// SPDX-License-Identifier: Apache-2.0
#include "trace/views.h"

#include <ctime>

#include "trace/lines.h"

namespace memplate::trace {
namespace {

std::string local_time() {
    const time_t now = ::time(nullptr);
    tm parts{};
    ::localtime_r(&now, &parts);
    std::array<char, 16> text;
    return {text.data(), ::strftime(text.data(), text.size(), "%H:%M:%S", &parts)};
}

std::string lost_text(uint64_t events) {
    return fmt::format("lost {} event{}", events, events == 1 ? "" : "s");
}

}  // namespace

Result<> PrintedView::begin(const std::vector<ProbeMethod>& methods) {
    methods_ = methods;
    if (json_) print_line(methods_line(methods));
    return {};
}

std::string PrintedView::status(const Snapshot& snapshot) const {
    const auto method = std::ranges::find(methods_, what_, &ProbeMethod::what);
    return fmt::format("{} {} by {}, {}", local_time(), what_,
                       method == methods_.end() ? "nothing" : method->backend,
                       lost_text(snapshot.lost));
}

size_t PrintedView::room() const {
    constexpr size_t others = 4;  // status, header, what is left out, and one below
    const size_t height = screen_.height();
    return height > others + 1 ? height - others : 1;
}

void PrintedView::show(const Snapshot& snapshot, Grid& grid, size_t rows_left_out,
                       const char* if_empty) {
    const size_t width = screen_.width();
    std::string frame = one_line(status(snapshot), width) + "\n";
    const std::string table = grid.render(width, screen_.colour());
    const bool empty = std::ranges::count(table, '\n') < 2;
    frame += empty ? one_line(if_empty, width) + "\n" : table;
    if (rows_left_out > 0) frame += fmt::format("and {} more\n", rows_left_out);
    screen_.show(frame);
}

Result<> PrintedView::finish(const Snapshot& snapshot) {
    if (json_) {
        print_line(lost_line(snapshot.lost));
        return {};
    }
    fmt::print("\n{}\n", lost_text(snapshot.lost));
    for (const ProbeMethod& method : methods_)
        fmt::print("{} by {}: {}\n", method.what, method.backend, method.accuracy);
    return {};
}

}  // namespace memplate::trace
