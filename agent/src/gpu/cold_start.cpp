// SPDX-License-Identifier: Apache-2.0
#include "gpu/cold_start.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <random>
#include <set>

#include "gpu/page_cache.h"
#include "gpu/statistics.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

double in_ms(int64_t ns) {
    return static_cast<double>(ns) / 1e6;
}

std::vector<std::string> files_below(const std::string& folder) {
    std::vector<std::string> files;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator entry(folder, error), end;
         !error && entry != end; entry.increment(error))
        if (entry->is_regular_file(error)) files.push_back(entry->path().string());
    return files;
}

uint64_t bytes_below(const std::string& folder) {
    uint64_t bytes = 0;
    std::error_code error;
    for (const std::string& file : files_below(folder)) {
        const uint64_t size = std::filesystem::file_size(file, error);
        if (!error) bytes += size;
    }
    return bytes;
}

Result<TemporaryDirectory> new_jit_cache() {
    std::error_code error;
    const auto parent = std::filesystem::temp_directory_path(error);
    if (error) return fail(fmt::format("directory for temporary files: {}", error.message()));
    return TemporaryDirectory::create(parent.string(), "memplate-jit");
}

/// Everything measured of one variant, sample by sample.
struct Samples {
    using Phase = std::pair<std::string, std::vector<double>>;
    std::vector<Phase> phases;  ///< in their order
    std::vector<double> total_ms;
    std::vector<double> exit_ms;
    std::vector<double> copy_gb_per_s;
    Json page_cache_bytes;
    Json jit_cache_bytes;
};

class Measurement {
  public:
    Measurement(const Context& context, const ColdStartOptions& options)
        : context_(context), options_(options), samples_(options.variants.size()) {}

    Result<> run();
    [[nodiscard]] Json report(Json info) const;

  private:
    Result<> start(size_t number, Samples& samples);
    void keep_stamps(const Worker& worker, const Json& stamps, int64_t answered_ns,
                     Samples& samples) const;
    [[nodiscard]] std::vector<std::string> notes() const;
    [[nodiscard]] std::string label_of(const StartVariant& variant) const;

    const Context& context_;
    const ColdStartOptions& options_;
    std::optional<TemporaryDirectory> jit_cache_;  ///< filled by the starts that do not count
    std::set<std::string> files_;
    std::vector<Samples> samples_;  ///< by variant
    Json libraries_;
    Json module_loading_ = Json::object();
    bool exec_seen_ = true;
};

Result<> Measurement::run() {
    TRY_ASSIGN(jit_cache_, new_jit_cache());
    std::vector<size_t> order(options_.variants.size());
    std::iota(order.begin(), order.end(), size_t{0});
    context_.progress->step("first start of each variant", order.size());
    for (const size_t number : order) {
        Samples dropped;
        TRY_CONTEXT(start(number, dropped),
                    fmt::format("first start, {}", options_.variants[number].name()));
        context_.progress->advance();
    }
    context_.progress->step("cold starts", order.size() * options_.runs);
    std::mt19937 random(1);
    for (unsigned round = 0; round < options_.runs; ++round) {
        // No variant always follows the same other one.
        std::ranges::shuffle(order, random);
        for (const size_t number : order) {
            TRY_CONTEXT(start(number, samples_[number]),
                        fmt::format("start {} of {}, {}", round + 1, options_.runs,
                                    options_.variants[number].name()));
            context_.progress->advance();
        }
    }
    return {};
}

Result<> Measurement::start(size_t number, Samples& samples) {
    if (context_.stop.stop_requested()) return interrupted();
    const StartVariant& variant = options_.variants[number];
    std::optional<TemporaryDirectory> empty_cache;
    if (variant.module == "ptx-uncached") {
        TRY_ASSIGN(empty_cache, new_jit_cache());
    }
    const std::string& jit_cache = (empty_cache ? empty_cache : jit_cache_)->path();
    const uint64_t jit_bytes = bytes_below(jit_cache);
    Worker::Start request{
        .task = "cold-start",
        .request = {{"device", options_.device},
                    {"ptx", variant.module != "sass"},
                    {"pinned", variant.copy == "pinned"},
                    {"weights_bytes", options_.weights_bytes},
                    {"cublas", options_.cublas},
                    {"cudnn", options_.cudnn}},
        .environment = {"CUDA_MODULE_LOADING=" +
                            std::string(variant.loading == "lazy" ? "LAZY" : "EAGER"),
                        "CUDA_CACHE_PATH=" + jit_cache, "CUDA_CACHE_DISABLE=0",
                        // Either would make other variants of these.
                        "CUDA_FORCE_PTX_JIT=0", "CUDA_DISABLE_PTX_JIT=0"},
        .patience = options_.patience,
        .watch_exec = true};

    std::optional<ColdFiles> cold;
    if (variant.page_cache == "cold") {
        std::vector<std::string> files(files_.begin(), files_.end());
        std::ranges::move(files_below(jit_cache), std::back_inserter(files));
        cold.emplace(files);
        samples.page_cache_bytes = {{"cached", cold->cached_bytes()}, {"kept", cold->kept_bytes()}};
    }
    TRY_ASSIGN(Worker worker, Worker::start(context_, std::move(request)));
    TRY_ASSIGN(const Json timeline, worker.receive());
    const int64_t answered_ns = monotonic_ns();
    TRY_ASSIGN(const Json facts, worker.receive());
    const int64_t verified_ns = monotonic_ns();
    TRY(worker.finish());

    keep_stamps(worker, timeline["stamps"], answered_ns, samples);
    samples.exit_ms.push_back(in_ms(worker.ended_ns() - verified_ns));
    samples.jit_cache_bytes = {{"before", jit_bytes}, {"after", bytes_below(jit_cache)}};
    exec_seen_ = exec_seen_ && worker.exec_done_ns().has_value();
    libraries_ = facts["libraries"];
    module_loading_[variant.loading] = facts["module_loading"];
    for (const Json& file : facts["files"]) files_.insert(file.get<std::string>());
    return {};
}

void Measurement::keep_stamps(const Worker& worker, const Json& stamps, int64_t answered_ns,
                              Samples& samples) const {
    int64_t begin = worker.cloned_ns();
    const auto end = [&](const std::string& phase, int64_t at) {
        auto known = std::ranges::find(samples.phases, phase, &Samples::Phase::first);
        if (known == samples.phases.end()) known = samples.phases.insert(known, {phase, {}});
        known->second.push_back(in_ms(at - begin));
        begin = at;
    };
    end("clone", worker.exec_ns());
    if (const auto exec_done = worker.exec_done_ns()) {
        end("exec", *exec_done);
        end("link", worker.main_ns());
    } else {
        end("exec_and_link", worker.main_ns());
    }
    for (const Json& stamp : stamps) {
        const int64_t at = stamp[1];
        if (stamp[0] == "copy")
            samples.copy_gb_per_s.push_back(static_cast<double>(options_.weights_bytes) /
                                            static_cast<double>(std::max<int64_t>(at - begin, 1)));
        end(stamp[0], at);
    }
    // Short, unless the machine is so busy that memplate has to wait for a processor.
    end("answer", answered_ns);
    samples.total_ms.push_back(in_ms(answered_ns - worker.cloned_ns()));
}

std::string Measurement::label_of(const StartVariant& variant) const {
    const StartVariant& base = options_.variants.front();
    std::vector<std::string> values;
    for (const auto value : {&StartVariant::module, &StartVariant::loading, &StartVariant::copy,
                             &StartVariant::page_cache})
        if (variant.*value != base.*value) values.push_back(variant.*value);
    return values.empty() ? "base" : fmt::format("{}", fmt::join(values, "+"));
}

std::vector<std::string> Measurement::notes() const {
    std::vector<std::string> notes;
    if (!exec_seen_)
        notes.emplace_back("exec and link are one phase: perf events are not permitted here");
    for (const auto& [name, library] : libraries_.items())
        if (library.contains("missing") && library["missing"] != "not asked for")
            notes.push_back(
                fmt::format("without {}: {}", name, library["missing"].get<std::string>()));
    for (const auto& [asked, found] : module_loading_.items())
        if (found.get<std::string>() != asked)
            notes.push_back(fmt::format("the driver loads modules {} where {} was asked for",
                                        found.get<std::string>(), asked));
    for (size_t i = 0; i < samples_.size(); ++i) {
        const Samples& samples = samples_[i];
        const std::string label = label_of(options_.variants[i]);
        if (!samples.page_cache_bytes.is_null() && samples.page_cache_bytes["kept"] != 0)
            notes.push_back(fmt::format(
                "{}: the kernel kept {} of {} in the page cache (in use by others, or a tmpfs)",
                label, format_size(samples.page_cache_bytes["kept"].get<uint64_t>()),
                format_size(samples.page_cache_bytes["cached"].get<uint64_t>())));
        if (options_.variants[i].module == "ptx" && samples.jit_cache_bytes["before"] == 0)
            notes.push_back(label +
                            ": the driver kept nothing in the JIT cache; this start "
                            "compiled as well");
    }
    return notes;
}

Json Measurement::report(Json info) const {
    Json variants = Json::array();
    for (size_t i = 0; i < samples_.size(); ++i) {
        const StartVariant& variant = options_.variants[i];
        const Samples& samples = samples_[i];
        Json phases = Json::array();
        for (const auto& [name, values] : samples.phases)
            phases.push_back(
                {{"name", name}, {"title", phase_title(name)}, {"ms", statistics(values)}});
        Json entry = {{"name", variant.name()},
                      {"label", label_of(variant)},
                      {"module", variant.module},
                      {"loading", variant.loading},
                      {"copy", variant.copy},
                      {"page_cache", variant.page_cache},
                      {"phases", phases},
                      {"total_ms", statistics(samples.total_ms)},
                      {"exit_ms", statistics(samples.exit_ms)},
                      {"copy_gb_per_s", statistics(samples.copy_gb_per_s)},
                      {"jit_cache_bytes", samples.jit_cache_bytes}};
        if (!samples.page_cache_bytes.is_null())
            entry["page_cache_bytes"] = samples.page_cache_bytes;
        variants.push_back(std::move(entry));
    }
    return {{"schema", 1},
            {"verb", "gpu cold-start"},
            {"generated", iso_time(unix_time())},
            {"device", options_.device},
            {"runs", options_.runs},
            {"weights_bytes", options_.weights_bytes},
            {"gpu", std::move(info)},
            {"libraries", libraries_},
            {"module_loading", module_loading_},
            {"variants", std::move(variants)},
            {"notes", notes()}};
}

}  // namespace

Result<Json> measure_cold_starts(const Context& context, const ColdStartOptions& options) {
    TRY_ASSIGN(Json info, query_info(context, {.patience = options.patience, .environment = {}}));
    if (!info.value("kernels", false))
        return fail(ErrorKind::unsupported,
                    "memplate was built without the CUDA toolkit, so it has no kernels to launch; "
                    "build it where nvcc is found");
    if (options.device >= static_cast<int>(info["devices"].size()))
        return fail(
            ErrorKind::usage,
            fmt::format("device {}: there {} {}, counted from 0", options.device,
                        info["devices"].size() == 1 ? "is" : "are", info["devices"].size()));
    Measurement measurement(context, options);
    auto done = measurement.run();
    if (!done && done.error().kind == ErrorKind::unsupported) {
        // The driver was there a moment ago.
        done.error().kind = ErrorKind::failed;
        done.error().message += "; the GPU was there when the measurement began";
    }
    TRY(std::move(done));
    return measurement.report(std::move(info));
}

}  // namespace memplate::gpu
