// SPDX-License-Identifier: Apache-2.0
#include "gpu/program_segments.h"

#include <algorithm>
#include <array>

namespace memplate::gpu {
namespace {

// From one file of code to the next goes the work on the first: compiling, running a module, and
// for a library relocations and constructors. Longer silence is something else.
constexpr int64_t after_module_ns = 100'000'000;
constexpr int64_t after_library_ns = 1'000'000'000;

/// Not made by the kernel when it is read.
bool is_stored(std::string_view path) {
    return !path.starts_with("/proc/") && !path.starts_with("/sys/") &&
           (!path.starts_with("/dev/") || path.starts_with("/dev/shm/"));
}

/// What one process does with its files.
class FileUse {
  public:
    void take(const ProgramEvent& event, const ProgramTrace& trace, std::vector<Span>& spans) {
        using Kind = ProgramEvent::Kind;
        if (event.kind == Kind::opened) {
            const std::string& path = trace.text(event);
            if (path.empty()) return;
            const bool code = is_code(path);
            if (event.result >= 0) files_[event.result] = {code, is_library(path), is_stored(path)};
            if (code) use_code(event, is_library(path), spans);
            return;
        }
        const auto file = files_.find(static_cast<int>(event.arguments[0]));
        const File used = file == files_.end() ? File{} : file->second;
        if (used.code)
            use_code(event, used.library, spans);
        else if (event.kind == Kind::read && used.stored)
            spans.push_back({event.begin_ns, event.end_ns, Activity::disk});
    }

  private:
    struct File {
        bool code = false;
        bool library = false;
        bool stored = false;
    };

    void use_code(const ProgramEvent& event, bool library, std::vector<Span>& spans) {
        const int64_t reach = library_ ? after_library_ns : after_module_ns;
        const bool follows = used_ && event.begin_ns - last_ns_ <= reach;
        spans.push_back({follows ? std::min(last_ns_, event.begin_ns) : event.begin_ns,
                         event.end_ns, Activity::import});
        last_ns_ = std::max(last_ns_, event.end_ns);
        used_ = true;
        library_ = library;
    }

    std::map<int, File> files_;  ///< by descriptor
    int64_t last_ns_ = 0;        ///< end of the last use of code
    bool used_ = false;
    bool library_ = false;
};

class Sweep {
  public:
    Sweep(int64_t begin_ns, int64_t end_ns) : at_ns_(begin_ns), end_ns_(end_ns) {}

    void run(std::vector<Span>& spans) {
        struct Edge {
            int64_t ns;
            const Span* span;
            bool begins;
        };
        std::vector<Edge> edges;
        for (const Span& span : spans) {
            if (span.end_ns <= span.begin_ns) continue;
            edges.push_back({span.begin_ns, &span, true});
            edges.push_back({span.end_ns, &span, false});
        }
        std::ranges::stable_sort(edges, {}, &Edge::ns);
        for (const Edge& edge : edges) {
            advance(edge.ns);
            const Span& span = *edge.span;
            const auto activity = static_cast<size_t>(span.activity);
            active_[activity] += edge.begins ? 1 : -1;
            if (span.activity != Activity::driver) continue;
            const std::pair key(span.begin_ns, edge.span);
            if (edge.begins)
                calls_.insert(key);
            else
                calls_.erase(key);
        }
        advance(end_ns_);
    }

    [[nodiscard]] std::vector<Segment> take() { return std::move(segments_); }

  private:
    void advance(int64_t ns) {
        ns = std::min(ns, end_ns_);
        if (ns <= at_ns_) return;
        Segment segment{at_ns_, ns, Activity::user, 0};
        for (size_t i = 0; i < active_.size(); ++i) {
            if (active_[i] == 0) continue;
            segment.activity = static_cast<Activity>(i);
            break;
        }
        if (segment.activity == Activity::driver) segment.call = calls_.rbegin()->second->call;
        at_ns_ = ns;
        if (!segments_.empty() && segments_.back().activity == segment.activity &&
            segments_.back().call == segment.call)
            segments_.back().end_ns = ns;
        else
            segments_.push_back(segment);
    }

    int64_t at_ns_;
    int64_t end_ns_;
    std::array<int, static_cast<size_t>(Activity::user) + 1> active_{};
    std::set<std::pair<int64_t, const Span*>> calls_;
    std::vector<Segment> segments_;
};

}  // namespace

int64_t end_of(const ProgramEvent& call, const ProgramTrace& trace) {
    using Kind = ProgramEvent::Kind;
    if (call.end_ns != 0) return call.end_ns;
    for (const ProgramEvent& event : trace.events)
        if (event.pid == call.pid && event.begin_ns >= call.begin_ns &&
            (event.kind == Kind::exited || event.kind == Kind::executed))
            return event.begin_ns;
    return trace.end_ns;
}

std::vector<Span> spans_of(const ProgramTrace& trace) {
    using Kind = ProgramEvent::Kind;
    std::vector<Span> spans = {{trace.begin_ns, trace.exec_ns, Activity::start}};
    std::map<pid_t, FileUse> files;
    std::map<pid_t, int64_t> linking;  ///< process → when it was executed
    bool executed = false;
    for (const ProgramEvent& event : trace.events) {
        switch (event.kind) {
            case Kind::call:
                spans.push_back(
                    {event.begin_ns, end_of(event, trace), Activity::driver, event.text});
                break;
            case Kind::opened:
            case Kind::read:
            case Kind::mapped:
                files[event.pid].take(event, trace, spans);
                break;
            case Kind::disk:
                spans.push_back({event.begin_ns, event.end_ns, Activity::disk});
                break;
            case Kind::held:
                spans.push_back({event.begin_ns, event.end_ns, Activity::held});
                break;
            case Kind::executed:
                // The first one begins where the program itself stamped it.
                linking[event.pid] = executed ? event.begin_ns : trace.exec_ns;
                files[event.pid] = {};
                executed = true;
                break;
            case Kind::linked:
                if (const auto since = linking.find(event.pid); since != linking.end()) {
                    spans.push_back({since->second, event.begin_ns, Activity::link});
                    linking.erase(since);
                }
                break;
            case Kind::none:
            case Kind::forked:
            case Kind::exited:
                break;
        }
    }
    return spans;
}

std::vector<Segment> partition(std::vector<Span> spans, int64_t begin_ns, int64_t end_ns) {
    Sweep sweep(begin_ns, end_ns);
    sweep.run(spans);
    return sweep.take();
}

}  // namespace memplate::gpu
