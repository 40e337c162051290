#include "model/roofline.hpp"

#include <chrono>

#include "common.hpp"
#include "model/thread_pool.hpp"

namespace empu {

namespace {

// Independent sums of whole lines, so that only the memory is waited for; each line is asked for `Ahead` words early.
template <size_t Ahead>
uint64_t read_all(const uint64_t* words, size_t count) {
    uint64_t sums[32] = {};
    for (size_t i = 0; i + 32 <= count; i += 32) {
        for (size_t line = 0; line < 32; line += 8) __builtin_prefetch(words + i + line + Ahead);
        for (size_t lane = 0; lane < 32; ++lane) sums[lane] += words[i + lane];
    }
    uint64_t sum = 0;
    for (const uint64_t part : sums) sum += part;
    return sum;
}

}  // namespace

double read_bandwidth(size_t bytes, int threads, int rounds) {
    if (threads < 1 || threads > 256 || bytes < size_t(threads) * 4096) throw Error("Too few bytes, or no threads.");
    Memory memory(bytes);
    std::memset(memory.bytes(), 1, bytes);  // pages that nobody wrote to are all one page
    Pool pool(threads);
    const size_t words = bytes / sizeof(uint64_t) / size_t(threads);
    std::atomic<uint64_t> sink{0};
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        const auto read = round % 2 ? read_all<1024> : read_all<8>;  // which is faster differs between processors
        const auto begun = std::chrono::steady_clock::now();
        pool.run(threads, [&](int thread) { sink += read(memory.as<uint64_t>() + words * size_t(thread), words); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
        const double rate = double(words * sizeof(uint64_t) * size_t(threads)) / seconds.count();
        if (rate > best) best = rate;
    }
    return best;
}

double product_rate(const Ops& ops, int threads, int rounds) {
    if (threads < 1 || threads > 256) throw Error("Too few or too many threads.");
    constexpr int kProducts = 1 << 18;  // rounds of the innermost loop: some milliseconds
    Pool pool(threads);
    std::atomic<int32_t> sink{0};
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        std::atomic<int64_t> done{0};
        const auto begun = std::chrono::steady_clock::now();
        pool.run(threads, [&](int) {
            int32_t sum = 0;
            done += ops.products(kProducts, sum);
            sink += sum;
        });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
        const double rate = double(done) / seconds.count();
        if (rate > best) best = rate;
    }
    return best;
}

}  // namespace empu
