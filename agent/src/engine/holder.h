// SPDX-License-Identifier: Apache-2.0
//
// Module templates beyond one command: a process for each template that does nothing but hold their
// descriptors and give them to later commands, so that instances of different runs share pages and
// only the first run pays for copying them. It ends when nobody has asked for a while and no
// process uses the pages, when the template is removed, or at SIGTERM; running instances are never
// affected. Everything it is lies in STATE/held: KEY.socket, KEY.json, KEY.lock.
#pragma once

#include <optional>
#include <string>

#include "engine/module_templates.h"
#include "util/context.h"
#include "util/json.h"

namespace memplate::engine {

/// What is held, and for how long after its last use.
struct Held {
    std::string key;  ///< names the plan: another plan, another key
    std::string pool_uuid;
    std::string pool_path;
    uint64_t template_id = 0;
    unsigned seconds = 0;

    [[nodiscard]] Json to_json() const;
    static Result<Held> from_json(const Json& json);
};

/// The key of a template with a plan, given as stored.
[[nodiscard]] std::string held_key(const std::string& pool_uuid, const pool::TemplateRecord& record,
                                   const std::string& plan);

/// What a holder has, or what `build` makes, which a new holder then keeps. One at a time for a
/// key: whoever comes second finds what the first has made. Without a holder (none could be
/// started) the caller has what it needs all the same.
[[nodiscard]] Result<ModuleTemplates> hold_or_build(
    const Context& context, const Held& held,
    const std::function<Result<ModuleTemplates>()>& build);

/// Ends the holders of a template or, with id 0, of the whole pool; returns when they hold nothing
/// any more.
[[nodiscard]] Result<> end_holders(const Context& context, const std::string& pool_uuid,
                                   uint64_t template_id);

/// Removes what killed holders have left; ends those whose pool does not exist any more.
[[nodiscard]] Result<> sweep_holders(const Context& context);

/// The first argument of a memplate that is a holder, and its main function. `argument`: JSON.
inline constexpr const char* holder_mode = "hold-module-templates";
[[nodiscard]] int run_holder(const std::string& argument);

}  // namespace memplate::engine
