package host_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/host"
)

// An etcd that comes back after a long outage is found before the sessions end
// that are renewed over the connection.
func TestAnExternalEtcdIsTriedOften(t *testing.T) {
	t.Parallel()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	said := &lines{line: make(chan string, 16)}
	h, err := host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{l.Addr().String()}}},
		host.WithLogger(slog.New(slog.NewTextHandler(said, nil))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var started error
	var starting sync.WaitGroup
	starting.Go(func() { started = h.Start(ctx) })
	// With gRPC's own pauses there are seven tries in the time that a test waits.
	for range 12 {
		c, err := l.Accept()
		if err != nil {
			t.Fatalf("etcd is tried too seldom: %v", err)
		}
		_ = c.Close()
	}
	for line := ""; !strings.Contains(line, "waiting for etcd"); {
		select {
		case line = <-said.line:
		case <-ctx.Done():
			t.Fatal("the log does not say what the start waits for")
		}
	}
	cancel()
	_ = l.Close()
	starting.Wait()
	if !errors.Is(started, host.ErrNoEtcd) {
		t.Errorf("start: %v", started)
	}
}

// lines is a log whose lines can be waited for.
type lines struct{ line chan string }

func (l *lines) Write(b []byte) (int, error) {
	select {
	case l.line <- string(b):
	default: // nobody waits for so many
	}
	return len(b), nil
}
