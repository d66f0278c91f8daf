// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <sys/socket.h>

#include "sandbox_fixture.h"

namespace memplate::sandbox {
namespace {

using testing::HasSubstr;

class Network : public NativeSandbox {
  protected:
    void SetUp() override {
        NativeSandbox::SetUp();
        if (!IsSkipped() && !path_exists("/usr/bin/python3"))
            GTEST_SKIP() << "needs /usr/bin/python3 as the server";
    }
    /// Spec with network.
    [[nodiscard]] Spec networked(const std::string& name) const {
        Spec spec = make_spec(name);
        spec.network = true;
        return spec;
    }
    static void serve(Sandbox& sandbox, const std::string& answer) {
        ASSERT_TRUE(sandbox.write_file("/srv/www/index.html", answer));
        SpawnRequest request;
        request.argv = {"/usr/bin/python3", "-m", "http.server", "8000", "--directory", "/srv/www"};
        const auto pid = sandbox.spawn(request);
        ASSERT_TRUE(pid) << pid.error().message;
    }
    /// What an HTTP server answers, headers included; empty if there is none.
    static std::string get(const std::string& address, int port) {
        const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_port = htons(static_cast<uint16_t>(port));
        ::inet_pton(AF_INET, address.c_str(), &where.sin_addr);
        if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) != 0)
            return "";
        const std::string request = "GET / HTTP/1.0\r\n\r\n";
        if (!write_all(socket.get(), bytes_of(request))) return "";
        std::string answer;
        std::array<char, 4096> buffer;
        ssize_t n = 0;
        while ((n = ::read(socket.get(), buffer.data(), buffer.size())) > 0)
            answer.append(buffer.data(), static_cast<size_t>(n));
        return answer;
    }
};

TEST_F(Network, TwoSandboxesServeOnTheSamePort) {
    const Place first_place = make_place("a");
    const Place second_place = make_place("b");
    Sandbox first = make_sandbox(networked("a"), first_place);
    Sandbox second = make_sandbox(networked("b"), second_place);
    EXPECT_NE(first.address(), second.address());
    EXPECT_EQ(read_file(first_place.directory + "/address").value(), first.address() + "\n");
    serve(first, "answer of the first");
    serve(second, "answer of the second");
    ASSERT_TRUE(eventually([&] { return !get(first.address(), 8000).empty(); }));
    ASSERT_TRUE(eventually([&] { return !get(second.address(), 8000).empty(); }));
    EXPECT_THAT(get(first.address(), 8000), HasSubstr("answer of the first"));
    EXPECT_THAT(get(second.address(), 8000), HasSubstr("answer of the second"));
    // One reaches the other, and itself by name.
    const std::string fetch =
        "python3 -c 'import sys, urllib.request as r; "
        "print(r.urlopen(\"http://\" + sys.argv[1] + \":8000\").read().decode())' ";
    EXPECT_EQ(run(first, fetch + second.address()), "answer of the second\n");
    EXPECT_EQ(run(first, fetch + first.id()), "answer of the first\n");
}

TEST_F(Network, AnAddressIsNotGivenOutAgainAtOnce) {
    std::string previous;
    for (int i = 0; i < 3; ++i) {
        const Place place = make_place("a");
        const Sandbox sandbox = make_sandbox(networked("a"), place);
        EXPECT_NE(sandbox.address(), previous);
        previous = sandbox.address();
    }
}

TEST_F(Network, ExhaustionIsAnErrorAndLeavesNothing) {
    context_.settings.subnet.replace(context_.settings.subnet.find("/24"), 3, "/30");
    const Place first_place = make_place("a");
    const Place second_place = make_place("b");
    const Sandbox first = make_sandbox(networked("a"), first_place);
    const auto second =
        Sandbox::create(context_, networked("b"), second_place.directory, second_place.lock);
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message, HasSubstr("in use"));
    EXPECT_TRUE(cgroups_of(unique_id("b")).empty());
}

TEST_F(Network, ABridgeInUseStays) {
    const Place place = make_place("a");
    const Sandbox sandbox = make_sandbox(networked("a"), place);
    ASSERT_TRUE(remove_unused_bridge(context_));
    EXPECT_TRUE(path_exists("/sys/class/net/" + context_.settings.bridge));
}

TEST_F(Network, ALinkThatIsNoBridgeIsRefused) {
    Context context = context_;
    context.settings.bridge = "lo";
    const Place place = make_place("a");
    const auto made = Sandbox::create(context, networked("a"), place.directory, place.lock);
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error().message, HasSubstr("no bridge"));
}

TEST_F(Network, ManyAtOnceGetDifferentAddresses) {
    constexpr int count = 6;
    std::vector<std::string> addresses(count);
    {
        std::vector<Place> places;
        for (int i = 0; i < count; ++i) places.push_back(make_place(std::to_string(i)));
        std::vector<std::unique_ptr<Sandbox>> sandboxes(count);
        std::vector<std::jthread> threads;
        for (int i = 0; i < count; ++i) {
            threads.emplace_back([&, i] {
                auto made = Sandbox::create(context_, networked(std::to_string(i)),
                                            places[i].directory, places[i].lock);
                if (!made) return;
                addresses[i] = made->address();
                sandboxes[i] = std::make_unique<Sandbox>(std::move(*made));
            });
        }
        threads.clear();
    }
    std::ranges::sort(addresses);
    EXPECT_FALSE(addresses.front().empty());
    EXPECT_EQ(std::ranges::adjacent_find(addresses), addresses.end());
}

}  // namespace
}  // namespace memplate::sandbox
