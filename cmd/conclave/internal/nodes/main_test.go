//go:build unix

package nodes_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// asNode makes the test binary play a node.
const asNode = "NODES_TEST_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		os.Exit(play())
	}
	goleak.VerifyTestMain(m)
}

// play is a node that does what its order says.
func play() int {
	in := bufio.NewReader(os.Stdin)
	order, err := in.ReadString('\n')
	if err != nil {
		return 90
	}
	fmt.Fprintln(os.Stderr, "has the order", order[:len(order)-1])
	switch order {
	case "fail\n":
		fmt.Println("failed for a reason")
		return 3
	case "end\n":
		return 4
	}
	fmt.Println("ready to", order[:len(order)-1])
	fmt.Println("more words")
	_, _ = io.Copy(io.Discard, in)
	if order == "stay\n" {
		ignored := make(chan os.Signal, 1) // a wait that the runtime does not take for a deadlock
		signal.Notify(ignored, syscall.SIGHUP)
		<-ignored
	}
	return 0
}
