// SPDX-License-Identifier: Apache-2.0
//
// A function file is untrusted input (it is stored in templates): parsing must never crash, what it
// accepts must hold its promises, and what it refuses must be one printable line.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "template/function.h"

namespace {

void expect(bool holds) {
    if (!holds) std::abort();
}

bool has_nul(const std::string& text) {
    return text.find('\0') != std::string::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto function = memplate::Function::parse(text, "function.toml", "/base");
    if (!function) {
        const auto& error = function.error();
        expect(error.kind == memplate::ErrorKind::usage);
        expect(error.message.starts_with("function.toml:"));
        expect(std::ranges::all_of(error.message, [](char c) { return c >= 0x20 && c < 0x7f; }));
        return 0;
    }
    expect(!function->name.empty() && !function->domain.empty() && !function->command.empty());
    expect(!function->command.front().empty());
    expect(std::ranges::none_of(function->command, has_nul));
    expect(std::ranges::none_of(function->environment, has_nul));
    expect(function->directory.starts_with('/') && function->root.starts_with('/'));
    expect(function->port != 0 || (function->warmup.empty() && !function->touch));
    expect(function->clone_signal.empty() || memplate::signal_number(function->clone_signal));
    // A template stores the text and reads it again.
    expect(memplate::Function::parse(function->text, "function.toml", "/base").has_value());
    return 0;
}
