// SPDX-License-Identifier: Apache-2.0
#include "bench/report.h"

#include "bench/report_numbers.h"
#include "bench/report_page.h"
#include "util/html_page.h"

namespace memplate {

std::string render_report_html(const Json& report) {
    const report::Headline headline = report::headline(report);
    std::string sentence;
    for (const auto& part : headline.parts) {
        const std::string text = escape_html(part.text);
        switch (part.kind) {
            case report::HeadlinePart::Kind::words:
                sentence += text;
                break;
            case report::HeadlinePart::Kind::our_number:
                sentence += "<em>" + text + "</em>";
                break;
            case report::HeadlinePart::Kind::other_number:
                sentence += "<span>" + text + "</span>";
                break;
        }
    }
    return fill_page(
        report_page::html,
        {
            {"title", escape_html(report_headline(report)) + " · memplate"},
            {"headline", sentence},
            {"function", headline.function ? std::to_string(*headline.function) : ""},
            {"summary", escape_html(report_summary_text(report, false))},
            {"style", std::string(report_page::css)},
            {"script", std::string(report_page::data_js) + std::string(report_page::charts_js) +
                           std::string(report_page::page_js)},
            {"data", escape_json(report)},
        });
}

}  // namespace memplate
