package commit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/commit"
)

// A batch is one request that was sent: the keys that each of its transactions
// puts.
type batch struct {
	puts [][]string
	ops  int // as etcd counts them
	size int
	flat bool // without nested transactions
}

// seen records the transactions that a client sends, and lets them pass.
type seen struct {
	mu      sync.Mutex
	batches []batch
}

func (s *stage) watch() *seen {
	var v seen
	s.faults.LoseRequest(func(_ string, req any) bool {
		if txn, ok := req.(*pb.TxnRequest); ok {
			v.add(txn)
		}
		return false
	}, coretest.Always())
	return &v
}

func (v *seen) add(txn *pb.TxnRequest) {
	b := batch{size: proto.Size(txn), flat: len(txn.Success) == 0 || txn.Success[0].GetRequestTxn() == nil}
	inner := 0
	for _, op := range txn.Success {
		nested := op.GetRequestTxn()
		if nested == nil {
			nested = txn // a lone one
		} else {
			inner = max(inner, len(nested.Compare), len(nested.Success), len(nested.Failure))
		}
		var keys []string
		for _, op := range nested.Success {
			keys = append(keys, string(op.GetRequestPut().GetKey()))
		}
		b.puts = append(b.puts, keys)
		if nested == txn {
			break
		}
	}
	b.ops = max(len(txn.Compare), len(txn.Success), len(txn.Failure)) + inner
	v.mu.Lock()
	defer v.mu.Unlock()
	v.batches = append(v.batches, b)
}

// plain tells of each request whether it had no nested transactions.
func (v *seen) plain() (plain []bool) {
	for _, b := range v.all() {
		plain = append(plain, b.flat)
	}
	return plain
}

func (v *seen) all() []batch {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.batches
}

func (s *stage) key(n int) string { return fmt.Sprintf("%s/%03d", s.prefix, n) }

// succeeded fails the test for every transaction that did not take its branch.
func succeeded(t *testing.T, all map[int]outcome) {
	t.Helper()
	for n, o := range all {
		if o.err != nil || !o.result.Succeeded {
			t.Errorf("transaction %d: %+v", n, o)
		}
	}
}

func TestWhatArrivesMeanwhileTravelsTogether(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	before := etcd.RaftIndex(t)
	for n := range 40 {
		s.submit(s.Committer, n, putTxn(s.key(n)))
	}
	s.hold.Release()
	all := s.wait(t)
	succeeded(t, all)
	if cost := etcd.RaftIndex(t) - before; cost > 5 {
		t.Errorf("41 transactions cost %d raft entries", cost)
	}
	for _, kv := range etcd.Dump(t, s.prefix+"/0") {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(string(kv.Key), s.prefix), "/%d", &n); err != nil {
			t.Fatal(err)
		}
		if kv.ModRevision != all[n].result.Revision {
			t.Errorf("transaction %d was told revision %d, and wrote at %d", n, all[n].result.Revision, kv.ModRevision)
		}
	}
}

func TestCommonScopeNeverSharesABatchAndKeepsItsOrder(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	sent := s.watch()
	hot := s.prefix + "/hot"
	for n := range 10 {
		s.submit(s.Committer, n, commit.Txn{Scope: []string{s.key(n), hot}, Then: []clientv3.Op{clientv3.OpPut(hot, fmt.Sprint(n))}})
		s.submit(s.Committer, 100+n, putTxn(s.key(100+n)))
	}
	s.hold.Release()
	succeeded(t, s.wait(t))
	for _, b := range sent.all() {
		count := 0
		for _, keys := range b.puts {
			if keys[0] == hot {
				count++
			}
		}
		if count > 1 {
			t.Errorf("a request with %d transactions of one scope: %q", count, b.puts)
		}
	}
	kv := etcd.Dump(t, hot)[0]
	if string(kv.Value) != "9" || kv.Version != 10 {
		t.Errorf("the last value is %s after %d writes, want 9 after 10", kv.Value, kv.Version)
	}
}

func TestNobodyOvertakesByASecondScope(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	a, b := s.prefix+"/a", s.prefix+"/b"
	for n, keys := range [][]string{{a}, {a, b}, {b}} {
		txn := commit.Txn{Scope: keys}
		for _, k := range keys {
			txn.Then = append(txn.Then, clientv3.OpPut(k, fmt.Sprint(n)))
		}
		s.submit(s.Committer, n, txn)
	}
	s.hold.Release()
	succeeded(t, s.wait(t))
	if v := string(etcd.Dump(t, b)[0].Value); v != "2" {
		t.Errorf("the last write came from transaction %s, want 2", v)
	}
}

func TestBatchesStayInsideTheirLimits(t *testing.T) {
	for name, cfg := range map[string]commit.Config{
		"transactions": {MaxTxns: 5}, "operations": {MaxOps: 10}, "bytes": {MaxSize: 2000},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, etcd, cfg)
			sent := s.watch()
			var built atomic.Int32
			for n := range 30 {
				txn := putTxn(s.key(n))
				for extra := range n % 4 {
					txn.Then = append(txn.Then, clientv3.OpPut(fmt.Sprintf("%s/%d", s.key(n), extra), strings.Repeat("x", 100)))
				}
				s.wg.Add(1)
				s.Submit(txn.Scope, func() commit.Txn { built.Add(1); return txn }, func(r commit.Result, err error) {
					if err != nil || !r.Succeeded {
						t.Errorf("transaction %d: %+v %v", n, r, err)
					}
					s.wg.Done()
				})
			}
			s.hold.Release()
			s.wait(t)
			widest := 0
			for _, b := range sent.all() {
				widest = max(widest, len(b.puts))
				if len(b.puts) > 1 && (over(len(b.puts), cfg.MaxTxns) || over(b.ops, cfg.MaxOps) || over(b.size, cfg.MaxSize)) {
					t.Errorf("a request with %d transactions, %d operations, %d bytes", len(b.puts), b.ops, b.size)
				}
			}
			if widest < 2 {
				t.Error("no batch formed")
			}
			if built.Load() != 30 {
				t.Errorf("built %d times, want each of 30 once", built.Load())
			}
		})
	}
}

func over(n, limit int) bool { return limit > 0 && n > limit }

func TestServerWithASmallerLimitOfOperations(t *testing.T) {
	small := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) {
		c.Tune = func(e *embed.Config) { e.MaxTxnOps = 16 }
	}))
	s := newStage(t, small, commit.Config{})
	for n := range 60 {
		s.submit(s.Committer, n, putTxn(s.key(n)))
	}
	s.hold.Release()
	succeeded(t, s.wait(t))
	if got := len(small.Dump(t, s.prefix)); got != 61 {
		t.Errorf("%d keys, want 61", got)
	}
	// It has learnt: what the server takes now is batches again.
	for wave := range 5 {
		hold := s.faults.Hold(coretest.Puts(s.key(900 + wave)))
		s.submit(s.Committer, 900+wave, putTxn(s.key(900+wave)))
		if err := hold.Wait(within(t)); err != nil {
			t.Fatal(err)
		}
		sent := s.watch()
		for n := range 60 {
			s.submit(s.Committer, 1000+100*wave+n, putTxn(s.key(1000+100*wave+n)))
		}
		hold.Release()
		succeeded(t, s.wait(t))
		requests := len(sent.all())
		if wave == 4 && requests > 20 {
			t.Errorf("60 transactions in %d requests, want batches of up to 15", requests)
		}
		s.faults.Clear()
	}
}

func TestOneDeadLeaseIsNotTheOthersFault(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	for n := range 10 {
		s.submit(s.Committer, n, putTxn(s.key(n)))
	}
	s.submit(s.Committer, 10, putTxn(s.key(10), clientv3.WithLease(0x7bad)))
	s.hold.Release()
	all := s.wait(t)
	if err := all[10].err; !errors.Is(err, rpctypes.ErrLeaseNotFound) || errors.Is(err, commit.ErrUnknown) {
		t.Errorf("with a dead lease: %v", err)
	}
	delete(all, 10)
	succeeded(t, all)
}

func TestLostReplyIsUnknownForEveryMember(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	lost := s.faults.LoseReply(coretest.Puts(s.prefix + "/0"))
	for n := range 10 {
		s.submit(s.Committer, n, putTxn(s.key(n)))
	}
	s.hold.Release()
	all := s.wait(t)
	delete(all, -1)
	for n, o := range all {
		if !errors.Is(o.err, commit.ErrUnknown) {
			t.Errorf("transaction %d: %v, want ErrUnknown", n, o.err)
		}
	}
	if kvs := etcd.Dump(t, s.prefix+"/0"); len(kvs) != 10 || lost.Fired() != 1 {
		t.Errorf("%d of 10 applied, %d replies lost", len(kvs), lost.Fired())
	}
}

func TestSilenceIsUnknownAfterTheTimeout(t *testing.T) {
	faults := coretest.NewFaults()
	c := newCommitter(t, commit.Config{KV: etcd.Client(t, faults.DialOptions()...), Timeout: 50 * time.Millisecond})
	faults.LoseReply(coretest.Puts(t.Name()), coretest.Silently())
	var o outcomes
	o.submit(c, 0, putTxn(t.Name()))
	if err := o.wait(t)[0].err; !errors.Is(err, commit.ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
	if len(etcd.Dump(t, t.Name())) != 1 {
		t.Error("the request was not applied: the test shows nothing")
	}
}

func TestBuildRunsOnceAndLate(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	var built atomic.Int32
	answered := make(chan error, 1)
	s.Submit([]string{"late"}, func() commit.Txn { built.Add(1); return putTxn(s.key(1)) },
		func(_ commit.Result, err error) { answered <- err })
	if n := built.Load(); n != 0 {
		t.Errorf("built %d times while a request is under way", n)
	}
	s.hold.Release()
	if err := <-answered; err != nil || built.Load() != 1 {
		t.Errorf("error %v, built %d times", err, built.Load())
	}
}

func TestWithdraw(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	tickets := make([]commit.Ticket, 3)
	for n := range tickets {
		tickets[n] = s.Submit([]string{s.key(n)}, func() commit.Txn {
			if n == 1 {
				t.Error("built after it was withdrawn")
			}
			return putTxn(s.key(n))
		}, func(_ commit.Result, err error) {
			if n == 1 || err != nil {
				t.Errorf("transaction %d: answered with %v", n, err)
			}
		})
	}
	if !tickets[1].Withdraw() {
		t.Error("a waiting transaction could not be withdrawn")
	}
	if tickets[1].Withdraw() {
		t.Error("it was withdrawn twice")
	}
	s.hold.Release()
	s.Close(within(t))
	if kvs := etcd.Dump(t, s.prefix+"/0"); len(kvs) != 2 {
		t.Errorf("%d keys, want 2", len(kvs))
	}
	if tickets[0].Withdraw() {
		t.Error("a transaction was withdrawn after its answer")
	}
}

func TestCloseSendsWhatWaits(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	for n := range 5 {
		s.submit(s.Committer, n, putTxn(s.key(n)))
	}
	s.hold.Release()
	s.Close(within(t))
	succeeded(t, s.wait(t))
	s.Close(within(t))
	s.submit(s.Committer, 5, putTxn(s.key(5)))
	if err := s.wait(t)[5].err; !errors.Is(err, commit.ErrClosed) || errors.Is(err, commit.ErrUnknown) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseWithoutTimeTellsWhatWasNotSent(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	for n := range 5 {
		s.submit(s.Committer, n, putTxn(s.key(n)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Close(ctx)
	all := s.wait(t)
	if err := all[-1].err; !errors.Is(err, commit.ErrUnknown) {
		t.Errorf("the one under way: %v, want ErrUnknown", err)
	}
	for n := range 5 {
		if err := all[n].err; !errors.Is(err, commit.ErrClosed) || errors.Is(err, commit.ErrUnknown) {
			t.Errorf("transaction %d, which waited: %v, want ErrClosed", n, err)
		}
	}
	if kvs := etcd.Dump(t, s.prefix); len(kvs) != 0 {
		t.Errorf("%d keys were written", len(kvs))
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err     error
		unknown bool
	}{
		{nil, false},
		{rpctypes.ErrLeaseNotFound, false},
		{rpctypes.ErrTooManyOps, false},
		{rpctypes.ErrPermissionDenied, false},
		{rpctypes.ErrTimeout, true},
		{rpctypes.ErrTimeoutDueToLeaderFail, true},
		{rpctypes.ErrLeaderChanged, true},
		{rpctypes.ErrNoLeader, true},
		{context.Canceled, true},
		{context.DeadlineExceeded, true},
		{status.Error(codes.Unavailable, "connection reset"), true},
		{status.Error(codes.Internal, "?"), true},
		{status.Error(codes.InvalidArgument, "?"), false},
		{errors.New("what nobody expected"), true},
	} {
		got := commit.Classify(c.err)
		if errors.Is(got, commit.ErrUnknown) != c.unknown || !errors.Is(got, c.err) {
			t.Errorf("%v: classified as %v, want unknown %t", c.err, got, c.unknown)
		}
	}
}
