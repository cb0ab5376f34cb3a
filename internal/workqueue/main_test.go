package workqueue

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds what must happen; no test passes or fails by being quicker.
const patience = 60 * time.Second

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// writer returns the Writer of a new session, whose requests can be made to fail. Its
// queue is listed beside its keys.
func writer(tb testing.TB, root string, opts ...grpc.DialOption) (*Writer, *coretest.Faults) {
	tb.Helper()
	faults := coretest.NewFaults()
	s, err := core.NewSession(within(tb), etcd.Client(tb, append(opts, faults.DialOptions()...)...))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		faults.Clear()
		_ = s.Close()
	})
	return WriterFor(s.Engine(), root, "/names"+root), faults
}

// until waits for a state that no event tells of.
func until(tb testing.TB, is func() bool) {
	tb.Helper()
	ctx, tick := within(tb), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatal("it never came to that")
		}
	}
}

// slowReply keeps one reply back, of the first request that matches once it is armed.
type slowReply struct {
	match coretest.Match
	armed atomic.Bool
	came  chan struct{}
	let   chan struct{}
	once  sync.Once
}

func newSlowReply(match coretest.Match) *slowReply {
	return &slowReply{match: match, came: make(chan struct{}), let: make(chan struct{})}
}

func (r *slowReply) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if r.match(method, req) && r.armed.CompareAndSwap(true, false) {
		close(r.came)
		<-r.let
	}
	return err
}

// wait returns when the reply is there, and kept back.
func (r *slowReply) wait(tb testing.TB) {
	tb.Helper()
	select {
	case <-r.came:
	case <-within(tb).Done():
		tb.Fatal("nothing was answered")
	}
}

func (r *slowReply) release() { r.once.Do(func() { close(r.let) }) }
