dnl TALLY_CHECK_PKG_UCX: UCX, for libtally-ucx.so.
AC_DEFUN([TALLY_CHECK_PKG_UCX], [
    AC_ARG_WITH([ucx],
        [AS_HELP_STRING([--without-ucx], [do without UCX])],
        [], [with_ucx=auto])
    tally_ucx_found=no
    AS_IF([test "x$with_ucx" != xno],
        [PKG_CHECK_MODULES([UCX], [ucx >= 1.11],
            [tally_ucx_found=yes],
            [AS_IF([test "x$with_ucx" = xyes],
                [AC_MSG_ERROR([--with-ucx was given, but ucx >= 1.11 was not found])])])])
    AS_IF([test $tally_ucx_found = yes],
        [AC_DEFINE([HAVE_UCX], [1], [UCX was found])])
    AM_CONDITIONAL([HAVE_UCX], [test $tally_ucx_found = yes])
])
