// SPDX-License-Identifier: Apache-2.0
//
// From a function to a template: start it in a fresh sandbox, warm it up while watching it,
// checkpoint it, store pages and images, then run the template once to learn its profile.
#pragma once

#include <optional>

#include "instance/launch.h"

namespace memplate::instance {

struct BuildRequest {
    std::string name;
    std::string pool_path;
    Function function;
    std::string images_directory;  ///< an existing CRIU image directory; empty: run the function
    bool replace = false;          ///< a template of that name is replaced
    bool profile = true;
};

struct BuildReport {
    pool::TemplateRecord record;
    PageCounts pages;
    Phases phases;
    std::vector<proto::Hazard> hazards;
    std::string profile_skipped;  ///< why there is no profile; empty if there is one
};

[[nodiscard]] Result<BuildReport> build(const Context& context, const BuildRequest& request);

/// Restores the template twice, without and with what the first run taught, and returns the
/// profile with both measurements. Needs an engine that shares pages (attached or mapped) and a
/// function with a port and a warm-up.
[[nodiscard]] Result<proto::Profile> learn_profile(const Context& context, const pool::Pool& pool,
                                                   const Template& tmpl, const Function& function,
                                                   const criu::Installation& criu);

/// Why no profile can be learnt; empty if it can.
[[nodiscard]] std::string profile_obstacle(const Template& tmpl, const Function& function);

}  // namespace memplate::instance
