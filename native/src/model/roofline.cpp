#include "model/roofline.hpp"

#include <atomic>
#include <chrono>
#include <cstring>

#include "error.hpp"
#include "model/memory.hpp"
#include "model/thread_pool.hpp"

namespace empu {

namespace {

// Independent sums of whole cache lines, limited by memory only. Each line is prefetched `PrefetchWords` words early.
template <size_t PrefetchWords>
uint64_t read_all(const uint64_t* words, size_t count) {
    uint64_t sums[32] = {};
    for (size_t i = 0; i + 32 <= count; i += 32) {
        for (size_t line = 0; line < 32; line += 8) __builtin_prefetch(words + i + line + PrefetchWords);
        for (size_t lane = 0; lane < 32; ++lane) sums[lane] += words[i + lane];
    }
    uint64_t sum = 0;
    for (const uint64_t part : sums) sum += part;
    return sum;
}

}  // namespace

double memory_bandwidth(size_t bytes, int threads, int rounds) {
    if (threads < 1 || threads > 256 || bytes < size_t(threads) * 4096)
        throw Error("The measurement needs 1 to 256 threads and at least 4,096 bytes for each.");
    Memory memory(bytes);
    std::memset(memory.bytes(), 1, bytes);  // pages never written to are all the same zero page
    ThreadPool pool(threads);
    const size_t words = bytes / sizeof(uint64_t) / size_t(threads);
    std::atomic<uint64_t> sink{0};
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        const auto read = round % 2 ? read_all<1024> : read_all<8>;  // which is faster differs between processors
        const auto start = std::chrono::steady_clock::now();
        pool.run(threads, [&](int thread) { sink += read(memory.as<uint64_t>() + words * size_t(thread), words); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        const double rate = double(words * sizeof(uint64_t) * size_t(threads)) / seconds.count();
        if (rate > best) best = rate;
    }
    return best;
}

double int8_throughput(const Ops& ops, int threads, int rounds) {
    if (threads < 1 || threads > 256) throw Error("The measurement needs 1 to 256 threads.");
    constexpr int kLoops = 1 << 18;  // of the innermost loop: some milliseconds
    ThreadPool pool(threads);
    std::atomic<int32_t> sink{0};
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        std::atomic<int64_t> products_done{0};
        const auto start = std::chrono::steady_clock::now();
        pool.run(threads, [&](int) {
            int32_t sum = 0;
            products_done += ops.int8_products(kLoops, sum);
            sink += sum;
        });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        const double rate = double(products_done) / seconds.count();
        if (rate > best) best = rate;
    }
    return best;
}

}  // namespace empu
