dnl TALLY_CHECK_PKG_MPI: mpicc, for the program that tally_perf compares with.
AC_DEFUN([TALLY_CHECK_PKG_MPI], [
    AC_ARG_WITH([mpi],
        [AS_HELP_STRING([--without-mpi], [do without the MPI comparison])],
        [], [with_mpi=auto])
    tally_mpi_found=no
    AS_IF([test "x$with_mpi" != xno],
        [AC_CHECK_PROGS([MPICC], [mpicc])
         AS_IF([test -n "$MPICC"],
            [tally_mpi_found=yes],
            [AS_IF([test "x$with_mpi" = xyes],
                [AC_MSG_ERROR([--with-mpi was given, but no mpicc was found])])])])
    AM_CONDITIONAL([HAVE_MPI], [test $tally_mpi_found = yes])
])
