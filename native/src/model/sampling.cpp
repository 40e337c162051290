#include "model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace empu {

namespace {

constexpr int kBlock = 256;
constexpr float kNone = -std::numeric_limits<float>::infinity();

float highest(std::span<const float> logits) {
    float lanes[kLanes];
    std::fill_n(lanes, kLanes, kNone);
    size_t i = 0;
    for (; i + kLanes <= logits.size(); i += kLanes) {
        for (size_t l = 0; l < kLanes; ++l) lanes[l] = logits[i + l] > lanes[l] ? logits[i + l] : lanes[l];
    }
    for (; i < logits.size(); ++i) lanes[0] = std::max(lanes[0], logits[i]);
    return *std::max_element(lanes, lanes + kLanes);
}

// The k-th highest, or less than all where there are not more than k.
float kth_highest(std::span<const float> logits, int k) {
    if (size_t(k) >= logits.size()) return kNone;
    std::vector<float> best(logits.begin(), logits.begin() + k);  // a heap, the least in front
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
    float rank, weight;
    int id;
};

bool is_likelier(const Candidate& a, const Candidate& b) {
    return a.rank > b.rank || (a.rank == b.rank && a.id < b.id);
}

double sum_of(std::span<const Candidate> some) {
    double sum = 0;
    for (const Candidate& candidate : some) sum += double(candidate.weight);
    return sum;
}

// Keeps the smallest number of the likeliest whose weights reach `mass`; all where they do not.
void keep_likeliest(std::vector<Candidate>& candidates, double mass) {
    constexpr size_t kFew = 32;
    size_t begin = 0, end = candidates.size();  // the last one that is kept is among these, or it is the one before
    double reached = 0;                         // by those before
    while (end - begin > kFew) {
        const size_t middle = (begin + end) / 2;
        std::nth_element(candidates.begin() + ptrdiff_t(begin), candidates.begin() + ptrdiff_t(middle),
                         candidates.begin() + ptrdiff_t(end), is_likelier);
        const double half = sum_of({candidates.data() + begin, middle - begin});
        if (reached + half >= mass) {
            end = middle;
        } else {
            reached += half;
            begin = middle;
        }
    }
    std::sort(candidates.begin() + ptrdiff_t(begin), candidates.begin() + ptrdiff_t(end), is_likelier);
    while (begin < end && reached < mass) reached += double(candidates[begin++].weight);
    candidates.resize(std::max<size_t>(begin, 1));
}

class Draw {
  public:
    Draw(const Ops& ops, std::span<const float> logits, const Filters& filters)
        : logits_(logits), filters_(filters), weights_(weights_of_thread()) {
        largest_ = highest(logits);
        if (!std::isfinite(largest_)) throw Error("There is no token to draw: the highest logit is not finite.");
        const float factor = 1.44269504f / filters.temperature;
        const size_t n = logits.size(), whole = n / kLanes * kLanes;
        weights_.resize(whole + kLanes);
        for (size_t at = 0; at < whole; at += kBlock) {
            const int count = int(std::min<size_t>(kBlock, whole - at));
            sums_.push_back(ops.powers(logits.data() + at, count, largest_, factor, weights_.data() + at));
        }
        if (whole < n) {
            float last[kLanes];
            std::fill_n(last, kLanes, kNone);
            std::copy(logits.begin() + ptrdiff_t(whole), logits.end(), last);
            const float sum = ops.powers(last, kLanes, largest_, factor, weights_.data() + whole);
            if (whole % kBlock == 0) sums_.push_back(0);
            sums_.back() += sum;
        }
    }

    int token(double uniform) {
        const bool filtered = filters_.top_k > 0 || filters_.top_p < 1 || filters_.min_p > 0;
        return filtered ? among(kept(), uniform) : among_all(uniform);
    }

  private:
    static std::vector<float>& weights_of_thread() {
        static thread_local std::vector<float> weights;  // asking for it anew took as long as the rest
        return weights;
    }

    // Logits that differ by less than a rounding of this are tokens of equal rank.
    float scaled(float logit) const { return (logit - largest_) / filters_.temperature; }

    // Tokens of at least this logit and this weight, ascending; none without a weight.
    std::vector<Candidate> candidates(float logit, float weight) const {
        const float least = scaled(logit);
        std::vector<Candidate> found;
        for (size_t block = 0; block < sums_.size(); ++block) {
            if (sums_[block] < weight) continue;
            for (size_t i = block * kBlock; i < std::min((block + 1) * kBlock, logits_.size()); ++i) {
                if (!(weights_[i] >= weight && weights_[i] > 0)) continue;
                const float rank = scaled(logits_[i]);
                if (rank >= least) found.push_back({rank, weights_[i], int(i)});
            }
        }
        return found;
    }

    std::vector<Candidate> kept() const {
        const float least = filters_.top_k > 0 ? kth_highest(logits_, filters_.top_k) : kNone;
        std::vector<Candidate> found;
        if (filters_.top_p < 1) {
            double total = 0;
            if (filters_.top_k > 0) {
                found = candidates(least, 0);
                total = sum_of(found);
            } else {
                for (const float sum : sums_) total += double(sum);
                for (const float weight : {1e-3f, 1e-4f, 1e-5f, 0.0f}) {  // the likeliest few nearly always do
                    found = candidates(least, weight);
                    if (sum_of(found) >= double(filters_.top_p) * total) break;
                }
            }
            keep_likeliest(found, double(filters_.top_p) * total);
            std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
        } else {
            found = candidates(least, filters_.min_p);
        }
        std::erase_if(found, [&](const Candidate& candidate) { return candidate.weight < filters_.min_p; });
        return found;
    }

    static int among(const std::vector<Candidate>& some, double uniform) {
        const double target = uniform * sum_of(some);
        double reached = 0;
        for (const Candidate& candidate : some) {
            reached += double(candidate.weight);
            if (reached > target) return candidate.id;
        }
        return some.back().id;
    }

    // Sums of blocks first, then the one block that matters.
    int among_all(double uniform) const {
        double total = 0;
        for (const float sum : sums_) total += double(sum);
        const double target = uniform * total;
        double reached = 0, before = 0;
        size_t last = 0;
        for (size_t block = 0; block < sums_.size() && reached <= target; ++block) {
            if (!(sums_[block] > 0)) continue;
            last = block;
            before = reached;
            reached += double(sums_[block]);
        }
        int token = 0;
        for (size_t i = last * kBlock; i < std::min((last + 1) * kBlock, logits_.size()); ++i) {
            if (!(weights_[i] > 0)) continue;
            token = int(i);
            before += double(weights_[i]);
            if (before > target) break;
        }
        return token;
    }

    std::span<const float> logits_;
    float largest_ = 0;
    const Filters& filters_;
    std::vector<float>& weights_;
    std::vector<float> sums_;
};

}  // namespace

int draw(const Ops& ops, std::span<const float> logits, const Filters& filters, double uniform) {
    return Draw(ops, logits, filters).token(uniform);
}

}  // namespace empu
