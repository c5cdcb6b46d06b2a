#include "service/file_jobs.hpp"

#include <catch2/catch.hpp>

#include <utility>
#include <vector>

#include "hand_loop.hpp"

using namespace portwrap;
using portwrap::test::HandLoop;

TEST_CASE("a job on files is told ended once its work is done, and its deadline is off", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    std::vector<FileJobs::Progress> told;
    bool worked = false;
    jobs.run("/home/me", [&] { worked = true; }, [&](FileJobs::Progress progress) { told.push_back(progress); });
    REQUIRE(loop.pool.size() == 1);
    CHECK(loop.delays.front() == FileJobs::k_deadline);
    CHECK(told.empty());
    loop.end(0);
    CHECK(worked);
    CHECK(told == std::vector{FileJobs::Progress::ended});
    CHECK(loop.deadlines.front() == nullptr);
}

TEST_CASE("a job on files that hangs is told late, and ended when it comes back after all", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    std::vector<FileJobs::Progress> told;
    jobs.run("/home/me", [] {}, [&](FileJobs::Progress progress) { told.push_back(progress); });
    loop.deadlines.front()();
    CHECK(told == std::vector{FileJobs::Progress::late});
    loop.end(0);
    CHECK(told == std::vector{FileJobs::Progress::late, FileJobs::Progress::ended});
}

TEST_CASE("a mount that hangs has a few threads only, and the others go on", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    // The test's own mounts are unknown: /proc is a mount on every Linux machine, and / has a bound of its own.
    for (int i = 0; i < 20; ++i) { jobs.run("/proc/" + std::to_string(i), [] {}, [](FileJobs::Progress) {}); }
    CHECK(loop.pool.size() == FileJobs::k_at_once_on_a_mount);
    int ended = 0;
    for (int i = 0; i < 20; ++i) { jobs.run("/", [] {}, [&](FileJobs::Progress) { ++ended; }); }
    CHECK(loop.pool.size() == FileJobs::k_at_once_on_a_mount + FileJobs::k_at_once_on_root);
    for (std::size_t i = FileJobs::k_at_once_on_a_mount; i < FileJobs::k_at_once_on_a_mount + 20; ++i) { loop.end(i); }
    CHECK(ended == 20);
    // One comes back, the next of its mount begins.
    loop.end(0);
    CHECK(loop.pool.size() == FileJobs::k_at_once_on_a_mount + 21);
}

TEST_CASE("a job that waits in a crowd is late only when no other of its mount comes to an end", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    std::vector<FileJobs::Progress> told;
    for (int i = 0; i < FileJobs::k_at_once_on_a_mount + 1; ++i) { jobs.run("/proc/x", [] {}, [](FileJobs::Progress) {}); }
    jobs.run("/proc/last", [] {}, [&](FileJobs::Progress progress) { told.push_back(progress); });
    const auto passes = [&loop](std::size_t index) { std::exchange(loop.deadlines[index], nullptr)(); };
    const auto of_the_last = loop.deadlines.size() - 1;
    loop.end(0);
    passes(of_the_last);
    CHECK(told.empty());
    const auto again = loop.deadlines.size() - 1;
    SECTION("the mount hangs from now on") {
        passes(again);
        CHECK(told == std::vector{FileJobs::Progress::dropped});
        // It is forgotten: when the mount comes back, its threads are for those who ask then.
        const auto begun = loop.pool.size();
        loop.end(1);
        CHECK(loop.pool.size() == begun);
        jobs.run("/proc/new", [] {}, [](FileJobs::Progress) {});
        CHECK(loop.pool.size() == begun + 1);
    }
    SECTION("its own turn comes, and it has the whole time for its work") {
        loop.end(1);
        REQUIRE(loop.pool.size() == FileJobs::k_at_once_on_a_mount + 2);
        CHECK(told.empty());
        CHECK(loop.deadlines[again] == nullptr);
        passes(loop.deadlines.size() - 1);
        CHECK(told == std::vector{FileJobs::Progress::late});
        loop.end(FileJobs::k_at_once_on_a_mount + 1);
        CHECK(told == std::vector{FileJobs::Progress::late, FileJobs::Progress::ended});
    }
}

TEST_CASE("jobs beyond the bound wait their turn", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    std::vector<int> order;
    for (int i = 0; i < FileJobs::k_at_once_on_root + 3; ++i) { jobs.run("/", [] {}, [&order, i](FileJobs::Progress) { order.push_back(i); }); }
    CHECK(loop.pool.size() == FileJobs::k_at_once_on_root);
    for (std::size_t i = 0; i < loop.pool.size(); ++i) { loop.end(i); }
    CHECK(order.size() == FileJobs::k_at_once_on_root + 3);
}

TEST_CASE("the memory of what waits is bounded: jobs with long paths beyond it are dropped at once, later ones are taken again", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    const std::string path = "/proc/" + std::string(4000, 'x');
    constexpr auto k_fit = FileJobs::k_at_once_on_a_mount + FileJobs::k_waiting_bytes / 4006;
    int dropped = 0, ended = 0;
    const auto run = [&] {
        jobs.run(path, [] {}, [&](FileJobs::Progress progress) {
            dropped += progress == FileJobs::Progress::dropped ? 1 : 0;
            ended += progress == FileJobs::Progress::ended ? 1 : 0;
        });
    };
    for (std::size_t i = 0; i < k_fit; ++i) { run(); }
    CHECK(dropped == 0);
    run();
    CHECK(dropped == 1);
    jobs.run("/", [] {}, [&](FileJobs::Progress) { ++ended; });
    CHECK(loop.pool.size() == FileJobs::k_at_once_on_a_mount + 1);
    for (std::size_t i = 0; i < loop.pool.size(); ++i) { loop.end(i); }
    CHECK(ended == static_cast<int>(k_fit) + 1);
    for (std::size_t i = 0; i < k_fit; ++i) { run(); }
    CHECK(dropped == 1);
}

TEST_CASE("where a job is late fewer are let wait, until it has ended", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    const std::string path = "/proc/" + std::string(4000, 'x');
    constexpr auto k_fit = FileJobs::k_waiting_bytes_where_late / 4006;
    int dropped = 0;
    const auto run = [&] { jobs.run(path, [] {}, [&](FileJobs::Progress progress) { dropped += progress == FileJobs::Progress::dropped ? 1 : 0; }); };
    for (int i = 0; i < FileJobs::k_at_once_on_a_mount; ++i) { run(); }
    loop.deadlines[0]();
    for (std::size_t i = 0; i < k_fit; ++i) { run(); }
    CHECK(dropped == 0);
    run();
    CHECK(dropped == 1);
    loop.end(0);
    run();
    CHECK(dropped == 1);
}

TEST_CASE("a lane has a few threads, and the others go on", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    int done = 0;
    for (int i = 0; i < 10; ++i) { jobs.run(FileJobs::Lane::processes, {}, [] {}, [&] { ++done; }); }
    CHECK(loop.pool.size() == static_cast<std::size_t>(FileJobs::k_at_once_on_a_mount));
    CHECK(loop.deadlines.empty());
    jobs.run(FileJobs::Lane::health, {}, [] {}, [&] { ++done; });
    CHECK(loop.pool.size() == static_cast<std::size_t>(FileJobs::k_at_once_on_a_mount) + 1);
    for (int i = 0; i < 5; ++i) { jobs.run(FileJobs::Lane::history, {}, [] {}, [&] { ++done; }); }
    CHECK(loop.pool.size() == static_cast<std::size_t>(FileJobs::k_at_once_on_a_mount) + 3);
    for (std::size_t i = 0; i < loop.pool.size(); ++i) { loop.end(i); }
    CHECK(loop.pool.size() == 16);
    CHECK(done == 16);
}

TEST_CASE("in a lane an owner has a part of the threads, and those who wait take turns", "[file_jobs]") {
    HandLoop loop;
    FileJobs jobs(loop);
    std::vector<std::string> ended;
    const auto ask = [&](const std::string& owner, int times) {
        for (int i = 0; i < times; ++i) { jobs.run(FileJobs::Lane::health, owner, [] {}, [&ended, owner] { ended.push_back(owner); }); }
    };
    ask("/shop", 5);
    CHECK(loop.pool.size() == 2);
    ask("/blog", 1);
    CHECK(loop.pool.size() == 3);
    ask("/wiki", 3);
    CHECK(loop.pool.size() == 4);
    ask("/late", 1);
    CHECK(loop.pool.size() == 4);
    // The first of the shop's ends: who has waited longest since a start of its own, not the shop again.
    for (std::size_t i = 0; i < loop.pool.size(); ++i) { loop.end(i); }
    CHECK(ended == std::vector<std::string>{"/shop", "/shop", "/blog", "/wiki", "/late", "/shop", "/wiki", "/shop", "/wiki", "/shop"});
}
