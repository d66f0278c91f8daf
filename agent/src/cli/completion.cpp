// SPDX-License-Identifier: Apache-2.0
#include "cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <vector>

namespace memplate::cli {
namespace {

// Fixed parts of the script. `command` is the path of the command typed so far ("/pool/create");
// `before` is the word before the one being completed, seen through "--option=value".
constexpr const char* prologue =
    R"(# bash completion for memplate, written by `memplate completion bash`
_memplate_takes_value() {
    case $1 in
{takes_value}        *) return 1 ;;
    esac
}

_memplate() {
    local current=${COMP_WORDS[COMP_CWORD]} before='' command='' words='' word i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == = ]]; then
            continue
        fi
        if _memplate_takes_value "$command:$before"; then
            before=''
            continue
        fi
        before=$word
        case $command/$word in
{commands}        esac
    done
    [[ $current != = ]] || current=''
    COMPREPLY=()
    case $command:$before in
{values}    esac
    if _memplate_takes_value "$command:$before"; then
        return
    fi
    case $command in
{words}    esac
    [[ $current == -* || -z $words ]] || words=${words%% -*}
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o bashdefault -o default -F _memplate memplate
)";

struct Parts {
    std::vector<std::string> takes_value;
    std::vector<std::string> commands;
    std::map<std::string, std::vector<std::string>> values;  ///< words to offer → patterns
    std::string words;
};

std::string path_of(const CommandNode& node) {
    std::string path;
    for (const std::string& name : node.path) path += "/" + name;
    return path;
}

std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
}

void collect(const CommandNode& node, const std::vector<OptionNode>& inherited, Parts& parts) {
    const std::string path = path_of(node);
    std::vector<std::string> commands;
    std::vector<std::string> positional_choices;
    std::vector<std::string> flags;
    std::vector<OptionNode> options = node.options;
    // An option of the command hides the one of the root with the same name.
    std::ranges::copy_if(inherited, std::back_inserter(options), [&](const OptionNode& option) {
        return std::ranges::none_of(node.options, [&](const OptionNode& own) {
            return !own.positional && own.names.back() == option.names.back();
        });
    });
    for (const OptionNode& option : options) {
        if (option.positional) {
            positional_choices.insert(positional_choices.end(), option.choices.begin(),
                                      option.choices.end());
            continue;
        }
        for (const std::string& name : option.names) {
            if (name.starts_with("--")) flags.push_back(name);
            if (option.kind == ValueKind::none) continue;
            parts.takes_value.push_back(quoted(path + ":" + name));
            if (option.kind == ValueKind::choice)
                parts.values[fmt::format("{}", fmt::join(option.choices, " "))].push_back(
                    quoted(path + ":" + name));
        }
    }
    for (const CommandNode& command : node.commands) {
        commands.push_back(command.path.back());
        parts.commands.push_back(quoted(path_of(command)));
    }
    commands.insert(commands.end(), positional_choices.begin(), positional_choices.end());
    // Commands before options: the script cuts at the first " -" unless an option is being typed.
    parts.words +=
        fmt::format("        {}) words={} ;;\n", quoted(path),
                    quoted(fmt::format("{} {}", fmt::join(commands, " "), fmt::join(flags, " "))));

    std::vector<OptionNode> handed_down = inherited;
    for (const OptionNode& option : node.options) {
        const bool help = !option.names.empty() && option.names.back() == "--help";
        if (!option.positional && !help) handed_down.push_back(option);
    }
    // Only the root's options may follow any command.
    for (const CommandNode& command : node.commands)
        collect(command, node.path.empty() ? handed_down : inherited, parts);
}

void replace(std::string& text, const std::string& key, const std::string& value) {
    const size_t at = text.find(key);
    if (at != std::string::npos) text.replace(at, key.size(), value);
}

}  // namespace

std::string bash_completion(const CommandNode& root) {
    Parts parts;
    collect(root, {}, parts);
    std::string takes_value;
    if (!parts.takes_value.empty())
        takes_value = fmt::format("        {}) return 0 ;;\n",
                                  fmt::join(parts.takes_value, " | \\\n            "));
    std::string commands;
    if (!parts.commands.empty())
        commands = fmt::format("            {}) command+=/$word before='' ;;\n",
                               fmt::join(parts.commands, " | \\\n                "));
    std::string values;
    for (const auto& [words, patterns] : parts.values)
        values += fmt::format(
            "        {})\n"
            "            mapfile -t COMPREPLY < <(compgen -W {} -- \"$current\")\n"
            "            return\n"
            "            ;;\n",
            fmt::join(patterns, " | "), quoted(words));
    std::string script = prologue;
    replace(script, "{takes_value}", takes_value);
    replace(script, "{commands}", commands);
    replace(script, "{values}", values);
    replace(script, "{words}", parts.words);
    return script;
}

}  // namespace memplate::cli
