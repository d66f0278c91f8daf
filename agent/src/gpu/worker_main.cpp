// SPDX-License-Identifier: Apache-2.0
//
// memplate-gpu-worker TASK: see worker.h.
#include <cstdio>
#include <map>
#include <string_view>

#include "gpu/worker_tasks.h"
#include "util/clock.h"

namespace memplate::gpu {
namespace {

using Task = Result<> (*)(Channel&, const Json&);

Result<> run(Task task, Channel& channel) {
    TRY_ASSIGN(const Json request, channel.receive());
    try {
        return task(channel, request);
    } catch (const std::exception& error) {
        return fail(fmt::format("GPU worker: {}", error.what()));
    }
}

int run_worker(std::string_view name, int64_t main_ns) {
    const std::map<std::string_view, Task> tasks = {{"info", info_task},
                                                    {"checkpoint", checkpoint_task},
                                                    {"cold-start", cold_start_task},
                                                    {"footprint", footprint_task},
                                                    {"ipc", ipc_task},
                                                    {"nvml", nvml_task}};
    const auto task = tasks.find(name);
    auto channel =
        task == tasks.end() ? Result<Channel>(fail("unknown task")) : Channel::open(main_ns);
    if (!channel) {
        std::fputs("memplate-gpu-worker is started by memplate\n", stderr);
        return static_cast<int>(ErrorKind::usage);
    }
    if (auto done = run(task->second, *channel); !done) {
        (void)channel->send(done.error());
        return static_cast<int>(done.error().kind);
    }
    return 0;
}

}  // namespace
}  // namespace memplate::gpu

int main(int argc, char** argv) {
    const int64_t main_ns = memplate::monotonic_ns();
    return memplate::gpu::run_worker(argc == 2 ? argv[1] : "", main_ns);
}
