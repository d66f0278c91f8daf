// SPDX-License-Identifier: Apache-2.0
#include "gpu/ipc.h"
#include "util/clock.h"

namespace memplate::gpu {
namespace {

constexpr uint64_t tensor_bytes = 4'000'000;     // 1000 by 1000 floats
constexpr uint64_t buffer_bytes = 256ULL << 20;  // 64 Mi floats

double microseconds(const Json& result, std::string_view phase, size_t message) {
    for (const Json& one : result["phases"])
        if (one["name"] == phase) return one["ns"]["samples"][message].get<double>() / 1e3;
    return 0;
}

Result<Json> run_one(const Context& context, IpcOptions options, const char* transport,
                     uint64_t bytes, unsigned messages) {
    options.transports = {transport};
    options.sizes = {bytes};
    options.runs = messages;
    options.warm_up = 0;
    return run_ipc(context, options);
}

}  // namespace

Result<std::string> run_streambox_ipc(const Context& context, const IpcOptions& options) {
    TRY_ASSIGN(const Json tcp, run_one(context, options, "tcp", tensor_bytes, 1));
    TRY_ASSIGN(const Json ipc, run_one(context, options, "ipc", buffer_bytes, 2));
    std::string text =
        fmt::format("Time taken: {:.6f} seconds\n", tcp["wall_ns"].get<double>() / 1e9);
    const Json& result = ipc["results"][0];
    text += fmt::format("size = {:.6f} MB\n", static_cast<double>(buffer_bytes) / 1e6);
    for (const auto& [phase, name] :
         {std::pair{"get handle", "get"}, std::pair{"open handle", "open"}})
        for (size_t handle = 0; handle < 2; ++handle)
            text += fmt::format("{} handle{} time = {:f} us\n", name, handle + 1,
                                microseconds(result, phase, handle));
    for (size_t handle = 0; handle < 2; ++handle) {
        int number = 0;
        for (const char* phase : {"first kernel", "second kernel", "third kernel"})
            text += fmt::format("NO{} kernel + handle{} time = {:f} us\n", ++number, handle + 1,
                                microseconds(result, phase, handle));
    }
    double total = 0;
    for (const Json& ns : result["latency_ns"]["samples"]) total += ns.get<double>();
    for (const Json& phase : result["phases"])
        if (phase["name"].get<std::string>().ends_with("kernel"))
            for (const Json& ns : phase["ns"]["samples"]) total += ns.get<double>();
    return text + fmt::format("end-to-end time = {:f} us\n", total / 1e3);
}

}  // namespace memplate::gpu
