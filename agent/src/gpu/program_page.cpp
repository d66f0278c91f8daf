// SPDX-License-Identifier: Apache-2.0
#include "gpu/program_page_parts.h"
#include "gpu/program_report.h"
#include "gpu/sharing_page.h"
#include "util/html_page.h"
#include "util/text.h"

namespace memplate::gpu {

std::string program_html(const Json& report) {
    using namespace program_page_parts;
    const Json& start = report["starts"][report["typical"].get<size_t>()];
    const double total = start["total_ms"].get<double>();
    const auto share = [&](const char* name) {
        return fmt::format("{:.0f} %", 100 * start["activities"][name].get<double>() / total);
    };
    const std::string command =
        fmt::format("{}", fmt::join(report["command"].get<std::vector<std::string>>(), " "));
    const std::string headline =
        fmt::format("{}, {} of it in the driver", format_milliseconds(total), share("driver"));
    const Json& method = report["method"];
    SharingPage::Pairs facts = facts_of(report);
    facts.emplace_back("seen by", fmt::format("{}: {}", method["backend"].get<std::string>(),
                                              method["accuracy"].get<std::string>()));
    if (const std::string reason = method["reason"]; !reason.empty())
        facts.emplace_back("no uprobes", reason);
    const SharingPage::Pairs tiles = {{share("driver"), "in calls of the driver"},
                                      {share("import"), "importing code"},
                                      {share("disk"), "waiting for disks, reading data"},
                                      {share("user code"), "in the program's own code"}};
    const Json data = {{"tiles", tiles}, {"start", start}, {"facts", facts}};
    return fill_page(
        program_page_parts::html,
        {{"title", escape_html(command) + " · memplate"},
         {"verb", "gpu cold-start"},
         {"date", report["generated"].get<std::string>()},
         {"headline", escape_html(headline)},
         {"lead",
          escape_html(report["runs"] == 1 ? command
                                          : fmt::format("{}: the start with the median total of {}",
                                                        command, report["runs"].get<unsigned>()))},
         {"summary", escape_html(program_text(report, StatisticsRule::percentiles, false))},
         {"style", std::string(report_css) + std::string(css) + std::string(sharing_css)},
         {"script", std::string(page_js) + std::string(charts_js)},
         {"data", escape_json(data)}});
}

}  // namespace memplate::gpu
