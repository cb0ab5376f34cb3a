package coretest

import (
	"fmt"
	"io"
	"os"
)

const (
	childEnv = "CORETEST_CHILD"
	// lifelineFD is the first of a child's extra files: a pipe whose other end only the parent has.
	lifelineFD = 3
)

// Dispatch runs the function that this process was started for by [Child], and ends the process with its result. In any other process it
// returns at once. A TestMain that does not use [Main] calls it first.
func Dispatch(children map[string]func() int) {
	name := os.Getenv(childEnv)
	if name == "" {
		return
	}
	child, ok := children[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "coretest: no child function %q\n", name)
		os.Exit(2)
	}
	go dieWithParent()
	os.Exit(child())
}

// dieWithParent leaves no process behind when the test binary dies without cleaning up: the kernel then closes the pipe.
func dieWithParent() {
	_, _ = io.Copy(io.Discard, os.NewFile(lifelineFD, "lifeline"))
	os.Exit(3)
}
