#include "model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "error.hpp"

namespace empu {

namespace {

constexpr int kBlockSize = 256;
constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

float max_logit(std::span<const float> logits) {
    float lanes[kLanes];
    std::fill_n(lanes, kLanes, kNegativeInfinity);
    size_t i = 0;
    for (; i + kLanes <= logits.size(); i += kLanes) {
        for (size_t l = 0; l < kLanes; ++l) lanes[l] = logits[i + l] > lanes[l] ? logits[i + l] : lanes[l];
    }
    for (; i < logits.size(); ++i) lanes[0] = std::max(lanes[0], logits[i]);
    return *std::max_element(lanes, lanes + kLanes);
}

// Return the k-th largest logit, or minus infinity if there are at most k.
float kth_largest_logit(std::span<const float> logits, int k) {
    if (size_t(k) >= logits.size()) return kNegativeInfinity;
    std::vector<float> best(logits.begin(), logits.begin() + k);  // a heap with the smallest in front
    std::make_heap(best.begin(), best.end(), std::greater());
    for (const float x : logits.subspan(size_t(k))) {
        if (!(x > best.front())) continue;
        std::pop_heap(best.begin(), best.end(), std::greater());
        best.back() = x;
        std::push_heap(best.begin(), best.end(), std::greater());
    }
    return best.front();
}

struct Candidate {
    float scaled_logit, weight;
    int id;
};

bool is_more_likely(const Candidate& a, const Candidate& b) {
    return a.scaled_logit > b.scaled_logit || (a.scaled_logit == b.scaled_logit && a.id < b.id);
}

double sum_of(std::span<const Candidate> candidates) {
    double sum = 0;
    for (const Candidate& candidate : candidates) sum += double(candidate.weight);
    return sum;
}

// Keep the fewest most likely candidates whose weights reach `target`; all if they do not reach it.
void keep_top_p(std::vector<Candidate>& candidates, double target) {
    constexpr size_t kMaxSorted = 32;
    size_t begin = 0, end = candidates.size();  // the last candidate to keep is in this range, or just before it
    double cumulative = 0;                      // weight of the candidates before `begin`
    while (end - begin > kMaxSorted) {
        const size_t middle = (begin + end) / 2;
        std::nth_element(candidates.begin() + ptrdiff_t(begin), candidates.begin() + ptrdiff_t(middle),
                         candidates.begin() + ptrdiff_t(end), is_more_likely);
        const double half = sum_of({candidates.data() + begin, middle - begin});
        if (cumulative + half >= target) {
            end = middle;
        } else {
            cumulative += half;
            begin = middle;
        }
    }
    std::sort(candidates.begin() + ptrdiff_t(begin), candidates.begin() + ptrdiff_t(end), is_more_likely);
    while (begin < end && cumulative < target) cumulative += double(candidates[begin++].weight);
    candidates.resize(std::max<size_t>(begin, 1));
}

class Sampler {
  public:
    Sampler(const Ops& ops, std::span<const float> logits, const SamplingParams& params)
        : logits_(logits), params_(params), weights_(thread_buffer()) {
        max_logit_ = max_logit(logits);
        if (!std::isfinite(max_logit_)) throw Error("No token can be sampled: the largest logit is not finite.");
        const float factor = 1.44269504f / params.temperature;
        const size_t n = logits.size(), whole = n / kLanes * kLanes;
        weights_.resize(whole + kLanes);
        for (size_t begin = 0; begin < whole; begin += kBlockSize) {
            const int count = int(std::min<size_t>(kBlockSize, whole - begin));
            sums_.push_back(
                ops.softmax_numerators(logits.data() + begin, count, max_logit_, factor, weights_.data() + begin));
        }
        if (whole < n) {
            float rest[kLanes];
            std::fill_n(rest, kLanes, kNegativeInfinity);
            std::copy(logits.begin() + ptrdiff_t(whole), logits.end(), rest);
            const float sum = ops.softmax_numerators(rest, kLanes, max_logit_, factor, weights_.data() + whole);
            if (whole % kBlockSize == 0) sums_.push_back(0);
            sums_.back() += sum;
        }
    }

    int sample(double uniform) {
        const bool has_filter = params_.top_k > 0 || params_.top_p < 1 || params_.min_p > 0;
        return has_filter ? sample_from(filtered_candidates(), uniform) : sample_from_all(uniform);
    }

  private:
    static std::vector<float>& thread_buffer() {
        static thread_local std::vector<float> weights;  // allocating it each time took as long as the rest
        return weights;
    }

    // Logits that round to the same scaled value tie.
    float scaled(float logit) const { return (logit - max_logit_) / params_.temperature; }

    // Return the tokens of at least this logit and weight, in order of ids, without those of weight zero.
    std::vector<Candidate> candidates_above(float logit, float weight) const {
        const float min_scaled = scaled(logit);
        std::vector<Candidate> candidates;
        for (size_t block = 0; block < sums_.size(); ++block) {
            if (sums_[block] < weight) continue;
            for (size_t i = block * kBlockSize; i < std::min((block + 1) * kBlockSize, logits_.size()); ++i) {
                if (!(weights_[i] >= weight && weights_[i] > 0)) continue;
                const float scaled_logit = scaled(logits_[i]);
                if (scaled_logit >= min_scaled) candidates.push_back({scaled_logit, weights_[i], int(i)});
            }
        }
        return candidates;
    }

    // Return the tokens that pass top-k, top-p and min-p, in order of ids.
    std::vector<Candidate> filtered_candidates() const {
        const float min_logit = params_.top_k > 0 ? kth_largest_logit(logits_, params_.top_k) : kNegativeInfinity;
        std::vector<Candidate> candidates;
        if (params_.top_p < 1) {
            double total = 0;
            if (params_.top_k > 0) {
                candidates = candidates_above(min_logit, 0);
                total = sum_of(candidates);
            } else {
                for (const float sum : sums_) total += double(sum);
                for (const float weight : {1e-3f, 1e-4f, 1e-5f, 0.0f}) {  // a few tokens nearly always reach top_p
                    candidates = candidates_above(min_logit, weight);
                    if (sum_of(candidates) >= double(params_.top_p) * total) break;
                }
            }
            keep_top_p(candidates, double(params_.top_p) * total);
            std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
        } else {
            candidates = candidates_above(min_logit, params_.min_p);
        }
        std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.weight < params_.min_p; });
        return candidates;
    }

    static int sample_from(const std::vector<Candidate>& candidates, double uniform) {
        const double target = uniform * sum_of(candidates);
        double cumulative = 0;
        for (const Candidate& candidate : candidates) {
            cumulative += double(candidate.weight);
            if (cumulative > target) return candidate.id;
        }
        return candidates.back().id;
    }

    // Find the block by the sums of blocks, then the token in it.
    int sample_from_all(double uniform) const {
        double total = 0;
        for (const float sum : sums_) total += double(sum);
        const double target = uniform * total;
        double cumulative = 0, cumulative_before = 0;
        size_t chosen = 0;
        for (size_t block = 0; block < sums_.size() && cumulative <= target; ++block) {
            if (!(sums_[block] > 0)) continue;
            chosen = block;
            cumulative_before = cumulative;
            cumulative += double(sums_[block]);
        }
        int token = 0;
        for (size_t i = chosen * kBlockSize; i < std::min((chosen + 1) * kBlockSize, logits_.size()); ++i) {
            if (!(weights_[i] > 0)) continue;
            token = int(i);
            cumulative_before += double(weights_[i]);
            if (cumulative_before > target) break;
        }
        return token;
    }

    std::span<const float> logits_;
    float max_logit_ = 0;
    const SamplingParams& params_;
    std::vector<float>& weights_;  // softmax numerators of all tokens
    std::vector<float> sums_;      // of the weights, by block
};

}  // namespace

int sample(const Ops& ops, std::span<const float> logits, const SamplingParams& params, double uniform) {
    return Sampler(ops, logits, params).sample(uniform);
}

}  // namespace empu
