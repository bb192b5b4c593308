# Plots the three curves of the demo; called by demo.sh with the variables
# balanced, reference, naive (files), ranks, terminal_type (svg or pngcairo) and
# output. Columns of a curve: step, N_total, loss_hi, loss_lo, mean, flags,
# silent ranks, held-out loss.
if (terminal_type eq "svg") {
    set terminal svg size 960,640 font "Helvetica,13" background "#ffffff"
} else {
    set terminal pngcairo size 960,640 font "Sans,10" background "#ffffff"
}
set output output

set border 3 lc rgb "#606060"
set tics nomirror out scale 0.5
set grid lc rgb "#e4e4e4"
set style line 1 lw 5 lc rgb "#c8c8c8"
set style line 2 lw 1.4 lc rgb "#1f5fbf"
set style line 3 lw 1.4 lc rgb "#d03030"
name_a = sprintf("(a) balanced, %d ranks", ranks)
name_b = "(b) one process, all data"
name_c = sprintf("(c) mean of rank means, %d ranks", ranks)

# A step without any token has no loss to draw.
loss(total, mean) = total > 0 ? mean : NaN

set multiplot
set xlabel "step"
set lmargin 9
set rmargin 3

set origin 0, 0.5
set size 1, 0.5
set key top right
set title "Training loss as each run logs it"
set ylabel "nats a byte"
plot reference using 1:(loss($2, $5)) with lines ls 1 title name_b, \
     naive using 1:(loss($2, $5)) with lines ls 3 title name_c, \
     balanced using 1:(loss($2, $5)) with lines ls 2 title name_a

unset key
set origin 0, 0
set size 0.5, 0.5
set title "Difference from (b), logarithmic"
set ylabel "|loss / loss of (b) - 1|"
set logscale y
set yrange [1e-9:1]
set ytics 1e-9, 100, 1
set format y "10^{%T}"
# Equal to the bit is drawn at the foot.
apart(a, b) = b > 0 ? (a == b ? 1e-9 : abs(a / b - 1)) : NaN
set label 1 "1e-5 is promised for (a)" at graph 0.03, first 2.2e-5 \
    textcolor rgb "#606060"
set arrow 1 from graph 0, first 1e-5 to graph 1, first 1e-5 nohead dt 2 \
    lc rgb "#606060"
both(file) = sprintf("< paste '%s' '%s'", file, reference)
plot both(naive) using 1:(apart($5, $13)) with lines ls 3, \
     both(balanced) using 1:(apart($5, $13)) with lines ls 2
unset logscale y
unset label 1
unset arrow 1
set format y "%g"
set yrange [*:*]
set ytics autofreq

set origin 0.5, 0
set size 0.5, 0.5
set title "Loss on held-out text"
set ylabel "nats a byte"
# Steps without evaluation hold NaN: take them out, so that lines connect.
evaluated(file) = sprintf("< grep -v nan '%s'", file)
# The steep beginning would hide the end.
stats evaluated(reference) using 8 nooutput
set yrange [*:STATS_min * 1.45]
plot evaluated(reference) using 1:8 with lines ls 1, \
     evaluated(naive) using 1:8 with lines ls 3, \
     evaluated(balanced) using 1:8 with lines ls 2
unset multiplot
