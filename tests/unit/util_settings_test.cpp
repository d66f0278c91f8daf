// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "util/fs.h"
#include "util/settings.h"

namespace memplate {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class SettingsFiles : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-settings");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        ASSERT_TRUE(make_directories(at("config.d")));
    }
    void TearDown() override { ::unsetenv("MEMPLATE_CONFIG"); }
    [[nodiscard]] std::string at(const std::string& name) const {
        return directory_.path() + "/" + name;
    }
    void put(const std::string& name, std::string_view text) const {
        std::ofstream(at(name), std::ios::binary) << text;
    }
    [[nodiscard]] Result<Settings> load() const {
        return Settings::load_directory(directory_.path());
    }
    /// The error that config.toml with this text gives.
    [[nodiscard]] Error error_of(std::string_view text) const {
        put("config.toml", text);
        auto loaded = load();
        EXPECT_FALSE(loaded) << text;
        return loaded ? Error{} : loaded.error();
    }
    TemporaryDirectory directory_;
};

TEST_F(SettingsFiles, NothingThereGivesDefaults) {
    ASSERT_TRUE(remove_tree(at("config.d")));
    const auto settings = load();
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->state_dir, "/run/memplate");
    EXPECT_EQ(settings->bridge, "memplate0");
    EXPECT_EQ(settings->subnet, "10.213.0.0/16");
    EXPECT_EQ(settings->criu_root, "");
    EXPECT_EQ(settings->cache_dir, Settings::default_cache_dir("/run/memplate"));
}

TEST_F(SettingsFiles, EveryKeyIsRead) {
    put("config.toml",
        "state_dir = \"/s\"\ncache_dir = \"/c\"\ncriu_root = \"/r\"\nbridge = \"br1\"\n"
        "subnet = \"192.168.4.0/22\"\n");
    const auto settings = load();
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->state_dir, "/s");
    EXPECT_EQ(settings->cache_dir, "/c");
    EXPECT_EQ(settings->criu_root, "/r");
    EXPECT_EQ(settings->bridge, "br1");
    EXPECT_EQ(settings->subnet, "192.168.4.0/22");
}

TEST_F(SettingsFiles, DropInsOverrideInNameOrder) {
    put("config.toml", "bridge = \"main\"\nstate_dir = \"/main\"\ncriu_root = \"/main\"\n");
    put("config.d/20-later.toml", "bridge = \"later\"\n");
    put("config.d/10-sooner.toml", "bridge = \"sooner\"\nstate_dir = \"/sooner\"\n");
    put("config.d/30-not-toml.bak", "this is not read");
    put("config.d/.hidden.toml", "neither is this");
    const auto settings = load();
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->bridge, "later");
    EXPECT_EQ(settings->state_dir, "/sooner");
    EXPECT_EQ(settings->criu_root, "/main");
}

TEST_F(SettingsFiles, UnknownKeyNamesFileLineAndKnownKeys) {
    const Error error = error_of("# comment\nbridge = \"br1\"\nsate_dir = \"/x\"\n");
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_THAT(error.message, StartsWith(at("config.toml") + ":3: unknown key \"sate_dir\""));
    EXPECT_THAT(error.message, HasSubstr("state_dir, cache_dir"));
}

TEST_F(SettingsFiles, UnknownTableIsAnUnknownKey) {
    EXPECT_THAT(error_of("\n[network]\nbridge = \"br1\"\n").message,
                HasSubstr("config.toml:2: unknown key \"network\""));
}

TEST_F(SettingsFiles, WrongTypesNameFileLineAndKey) {
    const Error error = error_of("\n\n\nbridge = 5\n");
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_THAT(error.message,
                HasSubstr("config.toml:4: key \"bridge\" must be a string, not integer"));
    for (const char* text : {"state_dir = true", "state_dir = [\"/x\"]", "state_dir = 1.5",
                             "state_dir = 2020-01-01", "[state_dir]\nx = 1", "[[state_dir]]\nx=1"})
        EXPECT_THAT(error_of(text).message,
                    HasSubstr("config.toml:1: key \"state_dir\" must be a string"));
}

TEST_F(SettingsFiles, ErrorsInDropInsNameTheDropIn) {
    put("config.d/10-x.toml", "bridge = \"ok\"\nbrigde = \"typo\"\n");
    const auto loaded = load();
    ASSERT_FALSE(loaded);
    EXPECT_THAT(loaded.error().message, StartsWith(at("config.d/10-x.toml") + ":2: unknown key"));
}

TEST_F(SettingsFiles, SyntaxErrorsNameTheLine) {
    const Error error = error_of("bridge = \"br1\"\nsubnet = \n");
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_THAT(error.message, StartsWith(at("config.toml") + ":2: "));
    EXPECT_EQ(error.message.find('\n'), std::string::npos);
    EXPECT_THAT(error_of("bridge = \"a\"\nbridge = \"b\"\n").message, HasSubstr("config.toml:2: "));
    EXPECT_EQ(error_of("bridge = \"\xff\"\n").kind, ErrorKind::usage);
}

TEST_F(SettingsFiles, BadValuesNameTheLine) {
    for (const char* text : {"state_dir = \"relative\"",
                             "state_dir = \"\"",
                             "cache_dir = \"./x\"",
                             "criu_root = \"~/criu\"",
                             "bridge = \"\"",
                             "bridge = \"sixteen-letters-\"",
                             "bridge = \"a/b\"",
                             "bridge = \"a b\"",
                             "bridge = \"..\"",
                             "subnet = \"10.0.0.0\"",
                             "subnet = \"10.0.0.0/31\"",
                             "subnet = \"10.0.0.0/7\"",
                             "subnet = \"10.0.0.0/x\"",
                             "subnet = \"10.0.0.1/24\"",
                             "subnet = \"10.0.0/24\"",
                             "subnet = \"fd00::/16\"",
                             "subnet = \"10.0.0.0/16/1\"",
                             "lazy_above = \"big\"",
                             "hold_seconds = -1",
                             "hold_seconds = 86401",
                             "hold_seconds = \"60\"",
                             "lazy_above = 1"}) {
        const Error error = error_of(text);
        EXPECT_EQ(error.kind, ErrorKind::usage) << text;
        EXPECT_THAT(error.message, HasSubstr("config.toml:1: key ")) << text;
    }
}

TEST_F(SettingsFiles, UnreadableMainFileIsAnError) {
    ASSERT_TRUE(make_directories(at("config.toml")));
    const auto loaded = load();
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, EISDIR);
}

TEST_F(SettingsFiles, EnvironmentNamesAnotherFileAndThenNoDropInsAreRead) {
    put("other.toml", "bridge = \"other\"\n");
    put("config.d/10-x.toml", "bridge = \"drop-in\"\n");
    ::setenv("MEMPLATE_CONFIG", at("other.toml").c_str(), 1);
    const auto settings = Settings::load();
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->bridge, "other");
    ::setenv("MEMPLATE_CONFIG", at("missing.toml").c_str(), 1);
    const auto missing = Settings::load();
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ENOENT);
    EXPECT_THAT(missing.error().message, HasSubstr("missing.toml"));
}

TEST_F(SettingsFiles, CacheFollowsStateOnATmpfsOnly) {
    EXPECT_EQ(Settings::default_cache_dir("/proc/no/such"), "/dev/shm/memplate");
    if (!on_tmpfs("/dev/shm")) GTEST_SKIP() << "/dev/shm is not a tmpfs here";
    // It need not exist yet.
    EXPECT_EQ(Settings::default_cache_dir("/dev/shm/no/such"), "/dev/shm/no/such/cache");
    put("config.toml", "state_dir = \"/dev/shm/no/such\"\n");
    EXPECT_EQ(load()->cache_dir, "/dev/shm/no/such/cache");
    put("config.toml", "state_dir = \"/dev/shm/no/such\"\ncache_dir = \"/mine\"\n");
    EXPECT_EQ(load()->cache_dir, "/mine");
}

TEST_F(SettingsFiles, DocumentationIsAValidFileOfDefaults) {
    const std::string documentation = Settings::documentation();
    put("config.toml", documentation);
    ASSERT_TRUE(load()) << load().error().message;
    // With every key uncommented it must still be valid and change nothing.
    std::string active = documentation;
    for (const char* key : {"state_dir", "cache_dir", "criu_root", "bridge", "subnet", "lazy_above",
                            "hold_seconds"}) {
        const size_t at = active.find(fmt::format("\n#{} = ", key));
        ASSERT_NE(at, std::string::npos) << key;
        active.erase(at + 1, 1);
    }
    // Whatever looks like an assignment is one of these.
    EXPECT_THAT(active, Not(ContainsRegex("\n#[a-z_]+ = ")));
    put("config.toml", active);
    const auto loaded = load();
    ASSERT_TRUE(loaded) << loaded.error().message << "\n" << active;
    const Settings defaults;
    EXPECT_EQ(loaded->state_dir, defaults.state_dir);
    EXPECT_EQ(loaded->cache_dir, Settings::default_cache_dir(defaults.state_dir));
    EXPECT_EQ(loaded->criu_root, defaults.criu_root);
    EXPECT_EQ(loaded->bridge, defaults.bridge);
    EXPECT_EQ(loaded->subnet, defaults.subnet);
    EXPECT_EQ(loaded->lazy_above, defaults.lazy_above);
    EXPECT_EQ(loaded->hold_seconds, defaults.hold_seconds);
}

TEST_F(SettingsFiles, SizesAndNumbersAreRead) {
    put("config.toml", "lazy_above = \"64M\"\nhold_seconds = 5\n");
    const auto loaded = load();
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->lazy_above, "64M");
    EXPECT_EQ(loaded->hold_seconds, "5");
}

}  // namespace
}  // namespace memplate
