// SPDX-License-Identifier: Apache-2.0
//
// Traces kept: in a file of JSON lines, in memory for a page, and read back into the views.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trace/session.h"
#include "util/fd.h"

namespace memplate::trace {

/// Passes everything on to several views.
class ViewTee : public View {
  public:
    void connect(View& view) { views_.push_back(&view); }
    Result<> begin(const std::vector<ProbeMethod>& methods) override;
    Result<> phase(const Life& life, const Phase& phase) override;
    Result<> level(const Life& life) override;
    Result<> tick(const Snapshot& snapshot) override;
    Result<> finish(const Snapshot& snapshot) override;

  private:
    std::vector<View*> views_;
};

/// Methods, phases, levels and lost events as lines of a file: each is one write(2), so a recording
/// that is cut short is good up to where it ends.
class RecordingWriter : public View {
  public:
    static Result<std::unique_ptr<RecordingWriter>> create(const std::string& path);
    explicit RecordingWriter(UniqueFd file) : file_(std::move(file)) {}
    Result<> begin(const std::vector<ProbeMethod>& methods) override;
    Result<> phase(const Life& life, const Phase& phase) override;
    Result<> level(const Life& life) override;
    Result<> tick(const Snapshot&) override { return {}; }
    Result<> finish(const Snapshot& snapshot) override;

  private:
    UniqueFd file_;
};

/// Reads a recording into a view, as if it happened now; ticks are left out. A line that was cut
/// off at the end is too. Errors name file and line.
[[nodiscard]] Result<> replay(const std::string& path, const Filter& filter, View& view);

/// What a page shows of one container.
struct Curve {
    std::shared_ptr<const Life> life;
    std::vector<std::pair<int64_t, uint64_t>> levels;  ///< time, bytes
    uint64_t most = 0;
};

/// Keeps the levels of all containers, thinned where there are very many; maxima stay.
class CurveCollector : public View {
  public:
    Result<> begin(const std::vector<ProbeMethod>& methods) override;
    Result<> phase(const Life& life, const Phase& phase) override;
    Result<> level(const Life& life) override;
    Result<> tick(const Snapshot&) override { return {}; }
    Result<> finish(const Snapshot& snapshot) override;

    [[nodiscard]] const std::vector<ProbeMethod>& methods() const { return methods_; }
    [[nodiscard]] uint64_t lost() const { return lost_; }
    /// Starts first, then by size.
    [[nodiscard]] std::vector<Curve> curves() const;

  private:
    Curve& curve_of(const Life& life);
    std::vector<ProbeMethod> methods_;
    std::map<const Life*, Curve> curves_;
    uint64_t lost_ = 0;
};

}  // namespace memplate::trace
