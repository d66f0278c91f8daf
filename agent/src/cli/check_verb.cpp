// SPDX-License-Identifier: Apache-2.0
//
// memplate check: what this machine can do.
#include <langinfo.h>
#include <locale.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string_view>

#include "check/capabilities.h"
#include "cli/application.h"
#include "util/table.h"

namespace memplate::cli {
namespace {

bool locale_is_utf8() {
    const locale_t locale = ::newlocale(LC_CTYPE_MASK, "", nullptr);
    if (locale == nullptr) return false;
    const bool utf8 = std::string_view(::nl_langinfo_l(CODESET, locale)) == "UTF-8";
    ::freelocale(locale);
    return utf8;
}

int run(const Application& application) {
    const check::Report report = check::examine(application.context);
    if (application.json)
        print_json(check::to_json(report));
    else
        fmt::print("{}", check::render(report, {.unicode = locale_is_utf8(),
                                                .colour = wants_colour(STDOUT_FILENO)}));
    const bool main_job = report.works("copy") && report.works("mapped");
    return main_job ? 0 : static_cast<int>(ErrorKind::unsupported);
}

}  // namespace

void add_check_verb(CLI::App& root, Application& application) {
    root.add_subcommand("check", "Show what this machine can do, and how to get what is missing")
        ->callback([&application] {
            application.action = [&application]() -> Result<int> { return run(application); };
        });
}

}  // namespace memplate::cli
