// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/application.h"
#include "instance/build.h"

namespace memplate::cli {

/// Arguments of all `memplate template` verbs.
struct TemplateOptions {
    std::string name;
    std::string other;
    std::string pool;
    std::string function;
    std::string images;
    bool replace = false;
    bool no_profile = false;
};

Result<int> show_template(Application& application, const TemplateOptions& options);
Result<int> inspect_areas(Application& application, const TemplateOptions& options);
Result<int> show_profile(Application& application, const TemplateOptions& options);
int print_build(const Template& tmpl, const instance::BuildReport& report);
void print_diff(const Json& diff);

}  // namespace memplate::cli
