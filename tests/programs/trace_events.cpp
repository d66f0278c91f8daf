// SPDX-License-Identifier: Apache-2.0
//
// Prints what the probes tell, one JSON object a line: first the methods, then every event, at the
// end how many were lost. Ends with its standard input.
//   trace_events [memory] [faults]
#include <poll.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <string_view>

#include "trace/probes.h"
#include "util/json.h"

using namespace memplate;

namespace {

constexpr const char* kinds[] = {"cgroup_made", "cgroup_gone", "joined",       "forked",
                                 "executed",    "listening",   "accepted",     "answered",
                                 "exited",      "level",       "restore_phase"};

void print(const trace::Event& event) {
    const Json json = {{"kind", kinds[static_cast<size_t>(event.kind)]},
                       {"time_ns", event.time_ns},
                       {"cgroup", event.cgroup},
                       {"pid", event.pid},
                       {"inner_pid", event.inner_pid},
                       {"command", event.command},
                       {"text", event.text},
                       {"value", event.value},
                       {"bytes", event.bytes},
                       {"peak", event.peak},
                       {"inactive_file", event.inactive_file}};
    fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Result<> run(const Context& context, const trace::ProbeOptions& options) {
    TRY_ASSIGN(const auto probes, trace::Probes::attach(context, options));
    Json methods = Json::object();
    for (const trace::ProbeMethod& method : probes->methods())
        methods[method.what] = method.backend;
    fmt::print("{}\n", methods.dump());
    for (bool over = false; !over;) {
        std::fflush(stdout);
        pollfd input{STDIN_FILENO, POLLIN, 0};
        over = ::poll(&input, 1, 20) > 0;
        TRY(probes->drain(print));
    }
    TRY_ASSIGN(const auto faults, probes->faults());
    for (const trace::FaultCount& count : faults)
        fmt::print("{}\n", Json{{"kind", "faults"},
                                {"cgroup", count.cgroup},
                                {"device", count.device},
                                {"backing", static_cast<int>(count.backing)},
                                {"fault", static_cast<int>(count.kind)},
                                {"write", count.write},
                                {"count", count.count}}
                               .dump());
    fmt::print("{}\n", Json{{"kind", "end"}, {"lost", probes->lost()}}.dump());
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    trace::ProbeOptions options;
    for (int i = 1; i < argc; i++) {
        options.memory |= std::string_view(argv[i]) == "memory";
        options.faults |= std::string_view(argv[i]) == "faults";
    }
    Context context;
    context.log = spdlog::stderr_logger_st("trace_events");
    if (const auto done = run(context, options); !done) {
        fmt::print(stderr, "trace_events: {}\n", done.error().message);
        return static_cast<int>(done.error().kind);
    }
    return 0;
}
