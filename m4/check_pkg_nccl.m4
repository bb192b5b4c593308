dnl TALLY_CHECK_PKG_NCCL: NCCL's header, for libtally-nccl.so: of an installation
dnl or of a Python wheel (nvidia-nccl-cu13). The library is found at run time.
AC_DEFUN([TALLY_CHECK_PKG_NCCL], [
    AC_ARG_WITH([nccl],
        [AS_HELP_STRING([--with-nccl@<:@=DIR@:>@],
            [NCCL, below DIR/include @<:@default=if found@:>@])],
        [], [with_nccl=check])
    AC_PATH_PROG([PYTHON3], [python3])
    tally_nccl_found=no
    tally_nccl_folders="$NCCL_HOME /usr /usr/local /usr/local/nccl"
    tally_cuda_folders="$CUDA_HOME /usr/local/cuda /usr"
    AS_IF([test -n "$PYTHON3"],
        [tally_site=`$PYTHON3 -c 'import sys; print(*(p + "/nvidia" for p in sys.path if p.endswith("-packages")))' 2>/dev/null`
         for tally_folder in $tally_site; do
             tally_nccl_folders="$tally_nccl_folders $tally_folder/nccl"
             tally_cuda_folders="$tally_cuda_folders $tally_folder/cu13"
         done])
    # Where ./dev keeps the wheel.
    for tally_folder in "${XDG_CACHE_HOME:-$HOME/.cache}"/tally/nvidia-nccl-*; do
        tally_nccl_folders="$tally_nccl_folders $tally_folder/nvidia/nccl"
    done
    AS_CASE([$with_nccl],
        [no], [tally_nccl_folders=""],
        [yes|check], [],
        [tally_nccl_folders="$with_nccl"])
    AS_IF([test -n "$NVCC"],
        [tally_cuda_folders="`dirname "$NVCC"`/.. $tally_cuda_folders"])

    AC_MSG_CHECKING([for nccl.h])
    NCCL_FOLDER=""
    for tally_folder in $tally_nccl_folders; do
        AS_IF([test -z "$NCCL_FOLDER" && test -e "$tally_folder/include/nccl.h"],
            [NCCL_FOLDER="$tally_folder"])
    done
    AC_MSG_RESULT([${NCCL_FOLDER:-no}])
    # What nccl.h includes of CUDA; where there is nothing, what it needs of it.
    tally_cuda_include='$(top_srcdir)/src/transport/nccl/cuda_minimal'
    for tally_folder in $tally_cuda_folders; do
        AS_IF([test -e "$tally_folder/include/cuda_runtime.h"],
            [tally_cuda_include="$tally_folder/include"
             break])
    done
    AS_IF([test -n "$NCCL_FOLDER"],
        [tally_nccl_found="$NCCL_FOLDER"
         AS_CASE([$NCCL_FOLDER], [/usr], [],
             [NCCL_CPPFLAGS="-isystem $NCCL_FOLDER/include"])
         AS_CASE([$tally_cuda_include], [/usr/include], [],
             [NCCL_CPPFLAGS="$NCCL_CPPFLAGS -isystem $tally_cuda_include"])
         NCCL_FOLDER="$NCCL_FOLDER/lib"],
        [AS_CASE([$with_nccl], [no|check], [],
            [AC_MSG_ERROR([--with-nccl was given, but there is no include/nccl.h in: $tally_nccl_folders])])])
    AS_IF([test -n "$NCCL_FOLDER"],
        [AC_DEFINE([HAVE_NCCL], [1], [nccl.h was found])])
    AC_SUBST([NCCL_CPPFLAGS])
    AC_SUBST([NCCL_FOLDER])
    AM_CONDITIONAL([HAVE_NCCL], [test -n "$NCCL_FOLDER"])
])
