package launcher

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const sha256Size = sha256.Size

const (
	// maxHandshake is how long the first line may be.
	maxHandshake = 4 << 10
	// outputGrace is for what a process wrote to be read once it has ended: what
	// it has left behind may keep the pipes open for ever.
	outputGrace = 500 * time.Millisecond
)

// What is wrong with a program, whenever it is started.
var (
	ErrChecksum  = errors.New("the program is not the one that was added: its SHA-256 is another")
	ErrMissing   = errors.New("the program is gone")
	ErrHandshake = errors.New("the program does not answer as a plugin does")
	ErrProtocol  = errors.New("the plugin speaks another version of the protocol")
)

// A runner is one process. go-plugin asks it for the handshake line and for
// nothing else: it reads what a hostile process prints in ways that can end the
// host (a message that is no text panics in its parser).
type runner struct {
	out    *output
	limits Limits
	spawn  func(func() error) error
	cmd    *exec.Cmd // with the next, from when go-plugin has made them
	dir    string    // of its sockets
	attach string    // a program that runs already; empty: one is started

	conn     atomic.Pointer[net.Conn] // to the program that was attached to
	started  atomic.Bool
	killed   atomic.Bool
	pid      atomic.Int64
	stdin    *os.File // the host's end, which ends with the host
	line     *io.PipeReader
	lineTo   *io.PipeWriter
	reading  sync.WaitGroup
	pipes    []*os.File
	exited   chan struct{} // closed when the process has ended
	done     chan struct{} // closed when all that it wrote has been read too
	err      error         // how it ended; written before exited is closed
	unusable atomic.Pointer[string]
}

func newRunner(out *output, limits Limits, spawn func(func() error) error) *runner {
	r := &runner{out: out, limits: limits, spawn: spawn, exited: make(chan struct{}), done: make(chan struct{})}
	r.line, r.lineTo = io.Pipe()
	return r
}

// Start implements go-plugin's runner.Runner.
func (r *runner) Start(context.Context) error {
	r.started.Store(true)
	if r.attach != "" {
		return r.attachTo()
	}
	stdin, ours, err := os.Pipe()
	if err != nil {
		r.never()
		return err
	}
	stdout, toStdout, err := os.Pipe()
	if err != nil {
		r.never()
		return errors.Join(err, stdin.Close(), ours.Close())
	}
	stderr, toStderr, err := os.Pipe()
	if err != nil {
		r.never()
		return errors.Join(err, stdin.Close(), ours.Close(), stdout.Close(), toStdout.Close())
	}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = stdin, toStdout, toStderr
	prepare(r.cmd)
	err = r.spawn(r.cmd.Start)
	_, _, _ = stdin.Close(), toStdout.Close(), toStderr.Close() // the child's ends
	if err != nil {
		_, _, _ = ours.Close(), stdout.Close(), stderr.Close()
		r.never()
		return err
	}
	r.stdin, r.pipes = ours, []*os.File{stdout, stderr}
	r.pid.Store(int64(r.cmd.Process.Pid))
	if err := restrict(r.cmd.Process.Pid, r.limits); err != nil {
		r.out.write(r.cmd.Process.Pid, fmt.Sprintf("the limits of the process are not in force: %v", err))
	}
	pid := r.cmd.Process.Pid
	r.reading.Go(func() { r.readStdout(stdout) })
	r.reading.Go(func() { copyLines(stderr, func(s string) { r.out.write(pid, s) }) })
	go r.wait()
	if r.killed.Load() { // before there was anything to kill
		killGroup(pid)
	}
	return nil
}

// never says that there is no process and will be none.
func (r *runner) never() {
	_ = r.lineTo.Close()
	close(r.exited)
	close(r.done)
}

// ended waits until the process has ended, if there was one.
func (r *runner) ended() {
	if r.started.Load() {
		<-r.done
	}
}

// readStdout hands the first line on, and takes the rest as output.
func (r *runner) readStdout(stdout io.Reader) {
	pid := int(r.pid.Load())
	first := true
	copyLines(stdout, func(s string) {
		if !first {
			r.out.write(pid, s)
			return
		}
		first = false
		if !isHandshake(s) {
			r.unusable.Store(&s)
			r.out.write(pid, s)
		}
		_, _ = io.WriteString(r.lineTo, s+"\n") // nobody reads it once the start has failed
	})
	_ = r.lineTo.Close()
}

// isHandshake says that a line looks like "1|1|unix|path|grpc|".
func isHandshake(s string) bool {
	parts := strings.Split(s, "|")
	if len(s) > maxHandshake || len(parts) < 5 {
		return false
	}
	for _, p := range parts[:2] {
		if _, err := strconv.ParseUint(p, 10, 31); err != nil {
			return false
		}
	}
	return true
}

// wait waits for the process, and owns what it leaves behind.
func (r *runner) wait() {
	defer close(r.done)
	r.err = r.cmd.Wait()
	close(r.exited)
	killGroup(r.cmd.Process.Pid) // what it started and left
	_ = r.stdin.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		r.reading.Wait()
	}()
	grace := time.NewTimer(outputGrace)
	defer grace.Stop()
	select {
	case <-read:
	case <-grace.C:
	}
	_ = r.line.Close() // a reader of the handshake line that nobody reads
	for _, p := range r.pipes {
		_ = p.Close()
	}
	<-read
}

// Wait implements go-plugin's runner.Runner.
func (r *runner) Wait(context.Context) error {
	<-r.done
	return r.err
}

// Kill implements go-plugin's runner.Runner: it kills the process and all that it
// started.
func (r *runner) Kill(context.Context) error {
	r.killed.Store(true)
	r.letGo()
	if pid := int(r.pid.Load()); pid != 0 {
		select {
		case <-r.exited: // its number may be another's by now
		default:
			killGroup(pid)
		}
	}
	return nil
}

// Stdout implements go-plugin's runner.Runner: it has the handshake line alone.
func (r *runner) Stdout() io.ReadCloser { return r.line }

// Stderr implements go-plugin's runner.Runner: it has nothing.
func (*runner) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements go-plugin's runner.Runner.
func (r *runner) Name() string { return r.cmd.Path }

// ID implements go-plugin's runner.Runner.
func (r *runner) ID() string { return strconv.FormatInt(r.pid.Load(), 10) }

// Diagnose implements go-plugin's runner.Runner.
func (*runner) Diagnose(context.Context) string { return "" }

// PluginToHost implements go-plugin's runner.Runner. The process chooses its
// address, and no address but a socket of its own is dialled.
func (r *runner) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(addr)) != filepath.Clean(r.home()) {
		return "", "", fmt.Errorf("%w: it wants to be called at %s %q, which is not in the folder that it was given", ErrHandshake, network, addr)
	}
	return network, addr, nil
}

// HostToPlugin implements go-plugin's runner.Runner.
func (*runner) HostToPlugin(network, addr string) (string, string, error) { return network, addr, nil }

// problem puts go-plugin's words on a failed start into ours.
func (r *runner) problem(err error) error {
	if bad := r.unusable.Load(); bad != nil {
		return fmt.Errorf("%w: the first line that it printed is %q", ErrHandshake, cut(*bad, 200))
	}
	text := err.Error()
	switch {
	case errors.Is(err, ErrHandshake):
		return err
	case strings.Contains(text, "incompatible API version"), strings.Contains(text, "incompatible core API"):
		return fmt.Errorf("%w: %s; this host speaks version %d: rebuild the plugin with an SDK that does", ErrProtocol, cut(text, 200), protocol)
	case strings.Contains(text, "timeout while waiting for plugin"):
		return errStartTimeout
	case strings.Contains(text, "Unrecognized remote plugin message"):
		return errors.New("it ended before it had begun to serve")
	}
	return err
}

var errStartTimeout = errors.New("it took too long to start")

func cut(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// verify compares the program with what was added.
func verify(path string, want []byte) error {
	if want == nil {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	if err != nil {
		return fmt.Errorf("the program cannot be read: %w", err) // such as for want of file descriptors, which passes
	}
	defer func() { _ = f.Close() }() // it was read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("the program cannot be read: %w", err)
	}
	if subtle.ConstantTimeCompare(h.Sum(nil), want) != 1 {
		return ErrChecksum
	}
	return nil
}

// exitReason says how a process ended, in words.
func exitReason(err error) string {
	if err == nil {
		return "it ended by itself"
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "it ended with " + exit.String()
	}
	return err.Error()
}

// socketRoom is how much longer than the run folder the path of a socket can be.
const socketRoom = len("/plugin-dir0123456789/plugin0123456789")

// maxSocketPath is what the kernel takes, on every system that has sockets.
const maxSocketPath = 103
