// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

namespace memplate::engine {

std::string_view name_of(Kind kind) {
    switch (kind) {
        case Kind::copy:
            return "copy";
        case Kind::lazy:
            return "lazy";
        case Kind::mapped:
            return "mapped";
    }
    return "unknown";
}

Result<std::optional<Kind>> parse_kind(std::string_view text) {
    if (text == "auto") return std::nullopt;
    for (const Kind kind : {Kind::copy, Kind::lazy, Kind::mapped}) {
        if (text == name_of(kind)) return kind;
    }
    return fail(ErrorKind::usage,
                fmt::format("engine '{}' is not known; use auto, copy, lazy or mapped", text));
}

Choice choose(const Template& tmpl, std::optional<Kind> requested) {
    const proto::Hazard* hazard = tmpl.blocking_hazard();
    if (!requested) {
        if (hazard != nullptr)
            return {Kind::copy, fmt::format("mapping is not safe: {}", hazard->evidence()), {}};
        return {Kind::mapped, "no hazard found", {}};
    }
    Choice choice{*requested, "requested", {}};
    if (*requested == Kind::mapped && hazard != nullptr)
        choice.warnings.push_back(
            fmt::format("template {}: engine mapped may corrupt memory here: {}; use copy",
                        tmpl.record.name, hazard->evidence()));
    return choice;
}

}  // namespace memplate::engine
