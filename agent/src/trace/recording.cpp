// SPDX-License-Identifier: Apache-2.0
#include "trace/recording.h"

#include <fcntl.h>

#include <algorithm>

#include "trace/lines.h"

namespace memplate::trace {
namespace {

constexpr size_t most_levels = 8192;  // of one curve

/// Of each two neighbours the larger stays, and what is first.
void thin(std::vector<std::pair<int64_t, uint64_t>>& levels) {
    size_t kept = 1;
    for (size_t i = 1; i + 1 < levels.size(); i += 2)
        levels[kept++] = levels[i].second >= levels[i + 1].second ? levels[i] : levels[i + 1];
    if (levels.size() % 2 == 0) levels[kept++] = levels.back();
    levels.resize(kept);
}

Result<> write_line(const UniqueFd& file, const Json& line) {
    const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    TRY_CONTEXT(write_all(file.get(), bytes_of(text)), "recording");
    return {};
}

}  // namespace

Result<> ViewTee::begin(const std::vector<ProbeMethod>& methods) {
    for (View* view : views_) TRY(view->begin(methods));
    return {};
}
Result<> ViewTee::phase(const Life& life, const Phase& phase) {
    for (View* view : views_) TRY(view->phase(life, phase));
    return {};
}
Result<> ViewTee::level(const Life& life) {
    for (View* view : views_) TRY(view->level(life));
    return {};
}
Result<> ViewTee::tick(const Snapshot& snapshot) {
    for (View* view : views_) TRY(view->tick(snapshot));
    return {};
}
Result<> ViewTee::finish(const Snapshot& snapshot) {
    for (View* view : views_) TRY(view->finish(snapshot));
    return {};
}

Result<std::unique_ptr<RecordingWriter>> RecordingWriter::create(const std::string& path) {
    TRY_ASSIGN(UniqueFd file,
               open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644));
    return std::make_unique<RecordingWriter>(std::move(file));
}

Result<> RecordingWriter::begin(const std::vector<ProbeMethod>& methods) {
    return write_line(file_, methods_line(methods));
}
Result<> RecordingWriter::phase(const Life& life, const Phase& phase) {
    return write_line(file_, phase_line(life, phase));
}
Result<> RecordingWriter::level(const Life& life) {
    return write_line(file_, level_line(life));
}
Result<> RecordingWriter::finish(const Snapshot& snapshot) {
    return write_line(file_, lost_line(snapshot.lost));
}

Curve& CurveCollector::curve_of(const Life& life) {
    Curve& curve = curves_[&life];
    if (!curve.life) curve.life = life.shared_from_this();
    return curve;
}

Result<> CurveCollector::begin(const std::vector<ProbeMethod>& methods) {
    methods_ = methods;
    return {};
}

Result<> CurveCollector::phase(const Life& life, const Phase&) {
    (void)curve_of(life);
    return {};
}

Result<> CurveCollector::level(const Life& life) {
    Curve& curve = curve_of(life);
    curve.most = std::max(curve.most, life.memory.bytes);
    curve.levels.emplace_back(life.memory.time_ns, life.memory.bytes);
    if (curve.levels.size() > most_levels) thin(curve.levels);
    return {};
}

Result<> CurveCollector::finish(const Snapshot& snapshot) {
    lost_ = snapshot.lost;
    return {};
}

std::vector<Curve> CurveCollector::curves() const {
    std::vector<Curve> curves;
    for (const auto& [life, curve] : curves_) curves.push_back(curve);
    std::ranges::stable_sort(curves, [](const Curve& a, const Curve& b) {
        if (a.life->begun != b.life->begun) return a.life->begun;
        return a.most > b.most;
    });
    return curves;
}

}  // namespace memplate::trace
