#include "model/thread_pool.hpp"

#include <string>
#include <system_error>

#include "error.hpp"

namespace empu {

namespace {

constexpr int kSpins = 1500;  // some tens of microseconds, longer than the threads of one phase differ
constexpr int kYields = 500;  // then others may use the core; otherwise one busy neighbour would stall all threads
constexpr uint32_t kTaskIncrement = 512;  // the bits below hold the number of threads
static_assert(kTaskIncrement > uint32_t(ThreadPool::kMaxThreads));

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
    if (threads < 1 || threads > kMaxThreads) {
        throw Error("The number of threads must be from 1 to " + std::to_string(kMaxThreads) + ".");
    }
    workers_.reserve(size_t(threads));
    try {
        for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error&) {
        stop();
        throw Error("The system cannot start more than " + std::to_string(workers_.size() + 1) +
                    " threads here; use fewer with --threads.");
    }
}

ThreadPool::~ThreadPool() {
    if (is_forked()) {
        for (std::thread& worker : workers_) worker.detach();
        return;
    }
    stop();
}

void ThreadPool::stop() {
    stop_.store(true);
    started_.fetch_add(kTaskIncrement);
    started_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int threads, const std::function<void(int)>& task) {
    active_threads_ = threads;
    stall_time_.store(0, std::memory_order_relaxed);
    if (threads > 1) {
        task_ = &task;
        const uint32_t count = started_.load(std::memory_order_relaxed) / kTaskIncrement;
        started_.store((count + 1) * kTaskIncrement + uint32_t(threads), std::memory_order_release);
        started_.notify_all();
    }
    task(0);
    barrier();
}

void ThreadPool::barrier() {
    const int threads = active_threads_;
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
    const auto start = std::chrono::steady_clock::now();
    while (phase_.load(std::memory_order_acquire) == phase) std::this_thread::yield();
    stall_time_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
}

uint32_t ThreadPool::wait_for_task(uint32_t last_seen) {
    for (int spin = 0; spin < kSpins + kYields; ++spin) {
        const uint32_t started = started_.load(std::memory_order_acquire);
        if (started != last_seen) return started;
        if (spin < kSpins) {
            relax();
        } else {
            std::this_thread::yield();
        }
    }
    started_.wait(last_seen, std::memory_order_acquire);
    return started_.load(std::memory_order_acquire);
}

void ThreadPool::work(int thread) {
    for (uint32_t last_seen = 0;;) {
        last_seen = wait_for_task(last_seen);
        if (stop_.load()) return;
        if (thread < int(last_seen % kTaskIncrement)) {
            (*task_)(thread);
            barrier();
        }
    }
}

}  // namespace empu
