dnl TALLY_CHECK_ISA: whether the compiler can build the wider host kernels. They
dnl are chosen at run time by what the processor has.
AC_DEFUN([TALLY_CHECK_ISA], [
    tally_isa_saved_cflags="$CFLAGS"
    tally_isa_found="generic"

    CFLAGS="$tally_isa_saved_cflags -mavx2"
    AC_MSG_CHECKING([whether $CC builds for AVX2])
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <immintrin.h>]],
        [[__m256i a = _mm256_setzero_si256();
          return _mm256_extract_epi32(_mm256_add_epi32(a, a), 0);]])],
        [tally_avx2=yes], [tally_avx2=no])
    AC_MSG_RESULT([$tally_avx2])

    CFLAGS="$tally_isa_saved_cflags -mavx512f -mavx512bw -mavx512vl -mavx512dq"
    AC_MSG_CHECKING([whether $CC builds for AVX-512])
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <immintrin.h>]],
        [[__m512 a = _mm512_setzero_ps();
          return (int)_mm512_reduce_add_ps(a);]])],
        [tally_avx512=yes], [tally_avx512=no])
    AC_MSG_RESULT([$tally_avx512])

    CFLAGS="$tally_isa_saved_cflags"
    AS_IF([test $tally_avx2 = yes],
        [tally_isa_found="$tally_isa_found avx2"
         AC_DEFINE([HAVE_AVX2], [1], [host kernels for AVX2 are built])])
    AS_IF([test $tally_avx512 = yes],
        [tally_isa_found="$tally_isa_found avx512"
         AC_DEFINE([HAVE_AVX512], [1], [host kernels for AVX-512 are built])])
    AM_CONDITIONAL([HAVE_AVX2], [test $tally_avx2 = yes])
    AM_CONDITIONAL([HAVE_AVX512], [test $tally_avx512 = yes])
])
