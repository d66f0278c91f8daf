// SPDX-License-Identifier: Apache-2.0
#include "fake/settings.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

namespace fake_gpu {
namespace {

constexpr uint64_t mebibyte = 1 << 20;

Settings read_settings() {
    Settings result;
    const char* path = std::getenv("FAKE_GPU");
    if (path == nullptr) return result;
    std::ifstream file(path);
    const auto json = nlohmann::json::parse(file, nullptr, false);
    if (!json.is_object()) {
        std::fprintf(stderr, "FAKE_GPU=%s is no JSON object\n", path);
        std::abort();
    }
    result.present = true;
    result.cuda = json.value("cuda", result.cuda);
    result.driver = json.value("driver", result.driver);
    result.calls = json.value("calls", result.calls);
    result.state = json.value("state", std::string(path) + ".state");
    ::mkdir(result.state.c_str(), 0777);
    int number = 0;
    for (const auto& entry : json.value("devices", nlohmann::json::array({{}}))) {
        const auto object = entry.is_object() ? entry : nlohmann::json::object();
        char uuid[64];
        const bool mig = object.value("mig", false);
        std::snprintf(uuid, sizeof uuid, "%s000000-0000-0000-0000-%012d", mig ? "MIG-01" : "GPU-00",
                      number++);
        result.devices.push_back({
            .name = object.value("name", "Fake GPU"),
            .uuid = uuid,
            .memory_bytes = object.value("memory_mb", 2048ULL) * mebibyte,
            .context_bytes = object.value("context_mb", 64ULL) * mebibyte,
            .mps_context_bytes = object.value("mps_context_mb", 16ULL) * mebibyte,
            .module_bytes = object.value("module_mb", 8ULL) * mebibyte,
            .compute_mode = object.value("compute_mode", 0),
            .mig = mig,
            .persistence = object.value("persistence", true),
        });
    }
    return result;
}

/// How often each call was made in this process.
int count_call(const char* call) {
    static std::mutex mutex;
    static std::map<std::string, int> counts;
    const std::lock_guard lock(mutex);
    return ++counts[call];
}

}  // namespace

const Settings& settings() {
    static const Settings read = read_settings();
    return read;
}

std::optional<int> enter(const char* call) {
    const auto& calls = settings().calls;
    const auto rule = calls.find(call);
    if (rule == calls.end() || count_call(call) < rule->value("from", 1)) return std::nullopt;
    if (rule->value("crash", false)) std::abort();
    while (rule->value("hang", false)) ::pause();
    std::this_thread::sleep_for(std::chrono::microseconds(rule->value("microseconds", 0)));
    if (rule->contains("result") || rule->value("skip", false)) return rule->value("result", 0);
    return std::nullopt;
}

}  // namespace fake_gpu
