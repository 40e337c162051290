#include "pool.hpp"

namespace empu {

namespace {

constexpr int kSpins = 4000;   // some tens of microseconds: longer than the threads of one phase drift apart
constexpr int kYields = 200;   // then others may have the core; a busy neighbour would otherwise stop both threads

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

Pool::~Pool() {
    stop_.store(true);
    started_.fetch_add(1);
    started_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)>& task) {
    if (threads_ > 1) {
        task_ = &task;
        started_.fetch_add(1, std::memory_order_release);
        started_.notify_all();
    }
    task(0);
    wait();
}

void Pool::wait() {
    if (threads_ == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(threads_)) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        return;
    }
    for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
        if (spin < kSpins) {
            relax();
        } else {
            std::this_thread::yield();
        }
    }
}

void Pool::await_task(uint32_t seen) {
    for (int spin = 0; spin < kSpins + kYields; ++spin) {
        if (started_.load(std::memory_order_acquire) != seen) return;
        if (spin < kSpins) {
            relax();
        } else {
            std::this_thread::yield();
        }
    }
    started_.wait(seen, std::memory_order_acquire);
}

void Pool::work(int thread) {
    for (uint32_t seen = 0;; ++seen) {
        await_task(seen);
        if (stop_.load()) return;
        (*task_)(thread);
        wait();
    }
}

}  // namespace empu
