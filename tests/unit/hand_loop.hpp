// The loop as the service sees it, in the test's hands: its pool, its clock and its watches.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "service/outside.hpp"

namespace portwrap::test {

/// A loop whose pool and clock are the test's hands.
class HandLoop : public Outside {
public:
    struct Pooled {
        std::function<void()> work;
        std::function<void()> done;
    };
    Time now() override { return {}; }
    void run_in_pool(std::function<void()> work, std::function<void()> done) override { pool.push_back({std::move(work), std::move(done)}); }
    std::function<void()> call_after(std::chrono::milliseconds delay, std::function<void()> then) override {
        delays.push_back(delay);
        deadlines.push_back(std::move(then));
        return [this, index = deadlines.size() - 1] { deadlines[index] = nullptr; };
    }
    void wake_at(Time) override {}
    void watch_process(const ProcessId&) override {}
    bool watch_sockets(bool) override { return false; }
    void watch_descriptor(int, std::function<void()>) override {}
    bool watch_directory(const std::string& path, std::function<void(std::string_view)> then) override {
        directories[path] = std::move(then);
        return true;
    }
    void stop() override {}

    void end(std::size_t index) {
        pool[index].work();
        pool[index].done();
    }
    std::vector<Pooled> pool;
    std::map<std::string, std::function<void(std::string_view)>> directories;  ///< watched, with who is told
    std::vector<std::function<void()>> deadlines;
    std::vector<std::chrono::milliseconds> delays;
};

}  // namespace portwrap::test
