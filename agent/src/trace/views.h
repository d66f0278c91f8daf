// SPDX-License-Identifier: Apache-2.0
//
// What `memplate trace` prints: one view a verb, as text or as JSON lines.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trace/histogram.h"
#include "trace/screen.h"
#include "trace/session.h"

namespace memplate::trace {

/// What all views have in common: methods first, lost events last.
class PrintedView : public View {
  public:
    /// `what`: the method that matters most, as in ProbeMethod.
    PrintedView(std::string what, bool json) : what_(std::move(what)), json_(json) {}
    Result<> begin(const std::vector<ProbeMethod>& methods) override;
    Result<> phase(const Life&, const Phase&) override { return {}; }
    Result<> level(const Life&) override { return {}; }
    Result<> tick(const Snapshot&) override { return {}; }
    Result<> finish(const Snapshot& snapshot) override;

  protected:
    [[nodiscard]] bool json() const { return json_; }
    [[nodiscard]] Screen& screen() { return screen_; }
    /// "15:55:33 memory by page_counter, lost 0 events"
    [[nodiscard]] std::string status(const Snapshot& snapshot) const;
    /// A table below a status line, no higher than the terminal.
    void show(const Snapshot& snapshot, Grid& grid, size_t rows_left_out, const char* if_empty);
    /// So many rows fit.
    [[nodiscard]] size_t room() const;

  private:
    std::string what_;
    bool json_;
    Screen screen_;
    std::vector<ProbeMethod> methods_;
};

/// Times from birth to a phase, by image (else container) and phase.
class StartTimes {
  public:
    void add(const Life& life, const Phase& phase);
    /// By "alpine,exec"; of so many different images and containers that a screen cannot show all,
    /// those that started least are one, "others".
    [[nodiscard]] std::map<std::string, Histogram> by_image() const;

  private:
    /// The image may be known later than the start: grouped when asked.
    std::vector<std::tuple<std::shared_ptr<const Member>, std::string, double>> times_;
};

/// A line a phase, and at the end histograms.
class StartView : public PrintedView {
  public:
    explicit StartView(bool json) : PrintedView("start", json) {}
    Result<> begin(const std::vector<ProbeMethod>& methods) override;
    Result<> phase(const Life& life, const Phase& phase) override;
    Result<> finish(const Snapshot& snapshot) override;

  private:
    StartTimes times_;
};

/// The largest level of each interval, newest last.
class Trends {
  public:
    explicit Trends(size_t length) : length_(length) {}
    void level(const Life& life);
    /// Ends the interval.
    void tick(const Snapshot& snapshot);
    [[nodiscard]] const std::deque<double>& of(const Life& life) const;

  private:
    size_t length_;
    std::map<const Life*, double> most_;
    std::map<const Life*, std::deque<double>> values_;
};

/// A table of memory.
class MemoryView : public PrintedView {
  public:
    explicit MemoryView(bool json) : PrintedView("memory", json) {}
    Result<> level(const Life& life) override;
    Result<> tick(const Snapshot& snapshot) override;
    Result<> finish(const Snapshot& snapshot) override;

  private:
    void show_table(const Snapshot& snapshot);
    Trends trends_{16};
};

/// A table of page faults.
class FaultsView : public PrintedView {
  public:
    explicit FaultsView(bool json) : PrintedView("faults", json) {}
    Result<> tick(const Snapshot& snapshot) override;
    Result<> finish(const Snapshot& snapshot) override;

  private:
    void show_table(const Snapshot& snapshot);
    std::map<std::string, uint64_t> before_;  ///< counts at the tick before
    int64_t before_ns_ = 0;
};

/// One table of all: starts, memory and, where counted, faults.
class TopView : public PrintedView {
  public:
    enum class Order { memory, start, name };
    TopView(bool json, bool faults, Order order)
        : PrintedView("memory", json), faults_(faults), order_(order) {}
    Result<> level(const Life& life) override;
    Result<> tick(const Snapshot& snapshot) override;
    Result<> finish(const Snapshot& snapshot) override;

  private:
    [[nodiscard]] std::vector<std::shared_ptr<const Life>> sorted(const Snapshot& snapshot) const;
    void show_table(const Snapshot& snapshot);
    bool faults_;
    Order order_;
    Trends trends_{8};
};

}  // namespace memplate::trace
