// SPDX-License-Identifier: Apache-2.0
#include "gpu/footprint.h"

#include <algorithm>

#include "gpu/mps.h"

namespace memplate::gpu {
namespace {

struct Variant {
    std::string loading;
    const MpsDaemon* daemon = nullptr;  ///< null: without MPS
    [[nodiscard]] std::string name() const {
        return fmt::format("{}, {} MPS", loading, daemon != nullptr ? "with" : "without");
    }
};

class Run {
  public:
    Run(const Context& context, const FootprintOptions& options, const Variant& variant,
        Worker& nvml)
        : context_(context), options_(options), variant_(variant), nvml_(nvml) {}

    Result<Json> measure() {
        context_.progress->step("gpu footprint: " + variant_.name(),
                                uint64_t{4} * options_.processes);
        for (unsigned i = 0; i < options_.processes; ++i) TRY(start(i));
        TRY(read("begin"));
        TRY(advance("context",
                    [&](unsigned i, const Json& answer) { return is_client(i, answer); }));
        TRY(advance("code", [&](unsigned, const Json& answer) -> Result<> {
            code_ = answer;
            return {};
        }));
        TRY(advance("model", [](unsigned, const Json&) { return Result<>{}; }));
        for (unsigned i = 0; i < options_.processes; ++i) TRY(workers_[i].send({{"type", "end"}}));
        for (unsigned i = 0; i < options_.processes; ++i) TRY_CONTEXT(workers_[i].finish(), who(i));
        return summary();
    }

  private:
    [[nodiscard]] std::string who(unsigned i) const {
        return fmt::format("{}, process {} of {}", variant_.name(), i + 1, options_.processes);
    }

    Result<> start(unsigned i) {
        const bool mps = variant_.daemon != nullptr;
        std::vector<std::string> environment =
            mps ? variant_.daemon->client_environment(options_.thread_percentage)
                : MpsDaemon::no_client_environment();
        environment.emplace_back(variant_.loading == "eager" ? "CUDA_MODULE_LOADING=EAGER"
                                                             : "CUDA_MODULE_LOADING=LAZY");
        auto worker =
            Worker::start(context_, {.task = "footprint",
                                     // The daemon's clients see its device alone.
                                     .request = {{"device", mps ? 0 : options_.device},
                                                 {"libraries", options_.libraries},
                                                 {"weights_bytes", options_.weights_bytes}},
                                     .environment = std::move(environment),
                                     .patience = options_.patience});
        if (!worker) return std::unexpected(std::move(worker.error()).context(who(i)));
        workers_.push_back(std::move(*worker));
        context_.progress->advance();
        return {};
    }

    /// All processes take the step, one after the other; then the device is read.
    template <class Check>
    Result<> advance(const char* stage, const Check& check) {
        for (unsigned i = 0; i < options_.processes; ++i) {
            TRY_CONTEXT(workers_[i].send({{"type", stage}}), who(i));
            auto answer = workers_[i].receive();
            if (!answer) {
                Error error = std::move(answer.error());
                if (error.kind == ErrorKind::interrupted) return std::unexpected(error);
                return std::unexpected(std::move(error).context(who(i)));
            }
            TRY(check(i, *answer));
            context_.progress->advance();
        }
        return read(stage);
    }

    /// Processes fall back to the device itself, silently, if they do not reach the daemon.
    Result<> is_client(unsigned i, const Json& answer) const {
        if (variant_.daemon == nullptr || !answer.contains("mps") || answer["mps"].get<bool>())
            return {};
        return fail(
            fmt::format("{}: did not become a client of the MPS daemon; another user's or "
                        "another container's cannot be used",
                        who(i)));
    }

    Result<> read(const char* stage) {
        TRY(nvml_.send({{"type", "read"}}));
        TRY_ASSIGN(Json reading, nvml_.receive());
        const auto used = reading["used_bytes"].get<int64_t>();
        Json others = Json::array();
        std::vector<Json> ours(options_.processes);
        for (Json& process : reading["processes"]) {
            const auto worker = std::ranges::find(workers_, process["pid"].get<pid_t>(),
                                                  [](const Worker& one) { return one.pid(); });
            if (worker == workers_.end())
                others.push_back(std::move(process));
            else if (process.contains("bytes"))
                ours[static_cast<size_t>(worker - workers_.begin())] = process["bytes"];
        }
        const int64_t first = stages_.empty() ? used : stages_[0]["used_bytes"].get<int64_t>();
        stages_.push_back({{"name", stage},
                           {"used_bytes", used},
                           {"free_bytes", reading["free_bytes"]},
                           {"total_bytes", reading["total_bytes"]},
                           {"added_bytes", used - first},
                           {"processes", ours},
                           {"others", others}});
        return {};
    }

    [[nodiscard]] Json summary() const {
        const auto step = [&](size_t stage) {
            return (stages_[stage]["used_bytes"].get<int64_t>() -
                    stages_[stage - 1]["used_bytes"].get<int64_t>()) /
                   static_cast<int64_t>(options_.processes);
        };
        const int64_t runtime = step(1) + step(2);
        const int64_t all = runtime + step(3);
        Json result = {{"name", variant_.name()},
                       {"loading", variant_.loading},
                       {"mps", variant_.daemon != nullptr},
                       {"code", code_},
                       {"stages", stages_},
                       {"context_bytes", step(1)},
                       {"code_bytes", step(2)},
                       {"model_bytes", step(3)},
                       {"runtime_share",
                        all > 0 ? static_cast<double>(runtime) / static_cast<double>(all) : 0.0}};
        if (variant_.daemon != nullptr && options_.thread_percentage > 0)
            result["thread_percentage"] = options_.thread_percentage;
        return result;
    }

    const Context& context_;
    const FootprintOptions& options_;
    const Variant& variant_;
    Worker& nvml_;
    std::vector<Worker> workers_;
    Json stages_ = Json::array();
    Json code_;
};

/// Why processes cannot share the device without MPS; empty if they can.
std::string obstacle(const Json& device, unsigned processes) {
    const std::string mode = device.value("compute_mode", "");
    if (mode == "prohibited" || (mode == "exclusive-process" && processes > 1))
        return fmt::format("the device's compute mode is {}, which memplate does not change", mode);
    return {};
}

}  // namespace

Result<Json> run_footprint(const Context& context, const FootprintOptions& options) {
    TRY_ASSIGN(Json info, query_info(context, {.patience = options.patience, .environment = {}}));
    TRY_ASSIGN(const Json device, device_of(info, options.device));
    if (options.mps) TRY(MpsDaemon::find());
    const std::string uuid = device.value("uuid", "");
    TRY_ASSIGN(Worker nvml, Worker::start(context, {.task = "nvml",
                                                    .request = {{"uuid", uuid}},
                                                    .environment = {},
                                                    .patience = options.patience}));
    Json report = {{"schema", 1},
                   {"verb", "gpu footprint"},
                   {"device", options.device},
                   {"processes", options.processes},
                   {"weights_bytes", options.weights_bytes},
                   {"libraries", options.libraries},
                   {"gpu", std::move(info)},
                   {"left_out", Json::array()},
                   {"variants", Json::array()}};
    for (const bool mps : {false, true}) {
        if (mps && !options.mps) continue;
        const std::string reason = mps ? "" : obstacle(device, options.processes);
        if (!reason.empty()) {
            report["left_out"].push_back({{"variant", "without MPS"}, {"reason", reason}});
            continue;
        }
        for (const std::string& loading : options.loading) {
            // Each has its own: the memory of a server that another one has left would be missing.
            std::optional<MpsDaemon> daemon;
            if (mps) {
                context.progress->step("gpu footprint: starting MPS");
                TRY_ASSIGN(MpsDaemon started, MpsDaemon::start(context, uuid, options.patience));
                daemon.emplace(std::move(started));
            }
            const Variant variant{loading, daemon ? &*daemon : nullptr};
            TRY_ASSIGN(Json result, Run(context, options, variant, nvml).measure());
            report["variants"].push_back(std::move(result));
        }
    }
    TRY(nvml.send({{"type", "end"}}));
    TRY(nvml.finish());
    context.progress->clear();
    if (report["variants"].empty())
        return fail(ErrorKind::unsupported, report["left_out"][0]["reason"].get<std::string>());
    return report;
}

}  // namespace memplate::gpu
