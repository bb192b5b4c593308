dnl TALLY_CHECK_PKG_OFI: libfabric, for libtally-ofi.so.
AC_DEFUN([TALLY_CHECK_PKG_OFI], [
    AC_ARG_WITH([ofi],
        [AS_HELP_STRING([--without-ofi], [do without libfabric])],
        [], [with_ofi=auto])
    tally_ofi_found=no
    AS_IF([test "x$with_ofi" != xno],
        [PKG_CHECK_MODULES([OFI], [libfabric >= 1.9],
            [tally_ofi_found=yes],
            [AS_IF([test "x$with_ofi" = xyes],
                [AC_MSG_ERROR([--with-ofi was given, but libfabric >= 1.9 was not found])])])])
    AS_IF([test $tally_ofi_found = yes],
        [AC_DEFINE([HAVE_OFI], [1], [libfabric was found])])
    AM_CONDITIONAL([HAVE_OFI], [test $tally_ofi_found = yes])
])
