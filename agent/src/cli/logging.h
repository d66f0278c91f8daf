// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "util/progress.h"

namespace spdlog {
class logger;
}

namespace memplate::cli {

enum class Verbosity { quiet, normal, verbose };

/// The log on stderr: warnings and errors as "memplate: warning: …", everything with times when
/// verbose. The progress line is cleared before each message.
[[nodiscard]] std::shared_ptr<spdlog::logger> make_log(Verbosity verbosity,
                                                       std::shared_ptr<Progress> progress);

}  // namespace memplate::cli
