//go:build unix

package coretest

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Process is a child process of a test. It is killed when the test ends, and ends by itself when the test binary dies.
type Process struct {
	tb    testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	life  *os.File // the child ends when this end of its lifeline is closed
	done  chan struct{}

	mu      sync.Mutex
	lines   []string
	next    int           // the first line that ExpectLine has not looked at
	changed chan struct{} // closed and replaced with every line
}

// Child runs the function of that name, given to [WithChildren] or [Dispatch], in a new process of this test binary. env ("KEY=value")
// is added to the environment. What the child writes to standard error goes to the test's.
func Child(tb testing.TB, name string, env ...string) *Process {
	tb.Helper()
	p := &Process{tb: tb, name: name, done: make(chan struct{}), changed: make(chan struct{})}
	life, lifeline, err := os.Pipe()
	if err != nil {
		tb.Fatalf("coretest: child %s: %v", name, err)
	}
	p.life = lifeline
	err = p.start(life, env)
	life.Close()
	if err != nil {
		lifeline.Close()
		tb.Fatalf("coretest: child %s: %v", name, err)
	}
	tb.Cleanup(func() {
		p.Kill()
		p.life.Close()
	})
	return p
}

func (p *Process) start(life *os.File, env []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(self, "-test.run=^$")
	p.cmd.Env = append(append(os.Environ(), env...), childEnv+"="+p.name)
	p.cmd.Stderr = os.Stderr
	p.cmd.ExtraFiles = []*os.File{life}
	// A group of its own, so that a terminal's signals reach the test alone, which then ends its children in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.read(out)
	return nil
}

// read collects the child's lines, and then its end, which must be awaited after the last read.
func (p *Process) read(out io.Reader) {
	defer close(p.done)
	for s := bufio.NewScanner(out); s.Scan(); {
		p.add(s.Text())
	}
	// The exit state is read from the command itself: an error here says only that it is not zero.
	_ = p.cmd.Wait()
}

func (p *Process) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Pid returns the child's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Send writes a line to the child's standard input.
func (p *Process) Send(line string) {
	p.tb.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.tb.Fatalf("coretest: child %s: send: %v", p.name, err)
	}
}

// ExpectLine waits for a line of the child's standard output that begins with prefix, after those that earlier calls went over, and returns
// the rest of it. The test fails if the child ends first.
func (p *Process) ExpectLine(prefix string) string {
	p.tb.Helper()
	ctx, cancel := wait()
	defer cancel()
	for {
		rest, found, changed := p.find(prefix)
		if found {
			return rest
		}
		select {
		case <-changed:
		case <-p.done:
			if rest, found, _ := p.find(prefix); found {
				return rest
			}
			p.tb.Fatalf("coretest: child %s ended (%v) without the line %q; it wrote %q", p.name, p.cmd.ProcessState, prefix, p.Output())
		case <-ctx.Done():
			p.tb.Fatalf("coretest: child %s: no line %q in %v; it wrote %q", p.name, prefix, patience, p.Output())
		}
	}
}

func (p *Process) find(prefix string) (rest string, found bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next < len(p.lines) {
		line := p.lines[p.next]
		p.next++
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest), true, p.changed
		}
	}
	return "", false, p.changed
}

// Output returns the lines that the child has written so far.
func (p *Process) Output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// Stop pauses the child as a long garbage collection or a suspended machine would, and returns when none of its threads runs.
func (p *Process) Stop() {
	p.tb.Helper()
	p.Signal(syscall.SIGSTOP)
	if err := awaitStopped(p.Pid()); err != nil {
		p.tb.Fatalf("coretest: child %s: await its stop: %v", p.name, err)
	}
}

// Cont lets a stopped child run on.
func (p *Process) Cont() {
	p.tb.Helper()
	p.Signal(syscall.SIGCONT)
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatalf("coretest: child %s: %v: %v", p.name, s, err)
	}
}

// Kill ends the child with SIGKILL, stopped or not, and returns when it is gone. A child that has ended already is no error.
func (p *Process) Kill() {
	// The only error is that the process has ended.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Wait returns the child's exit code when it has ended by itself; -1 when a signal ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }
