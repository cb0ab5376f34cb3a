// Package nodes runs the processes of a cluster on one machine: each is started,
// stopped and killed apart from the others, and all of them end with this one,
// however it ends.
//
// A node is told what it is in one line on its standard input, which stays open for
// as long as it is to run: its end, which the kernel sees to when this process dies,
// asks the node to stop in order. On its standard output the node says
//
//	ready …           it serves, with what others need to know
//	failed …          it does not, and why; it ends then
//
// and everything else that it writes is passed on, with its name before each line.
package nodes
