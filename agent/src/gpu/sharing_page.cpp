// SPDX-License-Identifier: Apache-2.0
#include "gpu/sharing_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "gpu/sharing_page_parts.h"
#include "util/clock.h"
#include "util/html_page.h"

namespace memplate::gpu {

std::string SharingPage::html() const {
    using namespace sharing_page_parts;
    const Json data = {{"tiles", tiles}, {"charts", charts}, {"facts", facts}};
    return fill_page(
        sharing_page_parts::html,
        {{"title", escape_html(headline) + " · memplate"},
         {"verb", escape_html(verb)},
         {"date", iso_time(unix_time())},
         {"headline", escape_html(headline)},
         {"lead", escape_html(lead)},
         {"summary", escape_html(text)},
         {"style", std::string(report_css) + std::string(css) + std::string(sharing_css)},
         {"script", std::string(page_js) + std::string(charts_js)},
         {"data", escape_json(data)}});
}

SharingPage::Pairs facts_of(const Json& report) {
    const Json& gpu = report["gpu"];
    const Json& device = gpu["devices"][report["device"].get<size_t>()];
    SharingPage::Pairs facts = {
        {"device", fmt::format("{}, compute capability {}", device.value("name", "?"),
                               device.value("capability", "?"))},
        {"driver", fmt::format("{}, CUDA {}", gpu["driver"].value("version", "?"),
                               gpu.value("cuda_text", "?"))},
        {"compute mode", device.value("compute_mode", "?")},
        {"module loading", gpu.value("module_loading", "?")},
        {"MPS", gpu["mps"].value("running", false) ? "runs" : "off"}};
    if (device.contains("persistence"))
        facts.emplace_back("persistence", device["persistence"].get<bool>() ? "on" : "off");
    for (const auto& [name, value] : gpu["environment"].items())
        facts.emplace_back(name, value.get<std::string>());
    if (report.contains("environment"))
        for (const auto& [key, value] : report["environment"].items()) {
            std::string name = key;
            std::ranges::replace(name, '_', ' ');
            facts.emplace_back(std::move(name),
                               value.is_string() ? value.get<std::string>() : value.dump());
        }
    return facts;
}

}  // namespace memplate::gpu
