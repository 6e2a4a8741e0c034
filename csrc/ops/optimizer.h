// Optimizer steps over all variables at once, and the small operations on gradients (floor 2).
// Everything is checked before anything is written.
#pragma once

#include <vector>

#include "core/tensor.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// One Adam step: w -= w * decay; m += (g - m)(1 - beta_1); v += (g^2 - v)(1 - beta_2); w -= m * alpha / (sqrt(v) +
// epsilon). `v_hat` is empty, or (amsgrad) its running maximum takes the place of v in the last formula. `decays` is
// empty (none) or has one number a variable.
void adam_step(const std::vector<Variable*>& variables, const std::vector<core::Tensor>& gradients,
               const std::vector<Variable*>& m, const std::vector<Variable*>& v, const std::vector<Variable*>& v_hat,
               double alpha, double beta_1, double beta_2, double epsilon, const std::vector<double>& decays);

// One step of gradient descent: w -= w * decay; without `velocities` (empty) w -= g * learning_rate, else
// velocity = momentum * velocity - g * learning_rate and w += velocity (nesterov: momentum * velocity - g *
// learning_rate).
void sgd_step(const std::vector<Variable*>& variables, const std::vector<core::Tensor>& gradients,
              const std::vector<Variable*>& velocities, double learning_rate, double momentum, bool nesterov,
              const std::vector<double>& decays);

// One RMSprop step: w -= w * decay; velocity += (g^2 - velocity)(1 - rho); step = g * learning_rate / sqrt(velocity +
// epsilon); w -= step. With `averages` (centered) average += (g - average)(1 - rho), and velocity - average^2 takes the
// place of velocity; with `momentums` momentum = factor * momentum + step is what is subtracted. Both may be empty.
void rmsprop_step(const std::vector<Variable*>& variables, const std::vector<core::Tensor>& gradients,
                  const std::vector<Variable*>& velocities, const std::vector<Variable*>& momentums,
                  const std::vector<Variable*>& averages, double learning_rate, double rho, double momentum,
                  double epsilon, const std::vector<double>& decays);

// In place, float32: target += other; target *= factor; target = min(max(target, low), high), NaN kept.
void add_(const core::Tensor& target, const core::Tensor& other);
void scale_(const core::Tensor& target, double factor);
void clip_(const core::Tensor& target, double low, double high);
// a * b, element by element.
core::Tensor multiply(const core::Tensor& a, const core::Tensor& b);
// The sum of squares of each, in double precision and one fixed order.
std::vector<double> squared_norms(const std::vector<core::Tensor>& arrays);

// sum += gradient for each. With `steps` > 0 the sums divided by it, and the sums are zero then; else nothing.
std::vector<core::Tensor> accumulate(const std::vector<Variable*>& sums, const std::vector<core::Tensor>& gradients,
                                     std::int64_t steps);
// average = momentum * average + (1 - momentum) * variable for each.
void average(const std::vector<Variable*>& averages, const std::vector<Variable*>& variables, float momentum);

struct Penalty {
    double value;
    core::Tensor gradient;  // undefined where it is not wanted
};
// l1 * sum |x| + l2 * sum x^2 of each, in double precision and one fixed order, and its gradient (that of |0| is 0).
std::vector<Penalty> penalties(const std::vector<core::Tensor>& arrays, const std::vector<double>& l1,
                               const std::vector<double>& l2, bool need_gradients);

}  // namespace lstm_native::ops
