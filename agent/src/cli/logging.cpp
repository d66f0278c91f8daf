// SPDX-License-Identifier: Apache-2.0
#include "cli/logging.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <utility>

namespace memplate::cli {
namespace {

class LogSink final : public spdlog::sinks::stderr_color_sink_mt {
  public:
    explicit LogSink(std::shared_ptr<Progress> progress) : progress_(std::move(progress)) {}
    void log(const spdlog::details::log_msg& message) override {
        if (progress_) progress_->clear();
        spdlog::sinks::stderr_color_sink_mt::log(message);
    }

  private:
    std::shared_ptr<Progress> progress_;
};

}  // namespace

std::shared_ptr<spdlog::logger> make_log(Verbosity verbosity, std::shared_ptr<Progress> progress) {
    auto log = std::make_shared<spdlog::logger>("memplate",
                                                std::make_shared<LogSink>(std::move(progress)));
    switch (verbosity) {
        case Verbosity::quiet:
            log->set_level(spdlog::level::err);
            break;
        case Verbosity::normal:
            log->set_level(spdlog::level::info);
            break;
        case Verbosity::verbose:
            log->set_level(spdlog::level::debug);
            break;
    }
    log->set_pattern(verbosity == Verbosity::verbose ? "%H:%M:%S.%e %^%l%$: %v"
                                                     : "memplate: %^%l%$: %v");
    return log;
}

}  // namespace memplate::cli
