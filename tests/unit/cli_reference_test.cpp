// SPDX-License-Identifier: Apache-2.0
//
// Bash completion and man pages are written from a command tree: here from a small one.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>

#include "cli/command_tree.h"
#include "cli/completion.h"
#include "cli/man_page.h"
#include "util/fd.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

class CliReference : public testing::Test {
  protected:
    CliReference() {
        root_.fallthrough();
        root_.add_flag("--json", json_, "Print JSON");
        root_.add_option("--config", text_, "Configuration")->type_name("FILE");
        auto* pool = root_.add_subcommand("pool", "Memory for templates");
        auto* create = pool->add_subcommand("create", "Create a pool. Don't run it twice");
        create->add_option("path", text_, ".hidden or not")->required()->type_name("FILE");
        create->add_option("-s,--size", text_, "Limit")->required()->type_name("SIZE");
        create->add_option("--medium", text_, "Kind of memory")
            ->check(CLI::IsMember({"file", "dax"}))
            ->default_str("file");
        auto* list = pool->add_subcommand("list", "List pools");
        list->add_option("--json", text_, "Where to")->type_name("FILE");
        root_.add_subcommand("list", "A command with the name of another one's subcommand");
        root_.add_subcommand("secret", "Not shown")->group("");
        root_.footer("Examples:\n  memplate pool create x");
    }

    /// What bash offers for `line`, the last word being completed.
    [[nodiscard]] std::vector<std::string> complete(const std::vector<std::string>& words) const {
        std::string script = bash_completion(command_tree(root_));
        script += "\nCOMP_WORDS=(memplate";
        for (const std::string& word : words) script += " '" + word + "'";
        script +=
            ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_memplate\n"
            "printf '%s\\n' \"${COMPREPLY[@]}\"\n";
        std::string output = run_bash(script);
        std::vector<std::string> offers;
        for (const std::string& line : split(output, '\n'))
            if (!line.empty()) offers.push_back(line);
        return offers;
    }

    static std::string run_bash(const std::string& script) {
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        const UniqueFd reader(ends[0]);
        UniqueFd writer(ends[1]);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
        std::array<std::string, 5> words = {"bash", "--norc", "-eu", "-c", script};
        std::array<char*, 6> argv{};
        for (size_t i = 0; i < words.size(); i++) argv[i] = words[i].data();
        pid_t child = 0;
        EXPECT_EQ(::posix_spawnp(&child, "bash", &actions, nullptr, argv.data(), environ), 0);
        ::posix_spawn_file_actions_destroy(&actions);
        writer.reset();
        std::string output;
        std::array<char, 4096> buffer{};
        for (ssize_t n = 0; (n = ::read(reader.get(), buffer.data(), buffer.size())) > 0;)
            output.append(buffer.data(), static_cast<size_t>(n));
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0) << script;
        return output;
    }

    CLI::App root_{"Starts functions", "memplate"};
    bool json_ = false;
    std::string text_;
};

TEST_F(CliReference, CompletesCommandsThenSubcommands) {
    EXPECT_THAT(complete({""}), UnorderedElementsAre("pool", "list"));
    EXPECT_THAT(complete({"po"}), ElementsAre("pool"));
    EXPECT_THAT(complete({"pool", ""}), UnorderedElementsAre("create", "list"));
    EXPECT_THAT(complete({"--json", "pool", "c"}), ElementsAre("create"));
}

TEST_F(CliReference, CompletesOptionsOfTheCommandAndOfTheRoot) {
    EXPECT_THAT(complete({"pool", "create", "--"}),
                UnorderedElementsAre("--size", "--medium", "--help", "--json", "--config"));
    EXPECT_THAT(complete({"pool", "list", "--"}),
                UnorderedElementsAre("--help", "--json", "--config"));
    EXPECT_THAT(complete({"pool", "create", "--m"}), ElementsAre("--medium"));
    // One of the same name takes a value here, and none elsewhere.
    EXPECT_THAT(complete({"pool", "list", "--json", "--c"}), IsEmpty());
    EXPECT_THAT(complete({"pool", "create", "--json", "--c"}), ElementsAre("--config"));
}

TEST_F(CliReference, CompletesValues) {
    EXPECT_THAT(complete({"pool", "create", "--medium", ""}), UnorderedElementsAre("file", "dax"));
    EXPECT_THAT(complete({"pool", "create", "--medium", "d"}), ElementsAre("dax"));
    EXPECT_THAT(complete({"pool", "create", "--medium", "=", "d"}), ElementsAre("dax"));
    EXPECT_THAT(complete({"pool", "create", "--medium", "="}), UnorderedElementsAre("file", "dax"));
    // Nothing of ours: bash then offers file names.
    EXPECT_THAT(complete({"pool", "create", "--size", ""}), IsEmpty());
    EXPECT_THAT(complete({"pool", "create", ""}), IsEmpty());
}

TEST_F(CliReference, AValueIsNotTakenForACommand) {
    EXPECT_THAT(complete({"--config", "pool", ""}), UnorderedElementsAre("pool", "list"));
    EXPECT_THAT(complete({"pool", "create", "-s", "list", "--m"}), ElementsAre("--medium"));
}

TEST_F(CliReference, TreeLeavesOutHiddenCommands) {
    const CommandNode tree = command_tree(root_);
    ASSERT_EQ(tree.commands.size(), 2U);
    const CommandNode& create = tree.commands[0].commands.at(0);
    EXPECT_THAT(create.path, ElementsAre("pool", "create"));
    const auto option = [&](const std::string& name) {
        for (const OptionNode& node : create.options)
            if (node.names.back() == name) return node;
        return OptionNode{};
    };
    EXPECT_TRUE(option("path").positional);
    EXPECT_EQ(option("path").kind, ValueKind::file);
    EXPECT_THAT(option("--size").names, ElementsAre("-s", "--size"));
    EXPECT_TRUE(option("--size").required);
    EXPECT_EQ(option("--size").value_name, "SIZE");
    EXPECT_EQ(option("--medium").kind, ValueKind::choice);
    EXPECT_THAT(option("--medium").choices, UnorderedElementsAre("file", "dax"));
    EXPECT_EQ(option("--help").kind, ValueKind::none);
}

TEST_F(CliReference, ManPageOfTheRootNamesEveryCommand) {
    const std::string page = man_page(command_tree(root_));
    EXPECT_THAT(page, HasSubstr(".TH memplate 1"));
    EXPECT_THAT(page, HasSubstr("memplate\\-pool (1)"));
    EXPECT_THAT(page, HasSubstr("memplate\\-list (1)"));
    EXPECT_THAT(page, Not(HasSubstr("secret")));
    EXPECT_THAT(page, HasSubstr("memplate pool create x"));
}

TEST_F(CliReference, ManPageOfACommandHasItsSubcommandsAndOptions) {
    const CommandNode tree = command_tree(root_);
    const std::string page = man_page(tree, tree.commands.front());
    EXPECT_THAT(page, HasSubstr(".SS memplate pool create"));
    EXPECT_THAT(page, HasSubstr("\\fB\\-s\\fR, \\fB\\-\\-size\\fR \\fISIZE\\fR"));
    EXPECT_THAT(page, HasSubstr("Default: file."));
    EXPECT_THAT(page, HasSubstr("\\fB\\-\\-json\\fR"));
}

TEST_F(CliReference, ManPageTextIsNoRoffRequest) {
    const CommandNode tree = command_tree(root_);
    const auto lines = split(man_page(tree, tree.commands.front()), '\n');
    EXPECT_THAT(lines, Contains("\\&.hidden or not."));
    for (const std::string& line : lines)
        EXPECT_FALSE(line.starts_with(".hidden") || line.starts_with('\'')) << line;
}

}  // namespace
}  // namespace memplate::cli
