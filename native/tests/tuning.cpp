#include <cmath>

#include "random.hpp"
#include "tune/lora_transformer.hpp"

namespace empu {

namespace {

struct Angles {
    std::vector<float> cosines, sines;
};

Angles angles_of(int tokens, int head_dim) {
    Angles made;
    for (int token = 0; token < tokens; ++token) {
        for (int i = 0; i < head_dim / 2; ++i) {
            const float angle = float(token) / float(1 + i);
            made.cosines.insert(made.cosines.end(), 2, std::cos(angle));
            made.sines.insert(made.sines.end(), {-std::sin(angle), std::sin(angle)});
        }
    }
    return made;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += double(a[i]) * double(b[i]);
    return sum;
}

}  // namespace

void try_tuning(Random& random) {
    TuneShape shape{};
    shape.layers = between(random, 1, 2);
    shape.kv_heads = between(random, 1, 2);
    shape.heads = shape.kv_heads * between(random, 1, 2);
    shape.head_dim = 32 * between(random, 1, 2);
    shape.dim = 32 * between(random, 1, 3);
    shape.ffn_dim = 32 * between(random, 1, 4);
    shape.rank = between(random, 1, 20);
    shape.norm_eps = 1e-5f;
    shape.scale = 1.5f;
    for (bool& adapted : shape.adapted) adapted = chance(random, 2);
    shape.adapted[size_t(between(random, 0, kParts - 1))] = true;
    shape.kind = chance(random, 2) ? Kind::Q8 : Kind::Float32;
    const Ops* tables[8];
    const int known = available_ops(tables, 8);
    Tuner tuner(shape, between(random, 1, 3), tables[between(random, 0, known - 1)]->name);
    for (int layer = 0; layer < shape.layers; ++layer) {
        for (int part = 0; part < kParts; ++part) {
            const size_t count = size_t(shape.inputs(part)) * size_t(shape.outputs(part));
            tuner.set_weight(layer, part, random_floats(random, count, 0.1f).data(), count);
        }
        const std::vector<float> ones(size_t(shape.dim), 1.0f);
        tuner.set_norms(layer, ones.data(), ones.data(), ones.size());
    }
    std::vector<float> parameters = random_floats(random, tuner.parameters(), 0.1f);
    for (int time = 0; time < 3; ++time) {
        TuneBatch batch;
        batch.prefix = between(random, 0, 40);
        for (int i = between(random, 1, 4); i > 0; --i) batch.lengths.push_back(between(random, 1, 120));
        int tokens = batch.prefix;
        for (const int length : batch.lengths) tokens += length;
        const Angles angles = angles_of(tokens, shape.head_dim);
        batch.cosines = angles.cosines.data();
        batch.sines = angles.sines.data();
        const size_t numbers = size_t(tokens) * size_t(shape.dim);
        const std::vector<float> x = random_floats(random, numbers, 1), g = random_floats(random, numbers, 1);
        const auto forward = [&](const std::vector<float>& given, bool keep) {
            std::vector<float> out(numbers);
            tuner.forward(x.data(), batch, given.data(), keep, out.data());
            return out;
        };
        const std::vector<float> out = forward(parameters, true);
        std::vector<float> gradients(parameters.size()), again(parameters.size());
        tuner.back(g.data(), gradients.data());
        expect_same(forward(parameters, true).data(), out.data(), numbers, "a second pass gave another result");
        tuner.back(g.data(), again.data());
        expect_same(gradients.data(), again.data(), gradients.size(), "a second pass gave other gradients");
        if (shape.kind != Kind::Float32) continue;
        // Along the gradient the result grows as the gradient says.
        const double length = std::sqrt(dot(gradients, gradients));
        const double step = 1e-2;
        std::vector<float> ahead = parameters, behind = parameters;
        for (size_t i = 0; i < parameters.size(); ++i) {
            ahead[i] += float(step * gradients[i] / length);
            behind[i] -= float(step * gradients[i] / length);
        }
        const double grown = (dot(forward(ahead, false), g) - dot(forward(behind, false), g)) / (2 * step);
        expect(std::abs(grown - length) <= 0.02 * length + 0.01,
               "the gradient says " + std::to_string(length) + " and the result grows by " + std::to_string(grown));
    }
}

}  // namespace empu
