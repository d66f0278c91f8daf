// SPDX-License-Identifier: Apache-2.0
#include "gpu/info.h"

#include "util/table.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

void line(std::string& text, std::string_view name, std::string_view value) {
    text += fmt::format("{:<16} {}\n", name, value);
}

std::string yes(const Json& device, const char* key) {
    if (!device.contains(key)) return "?";
    return device[key].get<bool>() ? "yes" : "no";
}

std::string supported(const Json& object, const char* key) {
    return object.value(key, false) ? "yes" : "no: " + object.value("reason", "unknown");
}

}  // namespace

Result<Json> query_info(const Context& context, const InfoOptions& options) {
    TRY_ASSIGN(Worker worker, Worker::start(context, {.task = "info",
                                                      .environment = options.environment,
                                                      .patience = options.patience}));
    TRY_ASSIGN(Json info, worker.receive());
    TRY(worker.finish());
    return info;
}

Result<Json> device_of(const Json& info, int ordinal) {
    const Json& devices = info["devices"];
    const auto count = static_cast<int>(devices.size());
    if (ordinal >= 0 && ordinal < count) return devices[static_cast<size_t>(ordinal)];
    return fail(ErrorKind::usage, fmt::format("device {}: there {} {}, counted from 0", ordinal,
                                              count == 1 ? "is" : "are", count));
}

std::string info_text(const Json& info) {
    std::string text;
    const Json& driver = info["driver"];
    line(text, "driver",
         fmt::format("{} ({})", driver.value("version", "version unknown"),
                     driver.value("library", "")));
    if (driver.contains("kernel_module"))
        line(text, "kernel module", driver["kernel_module"].get<std::string>());
    line(text, "CUDA", info.value("cuda_text", ""));
    line(text, "module loading", info.value("module_loading", "unknown"));
    line(text, "checkpoint", supported(info["checkpoint"], "supported"));
    line(text, "NVML", supported(info["nvml"], "available"));
    line(text, "MPS",
         fmt::format("{} ({})", info["mps"].value("running", false) ? "runs" : "off",
                     info["mps"].value("pipe_directory", "")));
    line(text, "JIT cache",
         fmt::format("{} ({})", format_size(info["jit_cache"].value("bytes", 0ULL)),
                     info["jit_cache"].value("path", "")));
    line(text, "kernels", info.value("kernels", false) ? "built in" : "no: built without nvcc");
    for (const auto& [name, value] : info["environment"].items())
        line(text, "environment", fmt::format("{}={}", name, value.get<std::string>()));
    Table table({{"DEVICE"},
                 {"NAME"},
                 {"MEMORY", Table::Align::right},
                 {"SM", Table::Align::right},
                 {"CAPABILITY"},
                 {"COMPUTE MODE"},
                 {"PERSISTENCE"},
                 {"MIG"}});
    for (const Json& device : info["devices"])
        table.add({std::to_string(device.value("ordinal", 0)), device.value("name", ""),
                   format_size(device.value("memory_bytes", 0ULL)),
                   std::to_string(device.value("multiprocessors", 0)),
                   device.value("capability", ""), device.value("compute_mode", "?"),
                   yes(device, "persistence"), yes(device, "mig")});
    return text + "\n" + table.render();
}

}  // namespace memplate::gpu
