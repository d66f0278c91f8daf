// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "gpu/ipc.h"
#include "gpu/time_text.h"
#include "gpu/transfer_frame.h"
#include "util/fd.h"

namespace memplate::gpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Frame : public testing::Test {
  protected:
    Frame() {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        near_ = UniqueFd(ends[0]);
        far_ = UniqueFd(ends[1]);
    }
    void send_words(const std::vector<uint32_t>& words) {
        ASSERT_TRUE(write_all(near_.get(), bytes_of(words)));
    }
    Result<> receive(std::vector<uint32_t>& words) {
        return receive_tensor(far_.get(), writable_bytes_of(words));
    }
    UniqueFd near_;
    UniqueFd far_;
};

TEST_F(Frame, IsStreamBoxs) {
    const std::vector<uint32_t> data = {7, 8, 9};
    ASSERT_TRUE(send_tensor(near_.get(), bytes_of(data)));
    std::array<uint32_t, 6> wire{};
    ASSERT_EQ(::read(far_.get(), wire.data(), sizeof wire), ssize_t{sizeof wire});
    EXPECT_THAT(wire, ElementsAre(12, 1, 3, 7, 8, 9));
}

TEST_F(Frame, AMillionElementsAreASquareAsThere) {
    const std::vector<uint32_t> data(1'000'000, 5);
    std::thread writer([&] { EXPECT_TRUE(send_tensor(near_.get(), bytes_of(data))); });
    std::array<uint32_t, 4> header{};
    ASSERT_EQ(::recv(far_.get(), header.data(), sizeof header, MSG_WAITALL),
              ssize_t{sizeof header});
    EXPECT_THAT(header, ElementsAre(4'000'000, 2, 1000, 1000));
    std::vector<uint32_t> rest(data.size());
    EXPECT_EQ(::recv(far_.get(), rest.data(), rest.size() * sizeof(uint32_t), MSG_WAITALL),
              ssize_t{4'000'000});
    writer.join();
    EXPECT_EQ(rest, data);
}

TEST_F(Frame, SurvivesAnyCut) {
    const std::vector<uint32_t> wire = {8, 1, 2, 0x01020304, 0x05060708};
    const auto bytes = bytes_of(wire);
    std::thread writer([&] {
        for (const std::byte& one : bytes) ASSERT_TRUE(write_all(near_.get(), {&one, 1}));
    });
    std::vector<uint32_t> words(2);
    EXPECT_TRUE(receive(words));
    EXPECT_THAT(words, ElementsAre(0x01020304, 0x05060708));
    writer.join();
}

TEST_F(Frame, RefusesWhatDoesNotFit) {
    std::vector<uint32_t> words(2);
    send_words({12, 1, 3});
    auto done = receive(words);
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().message, HasSubstr("12 B"));
}

TEST_F(Frame, RefusesShapesThatLie) {
    std::vector<uint32_t> words(2);
    send_words({8, 2, 3, 5});
    auto done = receive(words);
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().message, HasSubstr("15 elements do not fill 8 B"));
}

TEST_F(Frame, RefusesTooManyDimensions) {
    std::vector<uint32_t> words(2);
    send_words({8, 0xffffffff});
    EXPECT_FALSE(receive(words));
}

TEST_F(Frame, AWriterThatIsGoneIsNamedByItsCode) {
    std::vector<uint32_t> words(2);
    send_words({8, 1, 2, 7});
    near_.reset();
    auto done = receive(words);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, ECONNRESET);
}

TEST(Sweep, EndsWithTheLargest) {
    EXPECT_THAT(size_sweep(4096, 65536, 4), ElementsAre(4096, 16384, 65536));
    EXPECT_THAT(size_sweep(4096, 70000, 4), ElementsAre(4096, 16384, 65536, 70000));
    EXPECT_THAT(size_sweep(4096, 4096, 2), ElementsAre(4096));
}

TEST(Transports, AreFoundByName) {
    for (const Transport& one : transports) EXPECT_EQ(find_transport(one.name)->kind, one.kind);
    EXPECT_FALSE(find_transport("pigeon"));
}

TEST(TimeText, HasThreeDigitsAndAUnit) {
    EXPECT_EQ(time_text(0), "0 ns");
    EXPECT_EQ(time_text(850.4), "850 ns");
    EXPECT_EQ(time_text(999.6), "1.00 µs");
    EXPECT_EQ(time_text(12345), "12.3 µs");
    EXPECT_EQ(time_text(99960), "100 µs");
    EXPECT_EQ(time_text(17'632'700), "17.6 ms");
    EXPECT_EQ(time_text(1.5e9), "1.50 s");
    EXPECT_EQ(time_text(4.2e12), "4200 s");
}

}  // namespace
}  // namespace memplate::gpu
