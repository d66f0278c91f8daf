// SPDX-License-Identifier: Apache-2.0
#include "bench/report.h"

#include <map>
#include <string_view>

#include "bench/report_numbers.h"
#include "bench/report_page.h"

namespace memplate {
namespace {

std::string escape_html(std::string_view text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '"':
                result += "&quot;";
                break;
            default:
                result += c;
        }
    }
    return result;
}

/// JSON that cannot end or comment out the script element around it: "<" occurs only inside
/// strings, where it may be written as an escape. Broken UTF-8 becomes U+FFFD.
std::string escape_json(const Json& document) {
    std::string result;
    for (const char c : document.dump(-1, ' ', false, Json::error_handler_t::replace)) {
        if (c == '<')
            result += "\\u003c";
        else
            result += c;
    }
    return result;
}

/// Puts the values in place of each {{key}} of the page. One pass: what is put in is not looked at
/// again, so a report may contain {{title}}.
std::string fill_in(std::string_view page,
                    const std::map<std::string_view, std::string, std::less<>>& values) {
    std::string result;
    for (;;) {
        const size_t open = page.find("{{");
        const size_t close = page.find("}}", open == page.npos ? open : open + 2);
        if (open == page.npos || close == page.npos) return result.append(page);
        result.append(page.substr(0, open));
        if (const auto value = values.find(page.substr(open + 2, close - open - 2));
            value != values.end())
            result += value->second;
        page.remove_prefix(close + 2);
    }
}

/// Text with broken UTF-8 replaced, by way of a JSON string.
std::string valid_utf8(const std::string& text) {
    return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace))
        .get<std::string>();
}

}  // namespace

std::string render_report_html(const Json& report) {
    const report::Headline headline = report::headline(report);
    std::string sentence;
    for (const auto& part : headline.parts) {
        const std::string text = escape_html(valid_utf8(part.text));
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
    return fill_in(
        report_page::html,
        {
            {"title", escape_html(valid_utf8(report_headline(report))) + " · memplate"},
            {"headline", sentence},
            {"function", headline.function ? std::to_string(*headline.function) : ""},
            {"summary", escape_html(valid_utf8(report_summary_text(report, false)))},
            {"style", std::string(report_page::css)},
            {"script", std::string(report_page::data_js) + std::string(report_page::charts_js) +
                           std::string(report_page::page_js)},
            {"data", escape_json(report)},
        });
}

}  // namespace memplate
