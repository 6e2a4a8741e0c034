// Some steps of a call as plain data (floor 1, CUDA): what one launch runs, or stepwise.h one by one.
#pragma once

#include <cstdint>

#include "cuda/cells.h"

namespace lstm_native::cuda {

// Some steps of a call, one after the other: the arguments of the first, and how far those of the next lie away.
struct StepsForward {
    StepForward first;
    std::int64_t B, steps;
    std::int64_t x_step, gate_step, h_step, c_step, output_step, index_step;
    const float* recurrent_kernel;  // (H, 4 H), of an LSTM in blocks of its own
    // The last step of these: whether the call goes on after it, and what only the last step of the call writes.
    bool goes_on;
    float *last_h, *last_c, *last_output;

    LSTM_NATIVE_HOST_DEVICE StepForward at(std::int64_t step) const {
        StepForward s = first;
        const bool last = step + 1 == steps;
        s.x += step * x_step;
        if (s.index != nullptr) s.index += step * index_step;
        if (s.control != nullptr) s.control += step;
        s.next = s.control == nullptr || (last && !goes_on) ? nullptr : s.control + 1;
        s.gates += step * gate_step;
        s.h_in += step * h_step;
        s.h_out += step * h_step;
        if (s.c_in != nullptr) {
            s.c_in += step * c_step;
            s.c_out += step * c_step;
        }
        s.masked += step * h_step;
        if (s.masked_out != nullptr) s.masked_out += step * h_step;
        if (s.output != nullptr) s.output += step * output_step;
        if (last && last_output != nullptr) s.output = last_output;
        s.last_h = last ? last_h : nullptr;
        s.last_c = last ? last_c : nullptr;
        return s;
    }
};

// The way back: the arguments of the call's first step, and how far those of the next lie away.
struct StepsBackward {
    StepBackward first;
    std::int64_t B, steps;
    std::int64_t gate_step, h_step, c_step, output_step;
    const float* d_last_output;     // where only the last step has an output
    const float* recurrent_kernel;  // (H, 4 H), of an LSTM in blocks of its own

    LSTM_NATIVE_HOST_DEVICE StepBackward at(std::int64_t step) const {
        StepBackward s = first;
        s.last = step + 1 == steps ? 1 : 0;
        if (s.control != nullptr) s.control += step;
        s.next = s.control == nullptr || s.last != 0 ? nullptr : s.control + 1;
        s.gates += step * gate_step;
        s.h_in += step * h_step;
        s.masked += step * h_step;
        if (s.c_in != nullptr) s.c_in += step * c_step;
        if (s.d_output != nullptr) s.d_output += step * output_step;
        if (s.last != 0 && d_last_output != nullptr) s.d_output = d_last_output;
        return s;
    }
};

}  // namespace lstm_native::cuda
