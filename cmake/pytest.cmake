# Makes the Python tests a test of this build, with the sanitizers in the module: `ctest --preset asan` runs them all.
# Only for GCC: Clang links the run-time into programs, and Python is none of them.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  return()
endif()

# Python was linked without the run-time, which must be the first library of a process. libstdc++ comes with it, so that
# the run-time finds the functions that it wraps (__cxa_throw) before the module is loaded.
set(preload "")
foreach(library IN ITEMS libasan.so libstdc++.so.6)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${library}
    OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(APPEND preload "${path}")
endforeach()
list(JOIN preload ":" preload)

set(package ${CMAKE_BINARY_DIR}/package)
set(environment
  "PYTHONPATH=${package}"
  "LD_PRELOAD=${preload}"
  # Leaks: the interpreter and NumPy keep thousands of blocks to the end, every stack of ours has their functions in it,
  # so no suppression tells the two apart. tests/test_memory.py counts ours. Null: as the system answers to a request
  # for more memory than there is, which tests make.
  "ASAN_OPTIONS=${asan_options}:detect_leaks=0:allocator_may_return_null=1"
  "UBSAN_OPTIONS=print_stacktrace=1"
  "PYTHONMALLOC=malloc")  # so that Python's own small blocks are watched, too

add_test(NAME install COMMAND ${CMAKE_COMMAND} --install ${CMAKE_BINARY_DIR} --prefix ${package})
# An editable installation in the same Python would be found first, and nothing would be watched.
add_test(NAME import COMMAND ${Python_EXECUTABLE} -c
  "import lstm_native._core as core; assert core.__file__.startswith('${package}'), core.__file__")
add_test(NAME pytest COMMAND ${Python_EXECUTABLE} -m pytest -p no:cacheprovider
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(install PROPERTIES FIXTURES_SETUP package)
set_tests_properties(import PROPERTIES FIXTURES_SETUP package DEPENDS install ENVIRONMENT "${environment}")
set_tests_properties(pytest PROPERTIES FIXTURES_REQUIRED package ENVIRONMENT "${environment}" TIMEOUT 3600)
