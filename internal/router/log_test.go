package router_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// logged keeps what was logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// until waits for a state that nothing announces.
func until(tb testing.TB, reached func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !reached() {
		select {
		case <-tick.C:
		case <-end:
			tb.Fatal("not reached within 20 s")
		}
	}
}
