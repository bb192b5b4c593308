dnl TALLY_CHECK_PKG_CRYPTO: libcrypto, for the HMAC of TALLY_SECRET.
AC_DEFUN([TALLY_CHECK_PKG_CRYPTO], [
    AC_ARG_WITH([crypto],
        [AS_HELP_STRING([--without-crypto], [do without OpenSSL's libcrypto])],
        [], [with_crypto=auto])
    tally_crypto_found=no
    AS_IF([test "x$with_crypto" != xno],
        [PKG_CHECK_MODULES([CRYPTO], [libcrypto >= 1.1],
            [tally_crypto_found=yes],
            [AS_IF([test "x$with_crypto" = xyes],
                [AC_MSG_ERROR([--with-crypto was given, but libcrypto >= 1.1 was not found])])])])
    AS_IF([test $tally_crypto_found = yes],
        [AC_DEFINE([HAVE_CRYPTO], [1], [OpenSSL's libcrypto was found])])
    AM_CONDITIONAL([HAVE_CRYPTO], [test $tally_crypto_found = yes])
])
