package nodes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// What a node says on its standard output.
const (
	ReadyWord  = "ready"
	FailedWord = "failed"
)

// drainPipes is how long the output of a node that has ended is waited for: a process
// that it left behind may still hold it.
const drainPipes = 500 * time.Millisecond

var (
	// ErrRuns means that a node was to be started that runs already.
	ErrRuns = errors.New("it runs already")
	// ErrEnded means that a node ended before it served, without a word of its own.
	ErrEnded = errors.New("it ended before it served")
)

// A FailedError is what a node said of its failure.
type FailedError struct{ Text string }

func (e *FailedError) Error() string { return e.Text }

// A Config says how the processes of nodes are started. All fields are required.
type Config struct {
	// Path is the executable, Args what it is called with, its own name first.
	Path string
	Args []string
	// Env is the environment.
	Env []string
	// Output takes what the nodes write.
	Output *Output
	// Ended is called when a node has ended that was not asked to; how says in what
	// way.
	Ended func(n *Node, how string)
}

// A Node is one place in a cluster, whether or not its process runs. It is safe for
// concurrent use.
type Node struct {
	Name  string
	Index int // from 0
	cfg   Config
	order func() ([]byte, error)

	mu  sync.Mutex
	run *run // the last one; nil: none yet
}

// A run is one process of a node.
type run struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	ready chan struct{} // closed when it says that it serves
	done  chan struct{} // closed when the process has ended and was waited for

	mu     sync.Mutex
	asked  bool // to end
	said   string
	failed string
}

// New returns a node that is down. The order, which is asked for at each start, is one
// line.
func New(cfg Config, index int, name string, order func() ([]byte, error)) *Node {
	return &Node{Name: name, Index: index, cfg: cfg, order: order}
}

// Start starts the node's process, and does not wait until it serves. The error is
// [ErrRuns], the order's, or the system's.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run != nil && !closed(n.run.done) {
		return ErrRuns
	}
	r := &run{ready: make(chan struct{}), done: make(chan struct{})}
	r.cmd = &exec.Cmd{Path: n.cfg.Path, Args: n.cfg.Args, Env: n.cfg.Env, SysProcAttr: apart(), WaitDelay: drainPipes}
	r.cmd.Stdout = &lines{to: func(line string) { n.heard(r, line) }}
	r.cmd.Stderr = &lines{to: func(line string) { n.cfg.Output.Line(n.Index, n.Name, line) }}
	order, err := n.order()
	if err != nil {
		return err
	}
	if r.input, err = r.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	// A node that does not read it has ended, which is told there.
	_, _ = r.input.Write(append(order, '\n'))
	n.run = r
	go n.await(r)
	return nil
}

// heard takes a line of the node's standard output.
func (n *Node) heard(r *run, line string) {
	word, rest, _ := strings.Cut(line, " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case word == ReadyWord && !closed(r.ready):
		r.said = rest
		close(r.ready)
	case word == FailedWord:
		r.failed = rest
	default:
		n.cfg.Output.Line(n.Index, n.Name, line)
	}
}

// await owns the process until it has ended.
func (n *Node) await(r *run) {
	_ = r.cmd.Wait() // how it ended is in the state
	_ = r.input.Close()
	r.mu.Lock()
	tell := !r.asked && closed(r.ready)
	r.mu.Unlock()
	close(r.done)
	if tell {
		n.cfg.Ended(n, r.cmd.ProcessState.String())
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// last returns the run that is under way, or the last one.
func (n *Node) last() *run {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.run
}

// Await returns what the node said when it began to serve. The error is a
// [*FailedError] or [ErrEnded] if it ended before, or the cause of ctx.
func (n *Node) Await(ctx context.Context) (string, error) {
	r := n.last()
	if r == nil {
		return "", ErrEnded
	}
	select {
	case <-r.ready:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.said, nil
	case <-r.done:
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.failed != "" {
			return "", &FailedError{r.failed}
		}
		return "", fmt.Errorf("%w: %s", ErrEnded, r.cmd.ProcessState)
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Stop asks the node to stop, and returns when it has ended. One that has not when
// ctx ends is killed, and Stop says so. A node that is down is no error.
func (n *Node) Stop(ctx context.Context) (killed bool) {
	r := n.last()
	if r == nil || closed(r.done) {
		return false
	}
	r.ask()
	_ = r.input.Close()
	select {
	case <-r.done:
		return false
	case <-ctx.Done():
		n.Kill()
		return true
	}
}

// Kill ends the node without asking, and returns when it has ended.
func (n *Node) Kill() {
	r := n.last()
	if r == nil || closed(r.done) {
		return
	}
	r.ask()
	_ = r.cmd.Process.Kill() // an error says that it has ended
	<-r.done
}

func (r *run) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = true
}

// The states of a node.
const (
	Down     = "down"
	Starting = "starting"
	Serving  = "serving"
)

// State returns the node's state and, unless it is down, its process.
func (n *Node) State() (state string, pid int) {
	r := n.last()
	switch {
	case r == nil || closed(r.done):
		return Down, 0
	case closed(r.ready):
		return Serving, r.cmd.Process.Pid
	}
	return Starting, r.cmd.Process.Pid
}

// Self returns the running program, to start more processes of it, also after an
// upgrade replaced its file.
func Self() (path string, err error) {
	const running = "/proc/self/exe"
	if _, err := os.Stat(running); err == nil {
		return running, nil
	}
	return os.Executable()
}
