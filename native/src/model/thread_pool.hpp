// A few threads that work in step: `run` gives every thread the same task, `barrier` lets them meet inside it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace empu {

class ThreadPool {
  public:
    static constexpr int kMaxThreads = 256;

    // Throws Error for fewer than 1 or more than `kMaxThreads` threads, or if the system cannot start them.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // Number of threads. In a forked process it is 1, since only the calling thread survives a fork.
    int threads() const { return is_forked() ? 1 : int(workers_.size()) + 1; }
    // Call task(thread) on the first `threads` threads, the caller being thread 0, and return when all are done. The
    // task must not throw.
    void run(int threads, const std::function<void(int)>& task);
    // Inside a task: the number of threads that run it.
    int active_threads() const { return active_threads_; }
    // Inside a task: return when all of its threads have called this.
    void barrier();
    // Time that threads of the last task waited because others did not get a processor.
    std::chrono::nanoseconds stall_time() const { return std::chrono::nanoseconds(stall_time_.load()); }

  private:
    void stop();
    bool is_forked() const { return getpid() != process_; }
    void work(int thread);
    uint32_t wait_for_task(uint32_t last_seen);

    const pid_t process_ = getpid();
    int active_threads_ = 1;
    const std::function<void(int)>* task_ = nullptr;
    std::atomic<int64_t> stall_time_{0};  // nanoseconds
    // Number of tasks started, with the current task's number of threads in the lowest bits. A thread that does not
    // take part may sleep through any number of tasks.
    alignas(64) std::atomic<uint32_t> started_{0};
    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

// The part of [0, count) that thread `index` of `threads` processes.
struct Range {
    int begin;
    int end;
};
inline Range thread_range(int count, int index, int threads) {
    return {int(int64_t{count} * index / threads), int(int64_t{count} * (index + 1) / threads)};
}

}  // namespace empu
