// SPDX-License-Identifier: Apache-2.0
#include "gpu/program_timeline.h"

#include <algorithm>
#include <array>

#include "gpu/program_segments.h"

namespace memplate::gpu {
namespace {

using Kind = ProgramEvent::Kind;

constexpr int not_ready = 600;  // CUDA_ERROR_NOT_READY: an answer
/// Gaps shorter than so small a part of the time are not listed.
constexpr int64_t shortest_gap = 10'000;

void count_call(const ProgramEvent& event, const ProgramTrace& trace, Timeline& timeline) {
    timeline.processes.insert(event.pid);
    CallTotals& totals = timeline.calls[trace.text(event)];
    const int64_t ns = end_of(event, trace) - event.begin_ns;
    if (totals.count++ == 0) totals.first_ns = ns;
    totals.total_ns += ns;
    totals.longest_ns = std::max(totals.longest_ns, ns);
    if (event.end_ns == 0) ++totals.unfinished;
    if (event.result != 0 && event.result != not_ready) {
        if (totals.failed++ == 0) totals.first_error = event.result;
        return;
    }
    if (const int argument = bytes_argument(trace.text(event)); argument >= 0)
        totals.bytes += event.arguments[argument];
}

void count_launches(const ProgramTrace& trace, Timeline& timeline) {
    std::set<std::pair<pid_t, uint64_t>> known;
    for (const ProgramEvent& event : trace.events) {
        if (event.kind != Kind::call || event.result != 0) continue;
        const std::string& call = trace.text(event);
        const int64_t ns = end_of(event, trace) - event.begin_ns;
        if (copies_to_device(call)) {
            timeline.copied_bytes += event.arguments[2];
            timeline.copied_ns += ns;
        }
        const int kernel = kernel_argument(call);
        if (kernel < 0) continue;
        if (known.emplace(event.pid, event.arguments[kernel]).second) {
            timeline.first_launches_ns += ns;
        } else {
            ++timeline.later_launches;
            timeline.later_launches_ns += ns;
        }
    }
    timeline.kernels = known.size();
}

/// Files that were used in each gap.
void add_files(const ProgramTrace& trace, std::vector<Gap>& gaps) {
    std::map<std::pair<pid_t, int>, uint32_t> open;
    std::map<uint32_t, uint64_t> read;  ///< in this gap: file → bytes
    auto gap = gaps.begin();
    for (const ProgramEvent& event : trace.events) {
        while (gap != gaps.end() && event.begin_ns >= gap->end_ns) {
            ++gap;
            read.clear();
        }
        const bool inside = gap != gaps.end() && event.begin_ns >= gap->begin_ns;
        if (event.kind == Kind::opened) {
            open[{event.pid, event.result}] = event.text;
            if (!inside || trace.text(event).empty()) continue;
            ++gap->files;
            if (is_code(trace.text(event))) ++gap->code_files;
        } else if (event.kind == Kind::read && inside) {
            gap->bytes_read += event.arguments[1];
            const auto file = open.find({event.pid, static_cast<int>(event.arguments[0])});
            if (file == open.end()) continue;
            read[file->second] += event.arguments[1];
            if (gap->largest == 0 || read[file->second] > read[gap->largest])
                gap->largest = file->second;
        }
    }
}

std::vector<Gap> find_gaps(const ProgramTrace& trace, const std::vector<Segment>& segments) {
    std::vector<Gap> gaps;
    uint32_t last_call = 0;
    bool open = false;
    for (const Segment& segment : segments) {
        if (segment.activity == Activity::driver) {
            if (open) gaps.back().before = segment.call;
            open = false;
            last_call = segment.call;
            continue;
        }
        if (!open) {
            Gap gap;
            gap.begin_ns = segment.begin_ns;
            gap.after = last_call;
            gaps.push_back(std::move(gap));
        }
        open = true;
        gaps.back().end_ns = segment.end_ns;
        gaps.back().parts[segment.activity] += segment.ns();
    }
    const int64_t least = (trace.end_ns - trace.begin_ns) / shortest_gap;
    std::erase_if(gaps, [&](const Gap& gap) { return gap.ns() < least; });
    return gaps;
}

class Milestones {
  public:
    explicit Milestones(const ProgramTrace& trace) : trace_(trace) {}

    void reach(const char* name, int64_t ns) {
        if (!reached_.insert(name).second) return;
        found_.emplace_back(name, ns - trace_.begin_ns);
    }
    void take(const ProgramEvent& event) {
        const std::string& text = trace_.text(event);
        if (event.kind == Kind::linked) reach("linked", event.begin_ns);
        if (event.kind == Kind::opened && text.find("libcuda.so.") != text.npos)
            reach("driver loaded", event.begin_ns);
        if (event.kind != Kind::call) return;
        reach("first call", event.begin_ns);
        if (event.end_ns == 0 || event.result != 0) return;
        if (plain_name(text) == "cuInit") reach("initialised", event.end_ns);
        if (creates_context(text)) reach("context", event.end_ns);
        if (purpose_of(text) == CallPurpose::module) reach("first module", event.end_ns);
        if (takes_memory(text)) reach("first memory", event.end_ns);
        if (copies_to_device(text)) reach("first copy to the device", event.end_ns);
        if (kernel_argument(text) >= 0) {
            launched_ = true;
            reach("first launch", event.end_ns);
        }
        if (launched_ && text.find("Synchronize") != text.npos) reach("first result", event.end_ns);
    }
    [[nodiscard]] std::vector<std::pair<std::string, int64_t>> found() {
        std::ranges::stable_sort(found_, {}, &std::pair<std::string, int64_t>::second);
        return std::move(found_);
    }

  private:
    const ProgramTrace& trace_;
    bool launched_ = false;
    std::set<std::string> reached_;
    std::vector<std::pair<std::string, int64_t>> found_;
};

/// Looks at successful calls in their order.
class Labels {
  public:
    void take(std::string_view call, int64_t begin_ns, int64_t end_ns) {
        const bool waits = purpose_of(call) == CallPurpose::wait;
        switch (step_) {
            case Step::nothing:
                if (!creates_context(call)) return;
                begin_ns_ = begin_ns;
                last_ns_ = end_ns;
                step_ = Step::context;
                return;
            case Step::context:
                if (waits || takes_memory(call)) {
                    labels_.context_ns = (waits ? end_ns : last_ns_) - begin_ns_;
                    step_ = Step::ready;
                }
                last_ns_ = end_ns;
                if (!takes_memory(call)) return;
                [[fallthrough]];
            case Step::ready:
                if (!takes_memory(call)) return;
                begin_ns_ = begin_ns;
                step_ = Step::tensor;
                return;
            case Step::tensor:
                if (!waits) return;
                labels_.tensor_ns = end_ns - begin_ns_;
                step_ = Step::model;
                begin_ns_ = 0;
                return;
            case Step::model:
                if (begin_ns_ == 0 && (takes_memory(call) || copies_to_device(call)))
                    begin_ns_ = begin_ns;
                if (copies_to_device(call)) {
                    labels_.model_ns = end_ns - begin_ns_;
                    waited_ = false;
                } else if (waits && labels_.model_ns && !waited_) {
                    labels_.model_ns = end_ns - begin_ns_;
                    waited_ = true;
                } else if (kernel_argument(call) >= 0 && labels_.model_ns) {
                    step_ = Step::running;
                }
                return;
            case Step::running:
                return;
        }
    }
    [[nodiscard]] StreamboxLabels found() {
        if (step_ == Step::context) labels_.context_ns = last_ns_ - begin_ns_;
        return labels_;
    }

  private:
    enum class Step { nothing, context, ready, tensor, model, running } step_ = Step::nothing;
    int64_t begin_ns_ = 0;
    int64_t last_ns_ = 0;
    bool waited_ = false;
    StreamboxLabels labels_;
};

bool ends_with_one_of(std::string_view path, std::initializer_list<std::string_view> endings) {
    return std::ranges::any_of(endings, [&](const auto& one) { return path.ends_with(one); });
}

}  // namespace

Timeline make_timeline(const ProgramTrace& trace) {
    Timeline timeline;
    timeline.segments = partition(spans_of(trace), trace.begin_ns, trace.end_ns);
    for (const Segment& segment : timeline.segments) {
        timeline.activities[segment.activity] += segment.ns();
        if (segment.activity == Activity::driver)
            timeline.purposes[purpose_of(trace.texts[segment.call])] += segment.ns();
    }
    Milestones milestones(trace);
    milestones.reach("exec", trace.exec_ns);
    Labels labels;
    for (const ProgramEvent& event : trace.events) {
        milestones.take(event);
        if (event.kind != Kind::call) continue;
        count_call(event, trace, timeline);
        if (event.result == 0 && event.end_ns != 0)
            labels.take(trace.text(event), event.begin_ns, event.end_ns);
    }
    milestones.reach("end", trace.end_ns);
    timeline.milestones = milestones.found();
    timeline.labels = labels.found();
    count_launches(trace, timeline);
    timeline.gaps = find_gaps(trace, timeline.segments);
    add_files(trace, timeline.gaps);
    return timeline;
}

bool is_library(std::string_view path) {
    const size_t at = path.rfind(".so");
    return at != path.npos && (at + 3 == path.size() || path[at + 3] == '.');
}

bool is_code(std::string_view path) {
    return is_library(path) ||
           ends_with_one_of(path, {".py", ".pyc", ".pth", ".pyi", ".js", ".mjs", ".cjs", ".jar",
                                   ".class", ".rb", ".lua", ".jl", ".ptx", ".cubin", ".fatbin",
                                   "/ld.so.cache", ".zip", ".egg", ".whl"});
}

std::string_view name_of(Activity activity) {
    constexpr std::array names = {"held by memplate", "driver",   "disk", "start", "link",
                                  "import",           "user code"};
    return names[static_cast<size_t>(activity)];
}

std::string_view name_of(CallPurpose purpose) {
    constexpr std::array names = {"initialise", "context",  "modules", "memory",
                                  "copies",     "launches", "waiting", "other calls"};
    return names[static_cast<size_t>(purpose)];
}

}  // namespace memplate::gpu
