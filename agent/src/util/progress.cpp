// SPDX-License-Identifier: Apache-2.0
#include "util/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "util/fd.h"

namespace memplate {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto silent_for = 300ms;
constexpr auto redraw_every = 100ms;
constexpr size_t bar_width = 30;
constexpr std::string_view erase_line = "\r\x1b[K";

bool can_redraw(int fd) {
    const char* term = ::getenv("TERM");
    return ::isatty(fd) == 1 && (term == nullptr || std::string_view(term) != "dumb");
}

size_t terminal_width(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return size.ws_col;
}

std::string bar(uint64_t done, uint64_t total) {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto filled = static_cast<size_t>(share * static_cast<double>(bar_width));
    return fmt::format(" [{}{}] {:3.0f} %", std::string(filled, '='),
                       std::string(bar_width - filled, ' '), share * 100);
}

/// Progress is a courtesy: when stderr cannot be written, the work goes on.
void put(int fd, std::string_view text) {
    (void)write_all(fd, bytes_of(text));
}

}  // namespace

Progress::Progress(bool quiet, int fd)
    : fd_(fd), quiet_(quiet), terminal_(can_redraw(fd)), started_(steady_clock::now()) {}

Progress::~Progress() {
    clear();
}

void Progress::step(std::string_view name, uint64_t total) {
    const std::scoped_lock lock(mutex_);
    name_ = name;
    total_ = total;
    done_ = 0;
    if (quiet_) return;
    if (terminal_)
        draw();
    else
        put(fd_, name_ + "\n");
}

void Progress::advance(uint64_t done) {
    const std::scoped_lock lock(mutex_);
    done_ += done;
    if (quiet_ || !terminal_ || name_.empty()) return;
    if (!drawn_ || steady_clock::now() - last_drawn_ >= redraw_every) draw();
}

void Progress::clear() {
    const std::scoped_lock lock(mutex_);
    name_.clear();
    if (std::exchange(drawn_, false)) put(fd_, erase_line);
}

void Progress::draw() {
    const auto now = steady_clock::now();
    if (now - started_ < silent_for) return;
    std::string line = name_;
    if (total_ > 0)
        line += bar(done_, total_);
    else if (done_ > 0)
        line += fmt::format(" {}", done_);
    // A line that wraps could not be erased again.
    line.resize(std::min(line.size(), terminal_width(fd_) - 1));
    put(fd_, std::string(erase_line) + line);
    drawn_ = true;
    last_drawn_ = now;
}

}  // namespace memplate
