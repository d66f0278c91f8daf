// SPDX-License-Identifier: Apache-2.0
//
// What the fake GPU is like: the JSON file that FAKE_GPU names. README.md lists its keys.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "fake/gate.h"

namespace fake_gpu {

struct Device {
    std::string name;
    std::string uuid;  ///< "GPU-…"
    uint64_t memory_bytes = 0;
    uint64_t context_bytes = 0;      ///< what a primary context takes
    uint64_t mps_context_bytes = 0;  ///< of a client of MPS
    uint64_t module_bytes = 0;       ///< what a loaded module takes, lazily loaded half of it
    int compute_mode = 0;
    bool mig = false;
    bool persistence = true;
};

struct Settings {
    bool present = false;  ///< FAKE_GPU is set
    int cuda = 13000;
    std::string driver = "580.00";
    std::vector<Device> devices;
    std::string state;  ///< folder with what the processes on the GPU share
    nlohmann::json calls = nlohmann::json::object();
};

/// Read once; a file that cannot be read ends the process.
const Settings& settings();

/// Every call begins with it: waits, hangs or crashes as the settings say of `call`. What it is to
/// return at once; nothing: go on.
std::optional<int> enter(const char* call);

}  // namespace fake_gpu

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))
/// A call of the library. While the process is locked for a checkpoint it waits.
#define FAKE_ENTER()                                                                 \
    const fake_gpu::Gate::Pass fake_pass;                                            \
    do {                                                                             \
        if (const auto fake_result = fake_gpu::enter(__func__)) return *fake_result; \
    } while (false)
