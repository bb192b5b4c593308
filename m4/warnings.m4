dnl TALLY_WARNINGS: sets TALLY_CFLAGS. --enable-werror makes warnings errors.
AC_DEFUN([TALLY_WARNINGS], [
    AC_ARG_ENABLE([werror],
        [AS_HELP_STRING([--enable-werror], [treat warnings as errors])],
        [], [enable_werror=no])
    TALLY_CFLAGS="-std=gnu11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion"
    TALLY_CFLAGS="$TALLY_CFLAGS -Wstrict-prototypes -Wmissing-prototypes"
    TALLY_CFLAGS="$TALLY_CFLAGS -fvisibility=hidden -ffp-contract=off"
    TALLY_CFLAGS="$TALLY_CFLAGS -fno-fast-math -pthread"
    AS_IF([test "x$enable_werror" = xyes],
          [TALLY_CFLAGS="$TALLY_CFLAGS -Werror"])
    AC_SUBST([TALLY_CFLAGS])
])
