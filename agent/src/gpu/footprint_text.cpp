// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "gpu/footprint.h"
#include "gpu/sharing_page.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

/// Device memory is a few per cent more or less from run to run: whole MiB, and never negative.
std::string mebibytes(const Json& bytes) {
    return fmt::format("{:.0f} MiB", std::max(0.0, bytes.get<double>()) / (1 << 20));
}

std::string mean_by_nvml(const Json& stage) {
    uint64_t sum = 0;
    uint64_t count = 0;
    for (const Json& bytes : stage["processes"]) {
        if (bytes.is_null()) continue;
        sum += bytes.get<uint64_t>();
        ++count;
    }
    return count == 0 ? "-" : mebibytes(sum / count);
}

int64_t total(const Json& variant) {
    return variant["context_bytes"].get<int64_t>() + variant["code_bytes"].get<int64_t>() +
           variant["model_bytes"].get<int64_t>();
}

std::string percent(const Json& share) {
    return fmt::format("{:.1f} %", share.get<double>() * 100);
}

std::string device_name(const Json& report) {
    return report["gpu"]["devices"][report["device"].get<size_t>()].value("name", "GPU");
}

}  // namespace

std::string footprint_text(const Json& report, bool colour) {
    using enum Table::Align;
    const auto processes = report["processes"].get<int64_t>();
    Table stages({{"VARIANT", left},
                  {"AFTER", left},
                  {"DEVICE USED", right},
                  {"ADDED", right},
                  {"A PROCESS", right},
                  {"BY NVML", right}});
    Table split({{"A PROCESS", left},
                 {"CONTEXT", right},
                 {"CODE", right},
                 {"MODEL", right},
                 {"TOTAL", right},
                 {"RUNTIME", right}});
    for (const Json& variant : report["variants"]) {
        auto name = variant["name"].get<std::string>();
        split.add({name, mebibytes(variant["context_bytes"]), mebibytes(variant["code_bytes"]),
                   mebibytes(variant["model_bytes"]), mebibytes(total(variant)),
                   percent(variant["runtime_share"])});
        for (const Json& stage : variant["stages"]) {
            const auto added = stage["added_bytes"].get<int64_t>();
            stages.add({std::exchange(name, ""), stage["name"].get<std::string>(),
                        mebibytes(stage["used_bytes"]), mebibytes(added),
                        mebibytes(added / processes), mean_by_nvml(stage)});
        }
    }
    std::string text =
        fmt::format("{} processes on {}, a model of {} each.\n\n", processes, device_name(report),
                    format_size(report["weights_bytes"].get<uint64_t>()));
    text += stages.render(colour) + "\n" + split.render(colour);
    text += "\nRuntime: what a process has on the device beside its model, context and code.\n";
    for (const auto& [what, state] : report["variants"][0]["code"].items())
        if (state != "loaded")
            text += fmt::format("left out: {}: {}\n", what, state.get<std::string>());
    for (const Json& entry : report["left_out"])
        text += fmt::format("left out: {}: {}\n", entry.value("variant", ""),
                            entry.value("reason", ""));
    return text;
}

std::string footprint_streambox(const Json& report) {
    std::string text;
    const bool several = report["variants"].size() > 1;
    for (const Json& variant : report["variants"]) {
        if (several) text += fmt::format("# {}\n", variant["name"].get<std::string>());
        for (const auto& [label, name] :
             {std::pair{"--Begin--", "begin"}, std::pair{"--After torch init--", "context"},
              std::pair{"--After model init--", "model"}}) {
            text += fmt::format("{}\n", label);
            for (const Json& stage : variant["stages"]) {
                if (stage["name"] != name) continue;
                for (const char* kind : {"used", "free", "total"})
                    text +=
                        fmt::format("{}: {:.2f} MiB\n", kind,
                                    stage[fmt::format("{}_bytes", kind)].get<double>() / (1 << 20));
            }
        }
        text += fmt::format("context: {:.2f} MiB\n",
                            variant["stages"].back()["added_bytes"].get<double>() / (1 << 20));
    }
    return text;
}

std::string footprint_html(const Json& report) {
    SharingPage page;
    page.verb = "gpu footprint";
    page.text = footprint_text(report, false);
    const Json& first = report["variants"][0];
    page.headline = fmt::format("{} of what a process takes on the device is runtime, not model",
                                percent(first["runtime_share"]));
    page.lead = fmt::format("{} processes on {}, a model of {} each; the share above is of {}.",
                            report["processes"].get<unsigned>(), device_name(report),
                            format_size(report["weights_bytes"].get<uint64_t>()),
                            first["name"].get<std::string>());
    Json bars = Json::array();
    for (const Json& variant : report["variants"]) {
        page.tiles.emplace_back(mebibytes(total(variant)),
                                "a process, " + variant["name"].get<std::string>());
        bars.push_back({{"name", variant["name"]},
                        {"values",
                         {std::max<int64_t>(0, variant["context_bytes"]),
                          std::max<int64_t>(0, variant["code_bytes"]),
                          std::max<int64_t>(0, variant["model_bytes"])}},
                        {"text", percent(variant["runtime_share"]) + " runtime"}});
    }
    page.charts.push_back({{"kind", "stacked"},
                           {"title", "Device memory of a process"},
                           {"caption", "mean over the processes"},
                           {"note",
                            "By NVML, of the whole device: what each step added, shared out "
                            "evenly. Other processes on the device would add to it."},
                           {"parts", {"context", "code", "model"}},
                           {"bars", bars}});
    page.facts = facts_of(report);
    return page.html();
}

}  // namespace memplate::gpu
