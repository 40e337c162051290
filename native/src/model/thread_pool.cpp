#include "model/thread_pool.hpp"

#include <system_error>

#include "common.hpp"

namespace empu {

namespace {

constexpr int kSpins = 1500;     // some tens of microseconds: longer than the threads of one phase drift apart
constexpr int kYields = 500;     // then others may have the core; a busy neighbour would otherwise stop all threads
constexpr uint32_t kTask = 512;
static_assert(kTask > uint32_t(Pool::kMost));

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int threads) {
    if (threads < 1 || threads > kMost) {
        throw Error("The number of threads must be from 1 to " + std::to_string(kMost) + ".");
    }
    workers_.reserve(size_t(threads));
    try {
        for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error&) {
        end();
        throw Error("The system starts no more than " + std::to_string(workers_.size() + 1) +
                    " threads here; use fewer with --threads.");
    }
}

Pool::~Pool() {
    if (forked()) {
        for (std::thread& worker : workers_) worker.detach();
        return;
    }
    end();
}

void Pool::end() {
    stop_.store(true);
    started_.fetch_add(kTask);
    started_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::run(int threads, const std::function<void(int)>& task) {
    running_ = threads;
    stalled_.store(0, std::memory_order_relaxed);
    if (threads > 1) {
        task_ = &task;
        const uint32_t count = started_.load(std::memory_order_relaxed) / kTask;
        started_.store((count + 1) * kTask + uint32_t(threads), std::memory_order_release);
        started_.notify_all();
    }
    task(0);
    wait();
}

void Pool::wait() {
    const int threads = running_;
    if (threads == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(threads)) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        return;
    }
    for (int spin = 0; spin < kSpins; ++spin) {
        if (phase_.load(std::memory_order_acquire) != phase) return;
        relax();
    }
    const auto begun = std::chrono::steady_clock::now();
    while (phase_.load(std::memory_order_acquire) == phase) std::this_thread::yield();
    stalled_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun).count();
}

uint32_t Pool::await_task(uint32_t seen) {
    for (int spin = 0; spin < kSpins + kYields; ++spin) {
        const uint32_t started = started_.load(std::memory_order_acquire);
        if (started != seen) return started;
        if (spin < kSpins) {
            relax();
        } else {
            std::this_thread::yield();
        }
    }
    started_.wait(seen, std::memory_order_acquire);
    return started_.load(std::memory_order_acquire);
}

void Pool::work(int thread) {
    for (uint32_t seen = 0;;) {
        seen = await_task(seen);
        if (stop_.load()) return;
        if (thread < int(seen % kTask)) {
            (*task_)(thread);
            wait();
        }
    }
}

}  // namespace empu
