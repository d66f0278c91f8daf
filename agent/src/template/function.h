// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "util/http.h"
#include "util/result.h"

namespace memplate {

enum class ReadinessKind { tcp, http, output };

struct Readiness {
    ReadinessKind kind = ReadinessKind::tcp;
    std::string path = "/";  ///< http
    std::string line;        ///< output: ready when a line contains this
    std::chrono::milliseconds timeout{30000};
};

/// A request with what must come back.
struct WarmupRequest {
    HttpRequest request;
    unsigned repeat = 1;
    long expect_status = 200;
    std::string expect_body;      ///< exact, if not empty
    std::string expect_contains;  ///< substring, if not empty
};

struct FunctionLimits {
    std::optional<uint64_t> memory_bytes;
    std::optional<double> cpus;
};

/// A path of the host that the function sees.
struct FunctionBind {
    std::string source;  ///< relative to the file
    std::string target;  ///< inside; default: the same path
    bool writable = false;
};

/// A function file (DESIGN.md §6, schema in template/FUNCTION.md).
struct Function {
    std::string name;
    std::vector<std::string> command;
    std::string directory;  ///< working directory; relative to the file; default: the file's own
    std::string root = "/";
    std::vector<std::string> environment;  ///< NAME=VALUE
    uint16_t port = 0;                     ///< 0: no network service
    Readiness readiness;
    std::vector<WarmupRequest> warmup;
    std::optional<WarmupRequest> touch;  ///< a request that reads all of the state, for benchmarks
    FunctionLimits limits;
    std::string clone_signal;  ///< e.g. "SIGUSR2": sent to the root process of each clone (D9)
    std::string domain = "default";
    bool gpu = false;  ///< sees the GPUs; its state on them is part of the template
    std::vector<FunctionBind> binds;
    std::string text;  ///< the file as read, stored in the template

    /// Reads and validates. Errors name file, line and key (kind usage).
    static Result<Function> load(const std::string& path);
    /// The same from text; relative paths are taken from `base_directory`.
    static Result<Function> parse(std::string text, const std::string& origin,
                                  const std::string& base_directory);
};

/// "SIGUSR2" → 12. Standard signals that a process can catch (kind usage otherwise).
[[nodiscard]] Result<int> signal_number(std::string_view name);

/// Whether `response` is what `expected` says; the difference in one line if not.
[[nodiscard]] Result<> check_answer(const WarmupRequest& expected, const HttpResponse& response);

}  // namespace memplate
