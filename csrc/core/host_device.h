// Marks functions that a CUDA compiler makes for its device, too, and those that it shall call there (floor 0).
#pragma once

// LSTM_NATIVE_SIMT: kernels are functions of the threads of a block, as a GPU runs them, or tests/cpp/simt.h on threads
// of the host. Else loops do what these threads do.
#if defined(__CUDACC__)
#define LSTM_NATIVE_SIMT 1
#elif !defined(LSTM_NATIVE_SIMT)
#define LSTM_NATIVE_SIMT 0
#endif

#if defined(__CUDACC__)
#define LSTM_NATIVE_HOST_DEVICE __host__ __device__
#define LSTM_NATIVE_NOINLINE __noinline__
#else
#define LSTM_NATIVE_HOST_DEVICE
#define LSTM_NATIVE_NOINLINE
#endif
