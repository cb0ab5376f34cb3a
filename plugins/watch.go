package plugins

import (
	"context"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc/stats"
)

// A watch notices that the host is gone. Two things tell: its end of the process's
// standard input, which the kernel closes however the host ends, and its
// connection, of which there is one for as long as it lives.
type watch struct {
	gone chan struct{} // closed when it is

	mu       sync.Mutex
	conns    int
	stopping bool // the host ends the process
	told     bool
}

func newWatch() *watch { return &watch{gone: make(chan struct{})} }

// expect says that the host ends the process, so that its going is no news.
func (w *watch) expect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
}

func (w *watch) expected() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping
}

// lost says that the host is gone. The caller holds w.mu.
func (w *watch) lost() {
	if !w.told {
		w.told = true
		close(w.gone)
	}
}

// isPipe says that a file is what a host gives as standard input.
func isPipe(f *os.File) bool {
	if f == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// read waits for the end of standard input, on which the host says nothing.
func (w *watch) read(stdin io.Reader) {
	_, _ = io.Copy(io.Discard, stdin) // an error ends it as well
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost()
}

// HandleConn implements stats.Handler.
func (w *watch) HandleConn(_ context.Context, s stats.ConnStats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		w.conns++
	case *stats.ConnEnd:
		if w.conns--; w.conns == 0 {
			w.lost()
		}
	}
}

// TagConn implements stats.Handler.
func (*watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC implements stats.Handler.
func (*watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (*watch) HandleRPC(context.Context, stats.RPCStats) {}
