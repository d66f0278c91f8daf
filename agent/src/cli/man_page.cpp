// SPDX-License-Identifier: Apache-2.0
#include "cli/man_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "util/text.h"

namespace memplate::cli {
namespace {

/// Text as roff shows it: no escapes, no requests, plain hyphens.
std::string roff(std::string_view text) {
    std::string result;
    bool line_start = true;
    for (const char c : text) {
        if (line_start && (c == '.' || c == '\'')) result += "\\&";
        if (c == '\\')
            result += "\\e";
        else if (c == '-')
            result += "\\-";
        else
            result += c;
        line_start = c == '\n';
    }
    return result;
}

std::string sentence(std::string_view text) {
    std::string result = roff(trim(text));
    if (!result.empty() && result.back() != '.') result += '.';
    return result;
}

std::string command_name(const CommandNode& node, const char* separator) {
    std::string name = "memplate";
    for (const std::string& part : node.path) name += separator + part;
    return name;
}

std::string heading(const std::string& page, std::string_view description) {
    std::string summary(trim(description));
    if (summary.ends_with('.')) summary.pop_back();
    return fmt::format(".TH {} 1 \"\" \"memplate {}\" \"Memplate\"\n.SH NAME\n{} \\- {}\n",
                       roff(page), MEMPLATE_VERSION, roff(page), roff(summary));
}

std::string synopsis(const CommandNode& node) {
    std::string line = fmt::format(".B {}\n", roff(command_name(node, " ")));
    for (const OptionNode& option : node.options) {
        if (option.positional || !option.required) continue;
        line += fmt::format("\\fB{}\\fR \\fI{}\\fR\n", roff(option.names.back()),
                            roff(option.value_name));
    }
    line += "[\\fIOPTIONS\\fR]\n";
    for (const OptionNode& option : node.options) {
        if (!option.positional) continue;
        const std::string name =
            fmt::format("\\fI{}\\fR{}", roff(option.names.front()), option.repeatable ? "..." : "");
        line += option.required ? name + "\n" : "[" + name + "]\n";
    }
    if (!node.commands.empty()) line += "\\fICOMMAND\\fR\n";
    return line;
}

std::string options(const CommandNode& node) {
    std::string text;
    for (const OptionNode& option : node.options) {
        // Told once, with the global options.
        if (!node.path.empty() && option.names.back() == "--help") continue;
        std::vector<std::string> names;
        for (const std::string& name : option.names)
            names.push_back(fmt::format("\\f{}{}\\fR", option.positional ? 'I' : 'B', roff(name)));
        text += fmt::format(".TP\n{}", fmt::join(names, ", "));
        if (!option.positional && option.kind != ValueKind::none)
            text += fmt::format(" \\fI{}\\fR", roff(option.value_name));
        text += "\n" + sentence(option.description);
        if (!option.default_value.empty())
            text += fmt::format(" Default: {}.", roff(option.default_value));
        text += "\n";
    }
    return text;
}

std::string footer_section(const CommandNode& node) {
    if (node.footer.empty()) return {};
    return fmt::format(".SH NOTES\n.nf\n{}\n.fi\n", roff(trim(node.footer)));
}

std::string exit_status() {
    return ".SH EXIT STATUS\n"
           ".TP\n0\nDone.\n"
           ".TP\n1\nThe operation failed; one line on standard error says why.\n"
           ".TP\n2\nWrong usage, or a mistake in a configuration or function file.\n"
           ".TP\n3\nNot possible on this machine; what is missing is named. See \\fBmemplate "
           "check\\fR.\n"
           ".TP\n130\nInterrupted.\n";
}

void subcommands(const CommandNode& node, std::string& text) {
    for (const CommandNode& command : node.commands) {
        text += fmt::format(".SS {}\n{}\n.PP\n{}", roff(command_name(command, " ")),
                            sentence(command.description), synopsis(command));
        text += options(command);
        if (!command.footer.empty())
            text += fmt::format(".PP\n.nf\n{}\n.fi\n", roff(command.footer));
        subcommands(command, text);
    }
}

}  // namespace

std::string man_page(const CommandNode& root) {
    std::string text = heading("memplate", root.description);
    text += ".SH SYNOPSIS\n" + synopsis(root);
    text += ".SH DESCRIPTION\n" + sentence(root.description) + "\n";
    text += ".SH COMMANDS\n";
    for (const CommandNode& command : root.commands)
        text += fmt::format(".TP\n.BR {} (1)\n{}\n", roff(command_name(command, "-")),
                            sentence(command.description));
    text += ".SH OPTIONS\nThese may also follow the command.\n" + options(root);
    text += exit_status();
    text +=
        ".SH ENVIRONMENT\n"
        ".TP\nMEMPLATE_CONFIG\nA configuration file to read instead of the ones below.\n"
        ".TP\nNO_COLOR\nIf set, no colours are printed.\n"
        ".SH FILES\n"
        ".TP\n/etc/memplate/config.toml\nThe configuration; \\fBmemplate config "
        "\\-\\-print\\-default\\fR prints a commented one.\n"
        ".TP\n/etc/memplate/config.d/*.toml\nRead after it, in name order.\n";
    return text + footer_section(root);
}

std::string man_page(const CommandNode& root, const CommandNode& command) {
    std::string text = heading(command_name(command, "-"), command.description);
    text += ".SH SYNOPSIS\n" + synopsis(command);
    text += ".SH DESCRIPTION\n" + sentence(command.description) + "\n";
    if (const std::string own = options(command); !own.empty()) text += ".SH OPTIONS\n" + own;
    if (!command.commands.empty()) {
        text += ".SH COMMANDS\n";
        subcommands(command, text);
    }
    text += ".SH GLOBAL OPTIONS\n" + options(root);
    return text + exit_status() + footer_section(command) + ".SH SEE ALSO\n.BR memplate (1)\n";
}

}  // namespace memplate::cli
