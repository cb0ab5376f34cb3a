package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

// A process is what a plugin's process is to the router: a server on a unix
// socket, and a channel that is closed when it is gone.
type process struct {
	conn   *grpc.ClientConn
	socket string
	done   chan struct{}
	kill   func() // at once, as a crash would
}

func startProcess(tb testing.TB, e *echo) *process {
	tb.Helper()
	socket := filepath.Join(tb.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(serviceDesc(service(tb, echoName)), e)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{conn: conn, socket: socket, done: make(chan struct{})}
	p.kill = sync.OnceFunc(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Errorf("serve: %v", err)
		}
	})
	tb.Cleanup(func() {
		p.kill()
		conn.Close()
	})
	return p
}

// unreachable checks that a call failed as its caller should read it, whatever
// the connection said.
func (p *process) unreachable(t *testing.T, err error) {
	t.Helper()
	want(t, err, codes.Unavailable, "recipe_restarting")
	if s := fmt.Sprint(err, status.Convert(err).Proto()); strings.Contains(s, p.socket) || strings.Contains(s, "unix") {
		t.Errorf("the error names the socket: %s", s)
	}
}

func TestProcessDies(t *testing.T) {
	f := newFront(t, router.Config{Hold: -1})
	entered := make(chan struct{}, 2)
	e := held("", entered, nil)
	proxy := f.proxy(t, "echo")
	_, err := f.call(t, "Do", "")
	want(t, err, codes.Unavailable, "recipe_restarting") // not yet connected

	p := startProcess(t, e)
	proxy.Connect(p.conn, p.done)
	slow := f.start(t, "Do", "wait")
	<-entered
	chat := f.open(t.Context(), t, "Chat")
	exchangeOne(t, chat)
	p.kill()
	p.unreachable(t, (<-slow).err)
	_, err = chat.recv()
	p.unreachable(t, err)
	_, err = f.call(t, "Do", "") // nobody has told the router yet
	p.unreachable(t, err)
	s := f.open(t.Context(), t, "Chat")
	_, err = s.recv()
	p.unreachable(t, err)
	close(p.done)
	_, err = f.call(t, "Do", "")
	p.unreachable(t, err)
}

// TestConnectionClosed closes the host's side, which grpc-go calls CANCELED.
func TestConnectionClosed(t *testing.T) {
	f := newFront(t, router.Config{Hold: -1})
	entered := make(chan struct{}, 1)
	p := startProcess(t, held("", entered, nil))
	f.proxy(t, "echo").Connect(p.conn, p.done)
	slow := f.start(t, "Do", "wait")
	<-entered
	p.conn.Close()
	p.unreachable(t, (<-slow).err)
	_, err := f.call(t, "Do", "")
	p.unreachable(t, err)
}

// TestDeadlineWhileUnreachable lets the caller's deadline pass while the
// connection fails: grpc-go then tells both, the second with the socket's name.
func TestDeadlineWhileUnreachable(t *testing.T) {
	f := newFront(t, router.Config{})
	conn, err := grpc.NewClient("unix:/nowhere/to/be/found", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f.proxy(t, "echo").Connect(conn, nil)
	answers := make(chan error, 1) // the caller's own clock runs out too, and hides what the router says
	f.Use(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		err := next(srv, ss)
		answers <- err
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = f.callIn(ctx, t, "Do", "")
	want(t, err, codes.DeadlineExceeded, "")
	if err := <-answers; err == nil || strings.Contains(fmt.Sprint(err), "nowhere") {
		t.Errorf("the error names the socket: %v", err)
	}
}

func TestErrorsOfAProcess(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
		why  string
	}{
		{reason.Errorf(codes.Unavailable, "no_quorum", "etcd has no leader"), codes.Unavailable, "no_quorum"},
		{status.Error(codes.Unavailable, "plain words"), codes.Unavailable, "recipe_restarting"},
		{status.Error(codes.Canceled, "of its own"), codes.Canceled, ""},
		{status.Error(codes.DeadlineExceeded, "of its own"), codes.DeadlineExceeded, ""},
		{reason.Errorf(codes.Aborted, "locked", "by another"), codes.Aborted, "locked"},
		{status.Error(codes.NotFound, "plain words"), codes.NotFound, ""},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			f := newFront(t, router.Config{})
			p := startProcess(t, &echo{
				unary:  func(context.Context, string, message) (message, error) { return message{}, c.err },
				stream: func(string, echoStream) error { return c.err },
			})
			f.proxy(t, "echo").Connect(p.conn, p.done)
			_, err := f.call(t, "Do", "")
			want(t, err, c.code, c.why)
			_, err = f.open(t.Context(), t, "Chat").recv()
			want(t, err, c.code, c.why)
		})
	}
}

func TestHeldUntilConnected(t *testing.T) {
	f := newFront(t, router.Config{Hold: time.Hour})
	proxy := f.proxy(t, "echo")
	p := startProcess(t, held("first", nil, nil))
	waiting := f.start(t, "Do", "")
	until(t, func() bool { return router.InFlight(f.Router) == 1 })
	proxy.Connect(p.conn, p.done)
	if a := <-waiting; a.err != nil || a.text != "first" {
		t.Errorf("got %q, %v", a.text, a.err)
	}

	p.kill()
	close(p.done)
	waiting = f.start(t, "Do", "")
	until(t, func() bool { return router.InFlight(f.Router) == 1 })
	<-proxy.Disconnect()
	q := startProcess(t, held("second", nil, nil))
	proxy.Connect(q.conn, q.done)
	if a := <-waiting; a.err != nil || a.text != "second" {
		t.Errorf("got %q, %v", a.text, a.err)
	}
}

// TestStayDown ends a held call, and refuses others, until somebody connects again.
func TestStayDown(t *testing.T) {
	f := newFront(t, router.Config{Hold: time.Hour})
	proxy := f.proxy(t, "echo")
	waiting := f.start(t, "Do", "")
	until(t, func() bool { return router.InFlight(f.Router) == 1 })
	proxy.StayDown("it is broken")
	want(t, (<-waiting).err, codes.Unavailable, "recipe_restarting")
	_, err := f.call(t, "Do", "")
	want(t, err, codes.Unavailable, "recipe_restarting")
	if !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("got %v", err)
	}
	p := startProcess(t, held("again", nil, nil))
	proxy.Connect(p.conn, p.done)
	if text, err := f.call(t, "Do", ""); err != nil || text != "again" {
		t.Errorf("after it was connected: %q, %v", text, err)
	}
}

// TestHeldAndGivenUp ends a held call by its caller.
func TestHeldAndGivenUp(t *testing.T) {
	f := newFront(t, router.Config{Hold: time.Hour})
	f.proxy(t, "echo")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := f.callIn(ctx, t, "Do", "")
	want(t, err, codes.DeadlineExceeded, "")
	until(t, func() bool { return router.InFlight(f.Router) == 0 })
}

// TestSwapUnderLoad replaces the process again and again, each time stopping the
// one before as soon as the router says that no call uses it.
func TestSwapUnderLoad(t *testing.T) {
	const callers, swaps = 8, 40
	f := newFront(t, router.Config{Hold: time.Minute})
	proxy := f.proxy(t, "echo")
	current := startProcess(t, &echo{})
	proxy.Connect(current.conn, current.done)

	var calls atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				text := fmt.Sprint(i, " ", n)
				if got, err := f.callIn(ctx, t, "Do", text); ctx.Err() == nil && (err != nil || got != text) {
					t.Errorf("call %s: got %q, %v", text, got, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for range swaps {
		before := calls.Load()
		until(t, func() bool { return calls.Load() >= before+callers })
		next := startProcess(t, &echo{})
		select {
		case <-proxy.Connect(next.conn, next.done):
		case <-time.After(20 * time.Second):
			t.Fatal("calls on the connection before did not end")
		}
		current.conn.Close()
		current.kill()
		current = next
	}
	stop()
	wg.Wait()
	t.Logf("%d calls over %d swaps", calls.Load(), swaps)
}

// TestReplaceUnderLoad does the same with services in this process that the
// registrar replaces, and alternates with withdrawing.
func TestReplaceUnderLoad(t *testing.T) {
	const callers, swaps = 8, 200
	f := newFront(t, router.Config{Hold: time.Minute})
	current := f.local(t, "echo", &echo{}, echoName)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := f.callIn(ctx, t, "Do", "x"); ctx.Err() == nil && err != nil {
					t.Errorf("got %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for i := range swaps {
		before := calls.Load()
		until(t, func() bool { return calls.Load() > before })
		if i%2 == 0 {
			current.Suspend()
			if err := current.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		next := f.local(t, "echo", &echo{}, echoName)
		if err := current.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		current = next
	}
	stop()
	wg.Wait()
}

// TestHalfOpenProxiedStream has the process end a stream whose caller is silent.
func TestHalfOpenProxiedStream(t *testing.T) {
	f := newFront(t, router.Config{})
	p := startProcess(t, &echo{stream: func(_ string, s echoStream) error {
		if _, err := s.recv(); err != nil {
			return err
		}
		return reason.Errorf(codes.Aborted, "conflict", "another stream took its place")
	}})
	f.proxy(t, "echo").Connect(p.conn, p.done)
	chat := f.open(t.Context(), t, "Chat")
	if err := chat.send("x"); err != nil {
		t.Fatal(err)
	}
	_, err := chat.recv()
	want(t, err, codes.Aborted, "conflict")
	if err := f.closeWithin(t, 20*time.Second); err != nil {
		t.Errorf("something was left of the stream: %v", err)
	}
}

func (f *front) closeWithin(t *testing.T, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("too slow"))
	defer cancel()
	return f.Close(ctx)
}
