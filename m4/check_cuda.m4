dnl TALLY_CHECK_CUDA: whether nvcc can build the kernels, for embedding in
dnl libtally.so, and whether a C++ compiler can build their emulator, for tests.
dnl Neither is needed for anything else; a GPU is needed for neither.
AC_DEFUN([TALLY_CHECK_CUDA], [
    AC_ARG_WITH([cuda],
        [AS_HELP_STRING([--with-cuda@<:@=DIR@:>@],
            [build the CUDA kernels with nvcc of DIR @<:@default=if found@:>@])],
        [], [with_cuda=check])
    tally_cuda_found="no (no nvcc)"
    NVCC_ARCHS="-gencode arch=compute_80,code=sm_80"
    NVCC_ARCHS="$NVCC_ARCHS -gencode arch=compute_90a,code=sm_90a"
    NVCC_ARCHS="$NVCC_ARCHS -gencode arch=compute_100a,code=sm_100a"
    NVCC_ARCHS="$NVCC_ARCHS -gencode arch=compute_90,code=compute_90"

    AS_CASE([$with_cuda],
        [no], [NVCC=""],
        [yes|check],
        [AC_PATH_PROG([NVCC], [nvcc], [],
                      [$PATH$PATH_SEPARATOR/usr/local/cuda/bin])],
        [AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])])
    AS_IF([test "x$with_cuda" = xno], [tally_cuda_found="no (--without-cuda)"])
    AS_IF([test -n "$NVCC"],
        [AC_MSG_CHECKING([whether $NVCC builds for sm_80, sm_90a and sm_100a])
         echo '__global__ void f() {}' >conftest.cu
         AS_IF([$NVCC -std=c++17 -fatbin $NVCC_ARCHS -o conftest.fatbin \
                conftest.cu >&AS_MESSAGE_LOG_FD 2>&1],
               [AC_MSG_RESULT([yes])
                tally_cuda_found="sm_80 sm_90a sm_100a ptx ($NVCC)"],
               [AC_MSG_RESULT([no])
                tally_cuda_found="no ($NVCC does not build them)"
                NVCC=""])
         rm -f conftest.cu conftest.fatbin])
    AS_IF([test -z "$NVCC"],
        [AS_CASE([$with_cuda], [no|check], [],
            [AC_MSG_ERROR([--with-cuda: $tally_cuda_found])])])
    AS_IF([test -n "$NVCC"],
        [AC_DEFINE([HAVE_KERNELS], [1], [the CUDA kernels are built])])
    AM_CONDITIONAL([HAVE_NVCC], [test -n "$NVCC"])
    AC_SUBST([NVCC_ARCHS])

    AC_LANG_PUSH([C++])
    tally_saved_cxxflags="$CXXFLAGS"
    CXXFLAGS="$CXXFLAGS -std=c++17"
    AC_MSG_CHECKING([whether $CXX is a compiler of C++17])
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <vector>]],
        [[if constexpr (sizeof(int) > 2) return 0;]])],
        [tally_cxx=yes], [tally_cxx=no])
    AC_MSG_RESULT([$tally_cxx])
    CXXFLAGS="$tally_saved_cxxflags"
    AC_LANG_POP([C++])
    TALLY_CXXFLAGS="-std=c++17 -Wall -Wextra -Wno-unknown-pragmas"
    TALLY_CXXFLAGS="$TALLY_CXXFLAGS -Wno-pass-failed -ffp-contract=off"
    AS_IF([test "x$enable_werror" = xyes],
          [TALLY_CXXFLAGS="$TALLY_CXXFLAGS -Werror"])
    AC_SUBST([TALLY_CXXFLAGS])
    AM_CONDITIONAL([HAVE_CXX], [test $tally_cxx = yes])
])
