// SPDX-License-Identifier: Apache-2.0
#include "util/html_page.h"

namespace memplate {

std::string escape_html(std::string_view text) {
    // By way of a JSON string, which replaces broken UTF-8.
    const std::string valid =
        Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace))
            .get<std::string>();
    std::string result;
    for (const char c : valid) {
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

std::string fill_page(std::string_view page,
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

}  // namespace memplate
