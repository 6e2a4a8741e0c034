# The CUDA backend: one shared library with static cudart and no link-time dependency on the driver or on cuBLAS. The
# module opens it when a model is moved to "cuda".
#
# LSTM_NATIVE_CUDA_ARCHITECTURES: what code is made for. The default is the release's; a development build names one,
# for Hopper "90a-real;90-virtual". 80-virtual is PTX, which drivers compile for what is newer.
set(LSTM_NATIVE_CUDA_ARCHITECTURES "80-real;86-real;89-real;90a-real;100-real;120-real;80-virtual"
  CACHE STRING "CUDA architectures")
set(LSTM_NATIVE_CUDA_DESTINATION "lstm_native" CACHE STRING "Folder of the wheel that takes the CUDA library")

enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)
  message(FATAL_ERROR "The CUDA backend needs nvcc 13.0 or newer, found ${CMAKE_CUDA_COMPILER_VERSION}")
endif()

add_library(lstm_native_cuda SHARED
  csrc/core/activation.cpp
  csrc/core/library.cpp
  csrc/cuda/activations.cu
  csrc/cuda/arithmetic.cu
  csrc/cuda/backend_cuda.cpp
  csrc/cuda/blas.cpp
  csrc/cuda/graphs.cpp
  csrc/cuda/layers.cu
  csrc/cuda/loss.cu
  csrc/cuda/one_launch.cu
  csrc/cuda/one_launch_backward.cu
  csrc/cuda/one_launch_marked.cu
  csrc/cuda/one_launch_marked_backward.cu
  csrc/cuda/optimizers.cu
  csrc/cuda/planner.cpp
  csrc/cuda/recurrent.cu
  csrc/cuda/runtime_cuda.cu
  csrc/cuda/stepwise.cu)
target_include_directories(lstm_native_cuda PRIVATE csrc)
set_target_properties(lstm_native_cuda PROPERTIES
  CUDA_ARCHITECTURES "${LSTM_NATIVE_CUDA_ARCHITECTURES}"
  CUDA_RUNTIME_LIBRARY Static
  CUDA_STANDARD 17
  CUDA_STANDARD_REQUIRED ON
  CUDA_VISIBILITY_PRESET hidden)
target_compile_options(lstm_native_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--extended-lambda -Xfatbin=-compress-all -Xcompiler=-Wall,-Wextra
    $<$<BOOL:${LSTM_NATIVE_WERROR}>:-Xcompiler=-Werror --Werror=all-warnings>>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wconversion $<$<BOOL:${LSTM_NATIVE_WERROR}>:-Werror>>)
# What ptxas says of registers and spills lies beside the objects: tests/test_cuda_build.py reads it.
set(LSTM_NATIVE_CUDA_RESOURCE_REPORT OFF CACHE BOOL "Print registers and spills of every kernel")
if(LSTM_NATIVE_CUDA_RESOURCE_REPORT)
  target_compile_options(lstm_native_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
endif()
# Symbols of cudart must not meet those of another library in the process.
target_link_options(lstm_native_cuda PRIVATE -Wl,--exclude-libs,ALL)
target_link_libraries(lstm_native_cuda PRIVATE ${CMAKE_DL_LIBS})
install(TARGETS lstm_native_cuda LIBRARY DESTINATION ${LSTM_NATIVE_CUDA_DESTINATION})
