// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "sandbox/client.h"
#include "sandbox/message.h"

namespace memplate::sandbox {
namespace {

class Wire : public testing::Test {
  protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
        ours_ = UniqueFd(ends[0]);
        theirs_ = UniqueFd(ends[1]);
    }
    UniqueFd ours_;
    UniqueFd theirs_;
};

TEST_F(Wire, CarriesTextAndDescriptors) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    const std::string long_text(100'000, 'x');
    ASSERT_EQ(send_message(ours_.get(), long_text, {writer.get(), reader.get()}), 0);
    ASSERT_EQ(send_message(ours_.get(), "second", {}), 0);

    std::string body;
    std::vector<int> received;
    ASSERT_EQ(receive_message(theirs_.get(), body, received), 0);
    EXPECT_EQ(body, long_text);
    ASSERT_EQ(received.size(), 2U);
    const UniqueFd copy(received[0]);
    const UniqueFd other(received[1]);
    EXPECT_EQ(::fcntl(copy.get(), F_GETFD), FD_CLOEXEC);
    ASSERT_EQ(::write(copy.get(), "!", 1), 1);
    char byte = 0;
    EXPECT_EQ(::read(reader.get(), &byte, 1), 1);
    EXPECT_EQ(byte, '!');

    ASSERT_EQ(receive_message(theirs_.get(), body, received), 0);
    EXPECT_EQ(body, "second");
    EXPECT_TRUE(received.empty());
}

TEST_F(Wire, TellsThatThePeerIsGone) {
    theirs_.reset();
    std::string body;
    std::vector<int> received;
    EXPECT_EQ(receive_message(ours_.get(), body, received), EPIPE);
    EXPECT_EQ(send_message(ours_.get(), "x", {}), EPIPE);
}

TEST_F(Wire, RefusesMoreDescriptorsThanTheKernelTakes) {
    EXPECT_EQ(send_message(ours_.get(), "x", std::vector<int>(254, 0)), E2BIG);
}

TEST_F(Wire, ClientKeepsEventsThatComeBeforeAReply) {
    Client client(std::move(ours_));
    ASSERT_EQ(send_message(theirs_.get(), R"({"event":"exit","pid":7,"status":256})", {}), 0);
    ASSERT_EQ(send_message(theirs_.get(), R"({"ok":true,"pid":9})", {}), 0);
    const auto reply = client.call({{"operation", "spawn"}});
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(reply->body.value("pid", 0), 9);
    const auto exit = client.wait_exit(0);
    ASSERT_TRUE(exit && *exit);
    EXPECT_EQ((*exit)->pid, 7);
    EXPECT_EQ((*exit)->status, 256);
    EXPECT_FALSE(client.wait_exit(10).value());
}

TEST_F(Wire, ClientTurnsRefusalsAndNonsenseIntoErrors) {
    Client client(std::move(ours_));
    ASSERT_EQ(send_message(theirs_.get(), R"({"ok":false,"error":"no such","code":2})", {}), 0);
    const auto refused = client.call({{"operation", "x"}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "no such");
    EXPECT_EQ(refused.error().code, ENOENT);
    ASSERT_EQ(send_message(theirs_.get(), "{", {}), 0);
    EXPECT_FALSE(client.call({{"operation", "x"}}));
    EXPECT_FALSE(client.call({{"name", "\xff"}})) << "not UTF-8";
    theirs_.reset();
    const auto gone = client.call({{"operation", "x"}});
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, EPIPE);
}

}  // namespace
}  // namespace memplate::sandbox
