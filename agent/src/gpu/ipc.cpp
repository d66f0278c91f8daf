// SPDX-License-Identifier: Apache-2.0
#include "gpu/ipc.h"

#include <unistd.h>

#include <algorithm>
#include <map>

#include "gpu/checkpoint_obstacles.h"
#include "gpu/ipc_pair.h"
#include "util/clock.h"
#include "util/proc.h"
#include "util/stats.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

using Kind = Transport::Kind;
using Answers = IpcPair::Answers;

/// Samples of one transport at one size, by phase in the order in which they come.
struct Samples {
    std::vector<double> latency;
    std::vector<double> owned;  ///< with the copy, where the memory itself was handed over
    std::vector<std::pair<std::string, std::vector<double>>> path;
    std::vector<std::pair<std::string, std::vector<double>>> aside;
    uint64_t verified = 0;
};

void add(std::vector<std::pair<std::string, std::vector<double>>>& phases, const std::string& name,
         double ns) {
    auto phase = std::ranges::find(phases, name, [](const auto& one) { return one.first; });
    if (phase == phases.end()) phase = phases.insert(phases.end(), {name, {}});
    phase->second.push_back(ns);
}

/// Both ends use one clock: the marks of the message in the order in which they happened.
void add_message(Samples& samples, const Answers& answers) {
    std::vector<std::pair<int64_t, std::string>> marks;
    double copy = 0;
    for (const Json* answer : {&answers.sender, &answers.receiver}) {
        if (!answer->contains("marks")) continue;
        for (const Json& mark : (*answer)["marks"])
            marks.emplace_back(mark["ns"].get<int64_t>(), mark["phase"].get<std::string>());
        for (const Json& step : (*answer)["aside"]) {
            add(samples.aside, step["phase"], step["ns"].get<double>());
            if (step["phase"] == "copy") copy = step["ns"].get<double>();
        }
    }
    std::ranges::stable_sort(marks, {}, &std::pair<int64_t, std::string>::first);
    const auto start = answers.sender["start"].get<int64_t>();
    int64_t before = start;
    for (const auto& [ns, phase] : marks) {
        add(samples.path, phase, static_cast<double>(ns - before));
        before = ns;
    }
    samples.latency.push_back(static_cast<double>(before - start));
    samples.owned.push_back(samples.latency.back() + copy);
}

Result<uint64_t> verified_words(const Answers& answers, const Transport& transport,
                                uint64_t bytes) {
    const Json& teller = transport.kind == Kind::streams ? answers.sender : answers.receiver;
    const uint64_t wrong = teller.value("wrong", uint64_t{1});
    if (wrong != 0)
        return fail(fmt::format("{}: {} of {} words of a message of {} B arrived wrong",
                                transport.name, wrong, teller.value("words", 0ULL), bytes));
    return teller.value("words", uint64_t{0});
}

Json result_of(const Samples& samples, const Transport& transport, uint64_t bytes) {
    Json phases = Json::array();
    const auto put = [&](const auto& list, bool of_latency) {
        for (const auto& [name, ns] : list)
            phases.push_back({{"name", name}, {"of_latency", of_latency}, {"ns", summarize(ns)}});
    };
    put(samples.path, true);
    put(samples.aside, false);
    const Json owned = summarize(samples.owned);
    return {{"bytes", bytes},
            {"transport", transport.name},
            {"hands_over", transport.hands_over()},
            {"latency_ns", summarize(samples.latency)},
            {"owned_ns", owned},
            {"gb_per_s", static_cast<double>(bytes) / std::max(1.0, owned["p50"].get<double>())},
            {"verified_bytes", samples.verified},
            {"phases", phases}};
}

struct Plan {
    std::vector<Transport> list;
    Json left_out = Json::array();

    void leave_out(std::string_view name, std::string reason) {
        if (std::erase_if(list, [&](const Transport& one) { return one.name == name; }) != 0)
            left_out.push_back({{"transport", name}, {"reason", std::move(reason)}});
    }
};

Result<Plan> plan_of(const IpcOptions& options, const Json& device, const Answers& begun) {
    Plan plan;
    if (options.transports.empty()) plan.list.assign(transports.begin(), transports.end());
    for (const std::string& name : options.transports) {
        const auto known = find_transport(name);
        if (!known) return fail(ErrorKind::usage, fmt::format("{}: no such transport", name));
        plan.list.push_back(*known);
    }
    if (!device.value("virtual_memory", false) || !device.value("posix_handles", false))
        plan.leave_out("vmm-fd", "this device has no memory that is exported as a descriptor");
    if (!device.value("ipc_events", false))
        plan.leave_out("ipc-kept", "this device has no events between processes");
    if (begun.sender.contains("no_ipc"))
        for (const char* name : {"ipc", "ipc-kept"})
            plan.leave_out(name, begun.sender["no_ipc"].get<std::string>());
    if (plan.list.empty())
        return fail(ErrorKind::unsupported,
                    fmt::format("{}: {}", plan.left_out[0]["transport"].get<std::string>(),
                                plan.left_out[0]["reason"].get<std::string>()));
    if (begun.sender.contains("no_kernels"))
        plan.left_out.push_back({{"phase", "kernels"}, {"reason", begun.sender["no_kernels"]}});
    return plan;
}

/// Device memory that messages of that size take at both ends.
uint64_t device_bytes(const std::vector<Transport>& list, uint64_t bytes) {
    uint64_t buffers = 1;  // the receiver's own
    const auto has = [&](auto... kinds) {
        return std::ranges::any_of(
            list, [&](const Transport& one) { return ((one.kind == kinds) || ...); });
    };
    buffers += has(Kind::stream, Kind::memory, Kind::handles, Kind::streams) ? 1 : 0;
    for (const Kind kind : {Kind::streams, Kind::kept, Kind::virtual_memory})
        buffers += has(kind) ? 1 : 0;
    return buffers * std::max(bytes, uint64_t{2} << 20);
}

/// Host memory that they take: a buffer for each end, and what both share.
uint64_t host_bytes(const std::vector<Transport>& list, uint64_t bytes) {
    return bytes *
           (2 + static_cast<uint64_t>(std::ranges::count(list, Kind::memory, &Transport::kind)));
}

/// Why messages of that size have no room; empty if they have.
Result<std::string> why_no_room(const std::vector<Transport>& list, uint64_t bytes,
                                uint64_t device_free) {
    constexpr const char* format = "needs {} of {} memory, {} are {}";
    if (const uint64_t needed = device_bytes(list, bytes); needed > device_free)
        return fmt::format(format, format_size(needed), "device", format_size(device_free), "free");
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const uint64_t available, host_memory_available(proc.get(), ::getpid()));
    if (const uint64_t needed = host_bytes(list, bytes); needed > available)
        return fmt::format(format, format_size(needed), "host", format_size(available),
                           "available");
    return std::string();
}

void add_set_up(Json& set_up, uint64_t bytes, const Answers& answers) {
    for (const auto& [end, answer] :
         {std::pair{"sender", &answers.sender}, std::pair{"receiver", &answers.receiver}})
        for (const Json& step : (*answer)["aside"])
            set_up.push_back(
                {{"bytes", bytes}, {"end", end}, {"name", step["phase"]}, {"ns", step["ns"]}});
}

/// All messages of one size.
Result<> measure(const Context& context, const IpcOptions& options, const Plan& plan,
                 uint64_t bytes, IpcPair& pair, Json& report) {
    TRY_ASSIGN(const Answers prepared, pair.prepare(bytes, plan.list));
    add_set_up(report["set_up"], bytes, prepared);
    const size_t count = plan.list.size();
    const unsigned rounds = options.warm_up + options.runs;
    context.progress->step(fmt::format("gpu ipc: {}", format_size(bytes)), rounds * count);
    std::vector<Samples> samples(count);
    for (unsigned round = 0; round < rounds; ++round) {
        for (size_t turn = 0; turn < count; ++turn) {
            const size_t index = (round + turn) % count;
            const Transport& transport = plan.list[index];
            // Every message has contents of its own.
            const auto seed = static_cast<uint32_t>((round * count + turn + 1) * 0x9e3779b1U);
            TRY_ASSIGN(const Answers answers, pair.transfer(transport, seed));
            TRY_ASSIGN(const uint64_t words, verified_words(answers, transport, bytes));
            samples[index].verified += words * sizeof(uint32_t);
            if (round >= options.warm_up) add_message(samples[index], answers);
            context.progress->advance();
        }
    }
    for (size_t i = 0; i < count; ++i)
        report["results"].push_back(result_of(samples[i], plan.list[i], bytes));
    TRY_ASSIGN(const Answers released, pair.release());
    add_set_up(report["set_up"], bytes, released);
    return {};
}

}  // namespace

std::vector<uint64_t> size_sweep(uint64_t low, uint64_t high, unsigned factor) {
    std::vector<uint64_t> sizes;
    for (uint64_t size = low; size < high; size *= factor) sizes.push_back(size);
    sizes.push_back(high);
    return sizes;
}

Result<Json> run_ipc(const Context& context, const IpcOptions& options) {
    TRY_ASSIGN(Json info, query_info(context, {.patience = options.patience, .environment = {}}));
    TRY_ASSIGN(const Json device, device_of(info, options.device));
    Json report = {{"schema", 1},
                   {"verb", "gpu ipc"},
                   {"device", options.device},
                   {"runs", options.runs},
                   {"warm_up", options.warm_up},
                   {"gpu", info},
                   {"left_out", Json::array()},
                   {"wall_ns", 0},
                   {"results", Json::array()},
                   {"set_up", Json::array()}};
    const int64_t started = monotonic_ns();
    context.progress->step("gpu ipc: starting two processes");
    TRY_ASSIGN(IpcPair pair, IpcPair::start(context, options));
    TRY_ASSIGN(Plan plan, plan_of(options, device, pair.begun()));
    const auto free = pair.begun().sender.value("free_bytes", uint64_t{0});
    for (const uint64_t bytes : options.sizes) {
        TRY_ASSIGN(const std::string reason, why_no_room(plan.list, bytes, free));
        if (!reason.empty()) {
            plan.left_out.push_back({{"bytes", bytes}, {"reason", reason}});
            continue;
        }
        TRY(measure(context, options, plan, bytes, pair, report));
    }
    TRY(pair.finish());
    context.progress->clear();
    if (report["results"].empty()) return fail(plan.left_out.back()["reason"].get<std::string>());
    report["wall_ns"] = monotonic_ns() - started;
    report["left_out"] = plan.left_out;
    return report;
}

}  // namespace memplate::gpu
