//go:build unix

package nodes_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/nodes"
)

const patience = time.Minute

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// text is a writer that several may use.
type text struct {
	mu sync.Mutex
	strings.Builder
}

func (w *text) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Builder.Write(b)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Builder.String()
}

// node returns a node that is down, what it writes, and how it ended by itself.
func node(t *testing.T, order string, colour bool) (*nodes.Node, *text, chan string) {
	t.Helper()
	self, err := nodes.Self()
	if err != nil {
		t.Fatal(err)
	}
	out, ended := new(text), make(chan string, 1)
	n := nodes.New(nodes.Config{
		Path: self, Args: []string{"node"}, Env: append(os.Environ(), asNode+"=1"), Output: nodes.NewOutput(out, 6, colour),
		Ended: func(_ *nodes.Node, how string) { ended <- how },
	}, 1, "node2", func() ([]byte, error) { return []byte(order), nil })
	t.Cleanup(n.Kill)
	return n, out, ended
}

func start(t *testing.T, n *nodes.Node) string {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := n.Await(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func state(t *testing.T, n *nodes.Node, want string) int {
	t.Helper()
	got, pid := n.State()
	if got != want || (pid == 0) != (want == nodes.Down) {
		t.Errorf("state %s of process %d, want %s", got, pid, want)
	}
	return pid
}

// A node is started, stopped and started again; its lines carry its name.
func TestStartAndStop(t *testing.T) {
	n, out, ended := node(t, "run", false)
	state(t, n, nodes.Down)
	for range 2 {
		if said := start(t, n); said != "to run" {
			t.Errorf("it said %q", said)
		}
		state(t, n, nodes.Serving)
		if err := n.Start(); !errors.Is(err, nodes.ErrRuns) {
			t.Errorf("a second start: %v", err)
		}
		if n.Stop(within(t)) {
			t.Error("it was killed")
		}
		state(t, n, nodes.Down)
	}
	if n.Stop(within(t)) {
		t.Error("a node that is down was killed")
	}
	// The order of the two streams is any.
	for _, line := range []string{"node2  | has the order run\n", "node2  | more words\n"} {
		if strings.Count(out.String(), line) != 2 {
			t.Errorf("it wrote %q", out)
		}
	}
	if len(ended) > 0 {
		t.Errorf("it is said to have ended by itself: %s", <-ended)
	}
}

// A node that does not heed the end of its input is killed when time is over.
func TestStopKillsInTheEnd(t *testing.T) {
	n, _, _ := node(t, "stay", false)
	start(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if !n.Stop(ctx) {
		t.Error("it heeded")
	}
	state(t, n, nodes.Down)
}

// A node that nobody asked to end is told of, with what ended it; one that was killed
// on request is not.
func TestEndedByItself(t *testing.T) {
	n, _, ended := node(t, "run", false)
	start(t, n)
	if err := syscall.Kill(state(t, n, nodes.Serving), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if how := <-ended; how != "signal: killed" {
		t.Errorf("it ended by %q", how)
	}
	state(t, n, nodes.Down)
	start(t, n)
	n.Kill()
	state(t, n, nodes.Down)
	if len(ended) > 0 {
		t.Errorf("it is said to have ended by itself: %s", <-ended)
	}
}

// Why a node did not serve is told in its own words, or else by its exit code.
func TestFailedStart(t *testing.T) {
	for order, want := range map[string]string{"fail": "for a reason", "end": "exit status 4"} {
		n, _, ended := node(t, order, false)
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		_, err := n.Await(within(t))
		if _, said := errors.AsType[*nodes.FailedError](err); said != (order == "fail") || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", order, err, want)
		}
		state(t, n, nodes.Down)
		if len(ended) > 0 {
			t.Errorf("%s: told twice", order)
		}
	}
	n, _, _ := node(t, "run", false)
	if _, err := n.Await(within(t)); !errors.Is(err, nodes.ErrEnded) {
		t.Errorf("before any start: %v", err)
	}
}

func TestColour(t *testing.T) {
	out := new(text)
	o := nodes.NewOutput(out, 5, true)
	o.Line(0, "node1", "a")
	o.Line(1, "node2", "b")
	if want := "\x1b[36mnode1 |\x1b[0m a\n\x1b[33mnode2 |\x1b[0m b\n"; out.String() != want {
		t.Errorf("wrote %q, want %q", out, want)
	}
}
