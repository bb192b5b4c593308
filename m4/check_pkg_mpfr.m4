dnl TALLY_CHECK_PKG_MPFR: MPFR, for the exact references of the numeric tests.
AC_DEFUN([TALLY_CHECK_PKG_MPFR], [
    AC_ARG_WITH([mpfr],
        [AS_HELP_STRING([--without-mpfr], [do without MPFR])],
        [], [with_mpfr=auto])
    tally_mpfr_found=no
    AS_IF([test "x$with_mpfr" != xno],
        [PKG_CHECK_MODULES([MPFR], [mpfr >= 4],
            [tally_mpfr_found=yes],
            [AS_IF([test "x$with_mpfr" = xyes],
                [AC_MSG_ERROR([--with-mpfr was given, but mpfr >= 4 was not found])])])])
    AS_IF([test $tally_mpfr_found = yes],
        [AC_DEFINE([HAVE_MPFR], [1], [MPFR was found])])
    AM_CONDITIONAL([HAVE_MPFR], [test $tally_mpfr_found = yes])
])
