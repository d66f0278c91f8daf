// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <stop_token>

#include "util/progress.h"
#include "util/settings.h"

namespace spdlog {
class logger;
}

namespace memplate {

/// What every operation of the agent is given: settings, log, progress, and the request to stop.
/// Long operations poll `stop` at least every 100 ms and end with ErrorKind::interrupted.
struct Context {
    Settings settings;
    std::shared_ptr<spdlog::logger> log;  ///< to stderr; debug level with --verbose
    std::shared_ptr<Progress> progress;
    std::stop_token stop;
};

/// The error to return when `stop` was requested.
[[nodiscard]] inline Failure interrupted() {
    return fail(ErrorKind::interrupted, "interrupted");
}

}  // namespace memplate
