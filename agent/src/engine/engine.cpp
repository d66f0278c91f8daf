// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include "engine/pseudo_mm.h"

namespace memplate::engine {
namespace {

constexpr Kind all_kinds[] = {Kind::copy, Kind::lazy, Kind::mapped, Kind::attached};

}  // namespace

std::string_view name_of(Kind kind) {
    switch (kind) {
        case Kind::copy:
            return "copy";
        case Kind::lazy:
            return "lazy";
        case Kind::mapped:
            return "mapped";
        case Kind::attached:
            return "attached";
    }
    return "unknown";
}

Result<std::optional<Kind>> parse_kind(std::string_view text) {
    if (text == "auto") return std::nullopt;
    for (const Kind kind : all_kinds) {
        if (text == name_of(kind)) return kind;
    }
    return fail(
        ErrorKind::usage,
        fmt::format("engine '{}' is not known; use auto, attached, copy, lazy or mapped", text));
}

Result<> module_is_usable() {
    TRY_ASSIGN(const auto module, Module::open());
    return module.require(PSEUDO_MM_FEATURE_REMOTE);
}

Result<Choice> choose(const Template& tmpl, std::optional<Kind> requested,
                      const Result<>& attached) {
    const std::string& not_mappable = tmpl.pages.not_mappable;
    const proto::Hazard* hazard = tmpl.blocking_hazard();
    if (!requested) {
        if (attached) return Choice{Kind::attached, "the module pseudo_mm is loaded", {}};
        if (!not_mappable.empty())
            return Choice{
                Kind::copy, fmt::format("{}; {}", not_mappable, attached.error().message), {}};
        if (hazard != nullptr)
            return Choice{
                Kind::copy, fmt::format("mapping is not safe: {}", hazard->evidence()), {}};
        return Choice{Kind::mapped, "no hazard found", {}};
    }
    Choice choice{*requested, "requested", {}};
    if (*requested == Kind::attached && !attached) return Failure(Error(attached.error()));
    if (*requested == Kind::mapped) {
        if (!not_mappable.empty())
            return fail(ErrorKind::unsupported,
                        fmt::format("template {}: engine mapped is not possible: {}; use attached "
                                    "or copy",
                                    tmpl.record.name, not_mappable));
        if (hazard != nullptr)
            choice.warnings.push_back(
                fmt::format("template {}: engine mapped may corrupt memory here: {}; use copy",
                            tmpl.record.name, hazard->evidence()));
    }
    return choice;
}

}  // namespace memplate::engine
