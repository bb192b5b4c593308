dnl TALLY_CHECK_PKG_CHECK: Check, for the unit tests.
AC_DEFUN([TALLY_CHECK_PKG_CHECK], [
    AC_ARG_WITH([check],
        [AS_HELP_STRING([--without-check], [do without Check])],
        [], [with_check=auto])
    tally_check_found=no
    AS_IF([test "x$with_check" != xno],
        [PKG_CHECK_MODULES([CHECK], [check >= 0.15],
            [tally_check_found=yes],
            [AS_IF([test "x$with_check" = xyes],
                [AC_MSG_ERROR([--with-check was given, but check >= 0.15 was not found])])])])
    AS_IF([test $tally_check_found = yes],
        [AC_DEFINE([HAVE_CHECK], [1], [Check was found])])
    AM_CONDITIONAL([HAVE_CHECK], [test $tally_check_found = yes])
])
