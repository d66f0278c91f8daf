// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sandbox/address.h"
#include "util/fs.h"
#include "util/lock.h"

namespace memplate::sandbox {
namespace {

using testing::HasSubstr;

uint32_t number(const std::string& text) {
    return parse_address(text).value();
}

TEST(Subnet, NamesItsAddresses) {
    const auto subnet = Subnet::parse("10.213.0.0/16");
    ASSERT_TRUE(subnet);
    EXPECT_EQ(address_text(subnet->bridge()), "10.213.0.1");
    EXPECT_EQ(address_text(subnet->first()), "10.213.0.2");
    EXPECT_EQ(address_text(subnet->last()), "10.213.255.254");
}

TEST(Subnet, RefusesWhatIsNone) {
    for (const char* text :
         {"", "10.213.0.0", "10.213.0.0/", "10.213.0.0/7", "10.213.0.0/31", "10.213.0.1/16",
          "10.213.0/16", "10.213.0.0/16/1", "a/16", "10.213.0.0/-1", "::/16"}) {
        const auto subnet = Subnet::parse(text);
        ASSERT_FALSE(subnet) << text;
        EXPECT_EQ(subnet.error().kind, ErrorKind::usage) << text;
    }
}

TEST(ChooseAddress, ExcludesNetworkBridgeAndBroadcast) {
    const Subnet subnet = Subnet::parse("10.0.0.0/29").value();
    std::set<uint32_t> used;
    uint32_t previous = 0;
    std::vector<std::string> order;
    while (const auto address = choose_address(subnet, used, previous)) {
        order.push_back(address_text(*address));
        used.insert(*address);
        previous = *address;
    }
    EXPECT_THAT(order,
                testing::ElementsAre("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"));
    const auto full = choose_address(subnet, used, previous);
    ASSERT_FALSE(full);
    EXPECT_THAT(full.error().message, HasSubstr("all 5 addresses of 10.0.0.0/29 are in use"));
}

TEST(ChooseAddress, GoesOnAfterThePreviousOneAndWraps) {
    const Subnet subnet = Subnet::parse("10.0.0.0/29").value();
    EXPECT_EQ(choose_address(subnet, {}, number("10.0.0.3")).value(), number("10.0.0.4"));
    EXPECT_EQ(choose_address(subnet, {}, number("10.0.0.6")).value(), number("10.0.0.2"));
    EXPECT_EQ(choose_address(subnet, {number("10.0.0.4")}, number("10.0.0.3")).value(),
              number("10.0.0.5"));
    // One of another subnet, after a change of the configuration.
    EXPECT_EQ(choose_address(subnet, {}, number("192.168.7.7")).value(), number("10.0.0.2"));
}

TEST(Names, FollowFromTheAddress) {
    EXPECT_EQ(hardware_address(number("10.213.0.2")), "02:00:0a:d5:00:02");
    EXPECT_EQ(link_name(number("10.213.0.2")), "mp0ad50002");
    EXPECT_LE(link_name(0xffffffff).size(), 15U);
}

class AddressesInUse : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-address");
        ASSERT_TRUE(created);
        folder_ = std::move(*created);
    }
    /// A sandbox directory; its lock is held while the result lives, if `held`.
    UniqueFd add(const std::string& name, const std::string& address, bool held) {
        const std::string path = folder_.path() + "/" + name;
        EXPECT_TRUE(make_directories(path));
        EXPECT_TRUE(write_file_atomic(AT_FDCWD, path + "/address", address));
        UniqueFd lock = open_at(AT_FDCWD, path + "/lock", O_RDWR | O_CREAT, 0600).value();
        if (held) {
            EXPECT_TRUE(try_lock_range(lock.get(), LockMode::exclusive, 0, 1).value());
        }
        return lock;
    }
    TemporaryDirectory folder_;
};

TEST_F(AddressesInUse, AreThoseWhoseLockIsHeld) {
    const auto own = add("own", "10.0.0.2\n", true);
    const auto live = add("live", "10.0.0.3\n", true);
    const auto dead = add("dead", "10.0.0.4\n", false);
    const auto damaged = add("damaged", "ten", true);
    ASSERT_TRUE(make_directories(folder_.path() + "/empty"));
    EXPECT_THAT(addresses_in_use(folder_.path() + "/own").value(),
                testing::ElementsAre(number("10.0.0.3")));
}

}  // namespace
}  // namespace memplate::sandbox
