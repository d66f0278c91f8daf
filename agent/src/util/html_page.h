// SPDX-License-Identifier: Apache-2.0
//
// Self-contained pages: templates with {{key}} in them, and data that can never become markup.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "util/json.h"

namespace memplate {

/// Text with broken UTF-8 replaced and the characters that mean something in HTML escaped.
[[nodiscard]] std::string escape_html(std::string_view text);

/// JSON that cannot end or comment out the script element around it: "<" occurs only inside
/// strings, where it may be written as an escape. Broken UTF-8 becomes U+FFFD.
[[nodiscard]] std::string escape_json(const Json& document);

/// Puts the values in place of each {{key}} of the page. One pass: what is put in is not looked at
/// again, so a value may contain {{title}}.
[[nodiscard]] std::string fill_page(
    std::string_view page, const std::map<std::string_view, std::string, std::less<>>& values);

}  // namespace memplate
