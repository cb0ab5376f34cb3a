package session_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host/session"
)

// silence is longer than fast release takes, and far shorter than a TTL.
const silence = 3 * time.Second

// owned puts a key on a session's lease, and returns a channel that is closed
// when the key has gone.
func owned(tb testing.TB, h *host, id, namespace string) <-chan struct{} {
	tb.Helper()
	c := etcd.Client(tb)
	key := namespace + "/" + id
	put, err := c.Put(within(tb), key, "v", clientv3.WithLease(h.lease(tb, id, namespace)))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	events := c.Watch(ctx, key, clientv3.WithRev(put.Header.Revision+1))
	gone := make(chan struct{})
	go func() {
		if r, ok := <-events; ok && len(r.Events) == 1 && r.Events[0].Type == clientv3.EventTypeDelete {
			close(gone)
		}
	}()
	return gone
}

func await(tb testing.TB, gone <-chan struct{}) {
	tb.Helper()
	select {
	case <-gone:
	case <-within(tb).Done():
		tb.Fatal("the session was not released")
	}
}

// stays watches for longer than a release would take that nothing happens.
func stays(tb testing.TB, gone <-chan struct{}) {
	tb.Helper()
	select {
	case <-gone:
		tb.Fatal("the session was released")
	case <-time.After(silence):
	}
}

// A caller is a process with one connection, which a test can end.
type caller struct {
	sessionv1.SessionServiceClient
	conn *grpc.ClientConn
}

func connect(tb testing.TB, addr string) *caller {
	tb.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cc.Close() })
	return &caller{sessionv1.NewSessionServiceClient(cc), cc}
}

// close ends the connection as the end of the process would.
func (c *caller) close() { _ = c.conn.Close() }

// fast opens a session with fast release.
func (c *caller) fast(tb testing.TB, namespace string) string {
	tb.Helper()
	opened := open(tb, c, &sessionv1.OpenRequest{Namespace: namespace, FastRelease: true})
	if !opened.GetFastRelease() || opened.GetHeartbeat().AsDuration() != 500*time.Millisecond {
		tb.Fatalf("opened %v", opened)
	}
	return opened.GetSessionId()
}

func (c *caller) attach(tb testing.TB, id, namespace string, sequence int64) *heart {
	tb.Helper()
	return attach(tb, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: namespace, Sequence: sequence})
}

func TestAConnectionsEndReleases(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	ns := namespace(t)
	c := connect(t, h.addr)
	id := c.fast(t, ns)
	gone := owned(t, h, id, ns)
	k := c.attach(t, id, ns, 1)
	if ttl := k.answer(1); ttl != 2*time.Second {
		t.Errorf("a heartbeat counts for %v", ttl)
	}
	other := connect(t, h.addr)
	slow := open(t, c, &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	alone := other.fast(t, ns)
	slowGone, aloneGone := owned(t, h, slow, ns), owned(t, h, alone, ns)
	c.attach(t, slow, ns, 1).answer(1)
	other.attach(t, alone, ns, 1).answer(1)
	c.close()
	await(t, gone)
	stays(t, slowGone)
	stays(t, aloneGone)
	_, err := other.Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
	wantReason(t, err, "session_expired")
}

func TestUnixSocketsProveTooTheirPeersEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, etcd.Client(t))
	h.serve(t, ln)
	ns := namespace(t)
	c := connect(t, "unix:"+path)
	id := c.fast(t, ns)
	gone := owned(t, h, id, ns)
	c.attach(t, id, ns, 1).answer(1)
	c.close()
	await(t, gone)
}

// The end of a stream is no end of a process; the end of its connection is.
func TestAStreamsEndDoesNotRelease(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	ns := namespace(t)
	c := connect(t, h.addr)
	id := c.fast(t, ns)
	gone := owned(t, h, id, ns)
	k := c.attach(t, id, ns, 1)
	k.answer(1)
	if err := k.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_ = k.end()
	stays(t, gone)
	c.close()
	await(t, gone)
}

func TestReconnectingInTimeKeepsTheSession(t *testing.T) {
	t.Parallel()
	a, b := start(t, etcd.Client(t)), start(t, etcd.Client(t))
	ns := namespace(t)
	first := connect(t, a.addr)
	id := first.fast(t, ns)
	gone := owned(t, a, id, ns)
	first.attach(t, id, ns, 1).answer(1)
	first.close()
	second := connect(t, b.addr)
	k := second.attach(t, id, ns, 2)
	k.answer(2)
	stays(t, gone)
	k.answer(k.send())
	second.close()
	await(t, gone)
}

// A stream that its caller has left must not attach after the one that it went
// over to: the end of the old connection would release the session.
func TestAStreamThatWasLeftCannotAttachLate(t *testing.T) {
	t.Parallel()
	faults := coretest.NewFaults()
	a, b := start(t, etcd.Client(t, faults.DialOptions()...)), start(t, etcd.Client(t))
	ns := namespace(t)
	first := connect(t, a.addr)
	id := first.fast(t, ns)
	gone := owned(t, a, id, ns)
	read := faults.Hold(coretest.Reads(id))
	old := first.attach(t, id, ns, 1)
	if err := read.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	second := connect(t, b.addr)
	k := second.attach(t, id, ns, 2)
	k.answer(2)
	read.Release()
	wantReason(t, old.end(), "conflict")
	first.close()
	stays(t, gone)
	k.answer(k.send())
}

// Requests whose replies are lost are found again, and late copies change nothing.
func TestFastReleaseSurvivesLostReplies(t *testing.T) {
	t.Parallel()
	for name, arm := range map[string]func(*coretest.Faults, coretest.Match) *coretest.Fault{
		"reply":   func(f *coretest.Faults, m coretest.Match) *coretest.Fault { return f.LoseReply(m) },
		"request": func(f *coretest.Faults, m coretest.Match) *coretest.Fault { return f.LoseRequest(m) },
		"late":    func(f *coretest.Faults, m coretest.Match) *coretest.Fault { return f.Late(m).Fault },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := coretest.NewFaults()
			h := start(t, etcd.Client(t, faults.DialOptions()...))
			ns := namespace(t)
			c := connect(t, h.addr)
			id := c.fast(t, ns)
			gone := owned(t, h, id, ns)
			attaching := arm(faults, coretest.Puts(id))
			k := c.attach(t, id, ns, 1)
			k.answer(1)
			k.answer(k.send())
			marking := arm(faults, coretest.Puts(id))
			revoking := arm(faults, coretest.Method("LeaseRevoke"))
			c.close()
			for _, f := range []*coretest.Fault{attaching, marking, revoking} {
				if err := f.Wait(within(t)); err != nil {
					t.Fatal(err)
				}
			}
			await(t, gone)
		})
	}
}

// The marking transaction of an old connection that arrives after its caller has
// attached again finds another attachment.
func TestALateMarkChangesNothing(t *testing.T) {
	t.Parallel()
	faults := coretest.NewFaults()
	a, b := start(t, etcd.Client(t, faults.DialOptions()...)), start(t, etcd.Client(t))
	ns := namespace(t)
	first := connect(t, a.addr)
	id := first.fast(t, ns)
	gone := owned(t, a, id, ns)
	first.attach(t, id, ns, 1).answer(1)
	mark := faults.Hold(coretest.Puts(id))
	first.close()
	if err := mark.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	k := connect(t, b.addr).attach(t, id, ns, 2)
	k.answer(2)
	mark.Release()
	stays(t, gone)
	k.answer(k.send())
}

// Whatever the host itself closes, it releases nothing.
func TestAHostThatStopsReleasesNothing(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(h *host){
		"at once":    func(h *host) { h.stop() },
		"in order":   func(h *host) { h.Stopping(); h.server.GracefulStop(); h.stop() },
		"by a close": func(h *host) { h.server.Stop() }, // the service goes on, and knows of no stop
		"with ends":  func(h *host) { h.Stopping(); h.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			released := make(chan session.Release, 1)
			h := start(t, etcd.Client(t), func(c *session.Config) { c.Released = func(r session.Release) { released <- r } })
			ns := namespace(t)
			c := connect(t, h.addr)
			id := c.fast(t, ns)
			gone := owned(t, h, id, ns)
			k := c.attach(t, id, ns, 1)
			k.answer(1)
			if name == "in order" {
				if err := k.stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
				_ = k.end()
			}
			if name == "with ends" {
				h.Stopping()
				c.close()
			}
			stop(h)
			stays(t, gone)
			if len(released) > 0 {
				t.Error("a release was announced")
			}
			again := start(t, etcd.Client(t))
			connect(t, again.addr).attach(t, id, ns, 2).answer(2)
		})
	}
}

// A network that swallows everything closes nothing.
func TestASilentPartitionReleasesNothing(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	w := newWire(t, h.addr)
	ns := namespace(t)
	c := connect(t, w.addr)
	id := c.fast(t, ns)
	gone := owned(t, h, id, ns)
	c.attach(t, id, ns, 1).answer(1)
	w.swallow()
	c.close()
	stays(t, gone)
}

// A wire is a connection to a host that can fall silent.
type wire struct {
	addr   string
	silent chan struct{}
	once   sync.Once
}

func newWire(tb testing.TB, to string) *wire {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	w := &wire{addr: ln.Addr().String(), silent: make(chan struct{})}
	var work sync.WaitGroup
	work.Go(func() {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			near.Close()
			return
		}
		tb.Cleanup(func() { near.Close(); far.Close(); work.Wait() })
		work.Go(func() { w.carry(far, near) })
		work.Go(func() { w.carry(near, far) })
	})
	tb.Cleanup(func() { ln.Close() })
	return w
}

// carry moves bytes until one end closes; in silence nobody is told of it.
func (w *wire) carry(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	select {
	case <-w.silent:
	default:
		dst.Close()
	}
}

func (w *wire) swallow() { w.once.Do(func() { close(w.silent) }) }
