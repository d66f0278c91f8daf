// SPDX-License-Identifier: Apache-2.0
#include "bench/memory.h"

#include "util/proc.h"

namespace memplate::bench {
namespace {

using instance::Instance;
using Instances = std::vector<std::unique_ptr<Instance>>;

Result<proc::MemoryRollup> sum(const Instances& instances) {
    proc::MemoryRollup total;
    TRY_ASSIGN(UniqueFd proc, proc::open_host());
    for (const auto& instance : instances) {
        TRY_ASSIGN(const auto pids, instance->host_pids());
        for (const auto& [inside, host] : pids) {
            TRY_ASSIGN(const auto rollup, proc::memory_rollup(proc.get(), host));
            total += rollup;
        }
    }
    return total;
}

Result<> record(const Instances& instances, const std::string& state, Json& json) {
    TRY_ASSIGN(const auto memory, sum(instances));
    json[state + "_pss"] = static_cast<double>(memory.pss) / 1e6;
    json[state + "_private"] =
        static_cast<double>(memory.private_clean + memory.private_dirty) / 1e6;
    return {};
}

}  // namespace

Result<Json> measure_memory(const Context& context, const pool::Pool& pool,
                            const criu::Installation& criu, const Function& function,
                            const Template& tmpl, const engine::Prepared& images, unsigned count,
                            uint64_t& answers) {
    Json json{{"instances", count}};
    std::vector<pool::TemplatePin> pins;
    Instances instances;
    for (unsigned i = 0; i < count; ++i) {
        if (context.stop.stop_requested()) return interrupted();
        TRY_ASSIGN(auto pin, pool.pin(tmpl.record));
        pins.push_back(std::move(pin));
        const instance::Source source{tmpl.record.name, images, pins.back().fd(),
                                      tmpl.manifest.gpu()};
        TRY_ASSIGN(auto instance, Instance::prepare(context, function, criu, &source));
        TRY(instance->restore());
        instances.push_back(std::move(instance));
    }
    TRY(record(instances, "idle", json));
    json["private"] = json["idle_private"];
    if (!function.warmup.empty()) {
        for (const auto& instance : instances) {
            TRY(instance->request(function.warmup.front()));
            ++answers;
        }
        TRY(record(instances, "after_request", json));
    }
    if (function.touch) {
        for (const auto& instance : instances) {
            if (context.stop.stop_requested()) return interrupted();
            TRY(instance->request(*function.touch));
            ++answers;
        }
        TRY(record(instances, "after_touch", json));
    }
    return json;
}

}  // namespace memplate::bench
