dnl TALLY_CHECK_PKG_ETCD: libcurl and jansson, for libtally-etcd.so.
AC_DEFUN([TALLY_CHECK_PKG_ETCD], [
    AC_ARG_WITH([etcd],
        [AS_HELP_STRING([--without-etcd], [do without libcurl and jansson])],
        [], [with_etcd=auto])
    tally_etcd_found=no
    AS_IF([test "x$with_etcd" != xno],
        [PKG_CHECK_MODULES([CURL], [libcurl >= 7.61],
            [PKG_CHECK_MODULES([JANSSON], [jansson >= 2.10],
                [tally_etcd_found=yes], [:])], [:])
         AS_IF([test "x$with_etcd" = xyes && test $tally_etcd_found = no],
            [AC_MSG_ERROR([--with-etcd was given, but libcurl >= 7.61 and jansson >= 2.10 were not found])])])
    AM_CONDITIONAL([HAVE_ETCD], [test $tally_etcd_found = yes])
])
