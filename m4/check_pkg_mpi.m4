dnl TALLY_CHECK_PKG_MPI: an MPI compiler, for the peer of tally_perf. It is tried:
dnl it may be installed without the headers.
AC_DEFUN([TALLY_CHECK_PKG_MPI], [
    AC_ARG_WITH([mpi],
        [AS_HELP_STRING([--without-mpi], [do without the MPI comparison])],
        [], [with_mpi=auto])
    tally_mpi_found=no
    AS_IF([test "x$with_mpi" != xno],
        [AC_CHECK_PROGS([MPICC], [mpicc])])
    AS_IF([test -n "$MPICC"],
        [tally_mpi_saved_cc="$CC"
         CC="$MPICC"
         AC_MSG_CHECKING([whether $MPICC makes programs])
         AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>]],
             [[return MPI_Init(0, 0);]])], [tally_mpi_found=yes])
         AC_MSG_RESULT([$tally_mpi_found])
         CC="$tally_mpi_saved_cc"])
    AS_IF([test "x$with_mpi" = xyes && test $tally_mpi_found = no],
        [AC_MSG_ERROR([--with-mpi was given, but no mpicc was found that works])])
    AM_CONDITIONAL([HAVE_MPI], [test $tally_mpi_found = yes])
])
