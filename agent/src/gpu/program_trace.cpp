// SPDX-License-Identifier: Apache-2.0
#include "gpu/program_trace.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "util/clock.h"
#include "util/command.h"
#include "util/proc.h"

namespace memplate::gpu {
namespace {

constexpr int drain_ms = 20;
constexpr int most_generations = 100;

Result<std::unique_ptr<ProgramTracer>> make_tracer(const Context& context,
                                                   ProgramOptions::Backend backend,
                                                   std::string& reason) {
    using enum ProgramOptions::Backend;
    if (backend == inject) return make_injecting_tracer();
    auto tracer = make_bpf_tracer(context);
    if (tracer || backend == bpf || tracer.error().kind != ErrorKind::unsupported) return tracer;
    auto other = make_injecting_tracer();
    if (!other) return tracer;
    reason = tracer.error().message;
    return other;
}

/// While it lives, processes whose parents have ended become our children instead of init's.
class Subreaper {
  public:
    Subreaper() {
        ::prctl(PR_GET_CHILD_SUBREAPER, &before_);
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    }
    Subreaper(const Subreaper&) = delete;
    Subreaper& operator=(const Subreaper&) = delete;
    ~Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, before_); }

  private:
    int before_ = 0;
};

/// The program with all that it has started, of which some may have left it. Until there is none:
/// they may start others meanwhile.
void kill_all(const Command& command) {
    const auto proc = proc::open_host();
    for (int round = 0; proc && round < most_generations; ++round) {
        bool found = false;
        for (const pid_t pid : proc::descendants(proc->get(), ::getpid())) {
            if (pid == command.pid() || ::waitpid(pid, nullptr, WNOHANG) == pid) continue;
            found = true;
            ::kill(pid, SIGKILL);
        }
        command.kill();
        if (!found) return;
        ::usleep(1000);
    }
}

/// Until the program has ended, or is to be ended.
Result<> watch(const Context& context, const ProgramOptions& options, const Command& command,
               ProgramTracer& tracer, ProgramTrace& trace) {
    while (true) {
        std::array<pollfd, 2> fds = {pollfd{command.pidfd(), POLLIN, 0},
                                     pollfd{tracer.urgent(), POLLIN, 0}};
        if (::poll(fds.data(), fds.size(), drain_ms) < 0 && errno != EINTR)
            return fail_errno(errno, "poll");
        trace.end_ns = monotonic_ns();
        TRY(tracer.drain(trace));
        if (fds[0].revents != 0) return {};
        if (context.stop.stop_requested()) {
            kill_all(command);
            return interrupted();
        }
        if (options.at_most_ns != 0 && !trace.cut &&
            trace.end_ns - trace.begin_ns > options.at_most_ns) {
            trace.cut = true;
            kill_all(command);
        }
    }
}

}  // namespace

Result<ProgramTrace> trace_program(const Context& context, const ProgramOptions& options) {
    ProgramTrace trace;
    const Subreaper subreaper;
    std::string reason;
    TRY_ASSIGN(const auto tracer, make_tracer(context, options.backend, reason));
    TRY_ASSIGN(Command command,
               Command::prepare(options.command, nullptr,
                                {.out = options.output, .environment = tracer->environment()}));
    TRY(tracer->follow(command.pid(), options.driver, trace));
    trace.begin_ns = monotonic_ns();
    TRY(command.release());
    trace.exec_ns = command.exec_ns();
    TRY(watch(context, options, command, *tracer, trace));
    TRY_ASSIGN(trace.status, command.wait());
    TRY(tracer->finish(trace));
    trace.method = tracer->method();
    trace.method.reason = reason;
    std::ranges::stable_sort(trace.events, {}, &ProgramEvent::begin_ns);
    return trace;
}

}  // namespace memplate::gpu
